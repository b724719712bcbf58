/* logit_margin.h - how far a row's largest logit stands above the mean of the row, squared, and its gradient at the logits.
 *
 * WHAT      With what row_statistics.h says of row i, d = most_i - mean_i:
 *             value_i = d^2,   z_v = dvalue_i/dz_v = 2 d (1[v = argmax_i] - 1 / cols)
 *           The logits themselves are not read: they are only written over.
 * SHAPES    logits [rows, stride], cols used   most, mean, argmax, value [rows]
 * DTYPES    logits: dtype.  most, mean, value: stat.  argmax: int32
 * BYTES     s a logit to write
 * NUMERICS  in stat, one rounding of the gradient to dtype
 * SAME BITS yes
 * NEEDS     0 <= argmax[i] < cols (row_statistics gives no other)
 * SEEN IN   PDU
 */
#ifndef FLAT_KERNELS_LOGIT_MARGIN_H
#define FLAT_KERNELS_LOGIT_MARGIN_H
#include "engine/op.h"
#ifdef __cplusplus
extern "C" {
#endif

struct logit_margin_args {
    enum dtype dtype;
    int64_t rows, cols, stride; /* stride in elements */
    const void *most, *mean;
    const int32_t *argmax;
    void *logits, *value; /* out */
};

static inline const char *logit_margin_check(const struct logit_margin_args *args)
{
    if (args->rows < 0 || args->cols <= 0 || args->stride < args->cols)
        return "rows is negative, cols not positive or stride below cols";
    return args->rows && !(args->most && args->mean && args->argmax && args->logits && args->value)
               ? "most, mean, argmax, logits or value is NULL"
               : NULL;
}

static inline struct op_cost logit_margin_cost(const struct logit_margin_args *args)
{
    const double row = 3 * (double)dtype_size(dtype_stat(args->dtype)) + 4;
    return (struct op_cost){(double)args->rows * ((double)args->cols * (double)dtype_size(args->dtype) + row), 0};
}

int logit_margin(struct engine_context *context, const struct logit_margin_args *args);

#ifdef __cplusplus
}
#endif
#endif
