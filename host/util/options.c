/* options.c - see options.h. Parsing and storing; what is printed for people is in option_print.c. */
#include "options.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_BYTES 64 /* longer than any name of a table */

static char name_letter(char c)
{
    return c == '-' ? '_' : c;
}

static bool name_equal(const char *typed, const char *name)
{
    while (*typed && name_letter(*typed) == *name)
        typed++, name++;
    return !*typed && !*name;
}

static const struct option *table_find(const struct option_set *set, const char *typed)
{
    for (size_t i = 0; i < set->count; i++)
        if (name_equal(typed, set->table[i].name))
            return &set->table[i];
    return NULL;
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

static const char *nearest_name(const struct option_set *set, const char *typed)
{
    const char *nearest = NULL;
    size_t best = SIZE_MAX;
    for (size_t i = 0; i < set->count; i++) {
        size_t distance = option_name_distance(typed, set->table[i].name);
        if ((set->table[i].commands & set->command->bit) && distance < best) {
            best = distance;
            nearest = set->table[i].name;
        }
    }
    return nearest;
}

int option_set_find(const struct option_set *set, const char *name, const char *where, const struct option **option,
                    struct error *error)
{
    const char *before = where ? where : "", *colon = where ? ": " : "", *dashes = where ? "" : "--";
    const struct option *found = table_find(set, name);
    if (found && (found->commands & set->command->bit)) {
        *option = found;
        return STATUS_OK;
    }
    char problem[128];
    if (found)
        snprintf(problem, sizeof problem, "known, but not used by 'flat %s'", set->command->name);
    else
        snprintf(problem, sizeof problem, "unknown %s", where ? "key" : "option");
    const char *nearest = nearest_name(set, name);
    if (nearest)
        return error_set(error, STATUS_USAGE, "%s%s%s%.80s: %s; did you mean %s%s?", before, colon, dashes, name,
                         problem, dashes, nearest);
    return error_set(error, STATUS_USAGE, "%s%s%s%.80s: %s; 'flat %s --help' lists them all", before, colon, dashes,
                     name, problem, set->command->name);
}

void option_describe(const struct option *option, char *out, size_t out_bytes)
{
    static const char *const kind[] = {
        [OPTION_BOOL] = "true or false", [OPTION_INT] = "an integer", [OPTION_DOUBLE] = "a number",
        [OPTION_STRING] = "a string",    [OPTION_CHOICE] = "one of ", [OPTION_LIST] = "a list of names",
    };
    int n = snprintf(out, out_bytes, "%s", kind[option->type]);
    size_t at = (size_t)n < out_bytes ? (size_t)n : out_bytes - 1;
    bool limited = (option->type == OPTION_INT || option->type == OPTION_DOUBLE) && option->min < option->max;
    if (limited && isinf(option->max))
        snprintf(out + at, out_bytes - at, " of at least %.16g", option->min);
    else if (limited)
        snprintf(out + at, out_bytes - at, " from %.16g to %.16g", option->min, option->max);
    if (option->type != OPTION_CHOICE)
        return;
    for (const char *c = option->choices; *c && at + 3 < out_bytes; c++) {
        if (*c == '|')
            out[at++] = ',';
        out[at++] = *c == '|' ? ' ' : *c;
    }
    out[at] = 0;
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

static bool choice_valid(const char *choices, const char *text)
{
    size_t length = strlen(text);
    for (const char *choice = choices; choice; choice = strchr(choice, '|')) {
        choice += *choice == '|';
        if (length && strcspn(choice, "|") == length && strncmp(choice, text, length) == 0)
            return true;
    }
    return false;
}

union value {
    bool boolean;
    int64_t integer;
    double number;
};

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
        return choice_valid(option->choices, text);
    case OPTION_STRING:
    case OPTION_LIST:
        return true;
    }
    return false;
}

int option_set_text(struct option_set *set, const struct option *option, const char *text, enum option_source source,
                    const char *where, struct error *error)
{
    const char *before = where ? where : "--", *colon = where ? ": " : "";
    union value value;
    if (!value_parse(option, text, &value)) {
        char expected[512];
        option_describe(option, expected, sizeof expected);
        return error_set(error, STATUS_USAGE, "%s%s%s: expected %s, found '%.80s'", before, colon, option->name,
                         expected, text);
    }
    size_t index = (size_t)(option - set->table);
    if (source < set->source[index])
        return STATUS_OK;
    char *field = (char *)set->settings + option->offset;
    switch (option->type) {
    case OPTION_BOOL: *(bool *)field = value.boolean; break;
    case OPTION_INT: *(int64_t *)field = value.integer; break;
    case OPTION_DOUBLE: *(double *)field = value.number; break;
    case OPTION_STRING:
    case OPTION_CHOICE:
    case OPTION_LIST: {
        char *copy = memory_string(text, error);
        if (!copy)
            return STATUS_MEMORY;
        free(set->owned[index]);
        *(const char **)field = set->owned[index] = copy;
        break;
    }
    }
    set->source[index] = source;
    return STATUS_OK;
}

int option_set_init(struct option_set *set, const struct option *table, size_t count, const struct command *command,
                    void *settings, struct error *error)
{
    *set = (struct option_set){.table = table, .count = count, .command = command, .settings = settings};
    set->source = memory_array(count, sizeof *set->source, error);
    set->owned = memory_array(count, sizeof *set->owned, error);
    int status = set->source && set->owned ? STATUS_OK : STATUS_MEMORY;
    for (size_t i = 0; i < count && !status; i++)
        status = option_set_text(set, &table[i], table[i].initial, OPTION_FROM_DEFAULT, "table of options", error);
    if (status)
        option_set_free(set);
    return status;
}

