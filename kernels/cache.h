/* cache.h - new keys and values of every sequence into their places of a cache.
 *
 * WHAT      out[row_of[i], j] = in[i, j]; a row with row_of below 0 goes nowhere
 * SHAPES    in [rows, in_stride], out [*, out_stride], cols used of both   row_of [rows]
 * DTYPES    in, out: dtype
 * BYTES     each element read once and written once
 * SAME BITS yes
 * NEEDS     the entries of row_of from 0 on lie inside out and differ (checked by the host when the batch is built); in and out do
 *           not overlap
 * SEEN IN   decoding
 */
#ifndef FLAT_KERNELS_CACHE_H
#define FLAT_KERNELS_CACHE_H
#include "engine/op.h"
#ifdef __cplusplus
extern "C" {
#endif

struct cache_args {
    enum dtype dtype;
    int64_t rows, cols, in_stride, out_stride; /* in elements */
    const int32_t *row_of;
    const void *in;
    void *out;
};

static inline const char *cache_write_check(const struct cache_args *args)
{
    if (args->rows < 0 || args->cols <= 0)
        return "rows is negative or cols not positive";
    if (args->in_stride < args->cols || args->out_stride < args->cols)
        return "in_stride or out_stride is below cols";
    return args->rows && !(args->row_of && args->in && args->out) ? "row_of, in or out is NULL" : NULL;
}

static inline struct op_cost cache_write_cost(const struct cache_args *args)
{
    return (struct op_cost){(double)args->rows * (2.0 * (double)args->cols * (double)dtype_size(args->dtype) + 4), 0};
}

int cache_write(struct engine_context *context, const struct cache_args *args);

#ifdef __cplusplus
}
#endif
#endif
