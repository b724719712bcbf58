/* kv_cache.c - see kv_cache.h. */
#include "kv_cache.h"

#include <stdlib.h>

#include "../util/memory.h"

/* Rows of the cache that a layer has. */
static int64_t layer_rows(const struct kv_cache *cache, int layer)
{
    if (!cache->window)
        return (cache->slots + 1) * cache->positions;
    return cache->slots * (layer_window(&cache->model->config, layer) ? cache->window : cache->positions);
}

int kv_cache_plan(struct kv_cache *cache, struct model *model, struct memory_plan *plan, const char *name, int slots,
                  int64_t positions, int64_t rows, struct error *error)
{
    const struct model_config *c = &model->config;
    *cache = (struct kv_cache){.model = model, .slots = slots, .positions = positions,
                               .window = c->sliding_window < positions ? c->sliding_window : 0};
    int64_t kept = 0;
    for (int layer = 0; layer < c->num_hidden_layers; layer++)
        kept += layer_rows(cache, layer);
    int status = memory_plan_add(plan, MEMORY_CACHE, name, kept * 2 * key_cols(c), dtype_size(model->dtype),
                                 &cache->data, error);
    if (!status)
        status = memory_plan_add(plan, MEMORY_SCRATCH, "places in the cache", rows, sizeof(int32_t),
                                 (void **)&cache->device_place, error);
    if (!status)
        status = memory_plan_add(plan, MEMORY_SCRATCH, "places in windows", cache->window ? rows : 0, sizeof(int32_t),
                                 (void **)&cache->device_window_place, error);
    if (!status)
        status = memory_plan_add(plan, MEMORY_SCRATCH, "segments in windows", cache->window ? slots : 0,
                                 sizeof *cache->segment, (void **)&cache->device_segment, error);
    cache->place = memory_array((size_t)rows, sizeof *cache->place, error);
    cache->window_place = memory_array((size_t)rows, sizeof *cache->window_place, error);
    cache->segment = memory_array((size_t)slots, sizeof *cache->segment, error);
    return status || (cache->place && cache->window_place && cache->segment) ? status : STATUS_MEMORY;
}

void kv_cache_free(struct kv_cache *cache)
{
    free(cache->place);
    free(cache->window_place);
    free(cache->segment);
    *cache = (struct kv_cache){0};
}

void kv_cache_begin(struct kv_cache *cache) { cache->continued = 0; }

void kv_cache_add(struct kv_cache *cache, int sequence, int slot, bool begins, int32_t before, int32_t first,
                  int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        cache->place[first + i] = (int32_t)(slot * cache->positions) + before + i;
    cache->continued += !begins;
    if (!cache->window)
        return;
    const int32_t window = (int32_t)cache->window, base = slot * window, newest = before % window;
    for (int32_t i = 0; i < count; i++)
        cache->window_place[first + i] = i + window < count ? -1 : base + (before + i) % window;
    struct attention_segment *segment = &cache->segment[sequence];
    if (begins)
        *segment = (struct attention_segment){first, count, first, 0, 0, 0}; /* the batch's own rows */
    else if (before < window)
        *segment = (struct attention_segment){first, 1, base, before, 0, 0};
    else
        *segment = (struct attention_segment){first, 1, base, newest, base + newest + 1, window - 1 - newest};
}

int kv_cache_upload(const struct kv_cache *cache, int32_t rows, int sequences, struct error *error)
{
    struct device *device = cache->model->device;
    int status = device_copy_in(device, cache->device_place, cache->place, (size_t)rows * sizeof *cache->place, error);
    if (!status && cache->window)
        status = device_copy_in(device, cache->device_window_place, cache->window_place,
                                (size_t)rows * sizeof *cache->window_place, error);
    if (!status && cache->window)
        status = device_copy_in(device, cache->device_segment, cache->segment, (size_t)sequences * sizeof *cache->segment,
                                error);
    return status;
}

int kv_cache_move(const struct kv_cache *cache, int32_t rows, int layer, const void *qkv, struct layer_keys *keys,
                  struct error *error)
{
    const struct model *model = cache->model;
    const struct model_config *c = &model->config;
    const size_t s = dtype_size(model->dtype);
    const int64_t q = query_cols(c), kv = 2 * key_cols(c);
    const bool windowed = cache->window && layer_window(c, layer);
    int64_t begin = 0;
    for (int l = 0; l < layer; l++)
        begin += layer_rows(cache, l);
    char *data = (char *)cache->data + (size_t)(begin * kv) * s;
    *keys = (struct layer_keys){data, data + (size_t)key_cols(c) * s, kv, windowed ? cache->device_segment : NULL,
                                cache->continued};
    return device_run(model->device, error, cache_write,
                      &((struct cache_args){.dtype = model->dtype,
                                            .rows = rows,
                                            .cols = kv,
                                            .in_stride = q + kv,
                                            .out_stride = kv,
                                            .row_of = windowed ? cache->device_window_place : cache->device_place,
                                            .in = (const char *)qkv + (size_t)q * s,
                                            .out = data}));
}
