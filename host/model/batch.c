/* batch.c - see batch.h. */
#include "batch.h"

#include <stdlib.h>
#include <string.h>

#include "../util/memory.h"

/* Longest common prefix of the group, cut before the first answer token of any member. */
static int32_t shared_prefix(const struct batch_sequence *sequences, int count)
{
    int32_t prefix = sequences[0].answer_begin;
    for (int s = 1; s < count; s++) {
        int32_t limit = sequences[s].answer_begin < prefix ? sequences[s].answer_begin : prefix, n = 0;
        while (n < limit && sequences[s].ids[n] == sequences[0].ids[n])
            n++;
        prefix = n;
    }
    return count > 1 ? prefix : 0;
}

/* Ids that a sequence begins with like the first `rows` of another, and that it feeds. */
static int32_t common_ids(const struct batch_sequence *sequence, const int32_t *ids, int32_t rows)
{
    const int32_t limit = sequence->length - 1 < rows ? sequence->length - 1 : rows;
    int32_t n = 0;
    while (n < limit && sequence->ids[n] == ids[n])
        n++;
    return n;
}

/* What a group's first segment holds: rows that others may begin with. */
struct trunk {
    const int32_t *ids;
    int32_t rows;
};

static struct trunk trunk_choose(const struct batch_sequence *sequences, int count, enum batch_sharing sharing)
{
    if (sharing != BATCH_TRUNK)
        return (struct trunk){sequences[0].ids, sharing == BATCH_PREFIX ? shared_prefix(sequences, count) : 0};
    struct trunk best = {sequences[0].ids, 0};
    int64_t most = -1;
    for (int t = 0; t < count; t++) {
        const int32_t rows = sequences[t].length - 1;
        int64_t common = 0;
        for (int s = 0; s < count; s++)
            common += common_ids(&sequences[s], sequences[t].ids, rows);
        common -= rows; /* its own */
        if (common > most) {
            most = common;
            best = (struct trunk){sequences[t].ids, rows};
        }
    }
    return best;
}

/* Keys that the rows of a segment see: the whole prefix and their own part, causally. */
static int64_t segment_visible_keys(int64_t count, int64_t prefix)
{
    return count * prefix + count * (count + 1) / 2;
}

void batch_group_size(const struct batch_sequence *sequences, int count, enum batch_sharing sharing, struct batch_size *size)
{
    const struct trunk trunk = trunk_choose(sequences, count, sharing);
    size->rows += trunk.rows;
    size->visible_keys += segment_visible_keys(trunk.rows, 0);
    for (int s = 0; s < count; s++) {
        const int64_t prefix = common_ids(&sequences[s], trunk.ids, trunk.rows), own = sequences[s].length - 1 - prefix;
        size->rows += own;
        size->targets += sequences[s].length - sequences[s].answer_begin;
        size->visible_keys += segment_visible_keys(own, prefix);
    }
}

int64_t padded_size(int64_t n)
{
    int64_t step = 16;
    while (step <= n / 32)
        step *= 2;
    return (n + step - 1) / step * step;
}

/* Lays the arrays out in one block of int32 for the given counts; returns its size in elements. */
static size_t arrays_layout(struct batch_arrays *a, int32_t *base, size_t rows, size_t targets, size_t sequences)
{
    size_t used = 0;
#define TAKE_AS(pointer, count) (pointer = base ? base + used : NULL, used += ((size_t)(count) + 15) & ~(size_t)15)
#define TAKE(field, count) TAKE_AS(a->field, count)
#define TAKE_INDEX(field, count) TAKE(field.key, count), TAKE(field.begin, (count) + 1), TAKE(field.row, count)
    TAKE(ids, rows);
    TAKE(positions, rows);
    TAKE(group_begin, sequences + 2); /* one of padding, as with the segments */
    int32_t *segment;
    TAKE_AS(segment, (2 * sequences + 1) * (sizeof(struct attention_segment) / sizeof(int32_t)));
    a->segment = (struct attention_segment *)(void *)segment;
    int32_t *tile;
    TAKE_AS(tile, (size_t)attention_tiles_most((int64_t)rows, (int64_t)(2 * sequences + 1), BATCH_TILE_ROWS) *
                      (sizeof(struct attention_tile) / sizeof(int32_t)));
    a->tile = (struct attention_tile *)(void *)tile;
    TAKE(target_row, targets);
    TAKE(target, targets);
    TAKE(sequence_begin, sequences + 1);
    TAKE(role, sequences);
    int32_t *reference;
    TAKE_AS(reference, 2 * sequences);
    a->reference = (double *)(void *)reference;
    TAKE_INDEX(by_token, rows);
    TAKE_INDEX(by_position, rows);
    TAKE_INDEX(by_row, targets);
#undef TAKE_INDEX
#undef TAKE
#undef TAKE_AS
    return used;
}

size_t batch_bytes(int64_t max_rows, int64_t max_targets, int64_t max_sequences)
{
    struct batch_arrays unused;
    return arrays_layout(&unused, NULL, (size_t)max_rows, (size_t)max_targets, (size_t)max_sequences) * sizeof(int32_t);
}

