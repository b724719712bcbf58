/* row_scale.h - rows of a matrix, each multiplied by a number of its own.
 *
 * WHAT      y_i = scale_i x_i
 * SHAPES    x, y [rows, cols]   scale [rows]
 * DTYPES    x, y: dtype.  scale: stat
 * BYTES     each element read once and written once
 * NUMERICS  product in stat, one rounding
 * SAME BITS yes
 * NEEDS     y may alias x
 * SEEN IN   the loss head: the weights of the targets (logprob.h)
 */
#ifndef FLAT_KERNELS_ROW_SCALE_H
#define FLAT_KERNELS_ROW_SCALE_H
#include "engine/op.h"
#ifdef __cplusplus
extern "C" {
#endif

struct row_scale_args {
    enum dtype dtype;
    int64_t rows, cols;
    const void *x, *scale;
    void *y; /* may alias x */
};

static inline const char *row_scale_check(const struct row_scale_args *args)
{
    if (args->rows < 0 || args->cols <= 0)
        return "rows is negative or cols not positive";
    return args->rows && !(args->x && args->scale && args->y) ? "x, scale or y is NULL" : NULL;
}

static inline struct op_cost row_scale_cost(const struct row_scale_args *args)
{
    return (struct op_cost){(double)args->rows * (2 * (double)args->cols * (double)dtype_size(args->dtype) +
                                                  (double)dtype_size(dtype_stat(args->dtype))),
                            0};
}

int row_scale(struct engine_context *context, const struct row_scale_args *args);

#ifdef __cplusplus
}
#endif
#endif
