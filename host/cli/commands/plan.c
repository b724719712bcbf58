/* plan.c - `flat plan`: memory, steps and work of a run, and what a step takes on several GPUs; no device, no
 * weights are loaded.
 */
#include <stdio.h>

#include "../../train/scaling.h"
#include "../../train/trainer.h"
#include "../command.h"
#include "../final_eval.h"
#include "../launcher.h"
#include "../train_eval.h"

struct plan_options {
    struct train_options train;
    struct train_eval_options eval; /* taken because a run's config has them, as the next two */
    struct early_stopping_options stopping;
    struct final_eval_options final_eval;
    struct launcher_options launcher; /* how many ranks where world_size is not given; none is started */
    struct log_options log;
    struct cluster_options cluster;
    int64_t world_size;
};

static const struct option option_rows[] = {
    {.name = "world_size", OPTION_FIELD(struct plan_options, world_size), .initial = "1", .min = 1, .max = 16384,
     .help = "GPUs to plan for, nproc_per_node where it is not given: memory of each, bytes between them, time of a step"},
};
static const struct option_group plan_option_group = {OPTION_GROUP("Several ranks", option_rows, struct plan_options)};

static const struct command_group groups[] = {
    {&model_option_group, offsetof(struct plan_options, train.model)},
    {&forget_data_option_group, offsetof(struct plan_options, train.examples)},
    {&retain_data_option_group, offsetof(struct plan_options, train.examples)},
    {&forget_noise_option_group, offsetof(struct plan_options, train.examples.noise)},
    {&train_data_option_group, offsetof(struct plan_options, train.examples)},
    {&output_option_group, offsetof(struct plan_options, train.output)},
    {&adapter_option_group, offsetof(struct plan_options, train.model)},
    {&scratch_option_group, offsetof(struct plan_options, train.trainer)},
    {&dataset_option_group, offsetof(struct plan_options, train.dataset)},
    {&max_length_option_group, offsetof(struct plan_options, train.examples)},
    {&prompt_option_group, offsetof(struct plan_options, train.prompt)},
    {&method_option_group, offsetof(struct plan_options, train.method)},
    {&loss_option_group, offsetof(struct plan_options, train.loss)},
    {&reference_option_group, offsetof(struct plan_options, train.reference)},
    {&template_option_group, offsetof(struct plan_options, train.template_)},
    {&schedule_option_group, offsetof(struct plan_options, train.schedule)},
    {&optimizer_option_group, offsetof(struct plan_options, train.optimizer)},
    {&lora_option_group, offsetof(struct plan_options, train.lora)},
    {&length_option_group, offsetof(struct plan_options, train.trainer)},
    {&model_form_option_group, offsetof(struct plan_options, train.form)},
    {&launcher_option_group, offsetof(struct plan_options, launcher)},
    {&shard_option_group, offsetof(struct plan_options, train.shards)},
    {&plan_option_group, 0},
    {&cluster_option_group, offsetof(struct plan_options, cluster)},
    {&trainer_option_group, offsetof(struct plan_options, train.trainer)},
    {&device_option_group, offsetof(struct plan_options, train.device)},
    {&train_eval_option_group, offsetof(struct plan_options, eval)},
    {&early_stopping_option_group, offsetof(struct plan_options, stopping)},
    {&final_eval_option_group, offsetof(struct plan_options, final_eval)},
    {&save_option_group, offsetof(struct plan_options, train.output)},
    {&log_option_group, offsetof(struct plan_options, log)},
    {NULL, 0},
};

/* What a plan, which opens no device, supposes: bf16 on a GPU that is asked for, float otherwise. */
static enum dtype planned_dtype(const struct train_options *options)
{
    return options->device.device == DEVICE_CUDA ? DTYPE_BF16 : DTYPE_F32;
}

/* The reference's forward passes over one epoch's rows. */
static double frozen_flops(const struct trainer *trainer)
{
    const struct frozen *frozen = &trainer->frozen;
    return frozen->needed ? model_flops(&frozen->model, &frozen->epoch_size).forward : 0;
}

/* Forward and backward of one epoch's rows. */
static double epoch_flops(const struct trainer *trainer)
{
    const struct model_flops flops = model_flops(&trainer->model, &trainer->epoch_size);
    return flops.forward + flops.backward + flops.recompute + frozen_flops(trainer);
}