void option_set_free(struct option_set *set)
{
    for (size_t i = 0; set->owned && i < set->count; i++)
        free(set->owned[i]);
    free(set->owned);
    free(set->source);
    *set = (struct option_set){0};
}

enum option_source option_set_source(const struct option_set *set, const char *name)
{
    const struct option *option = table_find(set, name);
    return option ? set->source[option - set->table] : OPTION_FROM_DEFAULT;
}

void option_set_value(const struct option_set *set, const struct option *option, char *out, size_t out_bytes)
{
    const char *field = (const char *)set->settings + option->offset;
    switch (option->type) {
    case OPTION_BOOL: snprintf(out, out_bytes, "%s", *(const bool *)field ? "true" : "false"); break;
    case OPTION_INT: snprintf(out, out_bytes, "%lld", (long long)*(const int64_t *)field); break;
    case OPTION_DOUBLE: snprintf(out, out_bytes, "%g", *(const double *)field); break;
    case OPTION_STRING:
    case OPTION_CHOICE:
    case OPTION_LIST: snprintf(out, out_bytes, "%s", *(const char *const *)field); break;
    }
}

int option_set_check_required(const struct option_set *set, struct error *error)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct option *option = &set->table[i];
        char value[2];
        option_set_value(set, option, value, sizeof value);
        if ((option->required & set->command->bit) && !*value)
            return error_set(error, STATUS_USAGE, "%s: 'flat %s' needs it; give --%s %s%s", option->name,
                             set->command->name, option->name, option->operand,
                             set->command->argument && strcmp(set->command->argument, "CONFIG") == 0
                                 ? " or set it in the config file"
                                 : "");
    }
    return STATUS_OK;
}

/* A long flag without its dashes. next is the following argument or NULL; *used tells that it was taken. */
static int flag_parse(struct option_set *set, const char *flag, const char *next, bool *used, struct error *error)
{
    char name[NAME_BYTES];
    size_t length = strcspn(flag, "=");
    snprintf(name, sizeof name, "%.*s", (int)(length < sizeof name ? length : sizeof name - 1), flag);
    const char *text = flag[length] ? flag + length + 1 : NULL;
    if (!text && strlen(name) > 3 && strncmp(name, "no", 2) == 0 && name_letter(name[2]) == '_' &&
        !table_find(set, name)) {
        const struct option *denied = table_find(set, name + 3);
        if (denied && denied->type == OPTION_BOOL && (denied->commands & set->command->bit))
            return option_set_text(set, denied, "false", OPTION_FROM_FLAG, NULL, error);
    }
    const struct option *option;
    int status = option_set_find(set, name, NULL, &option, error);
    if (status)
        return status;
    if (!text && option->type == OPTION_BOOL) {
        *used = next && (strcmp(next, "true") == 0 || strcmp(next, "false") == 0);
        text = *used ? next : "true";
    } else if (!text) {
        if (!next || strncmp(next, "--", 2) == 0)
            return error_set(error, STATUS_USAGE, "--%s: needs a value (write --%s=VALUE for one that begins with --)",
                             option->name, option->name);
        text = next;
        *used = true;
    }
    return option_set_text(set, option, text, OPTION_FROM_FLAG, NULL, error);
}

static const struct option *letter_find(const struct option_set *set, const char *text)
{
    for (size_t i = 0; text[1] && !text[2] && i < set->count; i++)
        if (set->table[i].letter == text[1] && (set->table[i].commands & set->command->bit))
            return &set->table[i];
    return NULL;
}

static int argument_take(const struct option_set *set, const char *text, struct option_arguments *arguments,
                         struct error *error)
{
    if (!set->command->argument)
        return error_set(error, STATUS_USAGE, "'%.80s': 'flat %s' takes only --options", text, set->command->name);
    if (arguments->argument)
        return error_set(error, STATUS_USAGE, "'%.80s': 'flat %s' takes one %s, and '%.80s' was given before", text,
                         set->command->name, set->command->argument, arguments->argument);
    arguments->argument = text;
    return STATUS_OK;
}

int option_set_parse(struct option_set *set, int argc, char **argv, struct option_arguments *arguments,
                     struct error *error)
{
    *arguments = (struct option_arguments){0};
    bool only_arguments = false;
    for (int i = 0; i < argc; i++) {
        const char *text = argv[i], *next = i + 1 < argc ? argv[i + 1] : NULL;
        bool used = false;
        int status = STATUS_OK;
        if (only_arguments || text[0] != '-' || !text[1]) {
            status = argument_take(set, text, arguments, error);
        } else if (strcmp(text, "--") == 0) {
            only_arguments = true;
        } else if (strcmp(text, "-h") == 0 || strcmp(text, "--help") == 0) {
            arguments->help = true;
            return STATUS_OK;
        } else if (text[1] == '-' && name_equal(text + 2, "help_config")) {
            arguments->help_config = true;
            return STATUS_OK;
        } else if (text[1] == '-') {
            status = flag_parse(set, text + 2, next, &used, error);
        } else {
            const struct option *option = letter_find(set, text);
            if (!option)
                return error_set(error, STATUS_USAGE, "%.80s: unknown option; 'flat %s --help' lists them all", text,
                                 set->command->name);
            status = flag_parse(set, option->name, next, &used, error);
        }
        if (status)
            return status;
        i += used;
    }
    return STATUS_OK;
}
