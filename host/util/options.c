/* options.c - see options.h. Names, values and what is bound to what; the command line is read in option_parse.c, and what
 * people see is written in option_print.c.
 */
#include "options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_BYTES 64 /* longer than any name of a row */

static char name_letter(char c)
{
    return c == '-' ? '_' : c;
}

bool option_name_equal(const char *typed, const char *name)
{
    while (*typed && name_letter(*typed) == *name)
        typed++, name++;
    return !*typed && !*name;
}

static bool option_named(const struct option *option, const char *typed)
{
    return option_name_equal(typed, option->name) || (option->alias && option_name_equal(typed, option->alias));
}

/* Edit distance with swaps of neighbours (optimal string alignment), three rows at a time. */
size_t option_name_distance(const char *typed, const char *candidate)
{
    size_t n = strlen(typed), m = strlen(candidate);
    if (n == 0 || n >= NAME_BYTES || m >= NAME_BYTES)
        return SIZE_MAX;
    size_t rows[3][NAME_BYTES + 1];
    for (size_t j = 0; j <= m; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *above2 = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            bool same = name_letter(typed[i - 1]) == candidate[j - 1];
            size_t best = above[j - 1] + !same;
            if (above[j] + 1 < best)
                best = above[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            if (i > 1 && j > 1 && name_letter(typed[i - 1]) == candidate[j - 2] &&
                name_letter(typed[i - 2]) == candidate[j - 1] && above2[j - 2] + 1 < best)
                best = above2[j - 2] + 1;
            row[j] = best;
        }
    }
    size_t distance = rows[n % 3][m], limit = n / 3 > 2 ? n / 3 : 2;
    if (distance <= limit && distance < n)
        return distance;
    /* a part of a long name counts too, behind any typing error */
    return n >= 4 && strstr(candidate, typed) ? m : SIZE_MAX;
}

/* strtod also reads nan, inf and hexadecimal; a setting is a plain decimal number. */
static bool number_parse(const char *text, double *value)
{
    if (!*text || text[strspn(text, "+-.0123456789eE")])
        return false;
    char *end;
    *value = strtod(text, &end);
    return !*end && isfinite(*value);
}

static bool integer_parse(const char *text, int64_t *value)
{
    if (!*text || text[strspn(text, "+-0123456789")])
        return false;
    char *end;
    errno = 0;
    *value = strtoll(text, &end, 10);
    return !*end && !errno;
}

const char *option_choice(const struct option *option, int index)
{
    return option->choice ? option->choice(index) : option->choices[index];
}

const char *option_initial(const struct option *option)
{
    return option->initial ? option->initial : option->type == OPTION_BOOL ? "false" : "";
}

void option_describe(const struct option *option, char *out, size_t out_bytes)
{
    static const char *const kind[] = {
        [OPTION_BOOL] = "true or false", [OPTION_INT] = "an integer",   [OPTION_DOUBLE] = "a number",
        [OPTION_STRING] = "a string",    [OPTION_CHOICE] = "one of ",   [OPTION_LIST] = "a list of names",
    };
    int n = snprintf(out, out_bytes, "%s", kind[option->type]);
    size_t at = (size_t)n < out_bytes ? (size_t)n : out_bytes - 1;
    bool limited = (option->type == OPTION_INT || option->type == OPTION_DOUBLE) && option->min < option->max;
    if (limited && isinf(option->max))
        snprintf(out + at, out_bytes - at, " of at least %.16g", option->min);
    else if (limited)
        snprintf(out + at, out_bytes - at, " from %.16g to %.16g", option->min, option->max);
    for (int i = 0; option->type == OPTION_CHOICE && option_choice(option, i) && at < out_bytes; i++)
        at += (size_t)snprintf(out + at, out_bytes - at, "%s%s", i ? ", " : "", option_choice(option, i));
}

union value {
    bool boolean;
    int64_t integer;
    double number;
    int choice;
};

static bool choice_parse(const struct option *option, const char *text, int *choice)
{
    for (*choice = 0; option_choice(option, *choice); ++*choice)
        if (!strcmp(option_choice(option, *choice), text))
            return true;
    return false;
}

