/* step.c - one case of `flat bench step`: set up, predicted or measured; see step.h. */
#include "step.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../device/peak.h"
#include "../util/clock.h"
#include "../util/file.h"
#include "../util/memory.h"
#include "../train/scaling.h"

/* Any rates do: a step takes as long with others. */
static const struct train_options step_training = {
    .schedule = {.learning_rate = 1e-5},
    .optimizer = {.weight_decay = 0.01, .adam_beta1 = 0.9, .adam_beta2 = 0.999, .adam_epsilon = 1e-8, .max_grad_norm = 1},
};

static const struct option option_rows[] = {
    {.name = "model_name_or_path", .alias = "model", OPTION_FIELD(struct step_options, model), .operand = "DIR",
     .help = "Hugging Face model folder to run with its own weights; without, the folders of --models_dir"},
    {.name = "models_dir", OPTION_FIELD(struct step_options, models_dir), .operand = "DIR",
     .help = "folders with a config.json each, run with random weights; unless said, those that come with the program"},
    {.name = "pairs", OPTION_FIELD(struct step_options, pairs), .initial = "0", .max = 100000,
     .help = "pairs of an optimizer step; 0 is 32 on a GPU and 4 on a CPU (4 and 1 of long documents)"},
    {.name = "predict", OPTION_FIELD(struct step_options, predict),
     .help = "memory, flops and time by the rates of 'flat plan', without running anything; needs no GPU"},
};
const struct option_group step_option_group = {OPTION_GROUP("Measurement", option_rows, struct step_options)};

static const struct lora_options adapters = {.rank = 16, .alpha = 16, .target_modules = "all-linear"};
enum { SAMPLES = 10, SAMPLES_MIN = 3 };
#define CPU_FLOPS 0.7e12 /* of a step that a CPU runs without being asked for it by name */
#define SEED 1

/* One case that is set up. */
struct stepper {
    struct trainer trainer; /* only its model, batch, optimizer and totals are used */
    struct step_pairs pairs;
    bool shared;
    struct engine_graph *graph;
};

/* ---- memory ---- */

/* A number of /proc/self/status in bytes, 0 when it is not there. */
static double process_bytes(const char *key)
{
    FILE *file = fopen("/proc/self/status", "re");
    char line[256];
    double kilobytes = 0;
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, key, strlen(key)))
            kilobytes = strtod(line + strlen(key), NULL);
    if (file)
        fclose(file);
    return kilobytes * 1024;
}

/* What is in use: of a GPU by what it has left, of a CPU by the process's resident memory now (or at its peak). */
static double memory_used(struct bench *bench, bool peak)
{
    size_t available;
    if (!bench->gpu)
        return process_bytes(peak ? "VmHWM:" : "VmRSS:");
    return bench->device.engine->memory_free(bench->device.context, &available) == OP_OK ? -(double)available : 0;
}

/* So that the peak is that of the next case. Where the kernel does not allow it the peak stays the largest so far. */
static void peak_reset(void)
{
    FILE *file = fopen("/proc/self/clear_refs", "we");
    if (file) {
        fputs("5", file);
        fclose(file);
    }
}

/* ---- one step ---- */

static int loss_run(struct stepper *s, struct error *error)
{
    struct sequence_args loss = model_sequence_args(&s->trainer.model, &s->trainer.batch, s->trainer.totals);
    for (int role = ROLE_ANSWER; role <= ROLE_TEMPLATE; role++)
        loss.term[role] = (struct loss_term){.statistic = STATISTIC_PROB_MEAN, .scale = 1.0 / s->pairs.pairs};
    loss.term[ROLE_TEMPLATE].function = loss_template(DIVERGENCE_total_variation);
    loss.term[ROLE_ANSWER].function = loss_forget(DIVERGENCE_total_variation);
    return device_run(&s->trainer.device, error, sequence_loss, &loss);
}

/* Forward, loss, backward: what a graph holds. */
static int gradients_run(struct stepper *s, struct error *error)
{
    struct trainer *trainer = &s->trainer;
    int status = device_zero(&trainer->device, trainer->totals, STEP_TOTALS * sizeof(double), error);
    trainer->model.overwrite_gradients = true;
    if (!status)
        status = model_forward(&trainer->model, &trainer->batch, error);
    if (!status)
        status = loss_run(s, error);
    return status ? status : model_backward(&trainer->model, &trainer->batch, error);
}

