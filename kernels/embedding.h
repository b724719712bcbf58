/* embedding.h - gather rows of a table, and add gradients back into it.
 *
 * WHAT      forward   out[i] = table[ids[i]] (+ position_table[positions[i]])
 *           backward  dtable[bucket_id[b]] (+)= sum over k in bucket b of dout[bucket_rows[k]]
 *             a bucket without rows writes nothing
 *           Used for token embeddings, learned positions, and to pick the rows that reach lm_head.
 * SHAPES    table [table_rows, cols]   ids, positions [rows]   out, dout [rows, cols]
 *           bucket_id [buckets]   bucket_begin [buckets + 1]   bucket_rows [bucket_begin[buckets]]
 * DTYPES    table, out, dout: dtype.   dtable: grad_dtype.   indices int32
 * BYTES     forward: each gathered row read once, written once. backward: each row of dout and of dtable once, that of
 *           dtable twice when accumulating
 * HOW       the host sorts rows into buckets by id once per batch, so that each table row has one writer
 * NUMERICS  forward exact copy (one rounding of the sum with positions); backward sums in stat
 * SAME BITS yes: the order of a bucket's sum is that of bucket_rows, in pieces fixed by its length
 * NEEDS     0 <= ids[i] < table_rows (checked by the host when the batch is built); bucket_id distinct among buckets that have rows
 * SEEN IN   every family (tokens), opt and gpt2 (positions), the loss head (answer rows)
 */
#ifndef FLAT_KERNELS_EMBEDDING_H
#define FLAT_KERNELS_EMBEDDING_H
#include "engine/op.h"
#include "linear.h"
#ifdef __cplusplus
extern "C" {
#endif

struct embedding_args {
    enum dtype dtype;
    int64_t rows, cols;
    const void *table;
    enum linear_form form; /* of the table, a tied head's; the engine that packed it knows it */
    int64_t table_rows;    /* read only where the table is packed */
    const int32_t *ids;
    const void *position_table; /* NULL: none */
    const int32_t *positions;
    void *out;
};

struct embedding_backward_args {
    enum dtype dtype, grad_dtype;
    int64_t rows, buckets, cols; /* rows: in all buckets, for the cost alone */
    const int32_t *bucket_id, *bucket_begin, *bucket_rows;
    const void *dout;
    void *dtable;
    bool accumulate; /* false: the touched rows are overwritten; others are left alone either way */
};

static inline const char *embedding_forward_check(const struct embedding_args *args)
{
    if (args->rows < 0 || args->cols <= 0)
        return "rows is negative or cols not positive";
    if (args->rows == 0)
        return NULL;
    if (!(args->table && args->ids && args->out))
        return "table, ids or out is NULL";
    if (enum_value(&args->form) > LINEAR_PACKED_BF16 || (args->form != LINEAR_PLAIN && args->table_rows <= 0))
        return "form is none of a table, or a packed one has no table_rows";
    return args->position_table && !args->positions ? "position_table without positions" : NULL;
}

static inline const char *embedding_backward_check(const struct embedding_backward_args *args)
{
    if (args->buckets < 0 || args->cols <= 0)
        return "buckets is negative or cols not positive";
    if (args->buckets == 0)
        return NULL;
    return args->bucket_id && args->bucket_begin && args->bucket_rows && args->dout && args->dtable
               ? NULL
               : "an index array, dout or dtable is NULL";
}

static inline struct op_cost embedding_forward_cost(const struct embedding_args *args)
{
    const double rows = (double)args->rows, row = (double)args->cols * (double)dtype_size(args->dtype);
    return (struct op_cost){rows * row * (args->position_table ? 3 : 2) + rows * 4 * (args->position_table ? 2 : 1), 0};
}

static inline struct op_cost embedding_backward_cost(const struct embedding_backward_args *args)
{
    const double cols = (double)args->cols;
    return (struct op_cost){(double)args->rows * (cols * (double)dtype_size(args->dtype) + 4) +
                                (double)args->buckets *
                                    (cols * (double)dtype_size(args->grad_dtype) * (args->accumulate ? 2 : 1) + 12),
                            0};
}

int embedding_forward(struct engine_context *context, const struct embedding_args *args);
int embedding_backward(struct engine_context *context, const struct embedding_backward_args *args);

#ifdef __cplusplus
}
#endif
#endif
