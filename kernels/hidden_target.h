/* hidden_target.h - hidden states held against states that they are to have: the squared distance and its gradient.
 *
 * WHAT      For row i, h = x_i + residual_i and d = cols:
 *             value_i = (1 / d) sum over v of (h_v - u_v)^2,   gradient_i = 2 (h - u) / d
 *           u is target_i + target_residual_i, or one vector for all rows
 * SHAPES    x, residual, target, target_residual, gradient [rows, cols]   value [rows]; of one vector target is [cols]
 * DTYPES    x, residual, target, target_residual, gradient: dtype.  value: stat
 * BYTES     s for each of the four that are there to read, s to write
 * NUMERICS  differences in stat; the sum within 1e-6 (CPU in double: 1e-15) of the sum of its terms; one rounding of the
 *           gradient to dtype
 * SAME BITS yes: fixed reduction tree per row
 * NEEDS     gradient may alias x, residual, or a target that is not one vector for all
 * SEEN IN   RMU
 */
#ifndef FLAT_KERNELS_HIDDEN_TARGET_H
#define FLAT_KERNELS_HIDDEN_TARGET_H
#include "engine/op.h"
#ifdef __cplusplus
extern "C" {
#endif

struct hidden_target_args {
    enum dtype dtype;
    int64_t rows, cols;
    const void *x, *residual;
    const void *target, *target_residual; /* target_residual NULL: nothing is added */
    bool one_target;                      /* target is [cols], the same for all rows */
    void *gradient, *value;               /* out */
};

static inline const char *hidden_target_check(const struct hidden_target_args *args)
{
    if (args->rows < 0 || args->cols <= 0)
        return "rows is negative or cols not positive";
    if (args->one_target && args->target_residual)
        return "one target for all rows has no residual";
    return args->rows && !(args->x && args->residual && args->target && args->gradient && args->value)
               ? "x, residual, target, gradient or value is NULL"
               : NULL;
}

static inline struct op_cost hidden_target_cost(const struct hidden_target_args *args)
{
    const double arrays = 3 + (args->one_target ? 0 : args->target_residual ? 2 : 1);
    const double s = (double)dtype_size(args->dtype), row = (double)args->cols * s;
    return (struct op_cost){(double)args->rows * (arrays * row + (double)dtype_size(dtype_stat(args->dtype))) +
                                (args->one_target ? row : 0),
                            0};
}

int hidden_target(struct engine_context *context, const struct hidden_target_args *args);

#ifdef __cplusplus
}
#endif
#endif