static int stepper_run(struct stepper *s, double totals[STEP_TOTALS], struct error *error)
{
    struct trainer *trainer = &s->trainer;
    struct device *device = &trainer->device;
    int status = batch_pack(&trainer->batch, device, s->pairs.sequence, s->pairs.first, s->pairs.pairs, s->shared,
                            trainer->model.config.vocab_size, error);
    if (!status)
        status = s->graph ? device_status(device, "graph_launch", device->engine->graph_launch(device->context, s->graph), error)
                          : gradients_run(s, error);
    if (!status)
        status = optimizer_gradient_norm(trainer, error);
    if (!status)
        status = optimizer_step(trainer, trainer->options->schedule.learning_rate, error);
    if (!status)
        status = device_copy_out(device, totals, trainer->totals, STEP_TOTALS * sizeof(double), error);
    return status;
}

static int graph_make(struct stepper *s, struct error *error)
{
    struct device *device = &s->trainer.device;
    int status = device_status(device, "capture_begin", device->engine->capture_begin(device->context), error);
    if (status)
        return status;
    status = gradients_run(s, error);
    int ended = device->engine->capture_end(device->context, status ? NULL : &s->graph);
    return status ? status : device_status(device, "capture_end", ended, error);
}

/* ---- setting up ---- */

static void stepper_free(struct stepper *s, struct bench *bench)
{
    struct device *device = &bench->device;
    if (s->graph)
        device->engine->graph_free(device->context, s->graph);
    batch_free(&s->trainer.batch, device);
    shards_free(&s->trainer.shards);
    model_free(&s->trainer.model);
    weights_close(&s->trainer.weights);
    step_pairs_free(&s->pairs);
    *s = (struct stepper){0};
}

/* The model's table, the pairs, and the memory plan: all that is known without allocating. */
static int stepper_plan(struct stepper *s, struct bench *bench, const char *folder, struct step_result *result,
                        struct error *error)
{
    struct trainer *trainer = &s->trainer;
    struct model_config config;
    char lengths[4096];
    *s = (struct stepper){.trainer = {.options = &step_training, .device = bench->device}};
    s->shared = result->variant >= VARIANT_SHARED;
    int status = model_config_read(&config, folder, error);
    if (!status)
        status = model_create(&trainer->model, &config, bench->dtype, error);
    if (!status && !strcmp(result->workload, "lora"))
        status = lora_create(&trainer->model.lora, &trainer->model, &adapters, error);
    if (!status)
        status = file_join(lengths, sizeof lengths, bench->step->models_dir, "../tofu_lengths.txt", error);
    if (!status)
        status = step_pairs_make(&s->pairs, result->workload, lengths, result->pairs, config.vocab_size, result->variant, error);
    if (status)
        return status;
    struct batch_size size = {0};
    for (int i = 0; i < result->pairs; i++)
        batch_group_size(&s->pairs.sequence[2 * i], 2, s->shared, &size);
    result->rows = size.rows, result->targets = size.targets, result->visible = size.visible_keys;
    result->parameters = trainer->model.parameters;
    const struct model_flops flops = model_flops(&trainer->model, &size);
    result->flops = flops.forward + flops.backward;
    status = shards_create(&trainer->shards, &trainer->model, &(struct world){NULL, 0, 1, 1}, false, 0, error);
    if (!status)
        status = model_plan(&trainer->model, true, size.rows, size.targets, 2 * result->pairs, error);
    if (!status)
        status = optimizer_plan(trainer, error);
    result->planned_bytes = (double)memory_plan_total(&trainer->model.plan);
    return status;
}

static int stepper_start(struct stepper *s, struct bench *bench, const struct step_result *result, struct error *error)
{
    struct trainer *trainer = &s->trainer;
    struct model *model = &trainer->model;
    const char *own_weights = bench->step->model;
    int status = *own_weights ? weights_open(&trainer->weights, model, own_weights, error) : STATUS_OK;
    if (!status)
        status = model_allocate(model, &bench->device, error);
    if (!status)
        status = batch_create(&trainer->batch, &bench->device, result->rows, result->targets, 2 * result->pairs, error);
    if (!status)
        status = optimizer_start(trainer, error);
    if (!status)
        status = optimizer_clear_gradients(trainer, error);
    if (!status)
        status = *own_weights ? weights_load(&trainer->weights, model, error) : weights_random_repeated(model, SEED, error);
    if (!status && model->lora.modules)
        status = weights_random_lora(model, SEED, error);
    return status;
}

/* ---- measuring ---- */

static double mean_prob(const double *totals, enum role role)
{
    return logged_value(&(struct logged){.role = role, .sum = ROLE_PROB, .count = ROLE_SEQUENCES}, totals);
}