/* The rank that keeps most, and what the buckets that complete last hold. */
static struct scaling_work work_of(const struct trainer *trainer)
{
    const struct model *model = &trainer->model;
    const struct shards *shards = &trainer->shards;
    const struct shard_bucket *bucket = shards->bucket, *last = &bucket[shards->buckets - 1];
    const int64_t elements = model_trainable(model).elements;
    struct scaling_work work = {
        .ranks = trainer->parallel.ranks,
        .accumulation_steps = data_parallel_accumulation_steps(&trainer->parallel,
                                                               data_parallel_step(&trainer->parallel, 0)),
        .sharded = shards->sharded,
        .micro_batch_flops = epoch_flops(trainer) / data_parallel_micro_batches(&trainer->parallel),
        .elements = elements,
        .rank_elements = shards->state_elements,
        .grad_bytes = (double)dtype_size(model->grad_dtype),
        .param_bytes = (double)dtype_size(model->dtype),
        .optimizer_bytes = optimizer_bytes(model->dtype, model->grad_dtype, trainer->options->optimizer.optimizer_states),
        .buckets = shards->buckets};
    for (int b = 0; b < shards->buckets; b++)
        work.tail_elements += bucket[b].layer == last->layer ? bucket[b].count : 0;
    return work;
}

/* measured: the cluster is not the built-in one. */
static void scaling_print(const struct trainer *trainer, const struct cluster *cluster, bool measured)
{
    const struct scaling_work work = work_of(trainer);
    const struct scaling t = scaling_estimate(cluster, &work);
    printf("ranks          %d, %s\n", work.ranks, cluster->name);
    printf("sent           %.4g bytes per rank and step, %d buckets of gradients\n", t.sent_bytes, work.buckets);
    printf("step           %.4g s: %d micro-batches %.4g, AdamW %.4g, waiting for others %.4g (sums take %.4g, parameters "
           "%.4g)\n", t.step, work.accumulation_steps, t.compute, t.optimizer, t.exposed, t.reduce, t.gather);
    if (data_parallel_micro_batches(&trainer->parallel) < work.ranks)
        printf("warning        an epoch is %d micro-batches: the other ranks have nothing to do\n",
               data_parallel_micro_batches(&trainer->parallel));
    if (trainer->model.dtype != DTYPE_BF16 && !measured)
        printf("warning        these rates are of bf16; plan with --device cuda\n");
    printf("efficiency     %.1f %% of one GPU that makes as many micro-batches and the whole update alone\n",
           100 * t.efficiency);
}

/* The model that the run starts from, where it is kept: its weights, and what a pass over the largest micro-batch takes. */
static void frozen_print(const struct trainer *trainer)
{
    const struct frozen *frozen = &trainer->frozen;
    const struct memory_plan *plan = &frozen->model.plan;
    const double mib = 1.0 / (1 << 20), all = mib * (double)frozen_memory(frozen);
    const double weights = mib * (double)plan->bytes[MEMORY_PARAM]; /* with rotary tables */
    const double cols = frozen->model.layers_run ? 0 : (double)trainer->model.config.vocab_size;
    const double logits = mib * (double)frozen->max_targets * cols * (double)dtype_size(frozen->model.logits_dtype);
    printf("%-14s %12.1f MiB: the model that the run starts from, ", "reference", all);
    if (frozen->model.weights_of && !frozen->model.lora.modules)
        printf("the frozen base, no copy");
    else
        printf("a copy of %s %.1f", frozen->model.weights_of ? "its adapters" : "its weights", weights);
    if (cols > 0)
        printf(", logits of %lld tokens %.1f", (long long)frozen->max_targets, logits);
    printf(", the rest %.1f\n", all - weights - logits);
}

/* The answers whose log-probabilities under that model are computed before the first step, where the method needs them. */
static int reference_print(struct trainer *trainer, struct error *error)
{
    int64_t answers;
    struct batch_size size;
    int status = reference_measure(trainer, &answers, &size, error);
    if (!status && answers)
        printf("reference      sums of %lld answers, once or from the cache: %.4g flops, as much as %.2g steps\n", (long long)answers,
               model_flops(&trainer->model, &size).forward,
               model_flops(&trainer->model, &size).forward / (epoch_flops(trainer) / trainer->steps_per_epoch));
    return status;
}

