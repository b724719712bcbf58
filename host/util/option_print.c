/* option_print.c - what people see of a table of options: help, the values of a run, shell completion. */
#include <stdio.h>
#include <string.h>

#include "options.h"

enum { LINE_COLUMNS = 110, HELP_COLUMN = 34 };

/* Appends text word by word, starting at `column`, continuing at HELP_COLUMN. */
static int print_wrapped(const char *text, size_t column, struct buffer *out, struct error *error)
{
    int status = STATUS_OK;
    for (bool first = true; *text && !status; first = false) {
        size_t word = strcspn(text, " ");
        bool fits = column + 1 + word <= LINE_COLUMNS;
        if (!first && fits)
            status = buffer_printf(out, error, " ");
        else if (!first)
            status = buffer_printf(out, error, "\n%*s", HELP_COLUMN, "");
        column = first ? column + word : fits ? column + 1 + word : HELP_COLUMN + word;
        if (!status)
            status = buffer_append(out, text, word, error);
        text += word + (text[word] == ' ');
    }
    return status ? status : buffer_printf(out, error, "\n");
}

/* Help sentence, then what may be given and what holds when nothing is. */
static void help_sentence(const struct option *option, unsigned bit, char *out, size_t out_bytes)
{
    char range[512] = "";
    if (option->type == OPTION_CHOICE)
        option_describe(option, range, sizeof range);
    const char *initial = option->type == OPTION_BOOL && strcmp(option->initial, "false") == 0 ? "" : option->initial;
    bool needed = (option->required & bit) && !*initial;
    snprintf(out, out_bytes, "%s%s%s%s%s%s", option->help, *range ? ": " : "", range,
             needed ? " (required)" : *initial ? " (default " : "", initial, *initial ? ")" : "");
}

static const char *option_operand(const struct option *option)
{
    switch (option->type) {
    case OPTION_BOOL: return "";
    case OPTION_INT: return "N";
    case OPTION_DOUBLE: return "X";
    case OPTION_CHOICE: return "NAME";
    case OPTION_STRING:
    case OPTION_LIST: return option->operand;
    }
    return "";
}

static int print_option(const char *left, const char *help, struct buffer *out, struct error *error)
{
    int status = buffer_printf(out, error, "  %-*s", HELP_COLUMN - 2, left);
    if (!status && strlen(left) + 3 > HELP_COLUMN)
        status = buffer_printf(out, error, "\n%*s", HELP_COLUMN, "");
    return status ? status : print_wrapped(help, HELP_COLUMN, out, error);
}

int option_set_print_help(const struct option_set *set, const char *program, struct buffer *out, struct error *error)
{
    const struct command *command = set->command;
    const char *argument = command->argument ? command->argument : "";
    bool open = command->argument && !command->argument_required;
    int status = buffer_printf(out, error, "Usage: %s %s %s%s%s%s[--key value ...]\n\n%s.\n", program, command->name,
                               open ? "[" : "", argument, open ? "]" : "", *argument ? " " : "", command->help);
    const char *section = NULL;
    for (size_t i = 0; i < set->count && !status; i++) {
        const struct option *option = &set->table[i];
        if (!(option->commands & command->bit))
            continue;
        if (!section || strcmp(section, option->section) != 0)
            status = buffer_printf(out, error, "\n%s\n", option->section);
        section = option->section;
        char left[128], help[1024];
        int n = option->letter ? snprintf(left, sizeof left, "-%c, ", option->letter) : 0;
        snprintf(left + n, sizeof left - (size_t)n, "--%s %s", option->name, option_operand(option));
        help_sentence(option, command->bit, help, sizeof help);
        if (!status)
            status = print_option(left, help, out, error);
    }
    if (!status)
        status = buffer_printf(out, error, "\nThis text and the config file\n");
    if (!status)
        status = print_option("-h, --help", "show this text", out, error);
    return status ? status
                  : print_option("--help_config", "print every key with its default as JSON, the form of a config file",
                                 out, error);
}

