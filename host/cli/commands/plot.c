/* plot.c - `flat plot`: the curves of a run as SVG; see ../plot.h. */
#include "../plot.h"
#include "../command.h"

struct plot_options {
    const char *output;
    struct log_options log;
};

static const struct option option_rows[] = {
    {.name = "output", .letter = 'o', OPTION_FIELD(struct plot_options, output), .operand = "FILE.svg",
     .help = "file to write"},
};
static const struct option_group plot_option_group = {OPTION_GROUP("Output", option_rows, struct plot_options)};

static const struct command_group groups[] = {
    {&plot_option_group, 0},
    {&log_option_group, offsetof(struct plot_options, log)},
    {NULL, 0},
};

static int run_plot(struct invocation *run, struct error *error)
{
    const struct plot_options *options = run->options;
    return plot_run(run->arguments.argument[0], options->output, error);
}

const struct command command_plot = {
    .name = "plot",
    .argument = "RUN_DIR",
    .at_least = 1,
    .at_most = 1,
    .summary = "Draws the curves of a run as SVG.",
    .examples = {"flat plot runs/tofu -o tofu.svg"},
    .groups = groups,
    .options_bytes = sizeof(struct plot_options),
    .required = "output",
    .run = run_plot,
};
