/* tokenizer_cache.c - ids of the pieces met before. Ordinary text repeats its words, so most pieces cost one
 * look-up instead of a merge loop. Bounded: at most 65536 pieces of at most 32 bytes (2 MiB of text, 8 MiB of
 * ids), then it starts afresh.
 */
#include <stdlib.h>
#include <string.h>

#include "tokenizer_internal.h"

enum { CACHE_ENTRIES = 1 << 16, CACHE_SLOTS = 2 * CACHE_ENTRIES, CACHE_PIECE_BYTES = 32 };

struct piece_cache_entry {
    uint32_t text, text_length; /* in cache->text */
    uint32_t ids, ids_length;   /* in cache->ids */
};

int piece_cache_prepare(struct piece_cache *cache, struct error *error)
{
    cache->slot = memory_array(CACHE_SLOTS, sizeof *cache->slot, error);
    cache->entry = memory_array(CACHE_ENTRIES, sizeof *cache->entry, error);
    return cache->slot && cache->entry ? STATUS_OK : STATUS_MEMORY;
}

/* The slot that holds the piece, or the empty one where it would go. */
static size_t slot_of(const struct piece_cache *cache, struct span piece)
{
    for (size_t i = hash_bytes(piece.text, piece.length) % CACHE_SLOTS;; i = (i + 1) % CACHE_SLOTS) {
        if (cache->slot[i] == 0)
            return i;
        const struct piece_cache_entry *entry = &cache->entry[cache->slot[i] - 1];
        if (entry->text_length == piece.length && memcmp(cache->text.data + entry->text, piece.text, piece.length) == 0)
            return i;
    }
}

bool piece_cache_find(const struct piece_cache *cache, struct span piece, const int32_t **ids, size_t *count)
{
    if (piece.length > CACHE_PIECE_BYTES)
        return false;
    uint32_t found = cache->slot[slot_of(cache, piece)];
    if (found == 0)
        return false;
    *ids = cache->ids.id ? cache->ids.id + cache->entry[found - 1].ids : NULL; /* none yet: of pieces without ids */
    *count = cache->entry[found - 1].ids_length;
    return true;
}

int piece_cache_add(struct piece_cache *cache, struct span piece, const int32_t *ids, size_t count,
                    struct error *error)
{
    if (piece.length > CACHE_PIECE_BYTES)
        return STATUS_OK;
    if (cache->entry_count == CACHE_ENTRIES) {
        memset(cache->slot, 0, CACHE_SLOTS * sizeof *cache->slot);
        cache->entry_count = cache->text.length = cache->ids.length = 0;
    }
    struct piece_cache_entry entry = {.text = (uint32_t)cache->text.length,
                                      .text_length = (uint32_t)piece.length,
                                      .ids = (uint32_t)cache->ids.length,
                                      .ids_length = (uint32_t)count};
    int status = buffer_append(&cache->text, piece.text, piece.length, error);
    for (size_t i = 0; i < count && !status; i++)
        status = token_list_append(&cache->ids, ids[i], error);
    if (status)
        return status;
    cache->entry[cache->entry_count] = entry;
    cache->slot[slot_of(cache, piece)] = (uint32_t)++cache->entry_count;
    return STATUS_OK;
}

void piece_cache_free(struct piece_cache *cache)
{
    free(cache->slot);
    free(cache->entry);
    buffer_free(&cache->text);
    free(cache->ids.id);
}
