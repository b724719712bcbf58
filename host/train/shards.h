/* shards.h - the trained arena among the ranks: buckets for the sums of gradients, slices for the optimizer (ZeRO-1).
 *
 *     arena     | embedding   | layer 0    | layer 1    | head | every trained element, in one run
 *     buckets   |      3      |     2      |     1      |  0   | in the order in which the backward pass completes them
 *     slices    | r0 | r1 | r2| r0 |r1 |r2 | r0 |r1 |r2 | ...  | of every bucket one per rank, by comm_slice
 *
 * The gradients of a bucket are summed over the ranks in one call as soon as the backward pass has left the last of its
 * layers, while the pass goes on. `sharded`: a rank gets the sums of its own slices only, keeps optimizer state (moments
 * and master weights) for these alone, updates them and sends the new parameters to all, bucket by bucket in front of the
 * next forward pass. Otherwise the sums go to all ranks, and all keep and update everything. The sums are the same either
 * way, and so are the bits.
 *
 * Sent per rank and step, for n elements over W ranks: (W-1)/W n (grad_dtype + dtype) bytes sharded, (W-1)/W n 2 grad_dtype
 * otherwise. State per rank: n / W elements sharded, of which the last rank has up to 16 W more per bucket.
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

enum grad_reduce_dtype { GRAD_REDUCE_MODEL, GRAD_REDUCE_FLOAT32 };
struct shard_options {
    int64_t zero; /* 1: moments and master weights sharded among the ranks */
    enum grad_reduce_dtype grad_reduce_dtype;
    double ddp_bucket_cap_mb; /* 0: by where the ranks are */
};
extern const struct option_group shard_option_group;

struct shard_bucket {
    int64_t offset, count; /* in the arena, in elements */
    int layer;             /* complete once the backward pass has left this layer; see model_layer_hook */
};

struct shards {
    struct world world;
    bool sharded;
    struct shard_bucket *bucket; /* in the order in which the backward pass completes them */
    struct model_shard *slice;   /* [buckets] this rank's, whose gradients enter its part of the norm */
    int buckets;
    int reduces_begun;      /* buckets of this step whose gradients are being summed */
    int gathers_left;       /* the first so many buckets have new parameters that are still to be sent */
    int gather_layer;       /* the lowest layer of parameters that are on their way; above all layers: none are */
    struct model_shard all; /* the arena as one range */
    const struct model_shard *state_range; /* what this rank has optimizer state for: its slices, or the arena */
    int state_ranges;
    int64_t state_elements;
};

/* Cuts what the model trains into buckets of at least bucket_bytes, where there is as much. Needs no device. */
int shards_create(struct shards *shards, const struct model *model, const struct world *world, bool sharded,
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
