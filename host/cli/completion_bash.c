/* completion_bash.c - see completion.h. The words of a command in one case statement, the values of an option in another. */
#include "completion.h"

static int flag_print(const struct option *option, const struct option_group *group, void *out, struct error *error)
{
    (void)group;
    int status = buffer_printf(out, error, " --%s", option->name);
    return status || !option->alias ? status : buffer_printf(out, error, " --%s", option->alias);
}

static int command_print(const struct command *command, void *out, struct error *error)
{
    int status = buffer_printf(out, error, "    \"%s\") flags=\"--help%s", command->name,
                               command->groups ? " --help_config" : "");
    if (!status)
        status = command_rows_visit(command, flag_print, out, error);
    return status ? status : buffer_printf(out, error, "\" ;;\n");
}

/* Commands may have an option of one name with other choices. */
struct values {
    const struct command *command;
    struct buffer *out;
};

static int values_print(const struct option *option, const struct option_group *group, void *user, struct error *error)
{
    (void)group;
    const struct values *values = user;
    if (option->type != OPTION_CHOICE)
        return STATUS_OK;
    int status = buffer_printf(values->out, error, "    \"%s --%s\") values=\"", values->command->name, option->name);
    for (int i = 0; option_choice(option, i) && !status; i++)
        status = buffer_printf(values->out, error, "%s%s", i ? " " : "", option_choice(option, i));
    return status ? status : buffer_printf(values->out, error, "\" ;;\n");
}

static int command_values_print(const struct command *command, void *out, struct error *error)
{
    return command_rows_visit(command, values_print, &(struct values){command, out}, error);
}

static int words_print(const struct command *const *list, struct buffer *out, struct error *error)
{
    int status = STATUS_OK;
    for (const struct command *const *c = list; *c && !status; c++)
        status = buffer_printf(out, error, "%s%s", c == list ? "" : " ", command_word(*c));
    return status;
}

/* The second word of a command with parts belongs to its name. */
static int parts_print(const struct command *command, struct buffer *out, struct error *error)
{
    int status = buffer_printf(out, error, "    if [ \"$command\" = %s ]; then\n"
                               "        if [ \"$COMP_CWORD\" -eq 2 ]; then\n"
                               "            COMPREPLY=($(compgen -W \"", command->name);
    if (!status)
        status = words_print(command->parts, out, error);
    return status ? status
                  : buffer_printf(out, error, "\" -- \"$word\"))\n            return\n        fi\n"
                                  "        command=\"$command ${COMP_WORDS[2]}\"\n    fi\n");
}

int completion_bash(const struct command *const *list, struct buffer *out, struct error *error)
{
    int status = buffer_printf(out, error,
                               "# bash completion for flat, written by 'flat completion bash'\n"
                               "_flat() {\n"
                               "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
                               "    local command=${COMP_WORDS[1]} flags=\"\" values=\"\"\n"
                               "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
                               "        COMPREPLY=($(compgen -W \"");
    if (!status)
        status = words_print(list, out, error);
    if (!status)
        status = buffer_printf(out, error, " --help --version\" -- \"$word\"))\n        return\n    fi\n");
    for (const struct command *const *c = list; *c && !status; c++)
        status = (*c)->parts ? parts_print(*c, out, error) : STATUS_OK;
    if (!status)
        status = buffer_printf(out, error, "    case $command in\n");
    if (!status)
        status = commands_visit(list, command_print, out, error);
    if (!status)
        status = buffer_printf(out, error, "    esac\n    case \"$command $before\" in\n");
    if (!status)
        status = commands_visit(list, command_values_print, out, error);
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
                                  "complete -o filenames -F _flat flat\n");
}
