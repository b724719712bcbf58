/* plot.c - `flat plot`: the curves of runs, and bars of measurements, as SVG; see ../plot/plot.h. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "../command.h"
#include "../plot/plot.h"

struct plot_options {
    const char *output;
    struct log_options log;
};

static const struct option option_rows[] = {
    {.name = "output", .letter = 'o', OPTION_FIELD(struct plot_options, output), .operand = "FILE.svg",
     .help = "file to write; unless said, RUN_DIR/curves.svg, or curves.svg here for several runs"},
};
static const struct option_group plot_option_group = {OPTION_GROUP("Output", option_rows, struct plot_options)};

static const struct command_group groups[] = {
    {&plot_option_group, 0},
    {&log_option_group, offsetof(struct plot_options, log)},
    {NULL, 0},
};

/* What goes together, and an output that viewers take for what it is. */
static int check_plot(struct invocation *run, struct error *error)
{
    const struct plot_options *options = run->options;
    const size_t length = strlen(options->output);
    if (length && (length < 5 || strcmp(options->output + length - 4, ".svg")))
        return error_set(error, STATUS_USAGE, "--output: expected a name that ends in .svg, found '%s'", options->output);
    for (int i = 0; i < run->arguments.count && run->arguments.count > 1; i++)
        if (plot_is_bars(run->arguments.argument[i]))
            return error_set(error, STATUS_USAGE, "'%s' is a file of bars: plot it alone", run->arguments.argument[i]);
    return STATUS_OK;
}

static int run_plot(struct invocation *run, struct error *error)
{
    const struct plot_options *options = run->options;
    const char *const *what = run->arguments.argument;
    const size_t count = (size_t)run->arguments.count;
    char output[PATH_MAX];
    snprintf(output, sizeof output, "%s", options->output);
    int status = *output ? STATUS_OK : plot_output_name(what, count, output, sizeof output, error);
    if (!status)
        status = plot_is_bars(what[0]) ? plot_bars(what[0], output, error) : plot_runs(what, count, output, error);
    if (!status)
        puts(output);
    return status;
}

const struct command command_plot = {
    .name = "plot",
    .argument = "RUN_DIR",
    .at_least = 1,
    .at_most = PLOT_RUNS_MAX,
    .summary = "Draws the curves of runs, or the bars of a JSON file, as SVG; prints the name of the picture.",
    .examples = {"flat plot runs/tofu", "flat plot runs/npo runs/flat -o methods.svg",
                 "flat plot benches/results/machine/race.json"},
    .groups = groups,
    .options_bytes = sizeof(struct plot_options),
    .check = check_plot,
    .run = run_plot,
};
