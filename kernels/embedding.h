/* embedding.h - gather rows of a table, and add gradients back into it.
 *
 * WHAT      forward   out[i] = table[ids[i]] (+ position_table[positions[i]])
 *           backward  dtable[bucket_id[b]] (+)= sum over k in bucket b of dout[bucket_rows[k]]
 *             a bucket without rows writes nothing
 *           Used for token embeddings, learned positions, and to pick the rows that reach lm_head.
 * SHAPES    table [table_rows, cols]   ids, positions [rows]   out, dout [rows, cols]
 *           bucket_id [buckets]   bucket_begin [buckets + 1]   bucket_rows [bucket_begin[buckets]]
 * DTYPES    table, out, dout: dtype.   dtable: grad_dtype.   indices int32
 * BYTES     forward  embedding_forward_bytes: each gathered row read once, written once
 *           backward embedding_backward_bytes
 * HOW       the host sorts rows into buckets by id once a batch, so that each table row has one writer
 * NUMERICS  forward exact copy (one rounding of the sum with positions); backward sums in stat
 * SAME BITS yes: the order of a bucket's sum is that of bucket_rows, in pieces fixed by its length
 * NEEDS     0 <= ids[i] < table_rows (checked by the host when the batch is built); bucket_id distinct among buckets that have rows
 * SEEN IN   every family (tokens), opt and gpt2 (positions), the loss head (answer rows)
 */
#ifndef FLAT_KERNELS_EMBEDDING_H
#define FLAT_KERNELS_EMBEDDING_H
#include "engine/op.h"
#ifdef __cplusplus
extern "C" {
#endif

struct embedding_args {
    enum dtype dtype;
    int64_t rows, cols;
    const void *table;
    const int32_t *ids;
    const void *position_table; /* NULL: none */
    const int32_t *positions;
    void *out;
};

struct embedding_backward_args {
    enum dtype dtype, grad_dtype;
    int64_t buckets, cols;
    const int32_t *bucket_id, *bucket_begin, *bucket_rows;
    const void *dout;
    void *dtable;
    bool accumulate; /* false: the touched rows are overwritten; others are left alone either way */
};

static inline int64_t embedding_forward_bytes(int64_t rows, int64_t cols, bool positions, enum dtype dtype)
{
    return rows * cols * (int64_t)dtype_size(dtype) * (positions ? 3 : 2) + rows * 4 * (positions ? 2 : 1);
}

static inline int64_t embedding_backward_bytes(int64_t rows, int64_t buckets, int64_t cols, bool accumulate,
                                               enum dtype dtype, enum dtype grad_dtype)
{
    return rows * (cols * (int64_t)dtype_size(dtype) + 4) +
           buckets * (cols * (int64_t)dtype_size(grad_dtype) * (accumulate ? 2 : 1) + 12);
}

int embedding_forward(struct engine_context *context, const struct embedding_args *args);
int embedding_backward(struct engine_context *context, const struct embedding_backward_args *args);

#ifdef __cplusplus
}
#endif
#endif
