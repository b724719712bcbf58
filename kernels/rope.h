/* rope.h - rotary position embedding, in place, half-split pairs as Hugging Face's rotate_half.
 *
 * WHAT      for j < rotary_dim / 2:  a = x[j], b = x[j + rotary_dim / 2]
 *             x[j] = a cos - d b sin      x[j + rotary_dim / 2] = b cos + d a sin      (d = direction)
 *           with cos, sin of row positions[i], column j. direction +1 is the forward rotation, -1 its
 *           transpose, which is also its inverse and therefore the backward pass.
 * SHAPES    x [rows, row_stride]: `heads` heads of head_dim from column 0 (queries then keys of a fused
 *           qkv row).   cos, sin [max_positions, rotary_dim / 2]   positions [rows]
 * DTYPES    x: dtype.  cos, sin: stat (made on the host in double, so scaled variants are only data)
 * BYTES     the rotated part read and written once; the tables are reused from cache
 * NUMERICS  products in stat, one rounding a value
 * SAME BITS yes
 * NEEDS     rotary_dim even and <= head_dim; 0 <= positions[i] < max_positions (checked by the host)
 * SEEN IN   llama, mistral, qwen2 (full), phi (partial)
 */
#ifndef FLAT_KERNELS_ROPE_H
#define FLAT_KERNELS_ROPE_H
#include "engine/op.h"
#ifdef __cplusplus
extern "C" {
#endif

struct rope_args {
    enum dtype dtype;
    int64_t rows, row_stride; /* row_stride in elements */
    int heads, head_dim, rotary_dim;
    int direction; /* +1 or -1 */
    const int32_t *positions;
    const void *cos, *sin;
    void *x;
};

static inline const char *rope_check(const struct rope_args *args)
{
    if (args->rows < 0 || args->heads <= 0 || args->head_dim <= 0)
        return "rows is negative, or heads or head_dim not positive";
    if (args->rotary_dim <= 0 || args->rotary_dim % 2 || args->rotary_dim > args->head_dim)
        return "rotary_dim is not even, positive and at most head_dim";
    if (args->row_stride < (int64_t)args->heads * args->head_dim)
        return "row_stride is below heads * head_dim";
    if (args->direction != 1 && args->direction != -1)
        return "direction is neither +1 nor -1";
    return args->rows && !(args->positions && args->cos && args->sin && args->x) ? "positions, cos, sin or x is NULL"
                                                                                  : NULL;
}

static inline struct op_cost rope_cost(const struct rope_args *args)
{
    return (struct op_cost){(double)args->rows *
                                (2.0 * args->heads * args->rotary_dim * (double)dtype_size(args->dtype) +
                                 args->rotary_dim * (double)dtype_size(dtype_stat(args->dtype)) + 4),
                            0};
}

int rope(struct engine_context *context, const struct rope_args *args);

#ifdef __cplusplus
}
#endif
#endif
