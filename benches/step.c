/* step.c - `flat bench step`; see step.h. */
#include "step.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../host/util/clock.h"
#include "../host/util/file.h"
#include "../host/util/memory.h"
#include "../kernels/loss_form.h"

enum { SAMPLES = 10, SAMPLES_MIN = 3, PAIRS_GPU = 32, PAIRS_CPU = 4, PAIRS_CHUNK_GPU = 4, PAIRS_CHUNK_CPU = 1, MODELS_MAX = 64 };
#define CPU_FLOPS 0.7e12 /* of a step that a CPU runs without being asked for it by name */
#define SEED 1

/* One case that is set up. */
struct stepper {
    struct trainer trainer; /* only its model, batch, optimizer and totals are used */
    struct step_pairs pairs;
    bool shared;
    struct engine_graph *graph;
};

const char *step_rung_name(enum step_rung rung)
{
    static const char *const name[RUNGS] = {"padded", "packed", "answers", "shared", "graph"};
    return name[rung];
}

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
    struct model *model = &s->trainer.model;
    struct head_activations *head = &model->head;
    const struct batch *batch = &s->trainer.batch;
    return device_run(&s->trainer.device, error, sequence_loss,
                      &((struct sequence_args){.dtype = dtype_stat(model->dtype),
                                               .loss = LOSS_FLAT_PAIR,
                                               .divergence = DIVERGENCE_TOTAL_VARIATION,
                                               .scale = 1.0 / s->pairs.pairs,
                                               .sequences = batch->sequences,
                                               .rows = batch->heads,
                                               .begin = batch->device.sequence_begin,
                                               .logprob = head->logprob,
                                               .p = head->p,
                                               .logprob_sum = head->logprob_sum,
                                               .prob_sum = head->prob_sum,
                                               .slope_prob = head->slope_prob,
                                               .slope_logprob = head->slope_logprob,
                                               .row_scale = head->row_scale,
                                               .totals = s->trainer.totals}));
}