/* A value on one line: the tags of a prompt template hold line breaks. */
static int print_visible(const char *value, struct buffer *out, struct error *error)
{
    int status = STATUS_OK;
    for (; *value && !status; value++)
        if (*value == '\n')
            status = buffer_append(out, "\\n", 2, error);
        else
            status = buffer_append(out, (unsigned char)*value < 0x20 || *value == 0x7f ? "?" : value, 1, error);
    return status;
}

int option_set_print_table(const struct option_set *set, struct buffer *out, struct error *error)
{
    static const char *const origin[] = {"", "  (config file)", "  (flag)"};
    const char *section = NULL;
    int status = STATUS_OK;
    for (size_t i = 0; i < set->count && !status; i++) {
        const struct option *option = &set->table[i];
        char value[512];
        option_set_value(set, option, value, sizeof value);
        if (!(option->commands & set->command->bit) || (!*value && !set->source[i]))
            continue;
        if (!section || strcmp(section, option->section) != 0)
            status = buffer_printf(out, error, "%s%s\n", section ? "\n" : "", option->section);
        section = option->section;
        if (!status)
            status = buffer_printf(out, error, "  %-*s", HELP_COLUMN - 2, option->name);
        if (!status)
            status = print_visible(value, out, error);
        if (!status)
            status = buffer_printf(out, error, "%s\n", origin[set->source[i]]);
    }
    return status;
}

/* One line of the script's case statement: the flags of a command. */
static int print_command_case(const struct command *command, const struct option *table, size_t count,
                              struct buffer *out, struct error *error)
{
    int status = buffer_printf(out, error, "    %s) flags=\"--help --help_config", command->name);
    for (size_t i = 0; i < count && !status; i++)
        if (table[i].commands & command->bit)
            status = buffer_printf(out, error, " --%s", table[i].name);
    return status ? status : buffer_printf(out, error, "\" ;;\n");
}

/* One line of the script's case statement: the values that may follow a flag. */
static int print_value_case(const struct option *option, struct buffer *out, struct error *error)
{
    if (option->type != OPTION_CHOICE)
        return STATUS_OK;
    char words[512];
    snprintf(words, sizeof words, "%s", option->choices);
    for (char *c = words; *c; c++)
        if (*c == '|')
            *c = ' ';
    return buffer_printf(out, error, "    --%s) values=\"%s\" ;;\n", option->name, words);
}

int option_print_completion(const char *program, const struct command *commands, size_t command_count,
                            const struct option *table, size_t count, struct buffer *out, struct error *error)
{
    int status = buffer_printf(out, error,
                               "# bash completion for %s, written by '%s completion bash'\n"
                               "_%s() {\n"
                               "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
                               "    local commands=\"", program, program, program);
    for (size_t i = 0; i < command_count && !status; i++)
        status = buffer_printf(out, error, "%s%s", i ? " " : "", commands[i].name);
    if (!status)
        status = buffer_printf(out, error,
                               "\" flags=\"\" values=\"\"\n"
                               "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
                               "        COMPREPLY=($(compgen -W \"$commands --help --version\" -- \"$word\"))\n"
                               "        return\n"
                               "    fi\n"
                               "    case ${COMP_WORDS[1]} in\n");
    for (size_t i = 0; i < command_count && !status; i++)
        status = print_command_case(&commands[i], table, count, out, error);
    if (!status)
        status = buffer_printf(out, error, "    esac\n    case $before in\n");
    for (size_t i = 0; i < count && !status; i++)
        status = print_value_case(&table[i], out, error);
    return status ? status
                  : buffer_printf(out, error,
                                  "    esac\n"
                                  "    if [ -n \"$values\" ] && [[ $word != -* ]]; then\n"
                                  "        COMPREPLY=($(compgen -W \"$values\" -- \"$word\"))\n"
                                  "    elif [[ $word == -* ]]; then\n"
                                  "        COMPREPLY=($(compgen -W \"$flags\" -- \"$word\"))\n"
                                  "    else\n"
                                  "        COMPREPLY=($(compgen -f -- \"$word\"))\n"
                                  "    fi\n"
                                  "}\n"
                                  "complete -o filenames -F _%s %s\n", program, program);
}
