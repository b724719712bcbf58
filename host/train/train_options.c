/* train_options.c - see train_options.h. */
#include "train_options.h"

#include <string.h>

static const struct option output_rows[] = {
    {.name = "output_dir", OPTION_FIELD(struct output_options, output_dir), .local = true, .operand = "DIR",
     .help = "folder for the new model and run.json and, of a training, metrics.jsonl"},
    {.name = "overwrite_output_dir", OPTION_FIELD(struct output_options, overwrite_output_dir), .local = true,
     .once = true,
     .help = "write into an output_dir that holds a model already"},
};
const struct option_group output_option_group = {OPTION_GROUP("Model and data", output_rows, struct output_options)};

static const char *const save_names[] = {[SAVE_NO] = "no", [SAVE_EPOCH] = "epoch", [SAVE_STEPS] = "steps", NULL};
static const char *const dtype_names[] = {[SAVE_AS_READ] = "as_read", [SAVE_FLOAT32] = "float32",
                                          [SAVE_BFLOAT16] = "bfloat16", [SAVE_FLOAT16] = "float16", NULL};
static const char *const report_names[] = {[REPORT_TO_NONE] = "none", [REPORT_TO_TENSORBOARD] = "tensorboard", NULL};
static const struct option save_rows[] = {
    {.name = "logging_steps", OPTION_FIELD(struct output_options, logging_steps), .initial = "1", .min = 1,
     .max = OPTION_COUNT_MAX, .help = "steps between two lines of metrics.jsonl and of progress in a pipe"},
    {.name = "report_to", OPTION_FIELD(struct output_options, report_to), .choices = report_names, .initial = "none",
     .help = "what else gets the figures of metrics.jsonl; tensorboard: an event file in output_dir"},
    {.name = "save_strategy", OPTION_FIELD(struct output_options, save_strategy), .choices = save_names, .initial = "no",
     .help = "when to write output_dir/checkpoint-STEP, a model's folder with all that a run needs to go on from there; a run "
             "that is stopped by SIGTERM, SIGINT or SIGUSR1 writes one in any case"},
    {.name = "save_steps", OPTION_FIELD(struct output_options, save_steps), .initial = "500", .min = 1,
     .max = OPTION_COUNT_MAX, .help = "steps between two checkpoints of save_strategy steps"},
    {.name = "save_total_limit", OPTION_FIELD(struct output_options, save_total_limit), .max = OPTION_COUNT_MAX,
     .initial = "0", .help = "so many checkpoints are kept, the newest ones; 0 keeps all"},
    {.name = "resume_from_checkpoint", OPTION_FIELD(struct output_options, resume_from_checkpoint), .once = true, .operand = "DIR",
     .help = "go on from a checkpoint, bit for bit as without the interruption; 'last' is the newest in output_dir, or the "
             "beginning where there is none, and does nothing more where the run there is finished"},
    {.name = "save_dtype", OPTION_FIELD(struct output_options, save_dtype), .choices = dtype_names, .initial = "as_read",
     .help = "what weights are stored in; as_read is the type that each was read in, which small changes may not survive"},
};
const struct option_group save_option_group = {OPTION_GROUP("Run", save_rows, struct output_options)};

const char *save_dtype_name(enum save_dtype dtype)
{
    return dtype == SAVE_AS_READ ? NULL : dtype_names[dtype];
}

static const struct option scratch_rows[] = {
    {.name = "from_scratch", OPTION_FIELD(struct trainer_options, from_scratch),
     .help = "begin with random weights of config.json's shape instead of the folder's"},
};
const struct option_group scratch_option_group = {OPTION_GROUP("Model and data", scratch_rows, struct trainer_options)};

static const struct option length_rows[] = {
    {.name = "num_train_epochs", OPTION_FIELD(struct trainer_options, num_train_epochs), .initial = "5",
     .max = OPTION_COUNT_MAX, .help = "passes over the data"},
    {.name = "max_steps", OPTION_FIELD(struct trainer_options, max_steps), .initial = "-1", .min = -1,
     .max = OPTION_COUNT_MAX, .help = "optimizer steps, instead of epochs; -1 goes by epochs"},
    {.name = "per_device_train_batch_size", OPTION_FIELD(struct trainer_options, per_device_train_batch_size),
     .initial = "8", .min = 1, .max = OPTION_COUNT_MAX, .help = "rows of a micro-batch"},
    {.name = "gradient_accumulation_steps", OPTION_FIELD(struct trainer_options, gradient_accumulation_steps),
     .initial = "4", .min = 1, .max = OPTION_COUNT_MAX, .help = "micro-batches of an optimizer step"},
};
const struct option_group length_option_group = {OPTION_GROUP("Length and batches", length_rows, struct trainer_options)};