int batch_create(struct batch *batch, struct device *device, int64_t max_rows, int64_t max_targets, int64_t max_sequences,
                 struct error *error)
{
    *batch = (struct batch){0};
    if (max_rows < 1 || max_targets < 1 || max_sequences < 1 || max_rows > 1 << 28 || max_targets > 1 << 28)
        return error_set(error, STATUS_USAGE, "a batch of %lld rows cannot be packed; lower the batch size",
                         (long long)max_rows);
    batch->max_rows = max_rows, batch->max_targets = max_targets, batch->max_sequences = max_sequences;
    batch->blob_bytes = batch_bytes(max_rows, max_targets, max_sequences);
    batch->host_blob = memory_array(batch->blob_bytes / sizeof(int32_t), sizeof(int32_t), error);
    if (!batch->host_blob)
        return STATUS_MEMORY;
    int status = device_alloc(device, &batch->device_blob, batch->blob_bytes, error);
    if (status) {
        batch_free(batch, device);
        return status;
    }
    arrays_layout(&batch->host, batch->host_blob, (size_t)max_rows, (size_t)max_targets, (size_t)max_sequences);
    arrays_layout(&batch->device, batch->device_blob, (size_t)max_rows, (size_t)max_targets, (size_t)max_sequences);
    return STATUS_OK;
}

void batch_free(struct batch *batch, struct device *device)
{
    device_free(device, batch->device_blob);
    free(batch->host_blob);
    *batch = (struct batch){0};
}

/* Feeds ids[from .. to) of one sequence as a segment at the end of the rows. */
static void segment_append(struct batch *batch, const int32_t *ids, int32_t from, int32_t to, int32_t prefix_begin,
                           int32_t prefix_count)
{
    struct batch_arrays *a = &batch->host;
    int32_t begin = batch->rows, count = to - from;
    if (!count)
        return;
    memcpy(a->ids + begin, ids + from, (size_t)count * sizeof *ids);
    for (int32_t i = 0; i < count; i++)
        a->positions[begin + i] = from + i;
    if (to - 1 > batch->max_position)
        batch->max_position = to - 1;
    a->segment[batch->segments++] = (struct attention_segment){begin, count, begin, 0, prefix_begin, prefix_count};
    batch->rows += count;
    batch->visible_keys += segment_visible_keys(count, prefix_count);
}

static void group_append(struct batch *batch, const struct batch_sequence *sequences, int count, enum batch_sharing sharing)
{
    struct batch_arrays *a = &batch->host;
    const struct trunk trunk = trunk_choose(sequences, count, sharing);
    const int32_t prefix_begin = batch->rows;
    segment_append(batch, trunk.ids, 0, trunk.rows, 0, 0);
    for (int s = 0; s < count; s++) {
        const struct batch_sequence *sequence = &sequences[s];
        const int32_t branch_begin = batch->rows, prefix = common_ids(sequence, trunk.ids, trunk.rows);
        segment_append(batch, sequence->ids, prefix, sequence->length - 1, prefix ? prefix_begin : 0, prefix);
        for (int32_t t = sequence->answer_begin; t < sequence->length; t++) {
            a->target_row[batch->targets] = t - 1 < prefix ? prefix_begin + t - 1 : branch_begin + t - 1 - prefix;
            a->target[batch->targets++] = sequence->ids[t];
        }
        a->role[batch->sequences] = sequence->role;
        a->reference[batch->sequences] = sequence->reference;
        a->sequence_begin[++batch->sequences] = batch->targets;
        if (sharing == BATCH_SEPARATE)
            a->group_begin[++batch->groups] = batch->segments;
    }
    if (sharing != BATCH_SEPARATE)
        a->group_begin[++batch->groups] = batch->segments;
}

struct keyed {
    int32_t key, row;
};

static int keyed_compare(const void *left, const void *right)
{
    const struct keyed *a = left, *b = right;
    return a->key != b->key ? (a->key > b->key) - (a->key < b->key) : (a->row > b->row) - (a->row < b->row);
}

/* Sorts 0 .. count-1 by key[i], ascending where keys are equal. */
static void index_fill(struct row_index *index, struct keyed *work, const int32_t *key, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        work[i] = (struct keyed){key[i], i};
    qsort(work, (size_t)count, sizeof *work, keyed_compare);
    index->count = 0;
    for (int32_t i = 0; i < count; i++) {
        if (!i || work[i].key != work[i - 1].key) {
            index->key[index->count] = work[i].key;
            index->begin[index->count++] = i;
        }
        index->row[i] = work[i].row;
    }
    index->begin[index->count] = count;
}

static int sequences_check(const struct batch_sequence *sequences, int count, int64_t vocab_size, struct error *error)
{
    for (int s = 0; s < count; s++) {
        if (sequences[s].answer_begin < 1 || sequences[s].answer_begin >= sequences[s].length)
            return error_set(error, STATUS_INPUT, "sequence %d of the batch has no answer token to predict", s);
        for (int32_t i = 0; i < sequences[s].length; i++)
            if (sequences[s].ids[i] < 0 || sequences[s].ids[i] >= vocab_size)
                return error_set(error, STATUS_INPUT, "token id %d is outside the model's vocabulary of %lld; the "
                                 "tokenizer does not belong to this model", (int)sequences[s].ids[i],
                                 (long long)vocab_size);
    }
    return STATUS_OK;
}

