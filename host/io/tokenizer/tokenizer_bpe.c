/* tokenizer_bpe.c - byte-pair encoding of one piece: characters become symbols, then the pair with the lowest
 * (rank, position) merges until none is left. A binary heap and a linked list make that O(n log n) for a piece of
 * n characters, so a megabyte without a space is no trouble.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../util/utf8.h"
#include "tokenizer_internal.h"

static uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static struct merge *merge_slot(const struct bpe *bpe, uint64_t pair)
{
    size_t mask = bpe->merge_slots - 1;
    uint64_t hash = pair * 0x9e3779b97f4a7c15u;
    for (size_t i = (hash ^ hash >> 32) & mask;; i = (i + 1) & mask)
        if (bpe->merge[i].pair == pair || bpe->merge[i].pair == UINT64_MAX)
            return &bpe->merge[i];
}

static const struct merge *merge_find(const struct bpe *bpe, int32_t left, int32_t right)
{
    if (bpe->merge_slots == 0)
        return NULL;
    uint64_t pair = pair_of(left, right);
    const struct merge *merge = merge_slot(bpe, pair);
    return merge->pair == pair ? merge : NULL;
}

static int merges_grow(struct bpe *bpe, struct error *error)
{
    size_t old_slots = bpe->merge_slots, slots = old_slots ? old_slots * 2 : 256;
    struct merge *old = bpe->merge, *bigger = memory_array(slots, sizeof *bigger, error);
    if (!bigger)
        return STATUS_MEMORY;
    for (size_t i = 0; i < slots; i++)
        bigger[i].pair = UINT64_MAX;
    bpe->merge = bigger;
    bpe->merge_slots = slots;
    for (size_t i = 0; i < old_slots; i++)
        if (old[i].pair != UINT64_MAX)
            *merge_slot(bpe, old[i].pair) = old[i];
    free(old);
    return STATUS_OK;
}

static int merge_part_missing(struct span left, struct span right, const char *what, struct error *error)
{
    return error_set(error, STATUS_INPUT, "merge '%.*s %.*s': %s is not in the vocabulary",
                     left.length < 64 ? (int)left.length : 64, left.text,
                     right.length < 64 ? (int)right.length : 64, right.text, what);
}

int bpe_add_merge(struct bpe *bpe, struct span left, struct span right, size_t rank, struct error *error)
{
    int32_t left_id = vocabulary_find(&bpe->vocabulary, left.text, left.length);
    int32_t right_id = vocabulary_find(&bpe->vocabulary, right.text, right.length);
    if (left_id < 0 || right_id < 0)
        return merge_part_missing(left, right, left_id < 0 ? "the left part" : "the right part", error);
    if (rank >= UINT32_MAX)
        return error_set(error, STATUS_INPUT, "more than 4294967295 merges");
    struct buffer whole = {0};
    int status = buffer_append(&whole, left.text, left.length, error);
    if (!status)
        status = buffer_append(&whole, right.text, right.length, error);
    int32_t id = status ? -1 : vocabulary_find(&bpe->vocabulary, whole.data, whole.length);
    buffer_free(&whole);
    if (status)
        return status;
    if (id < 0)
        return merge_part_missing(left, right, "the result", error);
    if (bpe->merge_count * 2 >= bpe->merge_slots) {
        status = merges_grow(bpe, error);
        if (status)
            return status;
    }
    struct merge *merge = merge_slot(bpe, pair_of(left_id, right_id));
    if (merge->pair == UINT64_MAX)
        bpe->merge_count++;
    /* A pair given twice counts with its later rank, as in the reference. */
    *merge = (struct merge){.pair = pair_of(left_id, right_id), .rank = (uint32_t)rank, .id = id};
    return STATUS_OK;
}

int bpe_prepare(struct bpe *bpe, struct error *error)
{
    for (int byte = 0; byte < 256; byte++) {
        char name[8];
        int length = snprintf(name, sizeof name, "<0x%02X>", (unsigned)byte);
        bpe->byte_token[byte] = vocabulary_find(&bpe->vocabulary, name, (size_t)length);
    }
    bpe->unk_id = bpe->unk_token ? vocabulary_find(&bpe->vocabulary, bpe->unk_token, strlen(bpe->unk_token)) : -1;
    return piece_cache_prepare(&bpe->cache, error);
}

static int symbol_add(struct bpe *bpe, int32_t id, struct error *error)
{
    if (bpe->symbol_count == INT32_MAX)
        return error_set(error, STATUS_INPUT, "a piece of text has more than 2147483647 symbols; split it");
    if (bpe->symbol_count == bpe->symbol_capacity) {
        int status = memory_grow(&bpe->symbol, &bpe->symbol_capacity, bpe->symbol_count + 1, sizeof *bpe->symbol,
                                 error);
        if (status)
            return status;
    }
    int32_t i = (int32_t)bpe->symbol_count++;
    bpe->symbol[i] = (struct symbol){.id = id, .previous = i - 1, .next = -1};
    if (i > 0)
        bpe->symbol[i - 1].next = i;
    return STATUS_OK;
}

/* Whether every byte of a character has its <0xHH> token. */
static bool has_byte_tokens(const struct bpe *bpe, const char *character, int bytes)
{
    for (int i = 0; i < bytes; i++)
        if (bpe->byte_token[(unsigned char)character[i]] < 0)
            return false;
    return true;
}

/* Characters to symbols. A pending unknown is put down when the next known character comes, but not before byte
 * tokens: with fuse_unk an unknown can thus land after them. That is what the reference does. */
