/* tokenizer_vocabulary.c - text <-> id by an open-addressing hash table: O(1) per look-up, about 40 bytes per token
 * beside its text.
 */
#include <stdlib.h>
#include <string.h>

#include "tokenizer_internal.h"

/* Eight bytes per step; quality enough for tables of a power of two after the last mix. */
uint64_t hash_bytes(const char *text, size_t length)
{
    const uint64_t prime = 0x9e3779b97f4a7c15u;
    uint64_t hash = length * prime;
    for (; length >= 8; text += 8, length -= 8) {
        uint64_t word;
        memcpy(&word, text, 8);
        hash = (hash ^ word) * prime;
        hash ^= hash >> 32;
    }
    uint64_t word = 0;
    memcpy(&word, text, length);
    hash = (hash ^ word) * prime;
    return hash ^ hash >> 32;
}

int token_list_append(struct token_list *ids, int32_t id, struct error *error)
{
    if (ids->length == ids->capacity) {
        int status = memory_grow(&ids->id, &ids->capacity, ids->length + 1, sizeof *ids->id, error);
        if (status)
            return status;
    }
    ids->id[ids->length++] = id;
    return STATUS_OK;
}

/* The slot that holds text, or the empty one where it would go. */
static size_t slot_of(const struct vocabulary *vocabulary, const char *text, size_t length)
{
    size_t mask = vocabulary->slot_count - 1;
    for (size_t i = hash_bytes(text, length) & mask;; i = (i + 1) & mask) {
        int32_t id = vocabulary->slot[i];
        if (id < 0)
            return i;
        const struct vocabulary_entry *entry = &vocabulary->entry[id];
        if (entry->length == length && memcmp(vocabulary->text.data + entry->start, text, length) == 0)
            return i;
    }
}

static int slots_grow(struct vocabulary *vocabulary, struct error *error)
{
    size_t count = vocabulary->slot_count ? vocabulary->slot_count * 2 : 256;
    int32_t *slot = memory_array(count, sizeof *slot, error);
    if (!slot)
        return STATUS_MEMORY;
    memset(slot, 0xff, count * sizeof *slot);
    free(vocabulary->slot);
    vocabulary->slot = slot;
    vocabulary->slot_count = count;
    for (int32_t id = 0; id < vocabulary->limit; id++)
        if (vocabulary->entry[id].present) {
            struct span text = vocabulary_text(vocabulary, id);
            slot[slot_of(vocabulary, text.text, text.length)] = id;
        }
    return STATUS_OK;
}

int vocabulary_add(struct vocabulary *vocabulary, struct span text, int64_t id, struct error *error)
{
    int shown = text.length < 64 ? (int)text.length : 64;
    if (id < 0 || id >= TOKEN_ID_LIMIT)
        return error_set(error, STATUS_INPUT, "token '%.*s' has id %lld, expected 0 to %d", shown, text.text,
                         (long long)id, TOKEN_ID_LIMIT - 1);
    if (text.length > UINT32_MAX)
        return error_set(error, STATUS_INPUT, "token '%.*s...' is longer than 4 GiB", shown, text.text);
    if (vocabulary_has(vocabulary, (int32_t)id))
        return error_set(error, STATUS_INPUT, "tokens '%.*s' and '%.*s' have the same id %lld; ids must differ",
                         (int)(vocabulary->entry[id].length < 64 ? vocabulary->entry[id].length : 64),
                         vocabulary_text(vocabulary, (int32_t)id).text, shown, text.text, (long long)id);
    if (vocabulary->count * 2 >= vocabulary->slot_count) {
        int status = slots_grow(vocabulary, error);
        if (status)
            return status;
    }
    size_t slot = slot_of(vocabulary, text.text, text.length);
    if (vocabulary->slot[slot] >= 0)
        return error_set(error, STATUS_INPUT, "token '%.*s' appears twice", shown, text.text);
    size_t old_capacity = vocabulary->entry_capacity;
    int status = memory_grow(&vocabulary->entry, &vocabulary->entry_capacity, (size_t)id + 1,
                             sizeof *vocabulary->entry, error);
    if (status)
        return status;
    memset(vocabulary->entry + old_capacity, 0,
           (vocabulary->entry_capacity - old_capacity) * sizeof *vocabulary->entry);
    size_t start = vocabulary->text.length;
    status = buffer_append(&vocabulary->text, text.text, text.length, error);
    if (status)
        return status;
    vocabulary->entry[id] = (struct vocabulary_entry){.start = start, .length = (uint32_t)text.length, .present = true};
    vocabulary->slot[slot] = (int32_t)id;
    vocabulary->count++;
    if (id >= vocabulary->limit)
        vocabulary->limit = (int32_t)id + 1;
    return STATUS_OK;
}

int32_t vocabulary_find(const struct vocabulary *vocabulary, const char *text, size_t length)
{
    return vocabulary->slot_count ? vocabulary->slot[slot_of(vocabulary, text, length)] : -1;
}

bool vocabulary_has(const struct vocabulary *vocabulary, int32_t id)
{
    return id >= 0 && id < vocabulary->limit && vocabulary->entry[id].present;
}

struct span vocabulary_text(const struct vocabulary *vocabulary, int32_t id)
{
    const struct vocabulary_entry *entry = &vocabulary->entry[id];
    return (struct span){vocabulary->text.data + entry->start, entry->length};
}

void vocabulary_free(struct vocabulary *vocabulary)
{
    buffer_free(&vocabulary->text);
    free(vocabulary->entry);
    free(vocabulary->slot);
}

int32_t tokenizer_vocab_size(const struct tokenizer *tokenizer)
{
    int32_t model = tokenizer->bpe.vocabulary.limit, added = tokenizer->added.limit;
    return model > added ? model : added;
}