static bool value_parse(const struct option *option, const char *text, union value *value)
{
    bool limited = option->min < option->max;
    switch (option->type) {
    case OPTION_BOOL:
        value->boolean = strcmp(text, "true") == 0;
        return value->boolean || strcmp(text, "false") == 0;
    case OPTION_INT:
        return integer_parse(text, &value->integer) &&
               (!limited || ((double)value->integer >= option->min && (double)value->integer <= option->max));
    case OPTION_DOUBLE:
        return number_parse(text, &value->number) &&
               (!limited || (value->number >= option->min && value->number <= option->max));
    case OPTION_CHOICE:
        return choice_parse(option, text, &value->choice);
    case OPTION_STRING:
    case OPTION_LIST:
        return true;
    }
    return false;
}

static void *entry_field(const struct option_entry *entry)
{
    return (char *)entry->values + entry->option->offset;
}

/* Checks text and puts it into the field. */
static int entry_store(struct option_entry *entry, const char *text, enum option_source source, const char *where,
                       struct error *error)
{
    const struct option *option = entry->option;
    const char *before = where ? where : "--", *colon = where ? ": " : "";
    union value value;
    if (!value_parse(option, text, &value)) {
        char expected[512];
        option_describe(option, expected, sizeof expected);
        return error_set(error, STATUS_USAGE, "%s%s%s: expected %s, found '%.80s'", before, colon, option->name,
                         expected, text);
    }
    if (source < entry->source)
        return STATUS_OK;
    void *field = entry_field(entry);
    switch (option->type) {
    case OPTION_BOOL: *(bool *)field = value.boolean; break;
    case OPTION_INT: *(int64_t *)field = value.integer; break;
    case OPTION_DOUBLE: *(double *)field = value.number; break;
    case OPTION_CHOICE: *(int *)field = value.choice; break;
    case OPTION_STRING:
    case OPTION_LIST: {
        char *copy = memory_string(text, error);
        if (!copy)
            return STATUS_MEMORY;
        free(entry->owned);
        *(const char **)field = entry->owned = copy;
        break;
    }
    }
    entry->source = source;
    return STATUS_OK;
}

void option_value(const struct option_entry *entry, char *out, size_t out_bytes)
{
    const void *field = entry_field(entry);
    switch (entry->option->type) {
    case OPTION_BOOL: snprintf(out, out_bytes, "%s", *(const bool *)field ? "true" : "false"); break;
    case OPTION_INT: snprintf(out, out_bytes, "%lld", (long long)*(const int64_t *)field); break;
    case OPTION_DOUBLE: snprintf(out, out_bytes, "%g", *(const double *)field); break;
    case OPTION_CHOICE: snprintf(out, out_bytes, "%s", option_choice(entry->option, *(const int *)field)); break;
    case OPTION_STRING:
    case OPTION_LIST: snprintf(out, out_bytes, "%s", *(const char *const *)field); break;
    }
}

bool option_changed(const struct option_entry *entry)
{
    const void *field = entry_field(entry);
    const char *initial = option_initial(entry->option);
    union value value;
    if (!value_parse(entry->option, initial, &value))
        return true;
    switch (entry->option->type) {
    case OPTION_BOOL: return *(const bool *)field != value.boolean;
    case OPTION_INT: return *(const int64_t *)field != value.integer;
    case OPTION_DOUBLE: return *(const double *)field != value.number;
    case OPTION_CHOICE: return *(const int *)field != value.choice;
    case OPTION_STRING:
    case OPTION_LIST: return strcmp(*(const char *const *)field, initial) != 0;
    }
    return true;
}

/* ---- the set ----------------------------------------------------------------------------------------------------- */

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
        status = entry_store(&set->entry[at + i], option_initial(&group->rows[i]), OPTION_FROM_DEFAULT, "table of options",
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
    const char *other = set->elsewhere ? set->elsewhere(set->user, name) : NULL;
    char problem[160];
    if (other)
        snprintf(problem, sizeof problem, "known, but not used by 'flat %s' (it is of 'flat %s')", set->command, other);
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
            return entry_store(&set->entry[i], text, source, where, error);
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
    if (!set->variant_of)
        return STATUS_OK;
    const struct option_entry *entry = option_set_entry(set, set->variant_of->variant_option);
    const enum option_source chosen_by = entry->source;
    const int index = *(const int *)entry_field(entry);
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
            status = entry_store(own, late->text, late->source, late->where, error);
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