static const char *const picks_names[] = {[MATMUL_PICKS_OFF] = "off", [MATMUL_PICKS_TIMED] = "timed", NULL};
static const struct option trainer_rows[] = {
    {.name = "seed", OPTION_FIELD(struct trainer_options, seed), .initial = "42", .max = OPTION_EXACT_MAX,
     .help = "of the order of rows, template answers and random weights"},
    {.name = "cuda_graphs", OPTION_FIELD(struct trainer_options, cuda_graphs),
     .help = "capture forward and backward passes and replay them; batches are padded to few shapes, 2 % on average"},
    {.name = "matmul_picks", OPTION_FIELD(struct trainer_options, matmul_picks), .choices = picks_names, .initial = "timed",
     .help = "which of its library's algorithms a GPU's matrix products take; timed: the fastest of its proposals, tried once before "
             "the first step and kept in the cache folder and in run.json; off: the first proposal"},
    {.name = "profile", OPTION_FIELD(struct trainer_options, profile), .local = true,
     .help = "time every op and print a table at the end, against the device's measured limits"},
    {.name = "dump_step", OPTION_FIELD(struct trainer_options, dump_step), .operand = "DIR",
     .help = "write batch, log-probs, loss, token weights and gradients of the first step there"},
};
const struct option_group trainer_option_group = {OPTION_GROUP("Run", trainer_rows, struct trainer_options)};

/* lora.r and what goes with it; with an adapter to start from, its config decides instead. A record of a run holds
 * every key, and an r of 0 with them. */
static int lora_check(const struct train_options *options, const struct option_set *set, struct error *error)
{
    static const char *const part[] = {"lora.alpha", "lora.target_modules", "lora.use_rslora", "lora.output"};
    const bool adapter = *options->model.adapter, rank = options->lora.lora.rank;
    if (options->trainer.from_scratch && (rank || adapter))
        return error_set(error, STATUS_USAGE, "from_scratch: random weights that stay frozen learn nothing; leave out %s",
                         rank ? "lora.r" : "adapter");
    if (adapter && rank)
        return error_set(error, STATUS_USAGE, "lora.r: the rank of the adapter that is trained further is given by its "
                         "adapter_config.json; leave it out");
    if (options->lora.load_in_4bit && !rank && !adapter)
        return error_set(error, STATUS_USAGE, "load_in_4bit: weights of 4 bits cannot be trained, only adapters beside them; give "
                         "lora.r or adapter");
    for (size_t i = 0; i < (adapter ? 3 : 4) && !option_given(set, "lora.r"); i++)
        if (option_given(set, part[i]))
            return error_set(error, STATUS_USAGE, "%s: %s", part[i],
                             adapter ? "the adapter_config.json of the adapter decides; leave it out"
                                     : "of no use without lora.r; give the rank");
    return STATUS_OK;
}

/* Options of data that the chosen method does not use: a flag is refused, and a file's, unless a flag chose the method. A
 * record of a run holds every key, with an empty file name where there is none. */
static int data_check(const struct train_options *options, const struct option_set *set, struct error *error)
{
    const struct method *method = method_chosen(&options->method);
    const unsigned roles = method_roles(method, options->method.values);
    const bool list = roles & WITH(ROLE_TEMPLATE) && !method->alternates, retain = roles & WITH(ROLE_RETAIN);
    const bool kl = method_distribution(method, options->method.values, ROLE_RETAIN).used;
    const struct retain_options *retained = options->method.values;
    const struct {
        const char *name, *what, *file; /* file: what a file says, NULL where that matters no more than a default */
        bool used;
    } part[] = {{"template.file", "template answers", options->template_.file, list},
                {"template.choice", "template answers", NULL, list},
                {"template.every", "template answers", NULL, list},
                {"retain_data", "retained rows", options->examples.retain_data, retain},
                {"retain_choice", "retained rows", NULL, retain},
                {"alternate_key", "alternate answers", NULL, method->alternates},
                {"kl_positions", "KL", NULL, kl},
                {"kl_padded_length", "padded length", NULL, kl && retained->kl_positions == KL_TOFU}};
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
        if (part[i].used || !option_given(set, part[i].name))
            continue;
        const enum option_source source = option_source(set, part[i].name);
        if (source == OPTION_FROM_FLAG ||
            (part[i].file && *part[i].file && source >= option_source(set, "method")))
            return error_set(error, STATUS_USAGE, "%s: method %s%s uses no %s; leave it out", part[i].name, method->name,
                             kl && !strcmp(part[i].name, "kl_padded_length") ? " with these kl_positions"
                             : method->retains                               ? " with this retain_loss"
                                                                             : "", part[i].what);
    }
    return STATUS_OK;
}

const char *train_options_required(const struct train_options *options)
{
    const struct method *method = method_chosen(&options->method);
    const unsigned roles = method_roles(method, options->method.values);
    const bool list = roles & WITH(ROLE_TEMPLATE) && !method->alternates, retain = roles & WITH(ROLE_RETAIN);
    return list && retain ? "template.file retain_data" : list ? "template.file" : retain ? "retain_data" : "";
}

int train_options_check(const struct train_options *options, const struct option_set *set, struct error *error)
{
    if (options->trainer.max_steps < 0 && options->trainer.num_train_epochs <= 0)
        return error_set(error, STATUS_USAGE, "num_train_epochs: expected more than 0, found %g; or give max_steps",
                         options->trainer.num_train_epochs);
    if (options->output.save_dtype != SAVE_AS_READ && options->lora.output == LORA_ADAPTER)
        return error_set(error, STATUS_USAGE, "save_dtype: adapters are always written in float32; leave it out");
    int status = data_check(options, set, error);
    return status ? status : lora_check(options, set, error);
}