static int plan_print(struct trainer *trainer, struct error *error)
{
    const struct model *model = &trainer->model;
    const struct memory_plan *plan = &model->plan;
    const int64_t kept = trainer->shards.state_elements;
    const double mib = 1.0 / (1 << 20), steps = trainer->steps_per_epoch;
    printf("model          %s, %lld parameters in %d tensors, planned in %s\n", model->config.family->model_type,
           (long long)model->parameters, model->tensors, dtype_name(model->dtype));
    if (model->lora.modules)
        printf("trained        %lld parameters: adapters of rank %lld on %d modules\n",
               (long long)model->lora.parameters, (long long)model->lora.options.rank, model->lora.modules);
    if (model->nf4.used)
        printf("frozen         projections in NF4: %lld weights in %.1f MiB\n", (long long)model->nf4.elements,
               (double)model->nf4.elements * (0.5 + 4.0 / NF4_BLOCK) / (1 << 20));
    printf("data           %d rows; an epoch feeds %lld tokens and predicts %lld answer tokens\n",
           trainer->examples.data.rows, (long long)trainer->epoch_size.rows, (long long)trainer->epoch_size.targets);
    struct buffer prompts = {0};
    int status = prompt_describe(&trainer->examples.prompt, &prompts, error);
    if (!status)
        printf("prompts        %s\n", prompts.data);
    buffer_free(&prompts);
    if (status)
        return status;
    printf("steps          %d per epoch, %lld in all; largest micro-batch %lld tokens, %lld answer tokens\n",
           trainer->steps_per_epoch, (long long)trainer->total_steps, (long long)trainer->max_rows,
           (long long)trainer->max_targets);
    for (int class = 0; class < MEMORY_CLASSES; class++)
        if (plan->bytes[class])
            printf("%-14s %12.1f MiB\n", memory_class_name((enum memory_class)class), mib * (double)plan->bytes[class]);
    if (trainer->frozen.needed)
        frozen_print(trainer);
    printf("%-14s %12.1f MiB of device memory%s\n", "total", mib * (double)trainer_memory(trainer),
           trainer->parallel.ranks > 1 ? ", of the rank that keeps most" : "");
    printf("work           %.4g flops per step on average: matrix products and attention, forward and backward",
           epoch_flops(trainer) / steps);
    if (trainer->frozen.needed)
        printf("; %.1f %% of it the reference's forward pass", 100 * frozen_flops(trainer) / epoch_flops(trainer));
    printf("\n");
    if (trainer->offload.chunk)
        printf("host           %.1f MiB of the host's memory for the optimizer, copied to the device and back in every step\n",
               mib * (double)trainer->offload.bytes);
    printf("optimizer      %.4g bytes per step: gradient norm and AdamW\n",
           (double)kept * optimizer_bytes(model->dtype, model->grad_dtype, trainer->options->optimizer.optimizer_states));
    status = reference_print(trainer, error);
    char line[400];
    for (int next = 0; example_counts_line(&trainer->examples.counts, &next, line, sizeof line);)
        printf("warning        %s\n", line);
    return status;
}

static int plan_run(struct invocation *run, struct error *error)
{
    struct plan_options *options = run->options;
    struct trainer trainer;
    struct cluster cluster;
    const char *measured = options->cluster.cluster;
    bool finetune = *options->train.examples.train_data && !*options->train.examples.forget_data;
    int status = cluster_read(&cluster, measured, error);
    if (status)
        return status;
    const bool by_world = option_given(&run->set, "world_size");
    const int size = (int)(by_world ? options->world_size : options->launcher.nproc_per_node);
    const struct world world = {NULL, size - 1, size, size < cluster.gpus_per_host ? size : cluster.gpus_per_host};
    options->train.sizes_only = true;
    status = trainer_prepare(&trainer, &options->train, finetune, planned_dtype(&options->train), &world, error);
    if (status)
        return status;
    status = plan_print(&trainer, error);
    if (!status && (size > 1 || *measured))
        scaling_print(&trainer, &cluster, *measured);
    trainer_free(&trainer);
    return status ? status : stdout_finish(error);
}

static const char *method_required(const void *values)
{
    const struct train_options *options = &((const struct plan_options *)values)->train;
    return *options->examples.forget_data ? train_options_required(options) : "";
}

static int plan_check(struct invocation *run, struct error *error)
{
    const struct plan_options *options = run->options;
    if (!*options->train.examples.forget_data == !*options->train.examples.train_data)
        return error_set(error, STATUS_USAGE, "forget_data: 'flat plan' needs either forget_data or train_data");
    if (options->train.optimizer.offload_optimizer && options->train.device.device != DEVICE_CUDA)
        return error_set(error, STATUS_USAGE, "offload_optimizer: the memory of a CPU is the host's; plan with --device cuda");
    return train_options_check(&options->train, &run->set, error);
}

const struct command command_plan = {
    .name = "plan",
    .argument = "CONFIG",
    .at_most = 1,
    .config = CONFIG_TRAIN,
    .summary = "Memory, steps and work of a run of unlearn or finetune, by its config, without loading the model.",
    .examples = {"flat plan configs/tofu/smollm2-135m/unlearn.json --device cuda",
                 "flat plan configs/tofu/smollm2-135m/unlearn.json --device cuda --world_size 8",
                 "flat plan runs/tofu --per_device_train_batch_size 16"},
    .groups = groups,
    .options_bytes = sizeof(struct plan_options),
    .required = "model_name_or_path question_key answer_key",
    .also_required = method_required,
    .check = plan_check,
    .run = plan_run,
};
