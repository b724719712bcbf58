/* bench.c - `flat bench kernels|step|io|comm`: measurements of the program's parts; see host/bench/. */
#include "../../bench/bench_comm.h"
#include "../../bench/bench_io.h"
#include "../../bench/step.h"
#include "../../model/model_options.h"
#include "../command.h"
#include "../launcher.h"

static int finish(int status, struct error *error)
{
    return status ? status : stdout_finish(error);
}

/* ---- kernels ----------------------------------------------------------------------------------------------------- */

struct kernels_options {
    struct bench_options bench;
    struct log_options log;
};
static const struct command_group kernels_groups[] = {
    {&bench_case_option_group, offsetof(struct kernels_options, bench)},
    {&bench_option_group, offsetof(struct kernels_options, bench)},
    {&bench_json_option_group, offsetof(struct kernels_options, bench)},
    {&bench_kernels_option_group, offsetof(struct kernels_options, bench)},
    {&device_option_group, offsetof(struct kernels_options, bench.device)},
    {&log_option_group, offsetof(struct kernels_options, log)},
    {NULL, 0},
};

static int kernels_run(struct invocation *run, struct error *error)
{
    const struct kernels_options *options = run->options;
    return finish(bench_kernels(&options->bench, &run->log, error), error);
}

static const struct command kernels = {
    .name = "bench kernels",
    .summary = "Measures every op on the shapes of real models against the device's limits; results are checked first.",
    .examples = {"flat bench kernels --quick", "flat bench kernels --filter norm --json norm.json",
                 "flat bench kernels --baseline before.json"},
    .groups = kernels_groups,
    .options_bytes = sizeof(struct kernels_options),
    .run = kernels_run,
};

/* ---- step -------------------------------------------------------------------------------------------------------- */

struct step_command_options {
    struct step_options step;
    struct log_options log;
};
static const struct command_group step_groups[] = {
    {&bench_case_option_group, offsetof(struct step_command_options, step.bench)},
    {&bench_option_group, offsetof(struct step_command_options, step.bench)},
    {&bench_json_option_group, offsetof(struct step_command_options, step.bench)},
    {&step_option_group, offsetof(struct step_command_options, step)},
    {&cluster_option_group, offsetof(struct step_command_options, step.cluster)},
    {&device_option_group, offsetof(struct step_command_options, step.bench.device)},
    {&log_option_group, offsetof(struct step_command_options, log)},
    {NULL, 0},
};

static int step_run_command(struct invocation *run, struct error *error)
{
    const struct step_command_options *options = run->options;
    return finish(bench_step(&options->step, &run->log, error), error);
}

static const struct command step = {
    .name = "bench step",
    .summary = "Measures whole optimizer steps on the shapes of real models, and what each idea brings.",
    .examples = {"flat bench step --filter stories-15m", "flat bench step --model DIR --pairs 8 --json step.json",
                 "flat bench step --predict --filter llama-2-7b"},
    .groups = step_groups,
    .options_bytes = sizeof(struct step_command_options),
    .run = step_run_command,
};

/* ---- io ---------------------------------------------------------------------------------------------------------- */

struct io_options {
    struct bench_options bench;
    struct model_options model;
    struct log_options log;
};
static const struct command_group io_groups[] = {
    {&model_option_group, offsetof(struct io_options, model)},
    {&bench_option_group, offsetof(struct io_options, bench)},
    {&bench_json_option_group, offsetof(struct io_options, bench)},
    {&device_option_group, offsetof(struct io_options, bench.device)},
    {&log_option_group, offsetof(struct io_options, log)},
    {NULL, 0},
};

static int io_run(struct invocation *run, struct error *error)
{
    const struct io_options *options = run->options;
    return finish(bench_io(&options->bench, options->model.model_name_or_path, &run->log, error), error);
}

static const struct command io = {
    .name = "bench io",
    .summary = "Measures reading and writing a model against plain reads and writes of the same files.",
    .examples = {"flat bench io --model DIR", "flat bench io --model DIR --samples 9", "flat bench io --model DIR --json io.json"},
    .groups = io_groups,
    .options_bytes = sizeof(struct io_options),
    .required = "model_name_or_path",
    .run = io_run,
};

/* ---- comm -------------------------------------------------------------------------------------------------------- */

struct comm_options {
    struct bench_comm_options comm;
    struct launcher_options launcher;
    struct log_options log;
};
static const struct command_group comm_groups[] = {
    {&bench_option_group, offsetof(struct comm_options, comm.bench)},
    {&bench_comm_option_group, offsetof(struct comm_options, comm)},
    {&launcher_option_group, offsetof(struct comm_options, launcher)},
    {&device_option_group, offsetof(struct comm_options, comm.bench.device)},
    {&log_option_group, offsetof(struct comm_options, log)},
    {NULL, 0},
};

static int comm_run(struct invocation *run, struct error *error)
{
    const struct comm_options *options = run->options;
    int status;
    if (launcher_wanted(&options->launcher, &status, error))
        return status ? status : launcher_run((int)options->launcher.nproc_per_node, run->argv, &run->log, error);
    return finish(bench_comm(&options->comm, error), error);
}

static const struct command comm = {
    .name = "bench comm",
    .summary = "Measures every collective between the ranks of a run, by size; results are checked first.",
    .examples = {"flat bench comm --nproc_per_node 2", "flat bench comm --nproc_per_node 8 --max_bytes 1073741824",
                 "torchrun --nproc_per_node 8 --no_python flat bench comm"},
    .groups = comm_groups,
    .options_bytes = sizeof(struct comm_options),
    .run = comm_run,
};

const struct command command_bench = {
    .name = "bench",
    .argument = "kernels|step|io|comm",
    .at_least = 1,
    .summary = "Measures ops against the device's limits, whole steps, files, or collectives.",
    .examples = {"flat bench kernels --quick", "flat bench step --filter stories-15m", "flat bench comm --nproc_per_node 2"},
    .parts = (const struct command *const[]){&kernels, &step, &io, &comm, NULL},
};
