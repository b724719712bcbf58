/* completion_zsh.c - see completion.h. One call of _arguments per command. */
#include "completion.h"

/* Text within '...' of a specification: quotes, brackets and colons mean something there. */
static int quoted_print(const char *text, struct buffer *out, struct error *error)
{
    int status = STATUS_OK;
    for (; *text && !status; text++)
        switch (*text) {
        case '\'': status = buffer_append(out, "'\\''", 4, error); break;
        case '[':
        case ']':
        case ':':
        case '\\': status = buffer_printf(out, error, "\\%c", *text); break;
        default: status = buffer_append(out, text, 1, error);
        }
    return status;
}

static int name_print(const struct option *option, const char *name, struct buffer *out, struct error *error)
{
    const bool boolean = option->type == OPTION_BOOL;
    int status = buffer_printf(out, error, "            '--%s%s[", name, boolean ? "" : "=");
    if (!status)
        status = quoted_print(option->help, out, error);
    if (!status)
        status = buffer_printf(out, error, "]%s%s%s", boolean ? "" : ":", boolean ? "" : option_operand(option),
                               boolean ? "" : option->type == OPTION_CHOICE ? ":(" : option->operand ? ":_files" : ":");
    for (int i = 0; option->type == OPTION_CHOICE && option_choice(option, i) && !status; i++)
        status = buffer_printf(out, error, "%s%s", i ? " " : "", option_choice(option, i));
    return status ? status : buffer_printf(out, error, "%s' \\\n", option->type == OPTION_CHOICE ? ")" : "");
}

static int option_print(const struct option *option, const struct option_group *group, void *out, struct error *error)
{
    (void)group;
    int status = name_print(option, option->name, out, error);
    return status || !option->alias ? status : name_print(option, option->alias, out, error);
}

static int command_print(const struct command *command, void *out, struct error *error)
{
    int status = buffer_printf(out, error, "    '%s')\n        _arguments \\\n", command->name);
    if (!status)
        status = command_rows_visit(command, option_print, out, error);
    if (!status && command->groups)
        status = buffer_printf(out, error, "            '--help_config[print every key with its default as JSON]' \\\n");
    return status ? status : buffer_printf(out, error, "            '--help[explain it]' '*:file:_files' ;;\n");
}

static int words_print(const struct command *const *list, const char *indent, struct buffer *out, struct error *error)
{
    int status = STATUS_OK;
    for (; *list && !status; list++) {
        status = buffer_printf(out, error, "%s    '%s:", indent, command_word(*list));
        if (!status)
            status = quoted_print((*list)->summary, out, error);
        if (!status)
            status = buffer_printf(out, error, "'\n");
    }
    return status;
}

/* The second word of a command with parts belongs to its name. */
static int parts_print(const struct command *command, struct buffer *out, struct error *error)
{
    int status = buffer_printf(out, error, "    if [[ $command == %s ]]; then\n        list=(\n", command->name);
    if (!status)
        status = words_print(command->parts, "        ", out, error);
    return status ? status
                  : buffer_printf(out, error, "        )\n        if (( CURRENT == 2 )); then\n"
                                  "            _describe part list\n            return\n        fi\n"
                                  "        command=\"$command $words[2]\"\n        shift words\n        (( CURRENT-- ))\n"
                                  "    fi\n");
}

int completion_zsh(const struct command *const *list, struct buffer *out, struct error *error)
{
    int status = buffer_printf(out, error, "#compdef flat\n"
                               "# zsh completion for flat, written by 'flat completion zsh'\n"
                               "_flat() {\n    local command=$words[2]\n    local -a list\n    list=(\n");
    if (!status)
        status = words_print(list, "    ", out, error);
    if (!status)
        status = buffer_printf(out, error, "    )\n    if (( CURRENT == 2 )); then\n        _describe command list\n"
                               "        return\n    fi\n    shift words\n    (( CURRENT-- ))\n");
    for (const struct command *const *c = list; *c && !status; c++)
        status = (*c)->parts ? parts_print(*c, out, error) : STATUS_OK;
    if (!status)
        status = buffer_printf(out, error, "    case $command in\n");
    if (!status)
        status = commands_visit(list, command_print, out, error);
    /* loaded from $fpath, the file is the body of the function; sourced, it has to say what it is for */
    return status ? status
                  : buffer_printf(out, error, "    esac\n}\n"
                                  "if [[ $zsh_eval_context[-1] == loadautofunc ]]; then\n    _flat \"$@\"\n"
                                  "else\n    compdef _flat flat\nfi\n");
}
