/* rope.h - rotary position embedding, in place, half-split pairs as Hugging Face's rotate_half.
 *
 * WHAT      for j < rotary_dim / 2:  a = x[j], b = x[j + rotary_dim / 2]
 *             x[j] = a cos - d b sin      x[j + rotary_dim / 2] = b cos + d a sin      (d = direction)
 *           with cos, sin of row positions[i], column j. direction +1 is the forward rotation, -1 its
 *           transpose, which is also its inverse and therefore the backward pass.
 * SHAPES    x [rows, row_stride]: `heads` heads of head_dim from column 0 (queries then keys of a fused
 *           qkv row).   cos, sin [max_positions, rotary_dim / 2]   positions [rows]
 * DTYPES    x: dtype.  cos, sin: stat (made on the host in double, so scaled variants are only data)
 * BYTES     rope_bytes: the rotated part read and written once; the tables are reused from cache
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

static inline int64_t rope_bytes(int64_t rows, int heads, int rotary_dim, enum dtype dtype)
{
    return rows * (2 * (int64_t)heads * rotary_dim * (int64_t)dtype_size(dtype) +
                   rotary_dim * (int64_t)dtype_size(dtype_stat(dtype)) + 4);
}

int rope(struct engine_context *context, const struct rope_args *args);

#ifdef __cplusplus
}
#endif
#endif
