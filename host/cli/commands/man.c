/* man.c - `flat man`: the manual page, in roff, from the same rows as the help. */
#include <string.h>

#include "../../util/version.h"
#include "../command.h"

/* Text of a roff line: a backslash, a dash, and a dot or quote at the beginning mean something there. */
static int roff_print(const char *text, struct buffer *out, struct error *error)
{
    int status = *text == '.' || *text == '\'' ? buffer_append(out, "\\&", 2, error) : STATUS_OK;
    for (; *text && !status; text++)
        if (*text == '\\')
            status = buffer_append(out, "\\e", 2, error);
        else
            status = buffer_printf(out, error, "%s%c", *text == '-' ? "\\" : "", *text);
    return status;
}

static int roff_line(const char *text, struct buffer *out, struct error *error)
{
    int status = roff_print(text, out, error);
    return status ? status : buffer_append(out, "\n", 1, error);
}

/* What is being written, and the heading it is under. */
struct page {
    struct buffer *out;
    const struct option_group *group;
};

static int heading_print(struct page *page, const struct option_group *group, struct error *error)
{
    const bool same = page->group && !strcmp(page->group->title, group->title);
    page->group = group;
    if (same)
        return STATUS_OK;
    int status = buffer_printf(page->out, error, ".PP\n.I %s\n", group->title);
    if (!status && group->source)
        status = buffer_printf(page->out, error, ".br\n");
    return status || !group->source ? status : roff_line(group->source, page->out, error);
}

static int option_print(const struct option *option, const struct option_group *group, void *user, struct error *error)
{
    struct page *page = user;
    char names[200], text[1200], range[512] = "";
    const char *initial = option_initial(option);
    if (option->type == OPTION_CHOICE)
        option_describe(option, range, sizeof range);
    if (option->type == OPTION_BOOL && !strcmp(initial, "false"))
        initial = "";
    option_names(option, names, sizeof names);
    snprintf(text, sizeof text, "%s%s%s%s%s%s", option->help, *range ? ": " : "", range, *initial ? " (default " : "",
             initial, *initial ? ")" : "");
    int status = heading_print(page, group, error);
    if (!status)
        status = buffer_printf(page->out, error, ".TP\n.B ");
    if (!status)
        status = roff_line(names, page->out, error);
    return status ? status : roff_line(text, page->out, error);
}

static int command_print(const struct command *command, void *out, struct error *error)
{
    const char *argument = command->argument;
    int status = !argument         ? buffer_printf(out, error, ".SS flat %s\n", command->name)
                 : command->at_least ? buffer_printf(out, error, ".SS flat %s %s\n", command->name, argument)
                                     : buffer_printf(out, error, ".SS flat %s [%s]\n", command->name, argument);
    if (!status)
        status = roff_line(command->summary, out, error);
    for (int i = 0; i < 3 && !status; i++) {
        status = buffer_printf(out, error, "%s", i ? "" : ".PP\n.nf\n");
        if (!status)
            status = roff_line(command->examples[i], out, error);
    }
    if (!status)
        status = buffer_printf(out, error, ".fi\n");
    return status ? status : command_rows_visit(command, option_print, &(struct page){out, NULL}, error);
}

static const char ending[] =
    ".SH EXIT STATUS\n"
    "0 done, 1 run\\-time failure, 2 usage or config, 3 bad input file, 4 memory, 5 non\\-finite numbers, 6 a peer rank was\n"
    "lost, 75 stopped on a signal with a checkpoint written, 141 the reader of standard output is gone.\n"
    ".SH FILES\n"
    "A CONFIG is a JSON file of options by name (a name with a dot is a member of an object), a run.json, or the folder of a\n"
    "run. Flags override it. Every command with options prints its keys with \\-\\-help_config.\n";

static int man_run(struct invocation *run, struct error *error)
{
    struct buffer text = {0};
    int status = buffer_printf(&text, error, ".TH FLAT 1 \"\" \"flat %s\" \"User Commands\"\n.SH NAME\nflat \\- LLM unlearning in "
                               "C and CUDA\n.SH SYNOPSIS\n.B flat\nCOMMAND [ARGUMENT] [\\-\\-key value ...]\n.SH COMMANDS\n",
                               FLAT_VERSION);
    if (!status)
        status = commands_visit(run->commands, command_print, &text, error);
    if (!status)
        status = buffer_printf(&text, error, "%s", ending);
    return text_print(&text, status, error);
}

const struct command command_man = {
    .name = "man",
    .summary = "Prints the manual page of all commands.",
    .examples = {"flat man | man -l -", "flat man > flat.1", "flat man | groff -man -Tpdf > flat.pdf"},
    .run = man_run,
};
