/* activation.h - the non-linearity of the feed-forward block.
 *
 * WHAT      SWIGLU    y = silu(gate) * up,  x = [gate | up], silu(z) = z / (1 + exp(-z))
 *           GELU_TANH y = z/2 (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3)))      ("gelu_new" in Hugging Face)
 *           GELU      y = z/2 (1 + erf(z / sqrt 2))
 *           RELU      y = max(z, 0)
 * SHAPES    SWIGLU: x, dx [rows, 2 cols] with gate in the first cols columns.  Others: x, dx [rows, cols]
 *           y, dy [rows, cols]
 * DTYPES    dtype everywhere; arithmetic in stat
 * BYTES     activation_forward_bytes, activation_backward_bytes: each value once
 * NUMERICS  forward and backward within 4 roundings of stat, plus one rounding to dtype
 * SAME BITS yes
 * NEEDS     dx may alias x
 * SEEN IN   llama, mistral, qwen2 (SWIGLU), phi, gpt2 (GELU_TANH), opt (RELU)
 */
#ifndef FLAT_KERNELS_ACTIVATION_H
#define FLAT_KERNELS_ACTIVATION_H
#include "engine/op.h"
#ifdef __cplusplus
extern "C" {
#endif

enum activation_kind { ACTIVATION_SWIGLU = 0, ACTIVATION_GELU_TANH = 1, ACTIVATION_GELU = 2, ACTIVATION_RELU = 3 };

struct activation_args {
    enum activation_kind kind;
    enum dtype dtype;
    int64_t rows, cols;
    const void *x;
    void *y;
};

struct activation_backward_args {
    enum activation_kind kind;
    enum dtype dtype;
    int64_t rows, cols;
    const void *x, *dy;
    void *dx;
};

static inline int64_t activation_forward_bytes(enum activation_kind kind, int64_t rows, int64_t cols, enum dtype dtype)
{
    return rows * cols * (int64_t)dtype_size(dtype) * (kind == ACTIVATION_SWIGLU ? 3 : 2);
}

static inline int64_t activation_backward_bytes(enum activation_kind kind, int64_t rows, int64_t cols, enum dtype dtype)
{
    return rows * cols * (int64_t)dtype_size(dtype) * (kind == ACTIVATION_SWIGLU ? 5 : 3);
}

int activation_forward(struct engine_context *context, const struct activation_args *args);
int activation_backward(struct engine_context *context, const struct activation_backward_args *args);

#ifdef __cplusplus
}
#endif
#endif
