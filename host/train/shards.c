/* shards.c - see shards.h. */
#include "shards.h"

#include <stdlib.h>

#include "../util/memory.h"

enum { NOTHING_AWAITED = 1 << 30 }; /* above every layer */

/* A run of slots that the backward pass completes together, in the order of the arena. */
struct piece {
    int64_t offset;
    int layer;
};

static int piece_compare(const void *left, const void *right)
{
    const struct piece *a = left, *b = right;
    return (a->offset > b->offset) - (a->offset < b->offset);
}

/* Slots that end up in the model's arena; the head's are the first of the pass, the embeddings the last. */
static int model_pieces(const struct model *model, struct piece *piece)
{
    const int layers = (int)model->config.num_hidden_layers;
    int count = 0;
    for (int slot = 0; slot < SLOT_LAYER; slot++)
        if (model->global[slot].rows)
            piece[count++] = (struct piece){model->global[slot].offset,
                                            slot == SLOT_EMBEDDING || slot == SLOT_POSITION ? -1 : layers};
    for (int l = 0; l < layers; l++)
        for (int slot = SLOT_LAYER; slot < SLOTS; slot++)
            if (model->layer[(size_t)l * SLOTS + (size_t)slot].rows)
                piece[count++] = (struct piece){model->layer[(size_t)l * SLOTS + (size_t)slot].offset, l};
    qsort(piece, (size_t)count, sizeof *piece, piece_compare);
    return count;
}

static int lora_pieces(const struct model *model, struct piece *piece)
{
    const struct lora *lora = &model->lora;
    int count = 0;
    for (int l = 0; l < model->config.num_hidden_layers; l++)
        if (lora->layer_begin[l] < lora->layer_begin[l + 1])
            piece[count++] = (struct piece){lora->module[lora->layer_begin[l]].a, l};
    return count;
}

static int bucket_compare(const void *left, const void *right)
{
    const struct shard_bucket *a = left, *b = right;
    return a->layer != b->layer ? (a->layer < b->layer) - (a->layer > b->layer)
                                : (a->offset < b->offset) - (a->offset > b->offset);
}

/* From the end of the arena, pieces together until they are large enough; a bucket is as late as its latest piece. */
static void buckets_cut(struct shards *shards, const struct piece *piece, int pieces, int64_t elements,
                        int64_t bucket_elements)
{
    int64_t end = elements;
    struct shard_bucket *bucket = NULL;
    for (int i = pieces - 1; i >= 0; i--) {
        if (!bucket || bucket->count >= bucket_elements) {
            bucket = &shards->bucket[shards->buckets++];
            *bucket = (struct shard_bucket){.layer = piece[i].layer};
        }
        bucket->offset = piece[i].offset;
        bucket->count += end - piece[i].offset;
        bucket->layer = piece[i].layer < bucket->layer ? piece[i].layer : bucket->layer;
        end = piece[i].offset;
    }
    qsort(shards->bucket, (size_t)shards->buckets, sizeof *shards->bucket, bucket_compare);
}

/* comm_slice's rule, so that a plan can ask without the others being there. */
static void slice_of(int64_t n, int size, int rank, int64_t *from, int64_t *count)
{
    const int64_t part = (n / size) & ~(int64_t)15;
    *from = rank * part;
    *count = rank == size - 1 ? n - *from : part;
}

void shards_slice(const struct shards *shards, int b, int rank, int64_t *from, int64_t *count)
{
    const struct shard_bucket *bucket = &shards->bucket[b];
    if (shards->world.comm)
        comm_slice(shards->world.comm, bucket->count, rank, from, count);
    else
        slice_of(bucket->count, shards->world.size, rank, from, count);
    *from += bucket->offset;
}

static int slices_take(struct shards *shards, int64_t elements, struct error *error)
{
    shards->own = memory_array((size_t)shards->buckets, sizeof *shards->own, error);
    if (!shards->own)
        return STATUS_MEMORY;
    for (int b = 0; b < shards->buckets; b++) {
        struct model_shard *own = &shards->own[b];
        shards_slice(shards, b, shards->world.rank, &own->offset, &own->count);
        own->state = shards->state_elements;
        shards->state_elements += (own->count + 15) & ~(int64_t)15;
    }
    shards->whole = (struct model_shard){0, elements, 0};
    shards->kept = shards->split ? shards->own : &shards->whole;
    shards->kept_count = shards->split ? shards->buckets : 1;
    if (!shards->split)
        shards->state_elements = elements;
    return STATUS_OK;
}

