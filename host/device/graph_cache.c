/* graph_cache.c - see graph_cache.h. */
#include "graph_cache.h"

static bool key_equal(const struct graph_key *a, const struct graph_key *b)
{
    return a->part == b->part && a->rows == b->rows && a->targets == b->targets && a->tiles == b->tiles;
}

/* The entry of a key, or NULL. */
static struct graph_entry *entry_find(struct graph_cache *cache, const struct graph_key *key)
{
    for (int i = 0; i < cache->entries; i++)
        if (key_equal(&cache->entry[i].key, key))
            return &cache->entry[i];
    return NULL;
}

/* A free entry: a new one, or the one that was used longest ago. */
static struct graph_entry *entry_take(struct graph_cache *cache, struct device *device)
{
    if (cache->entries < GRAPH_CACHE_ENTRIES)
        return &cache->entry[cache->entries++];
    struct graph_entry *oldest = &cache->entry[0];
    for (int i = 1; i < cache->entries; i++)
        if (cache->entry[i].used < oldest->used)
            oldest = &cache->entry[i];
    device->engine->graph_free(device->context, oldest->graph);
    return oldest;
}

/* A failed run of the work ends the capture too, and its error is the one that counts. */
static int capture(struct device *device, struct engine_graph **graph, int (*work)(void *user, struct error *error),
                   void *user, struct error *error)
{
    const struct engine *engine = device->engine;
    int status = device_status(device, "capture_begin", engine->capture_begin(device->context), error);
    if (status)
        return status;
    status = work(user, error);
    const int ended = engine->capture_end(device->context, status ? NULL : graph);
    return status ? status : device_status(device, "capture_end", ended, error);
}

int graph_cache_run(struct graph_cache *cache, struct device *device, struct graph_key key,
                    int (*work)(void *user, struct error *error), void *user, struct error *error)
{
    if (device->profile)
        return work(user, error);
    struct graph_entry *entry = entry_find(cache, &key);
    if (!entry) {
        entry = entry_take(cache, device);
        *entry = (struct graph_entry){key, NULL, ++cache->runs};
        return work(user, error);
    }
    entry->used = ++cache->runs;
    if (entry->graph) {
        cache->replays++;
    } else {
        int status = capture(device, &entry->graph, work, user, error);
        if (status)
            return status;
        cache->captures++;
    }
    return device_status(device, "graph_launch", device->engine->graph_launch(device->context, entry->graph), error);
}

void graph_cache_free(struct graph_cache *cache, struct device *device)
{
    for (int i = 0; i < cache->entries; i++)
        device->engine->graph_free(device->context, cache->entry[i].graph);
    *cache = (struct graph_cache){0};
}
