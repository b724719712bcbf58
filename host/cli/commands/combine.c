/* combine.c - `flat combine`: models' weights added up into a new folder (host/model/combination.h). Needs no device. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../model/combination.h"
#include "../../model/companions.h"
#include "../../train/run_folder.h"
#include "../../train/run_record.h"
#include "../command.h"

enum merge_method { MERGE_TASK_ARITHMETIC, MERGE_LINEAR };
enum { MODELS_MAX = 64 };

struct combine_options {
    struct model_options model;
    struct output_options output;
    struct log_options log;
    const char *models, *weights; /* lists */
    enum merge_method merge_method;
};

static const char *const merge_names[] = {[MERGE_TASK_ARITHMETIC] = "task_arithmetic", [MERGE_LINEAR] = "linear", NULL};
static const char *const dtype_names[] = {[SAVE_AS_READ] = "as_read", [SAVE_FLOAT32] = "float32",
                                          [SAVE_BFLOAT16] = "bfloat16", [SAVE_FLOAT16] = "float16", NULL};
static const struct option option_rows[] = {
    {.name = "models", OPTION_LIST_FIELD(struct combine_options, models), .local = true, .operand = "DIR,...",
     .help = "Hugging Face model folders of one shape"},
    {.name = "weights", OPTION_LIST_FIELD(struct combine_options, weights), .operand = "N,...",
     .help = "what each of the models is multiplied by; without it 1 each, and with linear 1 / their number"},
    {.name = "merge_method", OPTION_FIELD(struct combine_options, merge_method), .choices = merge_names,
     .initial = "task_arithmetic",
     .help = "task_arithmetic adds to model_name_or_path the models' differences from it, each times its weight: a negative "
             "one takes away what the model was trained on. linear adds up the models themselves, and needs no other"},
    {.name = "save_dtype", OPTION_FIELD(struct combine_options, output.save_dtype), .choices = dtype_names,
     .initial = "as_read", .help = "what weights are stored in; as_read is what each has in the first folder"},
};
static const struct option_group combine_option_group = {
    OPTION_GROUP("Weights", option_rows, struct combine_options),
    .source = "task_arithmetic and linear as in mergekit; unlearning by a negated task vector: arXiv 2212.04089"};

static const struct command_group groups[] = {
    {&model_option_group, offsetof(struct combine_options, model)},
    {&output_option_group, offsetof(struct combine_options, output)},
    {&combine_option_group, 0},
    {&log_option_group, offsetof(struct combine_options, log)},
    {NULL, 0},
};

struct combining {
    const struct combine_options *options;
    char *names, *values;              /* the lists, cut at the commas */
    const char *directory[MODELS_MAX]; /* the first one's, then the others' */
    float weight[MODELS_MAX];
    int count;
    struct model_config config;
    struct model model;
    struct weights weights;
    struct combination combination;
    struct run_record record;
    struct folder folder;
    struct save_report report;
};