static int symbols_fill(struct bpe *bpe, struct span piece, struct error *error)
{
    bool unknown = false;
    int status = STATUS_OK, bytes;
    bpe->symbol_count = 0;
    for (size_t i = 0; i < piece.length && !status; i += (size_t)bytes) {
        const char *character = piece.text + i;
        bytes = utf8_length(character);
        int32_t id = vocabulary_find(&bpe->vocabulary, character, (size_t)bytes);
        if (id < 0 && bpe->byte_fallback && has_byte_tokens(bpe, character, bytes)) {
            for (int b = 0; b < bytes && !status; b++)
                status = symbol_add(bpe, bpe->byte_token[(unsigned char)character[b]], error);
            continue;
        }
        if (id < 0 && !bpe->unk_token)
            continue;
        if (id < 0 && bpe->unk_id < 0)
            return error_set(error, STATUS_INPUT, "the text has a character outside the vocabulary, and unk_token '%s' "
                             "is not in the vocabulary either", bpe->unk_token);
        if (unknown && (id >= 0 || !bpe->fuse_unk))
            status = symbol_add(bpe, bpe->unk_id, error);
        unknown = id < 0;
        if (id >= 0 && !status)
            status = symbol_add(bpe, id, error);
    }
    if (unknown && !status)
        status = symbol_add(bpe, bpe->unk_id, error);
    return status;
}

static void heap_sink(struct candidate *heap, size_t count, size_t i)
{
    struct candidate moving = heap[i];
    for (size_t child; (child = 2 * i + 1) < count; i = child) {
        if (child + 1 < count && heap[child + 1].order < heap[child].order)
            child++;
        if (heap[child].order >= moving.order)
            break;
        heap[i] = heap[child];
    }
    heap[i] = moving;
}

/* The heap has room: see symbols_merge. */
static void heap_push(struct bpe *bpe, int32_t position)
{
    const struct symbol *left = &bpe->symbol[position];
    const struct merge *merge = merge_find(bpe, left->id, bpe->symbol[left->next].id);
    if (!merge)
        return;
    struct candidate *heap = bpe->heap;
    size_t i = bpe->heap_count++;
    struct candidate moving = {.order = (uint64_t)merge->rank << 32 | (uint32_t)position, .id = merge->id};
    for (; i > 0 && heap[(i - 1) / 2].order > moving.order; i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = moving;
}

static int symbols_merge(struct bpe *bpe, struct error *error)
{
    if (bpe->symbol_count < 2)
        return STATUS_OK;
    /* At most n-1 pairs at first, and each of at most n-1 merges takes one out and puts two in. */
    int status = memory_grow(&bpe->heap, &bpe->heap_capacity, 2 * bpe->symbol_count, sizeof *bpe->heap, error);
    if (status)
        return status;
    bpe->heap_count = 0;
    for (size_t i = 0; i + 1 < bpe->symbol_count; i++) {
        const struct merge *merge = merge_find(bpe, bpe->symbol[i].id, bpe->symbol[i + 1].id);
        if (merge)
            bpe->heap[bpe->heap_count++] =
                (struct candidate){.order = (uint64_t)merge->rank << 32 | i, .id = merge->id};
    }
    for (size_t i = bpe->heap_count / 2; i-- > 0;)
        heap_sink(bpe->heap, bpe->heap_count, i);
    while (bpe->heap_count > 0) {
        struct candidate top = bpe->heap[0];
        bpe->heap[0] = bpe->heap[--bpe->heap_count];
        if (bpe->heap_count > 0)
            heap_sink(bpe->heap, bpe->heap_count, 0);
        int32_t position = (int32_t)(uint32_t)top.order;
        struct symbol *left = &bpe->symbol[position];
        if (left->id < 0 || left->next < 0)
            continue;
        struct symbol *right = &bpe->symbol[left->next];
        /* Stale unless the pair that stands here now gives the same token; its rank is not compared. */
        const struct merge *merge = merge_find(bpe, left->id, right->id);
        if (!merge || merge->id != top.id)
            continue;
        left->id = top.id;
        left->next = right->next;
        right->id = -1;
        if (left->next >= 0)
            bpe->symbol[left->next].previous = position;
        if (left->previous >= 0)
            heap_push(bpe, left->previous);
        if (left->next >= 0)
            heap_push(bpe, position);
    }
    return STATUS_OK;
}

int bpe_encode(struct bpe *bpe, struct span piece, struct token_list *ids, struct error *error)
{
    const int32_t *kept;
    size_t count;
    int status = STATUS_OK;
    if (piece_cache_find(&bpe->cache, piece, &kept, &count)) {
        for (size_t i = 0; i < count && !status; i++)
            status = token_list_append(ids, kept[i], error);
        return status;
    }
    size_t first = ids->length;
    int32_t whole = bpe->ignore_merges ? vocabulary_find(&bpe->vocabulary, piece.text, piece.length) : -1;
    if (whole >= 0) {
        status = token_list_append(ids, whole, error);
    } else {
        status = symbols_fill(bpe, piece, error);
        if (!status)
            status = symbols_merge(bpe, error);
        for (size_t i = 0; i < bpe->symbol_count && !status; i++)
            if (bpe->symbol[i].id >= 0)
                status = token_list_append(ids, bpe->symbol[i].id, error);
    }
    if (!status) /* a piece without ids may come before the list has an array */
        status = piece_cache_add(&bpe->cache, piece, ids->id ? ids->id + first : NULL, ids->length - first, error);
    return status;
}

void bpe_free(struct bpe *bpe)
{
    vocabulary_free(&bpe->vocabulary);
    free(bpe->merge);
    free(bpe->unk_token);
    free(bpe->symbol);
    free(bpe->heap);
    piece_cache_free(&bpe->cache);
}
