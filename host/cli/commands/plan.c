/* plan.c - `flat plan`: memory, steps and work of a run, and what a step takes on several GPUs; no device, no
 * weights are loaded.
 */
#include <stdio.h>
#include <string.h>

#include "../../train/scaling.h"
#include "../../train/trainer.h"
#include "../commands.h"

/* What a plan, which opens no device, supposes: bf16 on a GPU that is asked for, float otherwise. */
static enum dtype planned_dtype(const struct settings *settings)
{
    return !strcmp(settings->device, "cuda") ? DTYPE_BF16 : DTYPE_F32;
}

/* One more forward pass of all layers but the last, where whole layers are computed again. Without LoRA their own output
 * is left out: nothing in the backward pass reads it. */
static double recompute_flops(const struct trainer *trainer)
{
    const struct model *model = &trainer->model;
    const struct model_config *c = &model->config;
    const struct batch_size *size = &trainer->epoch_size;
    double layers = 0;
    if (model->recompute != RECOMPUTE_FULL)
        return 0;
    for (int i = 0; i < model->tensors; i++) {
        const struct model_tensor *tensor = &model->tensor[i];
        const enum slot slot = tensor->from->slot;
        const bool output = slot == SLOT_DOWN_WEIGHT || (c->family->parallel && slot == SLOT_O_WEIGHT);
        if (slot >= SLOT_LAYER && tensor->layer < c->num_hidden_layers - 1 && (model->lora.modules || !output))
            layers += (double)tensor->rows * (double)tensor->cols;
    }
    return 2 * layers * (double)size->rows +
           (double)(c->num_hidden_layers - 1) *
               (double)attention_forward_flops(size->visible_keys, (int)c->num_attention_heads, (int)c->head_dim);
}

/* Forward and backward of one epoch's rows: 2 flops a multiply-add, backward twice the forward (attention 2.5 times); of a
 * frozen weight backward once, for there is no gradient of its own. */
static double epoch_flops(const struct trainer *trainer)
{
    const struct model_config *c = &trainer->model.config;
    const struct batch_size *size = &trainer->epoch_size;
    const double rate = trainer->model.lora.modules ? 4 : 6;
    double layers = 0;
    for (int i = 0; i < trainer->model.tensors; i++) {
        const struct model_tensor *tensor = &trainer->model.tensor[i];
        if (tensor->from->slot >= SLOT_LAYER)
            layers += (double)tensor->rows * (double)(tensor->cols ? tensor->cols : 0);
    }
    const int heads = (int)c->num_attention_heads, dim = (int)c->head_dim;
    return (rate * layers + 6 * (double)trainer->model.lora.elements) * (double)size->rows +
           rate * (double)c->vocab_size * (double)c->hidden_size * (double)size->targets +
           (double)c->num_hidden_layers * ((double)attention_forward_flops(size->visible_keys, heads, dim) +
                                           (double)attention_backward_flops(size->visible_keys, heads, dim)) +
           recompute_flops(trainer);
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
        .optimizer_bytes = (double)(adamw_norm_bytes(1, model->grad_dtype) +
                                    adamw_step_bytes(1, model->dtype, model->grad_dtype, model->dtype == DTYPE_BF16)),
        .buckets = shards->buckets};
    for (int b = 0; b < shards->buckets; b++)
        work.tail_elements += bucket[b].layer == last->layer ? bucket[b].count : 0;
    return work;
}

static void scaling_print(const struct trainer *trainer, const struct cluster *cluster)
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
    if (trainer->model.dtype != DTYPE_BF16 && !*trainer->settings->cluster)
        printf("warning        these rates are of bf16; plan with --device cuda\n");
    printf("efficiency     %.1f %% of one GPU that makes as many micro-batches and the whole update alone\n",
           100 * t.efficiency);
}

static void plan_print(const struct trainer *trainer)
{
    const struct model *model = &trainer->model;
    const struct memory_plan *plan = &model->plan;
    const int64_t trained = model_trainable(model).elements, kept = trainer->shards.state_elements;
    const double mib = 1.0 / (1 << 20), steps = trainer->steps_per_epoch;
    printf("model          %s, %lld parameters in %d tensors, planned in %s\n", model->config.family->model_type,
           (long long)model->elements, model->tensors, dtype_name(model->dtype));
    if (model->lora.modules)
        printf("trained        %lld parameters: adapters of rank %lld on %d modules\n", (long long)trained,
               (long long)model->lora.options.rank, model->lora.modules);
    printf("data           %d rows; an epoch feeds %lld tokens and predicts %lld answer tokens\n",
           trainer->examples.data.rows, (long long)trainer->epoch_size.rows, (long long)trainer->epoch_size.targets);
    printf("steps          %d an epoch, %lld in all; largest micro-batch %lld tokens, %lld answer tokens\n",
           trainer->steps_per_epoch, (long long)trainer->total_steps, (long long)trainer->max_rows,
           (long long)trainer->max_targets);
    for (int class = 0; class < MEMORY_CLASSES; class++)
        if (plan->bytes[class])
            printf("%-14s %12.1f MiB\n", memory_class_name((enum memory_class)class), mib * (double)plan->bytes[class]);
    printf("%-14s %12.1f MiB of device memory%s\n", "total", mib * (double)memory_plan_total(plan),
           trainer->parallel.ranks > 1 ? ", of the rank that keeps most" : "");
    printf("work           %.4g flops a step on average: matrix products and attention, forward and backward\n",
           epoch_flops(trainer) / steps);
    printf("optimizer      %.4g bytes a step: gradient norm and AdamW\n",
           (double)(adamw_norm_bytes(kept, model->grad_dtype) +
                    adamw_step_bytes(kept, model->dtype, model->grad_dtype, model->dtype == DTYPE_BF16)));
    if (trainer->examples.cut)
        printf("warning        %lld sequences are cut at max_length\n", (long long)trainer->examples.cut);
}

int command_plan(struct invocation *run, struct error *error)
{
    const struct settings *settings = &run->line.settings;
    struct trainer trainer;
    struct cluster cluster;
    bool finetune = *settings->train_data && !*settings->forget_data;
    int status = cluster_read(&cluster, settings->cluster, error);
    if (status)
        return status;
    const bool by_world = settings_given(&run->line, "world_size");
    const int size = (int)(by_world ? settings->world_size : settings->nproc_per_node);
    const struct world world = {NULL, size - 1, size, size < cluster.gpus_per_host ? size : cluster.gpus_per_host};
    status = trainer_prepare(&trainer, settings, finetune, planned_dtype(settings), &world, error);
    if (status)
        return status;
    plan_print(&trainer);
    if (size > 1 || *settings->cluster)
        scaling_print(&trainer, &cluster);
    trainer_free(&trainer);
    return stdout_finish(error);
}