static int models_take(struct combining *c, struct error *error)
{
    char *rest = NULL;
    if (c->options->merge_method == MERGE_TASK_ARITHMETIC)
        c->directory[c->count++] = c->options->model.model_name_or_path;
    if (!(c->names = strdup(c->options->models)))
        return error_set(error, STATUS_MEMORY, "out of host memory");
    for (char *name = strtok_r(c->names, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
        if (c->count == MODELS_MAX)
            return error_set(error, STATUS_USAGE, "models: more than %d", MODELS_MAX - 1);
        c->directory[c->count++] = name;
    }
    return STATUS_OK;
}

static int weights_take(struct combining *c, struct error *error)
{
    const bool linear = c->options->merge_method == MERGE_LINEAR;
    const int first = linear ? 0 : 1, expected = c->count - first;
    char *rest = NULL, *end;
    int found = 0;
    c->weight[0] = 1;
    for (int i = first; i < c->count; i++)
        c->weight[i] = linear ? 1 / (float)expected : 1;
    if (!*c->options->weights)
        return STATUS_OK;
    if (!(c->values = strdup(c->options->weights)))
        return error_set(error, STATUS_MEMORY, "out of host memory");
    for (char *text = strtok_r(c->values, ",", &rest); text; text = strtok_r(NULL, ",", &rest), found++) {
        const float value = strtof(text, &end);
        if (end == text || *end || !isfinite(value))
            return error_set(error, STATUS_USAGE, "weights: expected numbers, found \"%s\"", text);
        if (found < expected)
            c->weight[first + found] = value;
    }
    if (found != expected)
        return error_set(error, STATUS_USAGE, "weights: %d for %d models; expected one for each", found, expected);
    return STATUS_OK;
}

static int models_open(struct combining *c, struct error *error)
{
    int status = model_config_read(&c->config, c->directory[0], error);
    if (!status)
        status = model_create(&c->model, &c->config, DTYPE_F32, error);
    if (!status)
        status = weights_open(&c->weights, &c->model, c->directory[0], error);
    if (!status)
        status = combination_open(&c->combination, &c->model, c->directory[0], c->directory + 1, c->count - 1, error);
    if (status)
        return status;
    c->combination.first_weight = c->weight[0];
    memcpy(c->combination.weight, c->weight + 1, (size_t)(c->count - 1) * sizeof *c->weight);
    c->combination.task_vectors = c->options->merge_method == MERGE_TASK_ARITHMETIC;
    c->weights.combination = &c->combination;
    return STATUS_OK;
}

static int output_check(const struct combining *c, struct error *error)
{
    struct run_input input[MODELS_MAX];
    for (int i = 0; i < c->count; i++)
        input[i] = (struct run_input){c->combination.task_vectors && !i ? "model_name_or_path" : "models", c->directory[i]};
    return run_folder_check(c->options->output.output_dir, c->options->output.overwrite_output_dir, input, c->count, error);
}

/* A task vector of zeros is a mistake: the folder's model was never trained. */
static int vectors_check(const struct combining *c, struct error *error)
{
    for (int i = 0; i < c->combination.count && c->combination.task_vectors; i++)
        if (!atomic_load(&c->combination.differs[i]))
            return error_set(error, STATUS_INPUT, "%s: has the same weights as %s: there is nothing to add or take away",
                             c->directory[i + 1], c->directory[0]);
    return STATUS_OK;
}

static int record_make(struct combining *c, const struct invocation *run, struct error *error)
{
    const struct safetensors *source[MODELS_MAX] = {&c->weights.source};
    for (int i = 0; i < c->combination.count; i++)
        source[i + 1] = &c->combination.weights[i].source;
    cJSON *config = invocation_json(run, error);
    return config ? run_record_make_of_models(&c->record, source, c->count, config, run->argc, run->argv, error)
                  : error->status;
}

/* The result has the files of the first folder, and a record of all. */
static int combination_save(struct combining *c, struct error *error)
{
    char id[SAVE_ID_BYTES];
    run_record_save_id(&c->record, 0, id);
    const struct save_options save = {save_dtype_name(c->options->output.save_dtype), id};
    int status = folder_begin(&c->folder, c->options->output.output_dir, companions_mode(c->directory[0]), error);
    if (!status)
        status = weights_save_into(&c->weights, &c->model, c->directory[0], &save, &c->folder, &c->report, error);
    if (!status)
        status = vectors_check(c, error);
    if (!status)
        status = run_record_write_into(&c->record, &c->folder, NULL, error);
    return status ? status : folder_publish(&c->folder, FOLDER_KEEP_FOREIGN, NULL, error);
}

static void combining_close(struct combining *c)
{
    folder_abandon(&c->folder);
    run_record_free(&c->record);
    combination_close(&c->combination);
    weights_close(&c->weights);
    model_free(&c->model);
    free(c->names);
    free(c->values);
}

static int combine_run(struct invocation *run, struct error *error)
{
    struct combining c = {.options = run->options, .folder.fd = -1};
    int status = models_take(&c, error);
    if (!status)
        status = weights_take(&c, error);
    if (!status)
        status = models_open(&c, error);
    log_warnings(&run->log, c.weights.warnings.data);
    if (!status)
        status = output_check(&c, error);
    if (!status)
        status = record_make(&c, run, error);
    if (!status)
        status = combination_save(&c, error);
    double sum = 0;
    for (int i = 0; i < c.count; i++)
        sum += c.weight[i];
    if (!status && !c.combination.task_vectors && fabs(sum - 1) > 1e-5)
        log_warning(&run->log, "the weights of the models add up to %g, not to 1: the sum is no mean of them", sum);
    const double survives = save_report_survives(&c.report);
    if (!status && survives < 0.9)
        log_warning(&run->log, "%.1f %% of the difference from %s survives rounding to %s; --save_dtype float32 keeps all of "
                    "it", 100 * survives, c.directory[0], c.report.dtype);
    if (!status)
        log_info(&run->log, "saved %s", c.options->output.output_dir);
    combining_close(&c);
    return status;
}

static const char *also_required(const void *options)
{
    const struct combine_options *o = options;
    return o->merge_method == MERGE_TASK_ARITHMETIC ? "model_name_or_path" : "";
}

static int combine_check(struct invocation *run, struct error *error)
{
    const struct combine_options *options = run->options;
    if (options->merge_method == MERGE_LINEAR && *options->model.model_name_or_path)
        return error_set(error, STATUS_USAGE, "model_name_or_path: linear adds up the models alone; name it in models or leave "
                         "it out");
    return STATUS_OK;
}

const struct command command_combine = {
    .name = "combine",
    .summary = "Adds up the weights of models: task vectors, taken away or added, and means of models.",
    .examples = {"flat combine --model DIR --models tuned_on_forget --weights=-5 --output_dir runs/task_vector",
                 "flat combine --model DIR --models one,two --weights 0.5,0.5 --output_dir runs/both",
                 "flat combine --merge_method linear --models one,two --weights 0.3,0.7 --output_dir runs/mean"},
    .groups = groups,
    .options_bytes = sizeof(struct combine_options),
    .required = "models output_dir",
    .also_required = also_required,
    .check = combine_check,
    .run = combine_run,
};
