/* cast.h - the same numbers in another storage type.
 *
 * WHAT      y[i] = x[i], rounded to nearest even where y is narrower
 * SHAPES    x, y [n]
 * DTYPES    x: from.  y: to
 * BYTES     each element read once and written once
 * NUMERICS  one rounding; NaN stays NaN, infinities and zeros keep their signs
 * SAME BITS yes
 * NEEDS     x and y do not overlap
 * SEEN IN   the loss head with float logits: their gradient, for the products
 */
#ifndef FLAT_KERNELS_CAST_H
#define FLAT_KERNELS_CAST_H
#include "engine/op.h"
#ifdef __cplusplus
extern "C" {
#endif

struct cast_args {
    enum dtype from, to;
    int64_t n;
    const void *x;
    void *y;
};

static inline const char *cast_check(const struct cast_args *args)
{
    if (args->n < 0)
        return "n is negative";
    return args->n && !(args->x && args->y) ? "x or y is NULL" : NULL;
}

static inline struct op_cost cast_cost(const struct cast_args *args)
{
    return (struct op_cost){(double)args->n * (double)(dtype_size(args->from) + dtype_size(args->to)), 0};
}

int cast(struct engine_context *context, const struct cast_args *args);

#ifdef __cplusplus
}
#endif
#endif
