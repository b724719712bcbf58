/* main.c - the program `flat`: finds the command, parses its command line, runs it, prints one error line. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../io/json/json.h"
#include "../util/version.h"
#include "commands.h"
#include "launcher.h"
#include "plot.h"

int stdout_finish(struct error *error)
{
    if (fflush(stdout) || ferror(stdout))
        return error_set(error, STATUS_RUNTIME, "stdout: cannot be written: %s", strerror(errno));
    return STATUS_OK;
}

bool rows_wanted(const struct invocation *run)
{
    return settings_given(&run->line, "prompt_template") || !strcmp(run->line.settings.prompt_template, "custom");
}

static int print_buffer(struct buffer *text, int status, struct error *error)
{
    if (!status) {
        fputs(text->data, stdout);
        status = stdout_finish(error);
    }
    buffer_free(text);
    return status;
}

/* --help, --help_config: text instead of work. */
static int print_help(struct invocation *run, struct error *error)
{
    struct buffer text = {0};
    if (run->line.arguments.help)
        return print_buffer(&text, settings_print_help(&run->line, &text, error), error);
    cJSON *json = settings_defaults_to_json(&run->line, error);
    int status = json ? json_print_pretty(json, &text, error) : STATUS_MEMORY;
    cJSON_Delete(json);
    if (!status)
        status = buffer_append(&text, "\n", 1, error);
    return print_buffer(&text, status, error);
}

static int command_dispatch(struct invocation *run, const struct command *command, struct error *error)
{
    if (run->line.arguments.help || run->line.arguments.help_config)
        return print_help(run, error);
    switch (command->bit) {
    case COMMAND_UNLEARN: return command_train(run, false, error);
    case COMMAND_FINETUNE: return command_train(run, true, error);
    case COMMAND_PLAN: return command_plan(run, error);
    case COMMAND_SCORE: return command_score(run, error);
    case COMMAND_GENERATE: return command_generate(run, error);
    case COMMAND_TOKENIZE: return command_tokenize(run, error);
    case COMMAND_BENCH: return command_bench(run, error);
    default: return plot_run(run->line.arguments.argument, run->line.settings.output, error);
    }
}

/* What stands before or instead of a command. */
static int run_without_command(const char *word, const char *operand, struct error *error)
{
    struct buffer text = {0};
    if (!strcmp(word, "--version")) {
        printf("flat %s (%s)\n", FLAT_VERSION, version_commit());
        return stdout_finish(error);
    }
    if (!strcmp(word, "completion"))
        return print_buffer(&text, settings_print_completion(operand ? operand : "bash", &text, error), error);
    return print_buffer(&text, settings_print_usage(&text, error), error);
}

/* Where the caller has closed stdin, stdout or stderr, no file of ours may get its number: messages would be written into
 * it. Read-only, so that what is written there fails as before. */
static void streams_occupy(void)
{
    int fd = 0;
    while (fd >= 0 && fd <= STDERR_FILENO)
        fd = open("/dev/null", O_RDONLY);
    if (fd >= 0)
        close(fd);
}

int main(int argc, char **argv)
{
    struct error error = {0};
    struct invocation run = {.argc = argc, .argv = argv};
    const struct command *command = NULL;
    int status;
    streams_occupy();
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is a failed write, reported like any other */
    log_init(&run.log, stderr, false);
    const char *word = argc > 1 ? argv[1] : "--help";
    if (!strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "--version") || !strcmp(word, "completion")) {
        status = run_without_command(word, argc > 2 ? argv[2] : NULL, &error);
        if (argc < 2 && !status)
            status = STATUS_USAGE;
        if (status && *error.text)
            log_error(&run.log, &error);
        return status;
    }
    status = command_find(word, &command, &error);
    if (!status)
        status = settings_parse(&run.line, command, argc - 2, argv + 2, &error);
    if (!status) {
        log_init(&run.log, stderr, run.line.settings.quiet);
        /* a plan is of ranks, not by them */
        if (command->bit == COMMAND_PLAN || !launcher_wanted(&run.line, &status, &error))
            status = command_dispatch(&run, command, &error);
        else if (!status)
            status = launcher_run((int)run.line.settings.nproc_per_node, argv, &run.log, &error);
    }
    if (command)
        settings_free(&run.line);
    if (status && *error.text) /* of several ranks one reports for all */
        log_error(&run.log, &error);
    return status;
}
