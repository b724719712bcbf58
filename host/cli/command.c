/* command.c - see command.h. */
#include "command.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "config_file.h"

int stdout_failed(int failure, struct error *error)
{
    return failure == EPIPE ? error_set(error, STATUS_PIPE, "%s", "")
                            : error_set(error, STATUS_RUNTIME, "stdout: cannot be written: %s", strerror(failure));
}

int stdout_finish(struct error *error)
{
    struct pollfd reader = {.fd = STDOUT_FILENO, .events = POLLOUT};
    errno = 0;
    if (!fflush(stdout) && !ferror(stdout))
        return STATUS_OK;
    /* an earlier write may have failed, whose errno is lost */
    const bool closed = errno == EPIPE || (poll(&reader, 1, 0) > 0 && reader.revents & POLLERR);
    return stdout_failed(closed ? EPIPE : errno ? errno : EIO, error);
}

int text_print(struct buffer *text, int status, struct error *error)
{
    if (!status) {
        fputs(text->data ? text->data : "", stdout);
        status = stdout_finish(error);
    }
    buffer_free(text);
    return status;
}

int terminal_columns(void)
{
    struct winsize size;
    const char *said = getenv("COLUMNS");
    int columns = said ? atoi(said) : 0;
    if (columns <= 0 && isatty(STDOUT_FILENO) && !ioctl(STDOUT_FILENO, TIOCGWINSZ, &size))
        columns = size.ws_col;
    return columns <= 0 ? 80 : columns < 40 ? 40 : columns;
}

const char *command_word(const struct command *command)
{
    const char *space = strrchr(command->name, ' ');
    return space ? space + 1 : command->name;
}

static const struct command *word_find(const struct command *const *list, const char *word, const char **nearest)
{
    size_t best = SIZE_MAX;
    *nearest = NULL;
    for (; *list; list++) {
        const char *name = command_word(*list);
        if (!strcmp(name, word))
            return *list;
        size_t distance = option_name_distance(word, name);
        if (distance < best) {
            best = distance;
            *nearest = name;
        }
    }
    return NULL;
}

/* "kernels, step, io, comm" */
static const char *parts_list(const struct command *command, char *out, size_t out_bytes)
{
    size_t at = 0;
    for (const struct command *const *part = command->parts; *part && at < out_bytes; part++)
        at += (size_t)snprintf(out + at, out_bytes - at, "%s%s", part == command->parts ? "" : ", ", command_word(*part));
    return out;
}

int command_find(const struct command *const *list, int argc, char **argv, const struct command **command, int *words,
                 struct error *error)
{
    const char *nearest, *word = argc ? argv[0] : "";
    char known[200];
    *command = word_find(list, word, &nearest);
    *words = 1;
    if (!*command && nearest)
        return error_set(error, STATUS_USAGE, "'%.80s': unknown command; did you mean '%s'?", word, nearest);
    if (!*command)
        return error_set(error, STATUS_USAGE, "'%.80s': unknown command; 'flat help' lists them all", word);
    const struct command *whole = *command;
    const char *next = argc > 1 ? argv[1] : "";
    if (!whole->parts || !strcmp(next, "-h") || !strcmp(next, "--help"))
        return STATUS_OK;
    if (!*next || *next == '-')
        return error_set(error, STATUS_USAGE, "'flat %s' needs one of %s", whole->name,
                         parts_list(whole, known, sizeof known));
    *command = word_find(whole->parts, next, &nearest);
    *words = 2;
    if (!*command)
        return error_set(error, STATUS_USAGE, "'%.80s': 'flat %s' has %s", next, whole->name,
                         parts_list(whole, known, sizeof known));
    return STATUS_OK;
}

static int group_visit(const struct option_group *group, option_visit visit, void *user, struct error *error)
{
    int status = STATUS_OK;
    for (size_t i = 0; i < group->count && !status; i++)
        status = visit(&group->rows[i], group, user, error);
    return status;
}

static const struct option *choice_of_variants(const struct option_group *group)
{
    for (size_t i = 0; group->variant && i < group->count; i++)
        if (!strcmp(group->rows[i].name, group->variant_option))
            return &group->rows[i];
    return NULL;
}

