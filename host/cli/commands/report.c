/* report.c - `flat report`: runs as one page of HTML; see ../report/report.h. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "../../util/file.h"
#include "../command.h"
#include "../report/report.h"

struct report_options {
    const char *output;
    int64_t examples;
    struct log_options log;
};

static const struct option option_rows[] = {
    {.name = "output", .letter = 'o', OPTION_FIELD(struct report_options, output), .operand = "FILE.html",
     .help = "file to write; unless said, RUN_DIR/report.html, or report.html here for several runs"},
    {.name = "examples", OPTION_FIELD(struct report_options, examples), .initial = "10", .max = 10000,
     .help = "questions of each set whose answers are shown side by side"},
};
static const struct option_group report_option_group = {OPTION_GROUP("Output", option_rows, struct report_options)};

static const struct command_group groups[] = {
    {&report_option_group, 0},
    {&log_option_group, offsetof(struct report_options, log)},
    {NULL, 0},
};

static int check_report(struct invocation *run, struct error *error)
{
    const struct report_options *options = run->options;
    const size_t length = strlen(options->output);
    if (length && (length < 6 || strcmp(options->output + length - 5, ".html")))
        return error_set(error, STATUS_USAGE, "--output: expected a name that ends in .html, found '%s'", options->output);
    return STATUS_OK;
}

static int run_report(struct invocation *run, struct error *error)
{
    const struct report_options *options = run->options;
    struct report report = {.examples = (int)options->examples};
    struct buffer page = {0};
    char output[PATH_MAX];
    int status = STATUS_OK;
    snprintf(output, sizeof output, "%s", options->output);
    if (!*output)
        status = file_join(output, sizeof output, run->arguments.count > 1 ? "." : run->arguments.argument[0], "report.html", error);
    if (!status)
        status = report_read(&report, run->arguments.argument, run->arguments.count, &run->log, error);
    if (!status)
        status = report_write(&report, &page, error);
    if (!status)
        status = file_write(output, page.data, page.length, error);
    if (!status)
        puts(output);
    buffer_free(&page);
    report_free(&report);
    return status;
}

const struct command command_report = {
    .name = "report",
    .argument = "RUN_DIR",
    .at_least = 1,
    .at_most = REPORT_RUNS_MAX,
    .summary = "Writes one page of HTML about runs: curves, figures, answers side by side, settings; prints its name.",
    .examples = {"flat report runs/tofu", "flat report runs/npo runs/flat -o methods.html",
                 "flat report runs/tofu --examples 50 -o tofu.html"},
    .groups = groups,
    .options_bytes = sizeof(struct report_options),
    .check = check_report,
    .run = run_report,
};
