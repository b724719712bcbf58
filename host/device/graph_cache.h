/* graph_cache.h - work that is queued again and again with the same arguments: captured as a graph, then replayed.
 *
 * The first run of a key is an ordinary one (scratch grows, plans of products are made), the second is captured and
 * launched, later ones are launched. Replaying costs the host one call instead of one per op.
 */
#ifndef FLAT_DEVICE_GRAPH_CACHE_H
#define FLAT_DEVICE_GRAPH_CACHE_H
#include <stdint.h>

#include "device.h"

enum { GRAPH_CACHE_ENTRIES = 64 };

/* Everything that the work's arguments depend on. */
struct graph_key {
    int part; /* which work */
    int64_t rows, targets, tiles;
};

struct graph_entry {
    struct graph_key key;
    struct engine_graph *graph; /* NULL: run once so far */
    int64_t used;               /* number of the last run */
};

/* Start with {0}. */
struct graph_cache {
    struct graph_entry entry[GRAPH_CACHE_ENTRIES];
    int entries;
    int64_t runs, captures, replays;
};

/* Runs `work`, or replays what it queued; device->engine->graphs is true. With a profile attached every run is an
 * ordinary one. A full cache drops what was used longest ago. */
int graph_cache_run(struct graph_cache *cache, struct device *device, struct graph_key key,
                    int (*work)(void *user, struct error *error), void *user, struct error *error);
void graph_cache_free(struct graph_cache *cache, struct device *device);

#endif
