/* kv_cache.h - keys and values of sequences that are being continued, each in a slot of its own.
 *
 * A layer keeps a row for every position, one with a window only the last `window` positions: position p at p mod window.
 * There a new row overwrites the one that has left the window, and attention reads what is behind it as the older part. A
 * prompt, whose rows see more than a window would hold, attends to its own rows in the batch; its last ones are then kept.
 *
 * Without windows there is one place more, behind the slots', for what several sequences begin with.
 *
 * Memory: 2 kv_heads head_dim elements for each kept position, slot and layer.
 */
#ifndef FLAT_EVAL_KV_CACHE_H
#define FLAT_EVAL_KV_CACHE_H
#include "../model/model.h"

struct kv_cache {
    struct model *model;
    int slots;
    int64_t positions;  /* of a sequence */
    int64_t window;     /* positions that a layer with a window keeps; 0: all */
    void *data;         /* layer after layer: [slots, or one more][positions or window][2 * kv_heads * head_dim] */
    int32_t *place, *device_place;               /* [rows of a batch]: the row of the cache of each */
    int32_t *window_place, *device_window_place; /* the same of layers with a window; -1: not kept */
    struct attention_segment *segment, *device_segment; /* [slots]: what attention reads in layers with a window */
    int continued;      /* sequences of the batch that go on; they come before those that begin */
};

/* Adds what the cache needs to `plan`, which then allocates it, for batches of `rows` rows. */
int kv_cache_plan(struct kv_cache *cache, struct model *model, struct memory_plan *plan, const char *name, int slots,
                  int64_t positions, int64_t rows, struct error *error);
void kv_cache_free(struct kv_cache *cache);

/* A batch: forgets the last one; takes sequence after sequence, of which `before` positions are in its slot, with rows
 * first .. first + count - 1 of the batch; uploads. One segment for each sequence. Those that begin come last; the others have
 * one row each. */
void kv_cache_begin(struct kv_cache *cache);
void kv_cache_add(struct kv_cache *cache, int sequence, int slot, bool begins, int32_t before, int32_t first,
                  int32_t count);
int kv_cache_upload(const struct kv_cache *cache, int32_t rows, int sequences, struct error *error);
/* A layer's new keys and values into the cache, and where attention finds all of them: a layer_keys_hook's work. */
int kv_cache_move(const struct kv_cache *cache, int32_t rows, int layer, const void *qkv, struct layer_keys *keys,
                  struct error *error);

#endif
