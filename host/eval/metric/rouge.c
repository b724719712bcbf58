/* rouge.c - see rouge.h. */
#include "rouge.h"

#include <stdint.h>
#include <stdlib.h>

#include "../../util/memory.h"
#include "words.h"

static struct rouge_measure measure_of(size_t overlap, size_t target, size_t prediction)
{
    struct rouge_measure measure = {0};
    if (overlap == 0)
        return measure;
    measure.precision = (double)overlap / (double)prediction;
    measure.recall = (double)overlap / (double)target;
    measure.f1 = 2 * measure.precision * measure.recall / (measure.precision + measure.recall);
    return measure;
}

/* Where each word stands in the target: positions first[id] .. first[id + 1] - 1 of position[]. */
struct occurrences {
    size_t *first, *position;
};

static int occurrences_find(const struct word_list *target, int32_t distinct, struct occurrences *where,
                            struct error *error)
{
    where->first = memory_array((size_t)distinct + 2, sizeof *where->first, error);
    where->position = memory_array(target->count, sizeof *where->position, error);
    if (!where->first || !where->position)
        return STATUS_MEMORY;
    size_t *next = where->first + 1; /* next[id] becomes first[id + 1] as the positions are laid down */
    for (size_t i = 0; i < target->count; i++)
        next[target->id[i] + 1]++;
    for (int32_t id = 0; id < distinct; id++)
        next[id + 1] += next[id];
    for (size_t i = 0; i < target->count; i++)
        where->position[next[target->id[i]]++] = i;
    return STATUS_OK;
}

static size_t count_of(const struct occurrences *where, int32_t id)
{
    return where->first[id + 1] - where->first[id];
}

static int overlap_count(const struct occurrences *where, const struct word_list *prediction, int32_t distinct,
                         size_t *overlap, struct error *error)
{
    size_t *left = memory_array((size_t)distinct, sizeof *left, error);
    if (!left)
        return STATUS_MEMORY;
    for (int32_t id = 0; id < distinct; id++)
        left[id] = count_of(where, id);
    *overlap = 0;
    for (size_t i = 0; i < prediction->count; i++)
        if (left[prediction->id[i]] > 0) {
            left[prediction->id[i]]--;
            ++*overlap;
        }
    free(left);
    return STATUS_OK;
}

/* The target's positions of a word as bits. A frequent word, one with more positions than the row has blocks, keeps its
 * own bits (there are 64 such words at most); the others share one row, in which the last word's bits are cleared
 * first. */
struct matches {
    const struct occurrences *where;
    size_t blocks;
    uint64_t **frequent; /* [distinct], NULL until needed */
    uint64_t *shared;
    int32_t last; /* whose bits are in shared, -1 for none */
};

static void bits_set(const struct occurrences *where, int32_t id, uint64_t *bits)
{
    for (size_t i = where->first[id]; i < where->first[id + 1]; i++)
        bits[where->position[i] / 64] |= (uint64_t)1 << where->position[i] % 64;
}

static const uint64_t *matches_of(struct matches *matches, int32_t id, struct error *error)
{
    const struct occurrences *where = matches->where;
    if (count_of(where, id) > matches->blocks) {
        if (!matches->frequent[id] &&
            (matches->frequent[id] = memory_array(matches->blocks, sizeof **matches->frequent, error)))
            bits_set(where, id, matches->frequent[id]);
        return matches->frequent[id];
    }
    if (matches->last >= 0)
        for (size_t i = where->first[matches->last]; i < where->first[matches->last + 1]; i++)
            matches->shared[where->position[i] / 64] = 0;
    bits_set(where, id, matches->shared);
    matches->last = id;
    return matches->shared;
}

/* row = (row + (row & match)) | (row & ~match), from block `begin` on; below it match has no bits. */
static void row_advance(uint64_t *row, const uint64_t *match, size_t begin, size_t blocks)
{
    bool carry = false;
    for (size_t b = begin; b < blocks; b++) {
        if (!match[b] && !carry)
            continue;
        uint64_t sum;
        bool first = __builtin_add_overflow(row[b], row[b] & match[b], &sum);
        bool second = __builtin_add_overflow(sum, (uint64_t)carry, &sum);
        row[b] = sum | (row[b] & ~match[b]);
        carry = first || second;
    }
}

/* Bit i of `row` is 0 where the longest common subsequence of the prediction so far with target[0..i] is longer than
 * with target[0..i-1]; every word of the prediction advances the row once. */
static int subsequence_length(const struct occurrences *where, const struct word_list *target,
                              const struct word_list *prediction, int32_t distinct, size_t *longest,
                              struct error *error)
{
    size_t blocks = (target->count + 63) / 64;
    uint64_t *row = memory_array(blocks, sizeof *row, error);
    struct matches matches = {where, blocks, memory_array((size_t)distinct, sizeof *matches.frequent, error),
                              memory_array(blocks, sizeof *matches.shared, error), -1};
    int status = row && matches.frequent && matches.shared ? STATUS_OK : STATUS_MEMORY;
    for (size_t b = 0; b < blocks && !status; b++)
        row[b] = UINT64_MAX;
    for (size_t i = 0; i < prediction->count && !status; i++) {
        int32_t id = prediction->id[i];
        if (count_of(where, id) == 0)
            continue;
        const uint64_t *match = matches_of(&matches, id, error);
        if (match)
            row_advance(row, match, where->position[where->first[id]] / 64, blocks);
        else
            status = STATUS_MEMORY;
    }
    *longest = 0;
    for (size_t i = 0; i < target->count && !status; i++)
        *longest += !(row[i / 64] >> i % 64 & 1);
    for (int32_t id = 0; id < distinct && matches.frequent; id++)
        free(matches.frequent[id]);
    free(matches.frequent);
    free(matches.shared);
    free(row);
    return status;
}

int rouge_score(const char *target, size_t target_length, const char *prediction, size_t prediction_length, bool stem,
                struct rouge *rouge, struct error *error)
{
    struct word_list wanted = {0}, given = {0};
    struct word_list *const both[] = {&wanted, &given};
    struct occurrences where = {0};
    int32_t distinct = 0;
    size_t overlap = 0, longest = 0;
    int status = words_of_rouge(&wanted, target, target_length, stem, error);
    if (!status)
        status = words_of_rouge(&given, prediction, prediction_length, stem, error);
    if (!status)
        status = words_number(both, 2, &distinct, error);
    if (!status)
        status = occurrences_find(&wanted, distinct, &where, error);
    if (!status)
        status = overlap_count(&where, &given, distinct, &overlap, error);
    if (!status)
        status = subsequence_length(&where, &wanted, &given, distinct, &longest, error);
    if (!status) {
        rouge->rouge1 = measure_of(overlap, wanted.count, given.count);
        rouge->rougeL = measure_of(longest, wanted.count, given.count);
    }
    free(where.first);
    free(where.position);
    words_free(&wanted);
    words_free(&given);
    return status;
}
