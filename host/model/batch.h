/* batch.h - packing: sequences of ids become one run of rows without padding, in which the answers of one prompt
 * share the prompt's rows.
 *
 * A group is the sequences of one prompt. Its shared prefix is their longest common prefix of ids, at most up to the
 * position that predicts the first answer token of any member. Rows: prefix, then the rest of each sequence in turn.
 * Or, for scores: one sequence whole, that which has most in common with the others, and of each other what it does not begin
 * with like that one, answers too. The last id of a sequence is only a target and never fed. The row at position t-1 predicts target ids[t]; target rows
 * (one per target) are listed sequence by sequence and may name a prefix row more than once.
 *
 * Padded, a batch has one of few shapes, so that what was captured for one can be replayed for others: rows and head
 * rows are rounded up to padded_size, everything else to what these allow. The rows added are a group of their own,
 * ids 0 at position 0, which no other row sees; the target rows added are in no sequence. Their loss weights are 0, and
 * with them all that they add to gradients.
 *
 * Cost: two passes over the ids and two counting sorts; one copy to the device.
 */
#ifndef FLAT_MODEL_BATCH_H
#define FLAT_MODEL_BATCH_H
#include <stdbool.h>
#include <stdint.h>

#include "../../kernels/attention.h"
#include "../device/device.h"

/* ids[0 .. length), of which ids[answer_begin .. length) are targets; 1 <= answer_begin < length. Borrowed. */
struct batch_sequence {
    const int32_t *ids;
    int32_t length, answer_begin;
    int32_t role;     /* enum role of loss/method.h; below SEQUENCE_ROLES */
    double reference; /* its log-probability under the reference model; 0 where none is asked for */
    int32_t lead;     /* so many of its first targets are not of the answer: all positions are read (examples.h) */
};

/* What has one key lies together: entries row[begin[i] .. begin[i+1]) have key[i], in ascending order. So sums over what
 * shares a key have one writer and a fixed order. */
struct row_index {
    int32_t count; /* of distinct keys */
    int32_t *key, *begin, *row; /* [count], [count + 1], [rows or targets] */
};

/* Rows of a tile of attention that is listed: what a GPU engine's kernels for bf16 take. */
enum { BATCH_TILE_ROWS = 64 };

/* Integer arrays of a packed batch; the host and device copies have the same layout. */
struct batch_arrays {
    int32_t *ids, *positions;                              /* [rows] */
    int32_t *group_begin;                                  /* [groups + 1] */
    struct attention_segment *segment;                     /* [segments] */
    struct attention_tile *tile;                           /* [tiles] of BATCH_TILE_ROWS rows */
    int32_t *target_row, *target;                          /* [targets] */
    int32_t *sequence_begin, *role;                        /* [sequences + 1], [sequences] */
    double *reference;                                     /* [sequences] */
    struct row_index by_token, by_position;                /* of rows: by their id, by their position */
    struct row_index by_row;                               /* of targets: by the row that predicts them */
};

struct batch {
    bool padded; /* set after batch_create: batches to come are padded */
    int32_t rows, targets, groups, segments, sequences;
    int32_t tiles; /* for a GPU's attention in bf16; 0: not listed */
    int32_t real_rows, real_targets, real_segments; /* without padding */
    int64_t max_rows, max_targets, max_sequences;   /* capacity */
    int32_t max_position;
    int64_t visible_keys; /* as in struct batch_size */
    struct batch_arrays host, device;
    void *host_blob, *device_blob;
    size_t blob_bytes;
};

/* What packed groups take. */
struct batch_size {
    int64_t rows, targets;
    int64_t visible_keys; /* sum over rows of the keys they see: attention's cost */
};

/* Which rows the sequences of a group have in common: none; their prefix; or all that each begins with like one of them. A
 * row's results are the same bits on the CPU. */
enum batch_sharing { BATCH_SEPARATE, BATCH_PREFIX, BATCH_TRUNK };

/* Adds what a group will take to *size, without packing it. */
void batch_group_size(const struct batch_sequence *sequences, int count, enum batch_sharing sharing, struct batch_size *size);

/* The smallest padded size that n rows or target rows fit in: a multiple of a sixteenth of the power of two at or below n,
 * and of 16. Beyond 256 that adds a sixteenth at most, and 2 % on average. */
int64_t padded_size(int64_t n);

/* Bytes of one with so much room, on the device. */
size_t batch_bytes(int64_t max_rows, int64_t max_targets, int64_t max_sequences);
/* Allocates room for at most so many rows, target rows, sequences and groups. */
int batch_create(struct batch *batch, struct device *device, int64_t max_rows, int64_t max_targets, int64_t max_sequences,
                 struct error *error);
void batch_free(struct batch *batch, struct device *device);

/* Packs `groups` groups; group g is sequences group_first[g] .. group_first[g+1]-1. BATCH_SEPARATE packs each sequence
 * on its own (the plain form that the shared ones are tested against). Ids must be below vocab_size. */
int batch_pack(struct batch *batch, struct device *device, const struct batch_sequence *sequences,
               const int32_t *group_first, int groups, enum batch_sharing sharing, int64_t vocab_size, struct error *error);
/* Nothing but so much padding, for which there must be room. */
int batch_pack_padding(struct batch *batch, struct device *device, int64_t rows, int64_t targets, struct error *error);

#endif