int shards_create(struct shards *shards, const struct model *model, const struct world *world, bool split,
                  int64_t bucket_bytes, struct error *error)
{
    *shards = (struct shards){.world = *world, .split = split && world->size > 1,
                               .awaited = NOTHING_AWAITED};
    const int64_t elements = model_trainable(model).elements;
    const size_t most = (size_t)SLOTS * (size_t)(model->config.num_hidden_layers + 1);
    struct piece *piece = memory_array(most, sizeof *piece, error);
    shards->bucket = memory_array(most, sizeof *shards->bucket, error);
    int status = piece && shards->bucket ? STATUS_OK : STATUS_MEMORY;
    if (!status && world->size == 1)
        shards->bucket[shards->buckets++] = (struct shard_bucket){0, elements, -1};
    else if (!status)
        buckets_cut(shards, piece, model->lora.options.rank ? lora_pieces(model, piece) : model_pieces(model, piece),
                    elements, bucket_bytes / (int64_t)dtype_size(model->grad_dtype));
    if (!status)
        status = slices_take(shards, elements, error);
    free(piece);
    if (status)
        shards_free(shards);
    return status;
}

void shards_free(struct shards *shards)
{
    free(shards->bucket);
    free(shards->own);
    *shards = (struct shards){0};
}

int shards_reduce(struct shards *shards, const struct model *model, int layer, struct error *error)
{
    const struct model_trainable trained = model_trainable(model);
    int status = STATUS_OK;
    for (; !status && shards->reduced < shards->buckets && shards->bucket[shards->reduced].layer >= layer;
         shards->reduced++) {
        const struct shard_bucket *bucket = &shards->bucket[shards->reduced];
        char *gradients = (char *)trained.grad + (size_t)bucket->offset * dtype_size(model->grad_dtype);
        if (shards->split)
            status = comm_reduce_scatter(shards->world.comm, model->grad_dtype, gradients, bucket->count, error);
        else
            status = comm_all_reduce(shards->world.comm, model->grad_dtype, gradients, bucket->count, error);
    }
    return status;
}

int shards_reduce_finish(struct shards *shards, struct error *error)
{
    shards->reduced = 0;
    return comm_join(shards->world.comm, error);
}

/* The next bucket's parameters; the order is the pass's, which is the backward pass's reversed. */
static int bucket_send(struct shards *shards, const struct model *model, struct error *error)
{
    const struct shard_bucket *bucket = &shards->bucket[--shards->ungathered];
    char *parameters = (char *)model_trainable(model).param + (size_t)bucket->offset * dtype_size(model->dtype);
    shards->awaited = bucket->layer < shards->awaited ? bucket->layer : shards->awaited;
    return comm_all_gather(shards->world.comm, model->dtype, parameters, bucket->count, error);
}

int shards_gather_begin(struct shards *shards, const struct model *model, struct error *error)
{
    shards->ungathered = shards->split ? shards->buckets : 0;
    shards->awaited = NOTHING_AWAITED;
    return shards->ungathered ? bucket_send(shards, model, error) : STATUS_OK;
}

int shards_gather(struct shards *shards, const struct model *model, int layer, struct error *error)
{
    int status = STATUS_OK;
    while (!status && shards->ungathered && shards->bucket[shards->ungathered - 1].layer <= layer)
        status = bucket_send(shards, model, error);
    if (!status && shards->awaited <= layer) {
        status = comm_join(shards->world.comm, error);
        shards->awaited = NOTHING_AWAITED;
    }
    if (!status && shards->ungathered && shards->awaited == NOTHING_AWAITED)
        status = bucket_send(shards, model, error);
    return status;
}

int shards_gather_finish(struct shards *shards, const struct model *model, struct error *error)
{
    return shards_gather(shards, model, (int)model->config.num_hidden_layers, error);
}
