/* completion.c - `flat completion SHELL`: a script that lets a shell complete commands, options and their values, made from
 * the rows of options.
 */
#include <string.h>

#include "../command.h"

static int flag_print(const struct option *option, void *out, struct error *error)
{
    int status = buffer_printf(out, error, " --%s", option->name);
    return status || !option->alias ? status : buffer_printf(out, error, " --%s", option->alias);
}

static int values_print(const struct option *option, void *out, struct error *error)
{
    if (option->type != OPTION_CHOICE)
        return STATUS_OK;
    int status = buffer_printf(out, error, "    --%s) values=\"", option->name);
    for (int i = 0; option_choice(option, i) && !status; i++)
        status = buffer_printf(out, error, "%s%s", i ? " " : "", option_choice(option, i));
    return status ? status : buffer_printf(out, error, "\" ;;\n");
}

/* One line of the script's case statement: the flags of a command. */
static int case_print(const struct command *command, struct buffer *out, struct error *error)
{
    int status = buffer_printf(out, error, "    \"%s\") flags=\"--help --help_config", command->name);
    if (!status)
        status = command_rows_visit(command, flag_print, out, error);
    return status ? status : buffer_printf(out, error, "\" ;;\n");
}

static int bash_print(const struct command *const *list, struct buffer *out, struct error *error)
{
    int status = buffer_printf(out, error,
                               "# bash completion for flat, written by 'flat completion bash'\n"
                               "_flat() {\n"
                               "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
                               "    local command=${COMP_WORDS[1]} flags=\"\" values=\"\" commands=\"");
    for (const struct command *const *c = list; *c && !status; c++)
        status = buffer_printf(out, error, "%s%s", c == list ? "" : " ", (*c)->name);
    if (!status)
        status = buffer_printf(out, error,
                               "\"\n"
                               "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
                               "        COMPREPLY=($(compgen -W \"$commands --help --version\" -- \"$word\"))\n"
                               "        return\n"
                               "    fi\n");
    for (const struct command *const *c = list; *c && !status; c++) {
        if (!(*c)->parts)
            continue;
        status = buffer_printf(out, error, "    if [ \"$command\" = %s ]; then\n        if [ \"$COMP_CWORD\" -eq 2 ]; then\n"
                               "            COMPREPLY=($(compgen -W \"", (*c)->name);
        for (const struct command *const *part = (*c)->parts; *part && !status; part++)
            status = buffer_printf(out, error, "%s%s", part == (*c)->parts ? "" : " ", strrchr((*part)->name, ' ') + 1);
        if (!status)
            status = buffer_printf(out, error, "\" -- \"$word\"))\n            return\n        fi\n"
                                   "        command=\"$command ${COMP_WORDS[2]}\"\n    fi\n");
    }
    if (!status)
        status = buffer_printf(out, error, "    case $command in\n");
    for (const struct command *const *c = list; *c && !status; c++) {
        for (const struct command *const *part = (*c)->parts; part && *part && !status; part++)
            status = case_print(*part, out, error);
        if (!status && !(*c)->parts)
            status = case_print(*c, out, error);
    }
    if (!status)
        status = buffer_printf(out, error, "    esac\n    case $before in\n");
    for (const struct command *const *c = list; *c && !status; c++) {
        status = command_rows_visit(*c, values_print, out, error);
        for (const struct command *const *part = (*c)->parts; part && *part && !status; part++)
            status = command_rows_visit(*part, values_print, out, error);
    }
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

static int completion_run(struct invocation *run, struct error *error)
{
    struct buffer text = {0};
    const char *shell = run->arguments.count ? run->arguments.argument[0] : "bash";
    if (strcmp(shell, "bash") != 0)
        return error_set(error, STATUS_USAGE, "'%.80s': only bash is known; run 'flat completion bash'", shell);
    return text_print(&text, bash_print(run->commands, &text, error), error);
}

const struct command command_completion = {
    .name = "completion",
    .argument = "SHELL",
    .at_most = 1,
    .summary = "Prints a script that lets a shell complete commands, options and their values.",
    .examples = {"source <(flat completion bash)"},
    .run = completion_run,
};
