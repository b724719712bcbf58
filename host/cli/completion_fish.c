/* completion_fish.c - see completion.h. One line per option of a command. */
#include <string.h>

#include "completion.h"

/* Text within '...'. */
static int quoted_print(const char *text, struct buffer *out, struct error *error)
{
    int status = STATUS_OK;
    for (; *text && !status; text++)
        status = buffer_printf(out, error, "%s%c", *text == '\'' || *text == '\\' ? "\\" : "", *text);
    return status;
}

/* When a command, which may be a part ("bench kernels"), has been typed. */
static int condition_print(const struct command *command, struct buffer *out, struct error *error)
{
    const char *space = strchr(command->name, ' ');
    if (!space)
        return buffer_printf(out, error, "complete -c flat -n '__fish_seen_subcommand_from %s'", command->name);
    return buffer_printf(out, error, "complete -c flat -n '__fish_seen_subcommand_from %.*s; and "
                         "__fish_seen_subcommand_from %s'", (int)(space - command->name), command->name, space + 1);
}

struct line {
    const struct command *command;
    struct buffer *out;
};

static int option_print(const struct option *option, const struct option_group *group, void *user, struct error *error)
{
    (void)group;
    const struct line *line = user;
    int status = condition_print(line->command, line->out, error);
    if (!status)
        status = buffer_printf(line->out, error, " -l %s", option->name);
    if (!status && option->alias)
        status = buffer_printf(line->out, error, " -l %s", option->alias);
    if (!status && option->letter)
        status = buffer_printf(line->out, error, " -s %c", option->letter);
    if (!status && option->type != OPTION_BOOL)
        status = buffer_printf(line->out, error, "%s", option->type == OPTION_CHOICE ? " -x -a '" : " -r");
    for (int i = 0; option->type == OPTION_CHOICE && option_choice(option, i) && !status; i++)
        status = buffer_printf(line->out, error, "%s%s", i ? " " : "", option_choice(option, i));
    if (!status)
        status = buffer_printf(line->out, error, "%s -d '", option->type == OPTION_CHOICE ? "'" : "");
    if (!status)
        status = quoted_print(option->help, line->out, error);
    return status ? status : buffer_printf(line->out, error, "'\n");
}

static int command_print(const struct command *command, void *out, struct error *error)
{
    return command_rows_visit(command, option_print, &(struct line){command, out}, error);
}

/* One word that may follow, with what it does. */
static int word_print(const struct command *command, const char *condition, struct buffer *out, struct error *error)
{
    int status = buffer_printf(out, error, "complete -c flat -n '%s' -f -a %s -d '", condition, command_word(command));
    if (!status)
        status = quoted_print(command->summary, out, error);
    return status ? status : buffer_printf(out, error, "'\n");
}

int completion_fish(const struct command *const *list, struct buffer *out, struct error *error)
{
    int status = buffer_printf(out, error, "# fish completion for flat, written by 'flat completion fish'\n");
    for (const struct command *const *c = list; *c && !status; c++) {
        char condition[120];
        status = word_print(*c, "__fish_use_subcommand", out, error);
        snprintf(condition, sizeof condition, "__fish_seen_subcommand_from %s; and test (count (commandline -opc)) -eq 2",
                 (*c)->name);
        for (const struct command *const *part = (*c)->parts; part && *part && !status; part++)
            status = word_print(*part, condition, out, error);
    }
    return status ? status : commands_visit(list, command_print, out, error);
}
