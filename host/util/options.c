/* options.c - see options.h: what is bound to what, options of a choice, and what must hold. Single values are read and written
 * in option_value.c, the command line in option_parse.c, and what people see in option_print.c.
 */
#include "options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_BYTES 64 /* longer than any name of a row */

void option_set_init(struct option_set *set, const char *command)
{
    *set = (struct option_set){.command = command};
}

void option_set_free(struct option_set *set)
{
    for (size_t i = 0; i < set->count; i++)
        free(set->entry[i].owned);
    for (size_t i = 0; i < set->late_count; i++) {
        free(set->late[i].text);
        free(set->late[i].where);
    }
    free(set->entry);
    free(set->late);
    free(set->variant_values);
    *set = (struct option_set){0};
}

/* Makes room for a group's entries at index `at` and fills in the defaults. */
static int group_insert(struct option_set *set, size_t at, const struct option_group *group, void *values,
                        struct error *error)
{
    int status = memory_grow(&set->entry, &set->capacity, set->count + group->count, sizeof *set->entry, error);
    if (status)
        return status;
    memmove(set->entry + at + group->count, set->entry + at, (set->count - at) * sizeof *set->entry);
    set->count += group->count;
    for (size_t i = 0; i < group->count; i++)
        set->entry[at + i] = (struct option_entry){.option = &group->rows[i], .group = group, .values = values};
    for (size_t i = 0; i < group->count && !status; i++)
        status = option_store(&set->entry[at + i], option_initial(&group->rows[i]), OPTION_FROM_DEFAULT, "table of options",
                             error);
    return status;
}

int option_set_add(struct option_set *set, const struct option_group *group, void *values, struct error *error)
{
    int status = group_insert(set, set->count, group, values, error);
    if (!status && group->variant) {
        set->variant_of = group;
        set->variant_of_values = values;
        set->variant_at = set->count;
    }
    return status;
}

const struct option_entry *option_set_entry(const struct option_set *set, const char *name)
{
    for (size_t i = 0; i < set->count; i++)
        if (option_named(set->entry[i].option, name))
            return &set->entry[i];
    return NULL;
}

void *option_set_values(const struct option_set *set, const struct option_group *group)
{
    for (size_t i = 0; i < set->count; i++)
        if (set->entry[i].group == group)
            return set->entry[i].values;
    return NULL;
}

enum option_source option_source(const struct option_set *set, const char *name)
{
    const struct option_entry *entry = option_set_entry(set, name);
    return entry ? entry->source : OPTION_FROM_DEFAULT;
}

bool option_given(const struct option_set *set, const char *name)
{
    return option_source(set, name) != OPTION_FROM_DEFAULT;
}

/* The choice among whose values stand variants; NULL without. */
static const struct option *variant_choice(const struct option_set *set)
{
    const struct option_entry *entry = set->variant_of ? option_set_entry(set, set->variant_of->variant_option) : NULL;
    return entry ? entry->option : NULL;
}

/* A row of that name in any variant that may still be chosen. */
static const struct option *variant_find(const struct option_set *set, const char *name)
{
    const struct option *choice = variant_choice(set);
    for (int i = 0; choice && option_choice(choice, i); i++) {
        const struct option_group *group = set->variant_of->variant(i);
        for (size_t k = 0; group && k < group->count; k++)
            if (option_named(&group->rows[k], name))
                return &group->rows[k];
    }
    return NULL;
}

static void nearer(const struct option *option, const char *typed, size_t *best, const char **nearest)
{
    const char *const names[] = {option->name, option->alias};
    for (int i = 0; i < 2 && names[i]; i++) {
        size_t distance = option_name_distance(typed, names[i]);
        if (distance < *best) {
            *best = distance;
            *nearest = names[i];
        }
    }
}

static const char *nearest_name(const struct option_set *set, const char *typed)
{
    const struct option *choice = variant_choice(set);
    const char *nearest = NULL;
    size_t best = SIZE_MAX;
    for (size_t i = 0; i < set->count; i++)
        nearer(set->entry[i].option, typed, &best, &nearest);
    for (int i = 0; choice && !set->variant && option_choice(choice, i); i++) {
        const struct option_group *group = set->variant_of->variant(i);
        for (size_t k = 0; group && k < group->count; k++)
            nearer(&group->rows[k], typed, &best, &nearest);
    }
    return nearest;
}

int option_set_find(const struct option_set *set, const char *name, const char *where, const struct option **option,
                    struct error *error)
{
    const char *before = where ? where : "", *colon = where ? ": " : "", *dashes = where ? "" : "--";
    const struct option_entry *entry = option_set_entry(set, name);
    *option = entry ? entry->option : variant_find(set, name);
    if (*option)
        return STATUS_OK;
    char problem[400], others[280];
    if (set->elsewhere && set->elsewhere(set->user, name, others, sizeof others))
        snprintf(problem, sizeof problem, "known, but not used by 'flat %s' (it is of %s)", set->command, others);
    else
        snprintf(problem, sizeof problem, "unknown %s", where ? "key" : "option");
    const char *nearest = nearest_name(set, name);
    if (nearest)
        return error_set(error, STATUS_USAGE, "%s%s%s%.80s: %s; did you mean %s%s?", before, colon, dashes, name,
                         problem, dashes, nearest);
    return error_set(error, STATUS_USAGE, "%s%s%s%.80s: %s; 'flat %s --help' lists them all", before, colon, dashes, name,
                     problem, set->command);
}