int command_rows_visit(const struct command *command, option_visit visit, void *user, struct error *error)
{
    int status = STATUS_OK;
    for (const struct command_group *g = command->groups; g && g->group && !status; g++) {
        const struct option *choice = choice_of_variants(g->group);
        status = group_visit(g->group, visit, user, error);
        for (int i = 0; choice && option_choice(choice, i) && !status; i++)
            if (g->group->variant(i))
                status = group_visit(g->group->variant(i), visit, user, error);
    }
    return status;
}

int commands_visit(const struct command *const *list, command_visit visit, void *user, struct error *error)
{
    int status = STATUS_OK;
    for (; *list && !status; list++)
        status = (*list)->parts ? commands_visit((*list)->parts, visit, user, error) : visit(*list, user, error);
    return status;
}

/* 1 for the row of that name. */
static int row_is(const struct option *option, const struct option_group *group, void *name, struct error *error)
{
    (void)group;
    (void)error;
    return option_named(option, name);
}

/* Appends the commands of the list, and of their parts, that have an option of that name. */
static void takers_add(const struct command *const *list, const char *name, char *out, size_t out_bytes)
{
    struct error unused;
    for (; list && *list; list++) {
        const size_t at = strlen(out);
        takers_add((*list)->parts, name, out, out_bytes);
        if (command_rows_visit(*list, row_is, (void *)name, &unused))
            snprintf(out + at, out_bytes - at, "%s'flat %s'", at ? ", " : "", (*list)->name);
    }
}

static bool taken_elsewhere(const void *user, const char *name, char *out, size_t out_bytes)
{
    *out = 0;
    takers_add(user, name, out, out_bytes);
    return *out;
}

static int groups_add(struct option_set *set, const struct command *command, void *options, struct error *error)
{
    int status = STATUS_OK;
    for (const struct command_group *group = command->groups; group && group->group && !status; group++)
        status = option_set_add(set, group->group, (char *)options + group->offset, error);
    return status;
}

static const char *also_required(const struct invocation *run)
{
    return run->command->also_required ? run->command->also_required(run->options) : NULL;
}

int invocation_parse(struct invocation *run, const struct command *const *list, const struct command *command, int argc,
                     char **argv, struct error *error)
{
    *run = (struct invocation){.commands = list, .command = command};
    option_set_init(&run->set, command->name);
    run->set.elsewhere = taken_elsewhere;
    run->set.user = list;
    run->options = memory_array(1, command->options_bytes, error);
    int status = run->options ? groups_add(&run->set, command, run->options, error) : STATUS_MEMORY;
    if (!status)
        status = option_set_parse(&run->set, argc, argv, command->argument, command->at_most, &run->arguments, error);
    if (!status && (run->arguments.help || run->arguments.help_config)) {
        struct error unused = {0}; /* help is given whatever stands before it */
        option_set_choose_variant(&run->set, &unused);
        return STATUS_OK;
    }
    if (!status && run->arguments.count < command->at_least)
        return error_set(error, STATUS_USAGE, "'flat %s' needs a %s", command->name, command->argument);
    if (!status && command->config && run->arguments.count)
        status = config_file_read(&run->set, run->arguments.argument[0], command->config == CONFIG_RUN, error);
    if (!status)
        status = option_set_choose_variant(&run->set, error);
    if (!status)
        status = option_set_check(&run->set, command->required, also_required(run), command->config != CONFIG_NONE, error);
    return status || !command->check ? status : command->check(run, error);
}

void invocation_free(struct invocation *run)
{
    option_set_free(&run->set);
    free(run->options);
    free(run->arguments.argument);
    *run = (struct invocation){0};
}

cJSON *invocation_json(const struct invocation *run, struct error *error)
{
    return config_file_write(&run->set, false, error);
}

cJSON *invocation_shared_json(const struct invocation *run, struct error *error)
{
    return config_file_write(&run->set, true, error);
}

