/* sweep.c - `flat sweep`: many runs from one config, scored and compared; see ../sweep/sweep.h. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "../../util/file.h"
#include "../sweep/sweep.h"

static const char *const direction_names[] = {[SWEEP_AUTO] = "auto", [SWEEP_HIGHER] = "higher", [SWEEP_LOWER] = "lower", NULL};
static const char *const keep_names[] = {[SWEEP_KEEP_FRONT] = "front", [SWEEP_KEEP_ALL] = "all", [SWEEP_KEEP_NONE] = "none", NULL};

static const struct option option_rows[] = {
    {.name = "output_dir", .letter = 'o', OPTION_FIELD(struct sweep_options, output_dir), .local = true, .operand = "DIR",
     .help = "folder of the sweep: its runs, sweep.md, sweep.csv, sweep.json and front.svg; one that holds the same sweep is gone on "
             "with"},
    {.name = "draws", OPTION_FIELD(struct sweep_options, draws), .initial = "0", .max = SWEEP_ROWS_MAX,
     .help = "so many runs drawn from the grid of all lists, none twice; 0 takes the whole grid"},
    {.name = "draw_seed", OPTION_FIELD(struct sweep_options, draw_seed), .initial = "42", .max = OPTION_EXACT_MAX,
     .help = "of the draws"},
    {.name = "landmarks", OPTION_LIST_FIELD(struct sweep_options, landmarks), .local = true, .operand = "NAME=DIR,...",
     .help = "models that are scored too, such as one that never saw the forget set; the model that all runs begin with is the "
             "landmark before"},
    {.name = "forget_metric", OPTION_FIELD(struct sweep_options, forget_metric), .operand = "NAME",
     .help = "figure of the scoring that says how much is forgotten; unless given forget_quality, or else the forget set's "
             "probability"},
    {.name = "forget_better", OPTION_FIELD(struct sweep_options, forget_better), .choices = direction_names, .initial = "auto",
     .help = "which of two values of forget_metric is the better one; auto is higher for forget_quality, and lower for others"},
    {.name = "utility_metric", OPTION_FIELD(struct sweep_options, utility_metric), .operand = "NAME",
     .help = "figure that says what is left, more being better; unless given model_utility, or else retain_mean_prob"},
    {.name = "keep_models", OPTION_FIELD(struct sweep_options, keep_models), .choices = keep_names, .initial = "front",
     .help = "whose weights stay once a run is scored: front is the runs that no other beats in both metrics"},
    {.name = "retry_failed", OPTION_FIELD(struct sweep_options, retry_failed),
     .help = "runs that have failed are done again"},
    {.name = "gpus", OPTION_LIST_FIELD(struct sweep_options, gpus), .local = true, .operand = "N,...",
     .help = "one run at a time on each of these GPUs (CUDA_VISIBLE_DEVICES); unless given one run at a time in all"},
};
static const struct option_group sweep_option_group = {OPTION_GROUP("Sweep", option_rows, struct sweep_options)};

static const struct command_group groups[] = {
    {&sweep_option_group, 0},
    {&log_option_group, offsetof(struct sweep_options, log)},
    {NULL, 0},
};

/* The folder holds nothing of a sweep, or the same one. */
static int plan_match(const struct sweep *sweep, struct error *error)
{
    char path[4096], *old = NULL;
    size_t length = 0;
    struct buffer text = {0};
    cJSON *plan = sweep_plan_json(sweep, error);
    int status = plan ? file_make_directory(sweep->options->output_dir, error) : STATUS_MEMORY;
    if (!status)
        status = file_join(path, sizeof path, sweep->options->output_dir, "plan.json", error);
    if (!status)
        status = json_print_pretty(plan, &text, error);
    const bool there = !status && file_exists(path);
    if (there)
        status = file_read(path, (size_t)1 << 30, &old, &length, error);
    if (!status && there && (length < text.length || memcmp(old, text.data, text.length)))
        status = error_set(error, STATUS_USAGE, "output_dir: %s holds another sweep, by its plan.json; name another folder, or "
                           "remove it", sweep->options->output_dir);
    else if (!status && !there)
        status = file_write(path, text.data, text.length, error);
    cJSON_Delete(plan);
    buffer_free(&text);
    free(old);
    return status;
}

static int run_sweep(struct invocation *run, struct error *error)
{
    struct sweep sweep = {.options = run->options, .log = &run->log};
    struct buffer table = {0};
    int status = sweep_plan(&sweep, run, run->arguments.argument[0], error);
    if (!status)
        status = plan_match(&sweep, error);
    if (!status)
        status = sweep_run(&sweep, error);
    if (!status)
        status = text_print(&table, sweep_table_write(&sweep, &table, error), error);
    sweep_free(&sweep);
    return status;
}

const struct command command_sweep = {
    .name = "sweep",
    .argument = "CONFIG",
    .at_least = 1,
    .at_most = 1,
    .summary = "Runs of unlearn from one config whose options may be lists: each is scored by flat eval, and all are compared in a "
               "table and a picture; goes on where it was stopped.",
    .examples = {"flat sweep sweep.json", "flat sweep sweep.json --draws 20 --draw_seed 1 --output_dir runs/random",
                 "flat sweep sweep.json --gpus 0,1,2,3"},
    .groups = groups,
    .options_bytes = sizeof(struct sweep_options),
    .run = run_sweep,
};
