/* step_cases.c - `flat bench step`: every model, workload and variant that is asked for; see step.h. */
#include "step.h"

#include <dirent.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../util/file.h"
#include "../util/memory.h"

/* Pairs of a workload on a GPU and on a CPU. */
static int pairs_of(const char *workload, bool gpu)
{
    static const struct {
        const char *workload;
        int gpu, cpu;
    } row[] = {{"tofu", 32, 4}, {"chunk", 4, 1}, {"full", 8, 1}, {"lora", 4, 1}};
    int i = 0;
    while (strcmp(row[i].workload, workload))
        i++;
    return gpu ? row[i].gpu : row[i].cpu;
}


struct step_bench {
    struct bench bench;
    struct step_result *result;
    size_t results, capacity;
    int left_out, disagree;
};

/* Variants of one loss must agree: within roundings of the two probabilities it is made of. */
static bool results_agree(const struct step_result *a, const struct step_result *b, enum dtype dtype)
{
    double share = dtype == DTYPE_F32 ? 1e-4 : 0.03;
    return fabs(a->loss - b->loss) <= share * (b->prob_template + b->prob_forget);
}

static int case_visit(struct step_bench *step, const char *folder, const char *model, const char *workload,
                      enum step_variant variant, struct error *error)
{
    struct bench *bench = &step->bench;
    const struct bench_options *options = bench->options;
    const int usual = pairs_of(workload, bench->gpu);
    struct step_result result = {.workload = workload, .variant = variant, .pairs = bench->step->pairs ? (int)bench->step->pairs : usual};
    snprintf(result.model, sizeof result.model, "%s", model);
    snprintf(result.name, sizeof result.name, "%s/%s/%d/%s", result.model, workload, result.pairs, step_variant_name(variant));
    if (!bench_filter_takes(options->filter, result.name))
        return STATUS_OK;
    if (options->list) {
        step->results++;
        puts(result.name);
        return STATUS_OK;
    }
    bool left_out = false;
    int status = step_measure(bench, folder, &result, &left_out, error);
    if (status == STATUS_MEMORY && !*options->filter) { /* the next model, or a variant that pads less, may fit */
        log_warning(bench->log, "%s: %s", result.name, error->text);
        left_out = true, status = STATUS_OK;
    }
    step->left_out += left_out;
    if (status || left_out)
        return status;
    step_print(&result, stdout);
    fflush(stdout);
    const struct step_result *last = step->results ? &step->result[step->results - 1] : NULL;
    if (last && !strcmp(last->model, model) && !strcmp(last->workload, workload) && last->variant >= VARIANT_ANSWERS &&
        !bench->step->predict && !results_agree(&result, last, bench->dtype)) {
        step->disagree++;
        printf("    WRONG: the loss is %.9g, and %.9g in the variant above\n", result.loss, last->loss);
    }
    status = memory_grow(&step->result, &step->capacity, step->results + 1, sizeof *step->result, error);
    if (status)
        return status;
    step->result[step->results++] = result;
    return *options->json ? step_write_json(bench, step->result, step->results, options->json, error) : STATUS_OK;
}

static int model_visit(struct step_bench *step, const char *folder, const char *model, struct error *error)
{
    int status = STATUS_OK;
    for (int variant = 0; variant < VARIANTS && !status; variant++)
        if (variant != VARIANT_GRAPH || step->bench.graphs)
            status = case_visit(step, folder, model, "tofu", (enum step_variant)variant, error);
    if (!status)
        status = case_visit(step, folder, model, "chunk", VARIANT_SHARED, error);
    if (!status)
        status = case_visit(step, folder, model, "full", VARIANT_ANSWERS, error);
    return status ? status : case_visit(step, folder, model, "lora", VARIANT_ANSWERS, error);
}

static int not_hidden(const struct dirent *entry) { return entry->d_name[0] != '.'; }

/* --model, or every folder of --models_dir in order of name. */
static int models_visit(struct step_bench *step, struct error *error)
{
    const struct step_options *options = step->bench.step;
    if (*options->model) {
        const char *slash = strrchr(options->model, '/');
        return model_visit(step, options->model, slash && slash[1] ? slash + 1 : options->model, error);
    }
    struct dirent **entry;
    int count = scandir(options->models_dir, &entry, not_hidden, alphasort), status = STATUS_OK;
    if (count < 0)
        return error_set(error, STATUS_INPUT, "--models_dir: %s cannot be read; name a folder of model shapes, as the project's benches/models",
                         options->models_dir);
    for (int i = 0; i < count; i++) {
        char folder[4096];
        if (!status)
            status = file_join(folder, sizeof folder, options->models_dir, entry[i]->d_name, error);
        if (!status)
            status = model_visit(step, folder, entry[i]->d_name, error);
        free(entry[i]);
    }
    free(entry);
    return status;
}

static int step_open(struct bench *bench, struct error *error)
{
    const struct bench_options *options = bench->options;
    if (bench->step->predict) { /* as flat plan supposes, and a GPU where nothing is said */
        bench->gpu = options->device.device != DEVICE_CPU;
        bench->dtype = bench->gpu ? DTYPE_BF16 : DTYPE_F32;
        return STATUS_OK;
    }
    int status = device_open_chosen(&bench->device, &options->device, 0, error);
    if (status)
        return status;
    bench->gpu = bench_is_gpu(&bench->device);
    bench->dtype = bench->device.engine->dtype;
    bench->graphs = bench->device.engine->graphs;
    return STATUS_OK;
}

/* The shapes that come with the program: in the project's folder, or in share/ where it was installed. */
static void models_find(char *out, size_t out_bytes)
{
    static const char *const place[] = {"%s/../share/flat/models", "%s/../benches/models"};
    char program[PATH_MAX];
    file_program_directory(program, sizeof program);
    for (size_t i = 0; i < sizeof place / sizeof *place; i++) {
        snprintf(out, out_bytes, place[i], program);
        if (file_is_directory(out))
            return;
    }
    snprintf(out, out_bytes, "benches/models"); /* a build folder elsewhere */
}

int bench_step(const struct step_options *step_options, struct log *log, struct error *error)
{
    const struct bench_options *options = &step_options->bench;
    struct step_options own = *step_options;
    struct step_bench step = {.bench = {.options = options, .step = &own, .log = log}};
    char models[PATH_MAX + 64];
    if (!*own.models_dir) {
        models_find(models, sizeof models);
        own.models_dir = models;
    }
    struct bench *bench = &step.bench;
    int status = step_open(bench, error);
    if (status)
        return status;
    if (!options->list)
        step_print_header(bench, stdout);
    status = models_visit(&step, error);
    if (!status && !step.results && !step.left_out)
        status = error_set(error, STATUS_USAGE, "--filter: no case has '%s' in its name; 'flat bench step --list' names them "
                           "all", options->filter);
    if (!status && step.left_out)
        printf("%d cases left out: they do not fit, or a step takes a CPU long; --filter asks for them\n", step.left_out);
    if (!status && step.disagree)
        status = error_set(error, STATUS_RUNTIME, "%d losses disagree, see WRONG above", step.disagree);
    free(step.result);
    device_close(&bench->device);
    return status;
}
