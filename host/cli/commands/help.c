/* help.c - `flat help [COMMAND]`: what there is, or what one command takes. */
#include "../command.h"

static int help_run(struct invocation *run, struct error *error)
{
    struct buffer text = {0};
    const struct option_arguments *arguments = &run->arguments;
    const struct command *command;
    struct invocation asked;
    int words;
    if (!arguments->count)
        return text_print(&text, command_print_usage(run->commands, terminal_columns(), &text, error), error);
    char *argv[3] = {(char *)arguments->argument[0], (char *)(arguments->count > 1 ? arguments->argument[1] : "--help")};
    int status = command_find(run->commands, 2, argv, &command, &words, error);
    if (status)
        return status;
    status = invocation_parse(&asked, run->commands, command, 1, (char *[]){"--help"}, error);
    if (!status)
        status = text_print(&text, command_print_help(&asked, terminal_columns(), &text, error), error);
    invocation_free(&asked);
    return status;
}

const struct command command_help = {
    .name = "help",
    .argument = "COMMAND",
    .at_most = 2,
    .summary = "Lists the commands, or explains one with its options and examples.",
    .examples = {"flat help", "flat help unlearn", "flat help bench kernels"},
    .run = help_run,
};
