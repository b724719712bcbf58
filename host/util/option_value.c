/* option_value.c - names and values of single options: text into fields and back; see options.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"

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

bool option_named(const struct option *option, const char *typed)
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

const char *option_choice(const struct option *option, int index)
{
    return option->choice ? option->choice(index) : option->choices[index];
}

const char *option_initial(const struct option *option)
{
    return option->initial ? option->initial : option->type == OPTION_BOOL ? "false" : "";
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
int option_store(struct option_entry *entry, const char *text, enum option_source source, const char *where,
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
