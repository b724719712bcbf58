/* shards.h - the trained arena among the ranks: buckets for the sums of gradients, slices for the optimizer (ZeRO-1).
 *
 * A bucket is a run of neighbouring slots of the arena, its gradients summed over the ranks in one call as soon as the
 * last of its layers is through the backward pass, while the pass goes on. Every rank owns one slice of every bucket
 * (comm_slice). With `split` a rank gets the sums of its slices only, keeps moments and master weights for these alone,
 * updates them and sends the new parameters to all, bucket by bucket in front of the next forward pass; without, the sums go to all, and all keep and update everything.
 * The sums are the same, and so are the bits.
 *
 * Bytes a rank sends a step, of n elements over W ranks: (W-1)/W n (grad_dtype + dtype) split, (W-1)/W n 2 grad_dtype
 * otherwise. State a rank keeps: split, n / W elements, the last rank up to 16 W elements a bucket more.
 */
#ifndef FLAT_TRAIN_SHARDS_H
#define FLAT_TRAIN_SHARDS_H
#include "../comm/comm.h"
#include "../model/model.h"

/* The ranks that train together, and which of them this one is; {NULL, 0, 1, 1} alone. A plan has a size and no comm. */
struct world {
    struct comm *comm;
    int rank, size, local_size;
};

struct shard_bucket {
    int64_t offset, count; /* in the arena, in elements */
    int layer;             /* complete once the backward pass has left this layer; see model_layer_hook */
};

struct shards {
    struct world world;
    bool split;
    struct shard_bucket *bucket; /* in the order in which the backward pass completes them */
    struct model_shard *own;     /* [buckets] this rank's slices, whose gradients enter its part of the norm */
    int buckets, reduced;        /* reduced: buckets of this step whose sums are on their way */
    int ungathered;              /* buckets, of the first so many, whose new parameters have yet to be sent */
    int awaited;                 /* the lowest layer of parameters that are on their way; above all layers: none are */
    struct model_shard whole;
    const struct model_shard *kept; /* what this rank has state for: own, or the whole arena */
    int kept_count;
    int64_t state_elements;
};

/* Cuts what the model trains into buckets of at least bucket_bytes, where there is as much. Needs no device. */
int shards_create(struct shards *shards, const struct model *model, const struct world *world, bool split,
                  int64_t bucket_bytes, struct error *error);
void shards_free(struct shards *shards);
/* The slice of bucket b that a rank owns, in elements of the arena. */
void shards_slice(const struct shards *shards, int b, int rank, int64_t *from, int64_t *count);

/* Starts the sums of the buckets that are complete after `layer`; -1: of all. Every rank makes the same calls in the
 * same order. Nothing with one rank. */
int shards_reduce(struct shards *shards, const struct model *model, int layer, struct error *error);
/* Makes the device wait for the sums, and readies the next step's. */
int shards_reduce_finish(struct shards *shards, struct error *error);
/* After an update: the parameters of the first bucket that is needed go out to all ranks. */
int shards_gather_begin(struct shards *shards, const struct model *model, struct error *error);
/* Makes the device wait for the parameters up to `layer`, and sends the next bucket ahead; the layers as in
 * model_forward_by_layer, the last one for all that is left. */
int shards_gather(struct shards *shards, const struct model *model, int layer, struct error *error);
int shards_gather_finish(struct shards *shards, const struct model *model, struct error *error);

#endif