static int late_add(struct option_set *set, const struct option *option, const char *text, enum option_source source,
                    const char *where, struct error *error)
{
    int status = memory_grow(&set->late, &set->late_capacity, set->late_count + 1, sizeof *set->late, error);
    if (status)
        return status;
    struct option_late late = {.option = option, .text = memory_string(text, error), .source = source};
    if (where)
        late.where = memory_string(where, error);
    if (!late.text || (where && !late.where)) {
        free(late.text);
        return STATUS_MEMORY;
    }
    set->late[set->late_count++] = late;
    return STATUS_OK;
}

int option_set_text(struct option_set *set, const struct option *option, const char *text, enum option_source source,
                    const char *where, struct error *error)
{
    for (size_t i = 0; i < set->count; i++)
        if (set->entry[i].option == option)
            return option_store(&set->entry[i], text, source, where, error);
    return late_add(set, option, text, source, where, error);
}

/* ---- options of a choice ----------------------------------------------------------------------------------------- */

/* Appends what the chosen variant has, for the message. */
static int variant_refuse(const struct option_set *set, const struct option_late *late, const char *chosen,
                          struct error *error)
{
    char names[512] = "";
    const struct option_group *group = set->variant;
    size_t at = 0;
    for (size_t i = 0; group && i < group->count && at < sizeof names; i++)
        at += (size_t)snprintf(names + at, sizeof names - at, "%s--%s", i ? ", " : "", group->rows[i].name);
    return error_set(error, STATUS_USAGE, "%s%s%s: %s %s does not have it; it %s%s", late->where ? late->where : "--",
                     late->where ? ": " : "", late->option->name, set->variant_of->variant_option, chosen,
                     *names ? "has " : "has no options of its own", names);
}

int option_set_choose_variant(struct option_set *set, struct error *error)
{
    const struct option_entry *entry = set->variant_of ? option_set_entry(set, set->variant_of->variant_option) : NULL;
    if (!entry)
        return STATUS_OK;
    const enum option_source chosen_by = entry->source;
    const int index = *(const int *)((const char *)entry->values + entry->option->offset);
    const char *name = option_choice(entry->option, index);
    int status = STATUS_OK;
    set->variant = set->variant_of->variant(index);
    if (set->variant) {
        set->variant_values = memory_array(1, set->variant->bytes, error);
        status = set->variant_values ? group_insert(set, set->variant_at, set->variant, set->variant_values, error)
                                     : STATUS_MEMORY;
    }
    *(const void **)((char *)set->variant_of_values + set->variant_of->variant_offset) = set->variant_values;
    for (size_t i = 0; i < set->late_count && !status; i++) {
        const struct option_late *late = &set->late[i];
        struct option_entry *own = NULL;
        for (size_t k = 0; set->variant && k < set->variant->count; k++)
            if (option_named(&set->variant->rows[k], late->option->name))
                own = &set->entry[set->variant_at + k];
        if (own)
            status = option_store(own, late->text, late->source, late->where, error);
        else if (late->source >= chosen_by) /* a file may have been written for another choice than the flag's */
            status = variant_refuse(set, late, name, error);
    }
    return status;
}

/* ---- what must hold ---------------------------------------------------------------------------------------------- */

/* Names with spaces between: appends those that are not given, or empty, to the message. */
static void missing_add(const struct option_set *set, const char *names, char *out, size_t out_bytes)
{
    for (const char *name = names; name && *name; name += strspn(name, " ")) {
        const size_t length = strcspn(name, " "), at = strlen(out);
        char word[NAME_BYTES], value[2] = "";
        snprintf(word, sizeof word, "%.*s", (int)length, name);
        name += length;
        const struct option_entry *entry = option_set_entry(set, word);
        if (!entry)
            continue;
        option_value(entry, value, sizeof value);
        if (!*value)
            snprintf(out + at, out_bytes - at, "%s--%s %s", at ? ", " : "", entry->option->name,
                     entry->option->operand ? entry->option->operand : "TEXT");
    }
}

int option_set_check(const struct option_set *set, const char *required, const char *also_required, bool has_config,
                     struct error *error)
{
    char missing[512] = "";
    int status = STATUS_OK;
    missing_add(set, required, missing, sizeof missing);
    missing_add(set, also_required, missing, sizeof missing);
    if (*missing)
        return error_set(error, STATUS_USAGE, "'flat %s' needs %s%s", set->command, missing,
                         has_config ? "; give it as a flag or in the config file" : "");
    for (size_t i = 0; i < set->count && !status; i++) {
        const struct option_entry *entry = &set->entry[i];
        if (entry->group->check && (!i || entry->group != entry[-1].group))
            status = entry->group->check(set, entry->values, error);
    }
    return status;
}
