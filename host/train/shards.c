/* shards.c - see shards.h. */
#include "shards.h"

#include <stdlib.h>

#include "../util/memory.h"

static const char *const reduce_names[] = {[GRAD_REDUCE_MODEL] = "model", [GRAD_REDUCE_FLOAT32] = "float32", NULL};

static const struct option option_rows[] = {
    {.name = "zero", OPTION_FIELD(struct shard_options, zero), .initial = "1", .max = 1,
     .help = "1 splits moments and master weights among the ranks, 0 keeps all of them on each; the same results"},
    {.name = "grad_reduce_dtype", OPTION_FIELD(struct shard_options, grad_reduce_dtype), .choices = reduce_names,
     .initial = "model", .help = "what gradients are summed in over micro-batches and ranks; model is bf16 on a GPU"},
    {.name = "ddp_bucket_cap_mb", OPTION_FIELD(struct shard_options, ddp_bucket_cap_mb), .initial = "0",
     .max = OPTION_COUNT_MAX,
     .help = "MB of gradients that are summed over the ranks at a time; 0 is 25 on one host and 256 on several"},
};
const struct option_group shard_option_group = {OPTION_GROUP("Several ranks", option_rows, struct shard_options)};

enum { NO_LAYER = 1 << 30 }; /* above every layer */

/* A run of slots that the backward pass completes together, in the order of the arena. */
struct layer_range {
    int64_t offset;
    int layer;
};

static int layer_range_compare(const void *left, const void *right)
{
    const struct layer_range *a = left, *b = right;
    return (a->offset > b->offset) - (a->offset < b->offset);
}

/* Slots that end up in the model's arena; the head's are the first of the pass, the embeddings the last. */
static int model_ranges(const struct model *model, struct layer_range *range)
{
    const int layers = (int)model->config.num_hidden_layers;
    int count = 0;
    for (int slot = 0; slot < SLOT_LAYER; slot++)
        if (model->global[slot].rows)
            range[count++] = (struct layer_range){model->global[slot].offset,
                                            slot == SLOT_EMBEDDING || slot == SLOT_POSITION ? -1 : layers};
    for (int l = 0; l < layers; l++)
        for (int slot = SLOT_LAYER; slot < SLOTS; slot++)
            if (model->layer[(size_t)l * SLOTS + (size_t)slot].rows)
                range[count++] = (struct layer_range){model->layer[(size_t)l * SLOTS + (size_t)slot].offset, l};
    qsort(range, (size_t)count, sizeof *range, layer_range_compare);
    return count;
}

static int lora_ranges(const struct model *model, struct layer_range *range)
{
    const struct lora *lora = &model->lora;
    int count = 0;
    for (int l = 0; l < model->config.num_hidden_layers; l++)
        if (lora->layer_begin[l] < lora->layer_begin[l + 1])
            range[count++] = (struct layer_range){lora->module[lora->layer_begin[l]].a, l};
    return count;
}

static int bucket_compare(const void *left, const void *right)
{
    const struct shard_bucket *a = left, *b = right;
    return a->layer != b->layer ? (a->layer < b->layer) - (a->layer > b->layer)
                                : (a->offset < b->offset) - (a->offset > b->offset);
}

/* From the end of the arena, ranges joined until they are large enough; a bucket is as late as its latest range. */
static void buckets_cut(struct shards *shards, const struct layer_range *range, int ranges, int64_t elements,
                        int64_t bucket_elements)
{
    int64_t end = elements;
    struct shard_bucket *bucket = NULL;
    for (int i = ranges - 1; i >= 0; i--) {
        if (!bucket || bucket->count >= bucket_elements) {
            bucket = &shards->bucket[shards->buckets++];
            *bucket = (struct shard_bucket){.layer = range[i].layer};
        }
        bucket->offset = range[i].offset;
        bucket->count += end - range[i].offset;
        bucket->layer = range[i].layer < bucket->layer ? range[i].layer : bucket->layer;
        end = range[i].offset;
    }
    qsort(shards->bucket, (size_t)shards->buckets, sizeof *shards->bucket, bucket_compare);
}

void shards_slice(const struct shards *shards, int b, int rank, int64_t *from, int64_t *count)
{
    comm_slice(shards->bucket[b].count, shards->world.size, rank, from, count);
    *from += shards->bucket[b].offset;
}

