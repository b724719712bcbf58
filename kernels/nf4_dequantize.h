/* nf4_dequantize.h - weights out of NF4 (engine/nf4_map.h).
 *
 * WHAT      y[i] = level[code i] * scale[i / 64]
 * SHAPES    code [n / 2] bytes, two codes each, the first in the upper half.  scale [n / 64] float.  y [n]; n a multiple of 64
 * DTYPES    y: dtype
 * BYTES     n / 2 + n / 16 + s n
 * NUMERICS  the product is rounded to float in every engine, then to dtype: in float and double y is what bitsandbytes gives
 * SAME BITS yes
 * NEEDS     code and y begin at multiples of 16 bytes; they do not overlap
 * SEEN IN   LoRA on a base in NF4: in front of each product with a projection's weight, forward and backward
 */
#ifndef FLAT_KERNELS_NF4_DEQUANTIZE_H
#define FLAT_KERNELS_NF4_DEQUANTIZE_H
#include "engine/nf4_map.h"
#include "engine/op.h"
#ifdef __cplusplus
extern "C" {
#endif

struct nf4_dequantize_args {
    enum dtype dtype;
    int64_t n;
    const uint8_t *code;
    const float *scale;
    void *y;
};

static inline const char *nf4_dequantize_check(const struct nf4_dequantize_args *args)
{
    if (args->n < 0 || args->n % NF4_BLOCK)
        return "n is no multiple of 64";
    if (args->n && !(args->code && args->scale && args->y))
        return "code, scale or y is NULL";
    return ((uintptr_t)args->code | (uintptr_t)args->y) & 15 ? "code or y does not begin at a multiple of 16 bytes" : NULL;
}

static inline struct op_cost nf4_dequantize_cost(const struct nf4_dequantize_args *args)
{
    return (struct op_cost){(double)args->n * (0.5 + (double)sizeof(float) / NF4_BLOCK + (double)dtype_size(args->dtype)), 0};
}

int nf4_dequantize(struct engine_context *context, const struct nf4_dequantize_args *args);

#ifdef __cplusplus
}
#endif
#endif