/* Keys without entries up to `padded`. */
static void index_pad(struct row_index *index, int32_t padded)
{
    for (int32_t i = index->count; i < padded; i++) {
        index->key[i] = 0;
        index->begin[i + 1] = index->begin[index->count];
    }
    index->count = padded;
}

/* Rounds everything up: see the head of batch.h. A padded batch has rows, so that target rows have one to read. */
static void pad(struct batch *batch, int64_t rows, int64_t targets)
{
    struct batch_arrays *a = &batch->host;
    const int32_t groups = (int32_t)batch->max_sequences + 1, segments = 2 * (int32_t)batch->max_sequences + 1;
    for (int32_t i = batch->rows; i < rows; i++)
        a->ids[i] = a->positions[i] = 0;
    for (int32_t i = batch->targets; i < targets; i++)
        a->target_row[i] = a->target[i] = 0;
    a->segment[batch->segments] = (struct attention_segment){batch->rows, (int32_t)rows - batch->rows, batch->rows, 0, 0, 0};
    for (int32_t i = batch->segments + 1; i < segments; i++)
        a->segment[i] = (struct attention_segment){(int32_t)rows, 0, (int32_t)rows, 0, 0, 0};
    for (int32_t i = batch->groups + 1; i <= groups; i++)
        a->group_begin[i] = segments;
    index_pad(&a->by_token, (int32_t)rows);
    index_pad(&a->by_position, (int32_t)rows);
    index_pad(&a->by_row, (int32_t)targets);
    batch->rows = (int32_t)rows, batch->targets = (int32_t)targets;
    batch->groups = groups, batch->segments = segments;
}

/* Padded batches of a shape have one of few numbers of tiles: a graph has so many blocks. */
static void tiles_list(struct batch *batch)
{
    struct batch_arrays *a = &batch->host;
    batch->tiles = attention_tiles_list(a->segment, batch->segments, BATCH_TILE_ROWS, a->tile);
    const int64_t most = attention_tiles_most(batch->max_rows, 2 * batch->max_sequences + 1, BATCH_TILE_ROWS);
    const int64_t padded = !batch->padded ? batch->tiles : padded_size(batch->tiles) < most ? padded_size(batch->tiles) : most;
    for (; batch->tiles < padded; batch->tiles++)
        a->tile[batch->tiles] = (struct attention_tile){batch->segments, 0};
}

/* Indexes, padding up to so many rows and target rows, and the copy. */
static int pack_finish(struct batch *batch, struct device *device, int64_t rows, int64_t targets, struct error *error)
{
    struct batch_arrays *a = &batch->host;
    int32_t most = batch->rows > batch->targets ? batch->rows : batch->targets;
    struct keyed *work = memory_array((size_t)most + 1, sizeof *work, error);
    if (!work)
        return STATUS_MEMORY;
    index_fill(&a->by_token, work, a->ids, batch->rows);
    index_fill(&a->by_position, work, a->positions, batch->rows);
    index_fill(&a->by_row, work, a->target_row, batch->targets);
    free(work);
    batch->real_rows = batch->rows, batch->real_targets = batch->targets, batch->real_segments = batch->segments;
    if (batch->padded)
        pad(batch, rows, targets);
    tiles_list(batch);
    batch->device.by_token.count = a->by_token.count;
    batch->device.by_position.count = a->by_position.count;
    batch->device.by_row.count = a->by_row.count;
    return device_copy_in(device, batch->device_blob, batch->host_blob, batch->blob_bytes, error);
}

static void pack_begin(struct batch *batch)
{
    batch->rows = batch->targets = batch->groups = batch->segments = batch->sequences = batch->max_position = batch->tiles = 0;
    batch->visible_keys = 0;
    batch->host.group_begin[0] = batch->host.sequence_begin[0] = 0;
}

int batch_pack(struct batch *batch, struct device *device, const struct batch_sequence *sequences,
               const int32_t *group_first, int groups, enum batch_sharing sharing, int64_t vocab_size, struct error *error)
{
    int status = sequences_check(sequences, group_first[groups], vocab_size, error);
    if (status)
        return status;
    pack_begin(batch);
    for (int g = 0; g < groups; g++)
        group_append(batch, sequences + group_first[g], group_first[g + 1] - group_first[g], sharing);
    const int64_t rows = padded_size(batch->rows), targets = padded_size(batch->targets);
    return pack_finish(batch, device, rows < batch->max_rows ? rows : batch->max_rows,
                       targets < batch->max_targets ? targets : batch->max_targets, error);
}

int batch_pack_padding(struct batch *batch, struct device *device, int64_t rows, int64_t targets, struct error *error)
{
    pack_begin(batch);
    return pack_finish(batch, device, rows, targets, error);
}