cJSON *invocation_defaults_json(const struct invocation *run, struct error *error)
{
    struct option_set set;
    cJSON *tree = NULL;
    void *options = memory_array(1, run->command->options_bytes, error);
    option_set_init(&set, run->command->name);
    int status = options ? groups_add(&set, run->command, options, error) : STATUS_MEMORY;
    if (!status && run->set.variant_of) { /* the options of the method that was named */
        char chosen[64];
        const struct option_entry *entry = option_set_entry(&run->set, run->set.variant_of->variant_option);
        option_value(entry, chosen, sizeof chosen);
        status = option_set_text(&set, entry->option, chosen, OPTION_FROM_DEFAULT, NULL, error);
    }
    if (!status && !option_set_choose_variant(&set, error))
        tree = config_file_write(&set, false, error);
    option_set_free(&set);
    free(options);
    return tree;
}

/* ---- help -------------------------------------------------------------------------------------------------------- */

static void command_left(const struct command *command, char *out, size_t out_bytes)
{
    const bool open = command->argument && !command->at_least;
    snprintf(out, out_bytes, "flat %s%s%s%s%s%s", command->name, command->argument ? " " : "", open ? "[" : "",
             command->argument ? command->argument : "", command->at_most > 1 ? "..." : "", open ? "]" : "");
}

static int commands_print(const struct command *const *list, int columns, struct buffer *out, struct error *error)
{
    int status = STATUS_OK;
    for (; *list && !status; list++) {
        char left[120];
        command_left(*list, left, sizeof left);
        status = option_print_line(left, (*list)->summary, columns, out, error);
    }
    return status;
}

int command_print_usage(const struct command *const *list, int columns, struct buffer *out, struct error *error)
{
    int status = buffer_printf(out, error, "Usage: flat COMMAND ...\n\nLLM unlearning in C and CUDA.\n\n");
    if (!status)
        status = commands_print(list, columns, out, error);
    if (!status)
        status = buffer_printf(out, error, "\n");
    return status ? status
                  : option_print_text("'flat help COMMAND' or 'flat COMMAND --help' explains one with its options; "
                                      "'flat -V' prints the version.", columns, out, error);
}

/* A command line, broken where it is too long as a shell would take it. */
static int example_print(const char *text, int columns, struct buffer *out, struct error *error)
{
    int column = 2, status = buffer_printf(out, error, "  ");
    for (bool first = true; *text && !status; first = false) {
        const int word = (int)strcspn(text, " ");
        const bool fits = column + 1 + word + 2 <= columns; /* with " \" behind it */
        if (!first)
            status = buffer_printf(out, error, fits ? " " : " \\\n      ");
        column = first ? column + word : fits ? column + 1 + word : 6 + word;
        if (!status)
            status = buffer_append(out, text, (size_t)word, error);
        text += word + (text[word] == ' ');
    }
    return status ? status : buffer_printf(out, error, "\n");
}

static int examples_print(const struct command *command, int columns, struct buffer *out, struct error *error)
{
    int status = buffer_printf(out, error, "\nExamples\n");
    for (int i = 0; i < 3 && !status; i++)
        status = example_print(command->examples[i], columns, out, error);
    return status;
}

int command_print_help(const struct invocation *run, int columns, struct buffer *out, struct error *error)
{
    const struct command *command = run->command;
    char left[120], usage[160];
    command_left(command, left, sizeof left);
    snprintf(usage, sizeof usage, "Usage: %s%s", left, command->groups || command->parts ? " [--key value ...]" : "");
    int status = option_print_text(usage, columns, out, error);
    if (!status)
        status = buffer_printf(out, error, "\n");
    if (!status)
        status = option_print_text(command->summary, columns, out, error);
    if (!status && command->parts && !(status = buffer_printf(out, error, "\nParts, each with a --help of its own\n")))
        status = commands_print(command->parts, columns, out, error);
    if (!status)
        status = examples_print(command, columns, out, error);
    if (!status)
        status = option_set_print_help(&run->set, command->required, also_required(run), columns, out, error);
    if (!status && command->groups)
        status = buffer_printf(out, error, "\nThis text and the config file\n");
    if (!status && command->groups)
        status = option_print_line("-h, --help", "show this text", columns, out, error);
    if (!status && command->groups)
        status = option_print_line("--help_config", "print every key with its default as JSON, the form of a config file",
                                   columns, out, error);
    return status;
}
