/* activation.h - the non-linearity of the feed-forward block.
 *
 * WHAT      SWIGLU    y = silu(gate) * up,  x = [gate | up], silu(z) = z / (1 + exp(-z))
 *           GEGLU_TANH y = gelu_tanh(gate) * up, x as for SWIGLU
 *           GELU_TANH y = z/2 (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3)))      ("gelu_new" in Hugging Face)
 *           GELU      y = z/2 (1 + erf(z / sqrt 2))
 *           RELU      y = max(z, 0)
 * SHAPES    SWIGLU, GEGLU_TANH: x, dx [rows, 2 cols] with gate in the first cols columns.  Others: x, dx [rows, cols]
 *           y, dy [rows, cols]
 * DTYPES    dtype everywhere; arithmetic in stat
 * BYTES     each value once
 * NUMERICS  forward and backward within 4 roundings of stat, plus one rounding to dtype
 * SAME BITS yes
 * NEEDS     dx may alias x
 * SEEN IN   llama and its kind (SWIGLU), gemma (GEGLU_TANH), phi, gpt2 (GELU_TANH), opt (RELU)
 */
#ifndef FLAT_KERNELS_ACTIVATION_H
#define FLAT_KERNELS_ACTIVATION_H
#include "engine/op.h"
#ifdef __cplusplus
extern "C" {
#endif

enum activation_kind {
    ACTIVATION_SWIGLU = 0,
    ACTIVATION_GELU_TANH = 1,
    ACTIVATION_GELU = 2,
    ACTIVATION_RELU = 3,
    ACTIVATION_GEGLU_TANH = 4
};

/* Whether x has a gate and what it is multiplied by. */
#define ACTIVATION_GATED(kind) ((kind) == ACTIVATION_SWIGLU || (kind) == ACTIVATION_GEGLU_TANH)

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

static inline const char *activation_forward_check(const struct activation_args *args)
{
    if (enum_value(&args->kind) > ACTIVATION_GEGLU_TANH)
        return "unknown kind";
    if (args->rows < 0 || args->cols <= 0)
        return "rows is negative or cols not positive";
    return args->rows && !(args->x && args->y) ? "x or y is NULL" : NULL;
}

static inline const char *activation_backward_check(const struct activation_backward_args *args)
{
    if (enum_value(&args->kind) > ACTIVATION_GEGLU_TANH)
        return "unknown kind";
    if (args->rows < 0 || args->cols <= 0)
        return "rows is negative or cols not positive";
    return args->rows && !(args->x && args->dy && args->dx) ? "x, dy or dx is NULL" : NULL;
}

/* Each value once. */
static inline struct op_cost activation_forward_cost(const struct activation_args *args)
{
    const double elements = (double)args->rows * (double)args->cols;
    return (struct op_cost){elements * (double)dtype_size(args->dtype) * (ACTIVATION_GATED(args->kind) ? 3 : 2), 0};
}

static inline struct op_cost activation_backward_cost(const struct activation_backward_args *args)
{
    const double elements = (double)args->rows * (double)args->cols;
    return (struct op_cost){elements * (double)dtype_size(args->dtype) * (ACTIVATION_GATED(args->kind) ? 5 : 3), 0};
}

int activation_forward(struct engine_context *context, const struct activation_args *args);
int activation_backward(struct engine_context *context, const struct activation_backward_args *args);

#ifdef __cplusplus
}
#endif
#endif
