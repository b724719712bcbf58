/* option_print.c - what people see of a set of options: help, and the values of a run. */
#include <stdio.h>
#include <string.h>

#include "options.h"

enum { WIDE_COLUMNS = 100, HELP_COLUMN_WIDE = 34, HELP_COLUMN = 28 };

static size_t help_column(int columns)
{
    return columns < WIDE_COLUMNS ? HELP_COLUMN : HELP_COLUMN_WIDE;
}

/* Appends text word by word, starting at `column`, continuing at `indent`. */
static int print_wrapped(const char *text, size_t column, size_t indent, int columns, struct buffer *out,
                         struct error *error)
{
    int status = STATUS_OK;
    for (bool first = true; *text && !status; first = false) {
        size_t word = strcspn(text, " ");
        bool fits = column + 1 + word <= (size_t)columns;
        if (!first && fits)
            status = buffer_printf(out, error, " ");
        else if (!first)
            status = buffer_printf(out, error, "\n%*s", (int)indent, "");
        column = first ? column + word : fits ? column + 1 + word : indent + word;
        if (!status)
            status = buffer_append(out, text, word, error);
        text += word + (text[word] == ' ');
    }
    return status ? status : buffer_printf(out, error, "\n");
}

int option_print_text(const char *text, int columns, struct buffer *out, struct error *error)
{
    return print_wrapped(text, 0, 0, columns, out, error);
}

int option_print_line(const char *left, const char *help, int columns, struct buffer *out, struct error *error)
{
    const size_t column = help_column(columns);
    int status = buffer_printf(out, error, "  %-*s", (int)column - 2, left);
    if (!status && strlen(left) + 3 > column)
        status = buffer_printf(out, error, "\n%*s", (int)column, "");
    return status ? status : print_wrapped(help, column, column, columns, out, error);
}

const char *option_operand(const struct option *option)
{
    if (option->operand)
        return option->operand;
    switch (option->type) {
    case OPTION_BOOL: return "";
    case OPTION_INT: return "N";
    case OPTION_DOUBLE: return "X";
    case OPTION_CHOICE: return "NAME";
    case OPTION_LIST: return "NAME,...";
    case OPTION_STRING: return "TEXT";
    }
    return "";
}

/* Whether a list of names with spaces between holds this one. */
static bool names_hold(const char *names, const char *name)
{
    const size_t length = strlen(name);
    for (const char *at = names; at && *at; at += strcspn(at, " "), at += strspn(at, " "))
        if (strcspn(at, " ") == length && !strncmp(at, name, length))
            return true;
    return false;
}

/* Help sentence, then what may be given and what holds when nothing is. */
static void help_sentence(const struct option *option, bool required, char *out, size_t out_bytes)
{
    char range[512] = "";
    if (option->type == OPTION_CHOICE)
        option_describe(option, range, sizeof range);
    const char *initial = option_initial(option);
    if (option->type == OPTION_BOOL && !strcmp(initial, "false"))
        initial = "";
    snprintf(out, out_bytes, "%s%s%s%s%s%s", option->help, *range ? ": " : "", range,
             required && !*initial ? " (required)" : *initial ? " (default " : "", initial, *initial ? ")" : "");
}

void option_names(const struct option *option, char *out, size_t out_bytes)
{
    char letter[8] = "", alias[80] = "";
    if (option->letter)
        snprintf(letter, sizeof letter, "-%c, ", option->letter);
    if (option->alias)
        snprintf(alias, sizeof alias, "--%s, ", option->alias);
    const char *operand = option_operand(option);
    snprintf(out, out_bytes, "%s%s--%s%s%s", letter, alias, option->name, *operand ? " " : "", operand);
}

int option_set_print_help(const struct option_set *set, const char *required, const char *also_required, int columns,
                          struct buffer *out, struct error *error)
{
    const char *title = NULL;
    const struct option_group *group = NULL;
    int status = STATUS_OK;
    for (size_t i = 0; i < set->count && !status; i++) {
        const struct option_entry *entry = &set->entry[i];
        if (!title || strcmp(title, entry->group->title))
            status = buffer_printf(out, error, "\n%s\n", entry->group->title);
        if (!status && entry->group != group && entry->group->source)
            status = print_wrapped(entry->group->source, 0, 2, columns, out, error);
        title = entry->group->title;
        group = entry->group;
        char left[160], help[1024];
        option_names(entry->option, left, sizeof left);
        const bool needed = names_hold(required, entry->option->name) || names_hold(also_required, entry->option->name);
        help_sentence(entry->option, needed, help, sizeof help);
        if (!status)
            status = option_print_line(left, help, columns, out, error);
    }
    return status;
}

/* A value on one line: the tags of a prompt template hold line breaks. */
static int print_visible(const char *value, struct buffer *out, struct error *error)
{
    int status = STATUS_OK;
    for (; *value && !status; value++)
        if (*value == '\n')
            status = buffer_append(out, "\\n", 2, error);
        else if (*value == '\t')
            status = buffer_append(out, "\\t", 2, error);
        else
            status = buffer_append(out, (unsigned char)*value < 0x20 || *value == 0x7f ? "?" : value, 1, error);
    return status;
}

int option_set_print_values(const struct option_set *set, bool all, struct buffer *out, struct error *error)
{
    static const char *const origin[] = {"", "  (config file)", "  (flag)"};
    const char *title = NULL;
    int status = STATUS_OK;
    for (size_t i = 0; i < set->count && !status; i++) {
        const struct option_entry *entry = &set->entry[i];
        char value[512];
        option_value(entry, value, sizeof value);
        if (!all && !option_changed(entry))
            continue;
        if (!title || strcmp(title, entry->group->title))
            status = buffer_printf(out, error, "%s%s\n", title ? "\n" : "", entry->group->title);
        title = entry->group->title;
        if (!status)
            status = buffer_printf(out, error, "  %-*s", HELP_COLUMN_WIDE - 2, entry->option->name);
        if (!status)
            status = print_visible(value, out, error);
        if (!status)
            status = buffer_printf(out, error, "%s\n", origin[entry->source]);
    }
    return status;
}