/* While it is on, products without a pick get one. */
static int picks_time(struct bench *bench, bool on, struct error *error)
{
    struct device *device = &bench->device;
    return bench->options->matmul_picks && device->engine->picks_time
               ? device_status(device, "picks_time", device->engine->picks_time(device->context, on), error)
               : STATUS_OK;
}

static int step_sample(struct stepper *s, struct bench *bench, struct step_result *result, struct error *error)
{
    const struct bench_options *options = bench->options;
    const int wanted = options->samples ? (int)options->samples : SAMPLES;
    double *sample = memory_array((size_t)wanted, sizeof *sample, error), totals[STEP_TOTALS];
    int status = sample ? picks_time(bench, true, error) : STATUS_MEMORY, taken = 0;
    if (!status)
        status = stepper_run(s, totals, error); /* warm-up, and the loss */
    if (!status)
        status = picks_time(bench, false, error);
    if (!status) {
        const bool is_flat = result->variant >= VARIANT_ANSWERS;
        result->loss = is_flat ? totals[TOTAL_LOSS] : NAN;
        result->prob_template = is_flat ? mean_prob(totals, ROLE_TEMPLATE) : NAN;
        result->prob_forget = is_flat ? mean_prob(totals, ROLE_ANSWER) : NAN;
    }
    if (!status && result->variant == VARIANT_GRAPH)
        status = graph_make(s, error);
    if (!status)
        status = stepper_run(s, totals, error);
    for (const double begin = clock_seconds(); taken < wanted && !status; taken++) {
        if (options->time_budget > 0 && taken >= SAMPLES_MIN && clock_seconds() - begin > options->time_budget)
            break;
        double start = clock_seconds();
        status = stepper_run(s, totals, error);
        sample[taken] = clock_seconds() - start;
    }
    if (!status) {
        const double peak = peak_flops(bench->device.engine->describe(bench->device.context));
        bench_statistics(sample, taken, 1, &result->timing);
        result->sol = peak > 0 ? result->flops / result->timing.median / peak : 0;
    }
    free(sample);
    return status;
}

/* One more step, op by op; a graph has no ops to time. */
static int step_profile(struct stepper *s, struct step_result *result, struct error *error)
{
    double totals[STEP_TOTALS];
    if (result->variant == VARIANT_GRAPH)
        return STATUS_OK;
    s->trainer.device.profile = &result->profile;
    s->trainer.model.device = &s->trainer.device;
    int status = stepper_run(s, totals, error);
    if (!status)
        status = profile_finish(&result->profile, &s->trainer.device, error);
    s->trainer.device.profile = NULL;
    return status;
}

/* One GPU: the whole step's flops and AdamW at the rates of the cluster. */
static int step_predict(const struct stepper *s, const struct cluster_options *options, struct step_result *result,
                        struct error *error)
{
    const struct model *model = &s->trainer.model;
    const int64_t trained = model_trainable(model).elements;
    struct cluster cluster;
    int status = cluster_read(&cluster, options->cluster, error);
    if (status)
        return status;
    const struct scaling_work work = {.ranks = 1, .accumulation_steps = 1, .micro_batch_flops = result->flops,
                                      .elements = trained, .rank_elements = trained,
                                      .optimizer_bytes = optimizer_bytes(model->dtype, model->grad_dtype, ADAMW_FLOAT), .buckets = 1,
                                      .grad_bytes = (double)dtype_size(model->grad_dtype),
                                      .param_bytes = (double)dtype_size(model->dtype)};
    result->predicted = scaling_estimate(&cluster, &work).step;
    return STATUS_OK;
}

int step_measure(struct bench *bench, const char *folder, struct step_result *result, bool *left_out,
                 struct error *error)
{
    struct stepper s = {0};
    int status = stepper_plan(&s, bench, folder, result, error);
    if (!status && bench->step->predict) {
        status = step_predict(&s, &bench->step->cluster, result, error);
        stepper_free(&s, bench);
        return status;
    }
    *left_out = !status && !bench->gpu && !*bench->options->filter && result->flops > CPU_FLOPS;
    if (!status && !*left_out) {
        peak_reset();
        double before = memory_used(bench, false);
        status = stepper_start(&s, bench, result, error);
        if (!status)
            status = step_sample(&s, bench, result, error);
        result->measured_bytes = before != 0 ? memory_used(bench, true) - before : 0;
        if (!status)
            status = step_profile(&s, result, error);
    }
    stepper_free(&s, bench);
    return status;
}