/* Forward, loss, backward: what a graph holds. */
static int gradients_run(struct stepper *s, struct error *error)
{
    struct trainer *trainer = &s->trainer;
    const struct model_trainable trained = model_trainable(&trainer->model);
    int status = device_zero(&trainer->device, trainer->totals, STEP_TOTALS * sizeof(double), error);
    if (!status)
        status = device_zero(&trainer->device, trained.grad, (size_t)trained.elements * dtype_size(trainer->model.dtype), error);
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
        status = optimizer_step(trainer, trainer->settings->learning_rate, error);
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

static double step_flops(const struct model *model, const struct batch_size *size)
{
    const struct model_config *c = &model->config;
    double layers = 0;
    for (int i = 0; i < model->tensors; i++)
        if (model->tensor[i].from->slot >= SLOT_LAYER)
            layers += (double)model->tensor[i].rows * (double)(model->tensor[i].cols ? model->tensor[i].cols : 0);
    const int heads = (int)c->num_attention_heads, dim = (int)c->head_dim;
    return 6 * layers * (double)size->rows + 6 * (double)c->vocab_size * (double)c->hidden_size * (double)size->heads +
           (double)c->num_hidden_layers * (double)(attention_forward_flops(size->visible_keys, heads, dim) +
                                                   attention_backward_flops(size->visible_keys, heads, dim));
}

/* The model's table, the pairs, and the memory plan: all that is known without allocating. */
static int stepper_plan(struct stepper *s, struct bench *bench, const char *folder, struct step_result *result,
                        struct error *error)
{
    struct trainer *trainer = &s->trainer;
    struct model_config config;
    char lengths[4096];
    *s = (struct stepper){.trainer = {.settings = bench->settings, .device = bench->device}};
    s->shared = result->rung >= RUNG_SHARED;
    int status = model_config_read(&config, folder, error);
    if (!status)
        status = model_create(&trainer->model, &config, bench->device.engine->dtype, error);
    if (!status)
        status = file_join(lengths, sizeof lengths, bench->settings->models_dir, "../tofu_lengths.txt", error);
    if (!status)
        status = step_pairs_make(&s->pairs, result->workload, lengths, result->pairs, config.vocab_size, result->rung, error);
    if (status)
        return status;
    struct batch_size size = {0};
    for (int i = 0; i < result->pairs; i++)
        batch_group_size(&s->pairs.sequence[2 * i], 2, s->shared, &size);
    result->rows = size.rows, result->heads = size.heads, result->visible = size.visible_keys;
    result->parameters = trainer->model.elements;
    result->flops = step_flops(&trainer->model, &size);
    status = shards_create(&trainer->shards, &trainer->model, &(struct world){NULL, 0, 1, 1}, false, 0, error);
    if (!status)
        status = model_plan(&trainer->model, true, size.rows, size.heads, 2 * result->pairs, error);
    if (!status)
        status = optimizer_plan(trainer, error);
    result->planned_bytes = (double)memory_plan_total(&trainer->model.plan);
    return status;
}

static int stepper_start(struct stepper *s, struct bench *bench, const struct step_result *result, struct error *error)
{
    struct trainer *trainer = &s->trainer;
    struct model *model = &trainer->model;
    const char *own_weights = bench->settings->model;
    int status = *own_weights ? weights_open(&trainer->weights, model, own_weights, error) : STATUS_OK;
    if (!status)
        status = model_allocate(model, &bench->device, error);
    if (!status)
        status = batch_create(&trainer->batch, &bench->device, result->rows, result->heads, 2 * result->pairs, error);
    if (!status)
        status = optimizer_start(trainer, error);
    if (!status)
        status = *own_weights ? weights_load(&trainer->weights, model, error) : weights_random(model, SEED, error);
    return status;
}

/* ---- measuring ---- */

static int step_sample(struct stepper *s, struct bench *bench, struct step_result *result, struct error *error)
{
    const struct settings *settings = bench->settings;
    const int wanted = settings->samples ? (int)settings->samples : SAMPLES;
    double *sample = memory_array((size_t)wanted, sizeof *sample, error), totals[STEP_TOTALS];
    int status = sample ? stepper_run(s, totals, error) : STATUS_MEMORY, taken = 0; /* warm-up, and the loss */
    if (!status) {
        const bool is_flat = result->rung >= RUNG_ANSWERS;
        result->loss = is_flat ? totals[TOTAL_LOSS] : NAN;
        result->prob_template = is_flat ? totals[TOTAL_TEMPLATE_PROB] / totals[TOTAL_TEMPLATES] : NAN;
        result->prob_forget = is_flat ? totals[TOTAL_FORGET_PROB] / totals[TOTAL_FORGETS] : NAN;
    }
    if (!status && result->rung == RUNG_GRAPH)
        status = graph_make(s, error);
    if (!status)
        status = stepper_run(s, totals, error);
    for (const double begin = clock_seconds(); taken < wanted && !status; taken++) {
        if (settings->time_budget > 0 && taken >= SAMPLES_MIN && clock_seconds() - begin > settings->time_budget)
            break;
        double start = clock_seconds();
        status = stepper_run(s, totals, error);
        sample[taken] = clock_seconds() - start;
    }
    if (!status)
        bench_statistics(sample, taken, 1, &result->timing);
    free(sample);
    return status;
}

/* One more step, op by op; a graph has no ops to time. */
static int step_profile(struct stepper *s, struct step_result *result, struct error *error)
{
    double totals[STEP_TOTALS];
    if (result->rung == RUNG_GRAPH)
        return STATUS_OK;
    s->trainer.device.profile = &result->profile;
    s->trainer.model.device = &s->trainer.device;
    int status = stepper_run(s, totals, error);
    s->trainer.device.profile = NULL;
    return status;
}

static int case_measure(struct bench *bench, const char *folder, struct step_result *result, bool *left_out,
                        struct error *error)
{
    struct stepper s = {0};
    int status = stepper_plan(&s, bench, folder, result, error);
    *left_out = !status && !bench->gpu && !*bench->settings->filter && result->flops > CPU_FLOPS;
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

/* ---- the cases ---- */

struct step_bench {
    struct bench bench;
    struct step_result *result;
    size_t results, capacity;
    int left_out, disagree;
};

/* Rungs of one loss must agree: within roundings of the two probabilities it is made of. */
static bool results_agree(const struct step_result *a, const struct step_result *b, enum dtype dtype)
{
    double share = dtype == DTYPE_F32 ? 1e-4 : 0.03;
    return fabs(a->loss - b->loss) <= share * (b->prob_template + b->prob_forget);
}

static int case_visit(struct step_bench *step, const char *folder, const char *model, const char *workload,
                      enum step_rung rung, struct error *error)
{
    struct bench *bench = &step->bench;
    const struct settings *settings = bench->settings;
    const bool tofu = !strcmp(workload, "tofu");
    const int usual = tofu ? bench->gpu ? PAIRS_GPU : PAIRS_CPU : bench->gpu ? PAIRS_CHUNK_GPU : PAIRS_CHUNK_CPU;
    struct step_result result = {.workload = workload, .rung = rung, .pairs = settings->pairs ? (int)settings->pairs : usual};
    snprintf(result.model, sizeof result.model, "%s", model);
    snprintf(result.name, sizeof result.name, "%s/%s/%d/%s", result.model, workload, result.pairs, step_rung_name(rung));
    if (!strstr(result.name, settings->filter))
        return STATUS_OK;
    if (settings->list) {
        step->results++;
        puts(result.name);
        return STATUS_OK;
    }
    bool left_out;
    int status = case_measure(bench, folder, &result, &left_out, error);
    if (status == STATUS_MEMORY && !*settings->filter) { /* the next model, or a rung that pads less, may fit */
        log_warning(bench->log, "%s: %s", result.name, error->text);
        left_out = true, status = STATUS_OK;
    }
    step->left_out += left_out;
    if (status || left_out)
        return status;
    step_print(&result, stdout);
    fflush(stdout);
    const struct step_result *last = step->results ? &step->result[step->results - 1] : NULL;
    if (last && !strcmp(last->model, model) && !strcmp(last->workload, workload) && last->rung >= RUNG_ANSWERS &&
        !results_agree(&result, last, bench->device.engine->dtype)) {
        step->disagree++;
        printf("    WRONG: the loss is %.9g, and %.9g in the rung above\n", result.loss, last->loss);
    }
    status = memory_grow(&step->result, &step->capacity, step->results + 1, sizeof *step->result, error);
    if (!status)
        step->result[step->results++] = result;
    return status;
}

static int model_visit(struct step_bench *step, const char *folder, const char *model, struct error *error)
{
    int status = STATUS_OK;
    for (int rung = 0; rung < RUNGS && !status; rung++)
        if (rung != RUNG_GRAPH || step->bench.device.engine->graphs)
            status = case_visit(step, folder, model, "tofu", (enum step_rung)rung, error);
    return status ? status : case_visit(step, folder, model, "chunk", RUNG_SHARED, error);
}

static int not_hidden(const struct dirent *entry) { return entry->d_name[0] != '.'; }

/* --model, or every folder of --models_dir in order of name. */
static int models_visit(struct step_bench *step, struct error *error)
{
    const struct settings *settings = step->bench.settings;
    if (*settings->model) {
        const char *slash = strrchr(settings->model, '/');
        return model_visit(step, settings->model, slash && slash[1] ? slash + 1 : settings->model, error);
    }
    struct dirent **entry;
    int count = scandir(settings->models_dir, &entry, not_hidden, alphasort), status = STATUS_OK;
    if (count < 0)
        return error_set(error, STATUS_INPUT, "--models_dir: %s cannot be read; run from the project's folder, or name it",
                         settings->models_dir);
    for (int i = 0; i < count; i++) {
        char folder[4096];
        if (!status)
            status = file_join(folder, sizeof folder, settings->models_dir, entry[i]->d_name, error);
        if (!status)
            status = model_visit(step, folder, entry[i]->d_name, error);
        free(entry[i]);
    }
    free(entry);
    return status;
}

int bench_step(const struct settings *settings, struct log *log, struct error *error)
{
    struct step_bench step = {.bench = {.settings = settings, .log = log}};
    struct bench *bench = &step.bench;
    int status = device_open(&bench->device, settings->device, 0, (int)settings->threads, error);
    if (status)
        return status;
    bench->gpu = strcmp(bench->device.engine->name, "cpu") != 0;
    if (!settings->list)
        step_print_header(bench, stdout);
    status = models_visit(&step, error);
    if (!status && !step.results && !step.left_out)
        status = error_set(error, STATUS_USAGE, "--filter: no case has '%s' in its name; 'flat bench step --list' names them "
                           "all", settings->filter);
    if (!status && step.left_out)
        printf("%d cases left out: they do not fit, or a step takes a CPU long; --filter asks for them\n", step.left_out);
    if (!status && !settings->list && *settings->json)
        status = step_write_json(bench, step.result, step.results, settings->json, error);
    if (!status && step.disagree)
        status = error_set(error, STATUS_RUNTIME, "%d losses disagree, see WRONG above", step.disagree);
    free(step.result);
    device_close(&bench->device);
    return status;
}