static int slices_cut(struct shards *shards, int64_t elements, struct error *error)
{
    shards->slice = memory_array((size_t)shards->buckets, sizeof *shards->slice, error);
    if (!shards->slice)
        return STATUS_MEMORY;
    for (int b = 0; b < shards->buckets; b++) {
        struct model_shard *slice = &shards->slice[b];
        shards_slice(shards, b, shards->world.rank, &slice->offset, &slice->count);
        slice->state = shards->state_elements;
        shards->state_elements += arena_padded(slice->count);
    }
    shards->all = (struct model_shard){0, elements, 0};
    shards->state_range = shards->sharded ? shards->slice : &shards->all;
    shards->state_ranges = shards->sharded ? shards->buckets : 1;
    if (!shards->sharded)
        shards->state_elements = elements;
    return STATUS_OK;
}

int shards_create(struct shards *shards, const struct model *model, const struct world *world, bool sharded,
                  int64_t bucket_bytes, struct error *error)
{
    *shards = (struct shards){.world = *world, .sharded = sharded && world->size > 1, .gather_layer = NO_LAYER};
    const int64_t elements = model_trainable(model).elements;
    const size_t most = (size_t)SLOTS * (size_t)(model->config.num_hidden_layers + 1);
    struct layer_range *range = memory_array(most, sizeof *range, error);
    shards->bucket = memory_array(most, sizeof *shards->bucket, error);
    int status = range && shards->bucket ? STATUS_OK : STATUS_MEMORY;
    if (!status && world->size == 1)
        shards->bucket[shards->buckets++] = (struct shard_bucket){0, elements, -1};
    else if (!status)
        buckets_cut(shards, range, model->lora.options.rank ? lora_ranges(model, range) : model_ranges(model, range),
                    elements, bucket_bytes / (int64_t)dtype_size(model->grad_dtype));
    if (!status)
        status = slices_cut(shards, elements, error);
    free(range);
    if (status)
        shards_free(shards);
    return status;
}

void shards_free(struct shards *shards)
{
    free(shards->bucket);
    free(shards->slice);
    *shards = (struct shards){0};
}

int shards_reduce(struct shards *shards, const struct model *model, int layer, struct error *error)
{
    const struct model_trainable trained = model_trainable(model);
    int status = STATUS_OK;
    for (; !status && shards->reduces_begun < shards->buckets && shards->bucket[shards->reduces_begun].layer >= layer;
         shards->reduces_begun++) {
        const struct shard_bucket *bucket = &shards->bucket[shards->reduces_begun];
        char *gradients = (char *)trained.grad + (size_t)bucket->offset * dtype_size(model->grad_dtype);
        if (shards->sharded)
            status = comm_reduce_scatter(shards->world.comm, model->grad_dtype, gradients, bucket->count, error);
        else
            status = comm_all_reduce(shards->world.comm, model->grad_dtype, gradients, bucket->count, error);
    }
    return status;
}

int shards_reduce_finish(struct shards *shards, struct error *error)
{
    shards->reduces_begun = 0;
    return comm_wait(shards->world.comm, error);
}

/* The next bucket's parameters; the order is the pass's, which is the backward pass's reversed. */
static int bucket_send(struct shards *shards, const struct model *model, struct error *error)
{
    const struct shard_bucket *bucket = &shards->bucket[--shards->gathers_left];
    char *parameters = (char *)model_trainable(model).param + (size_t)bucket->offset * dtype_size(model->dtype);
    shards->gather_layer = bucket->layer < shards->gather_layer ? bucket->layer : shards->gather_layer;
    return comm_all_gather(shards->world.comm, model->dtype, parameters, bucket->count, error);
}

int shards_gather_begin(struct shards *shards, const struct model *model, struct error *error)
{
    shards->gathers_left = shards->sharded ? shards->buckets : 0;
    shards->gather_layer = NO_LAYER;
    return shards->gathers_left ? bucket_send(shards, model, error) : STATUS_OK;
}

int shards_gather(struct shards *shards, const struct model *model, int layer, struct error *error)
{
    int status = STATUS_OK;
    while (!status && shards->gathers_left && shards->bucket[shards->gathers_left - 1].layer <= layer)
        status = bucket_send(shards, model, error);
    if (!status && shards->gather_layer <= layer) {
        status = comm_wait(shards->world.comm, error);
        shards->gather_layer = NO_LAYER;
    }
    if (!status && shards->gathers_left && shards->gather_layer == NO_LAYER)
        status = bucket_send(shards, model, error);
    return status;
}

int shards_gather_finish(struct shards *shards, const struct model *model, struct error *error)
{
    return shards_gather(shards, model, (int)model->config.num_hidden_layers, error);
}
