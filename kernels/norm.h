/* norm.h - RMS norm and Layer norm over the last axis, with the residual addition fused in.
 *
 * WHAT      sum = x + residual (when residual is given)          h = sum, or x without residual
 *           RMS    y = h * rstd * weight,              rstd = 1 / sqrt(mean(h^2) + eps)
 *           Layer  y = (h - mean) * rstd * weight + bias,  rstd = 1 / sqrt(var(h) + eps)
 *           backward  dx = (dresidual or 0) + (dh/dx)^T dy;  dweight += ..., dbias += ...
 * SHAPES    x, residual, sum, y, dy, dresidual, dx [rows, cols]   weight, bias [cols]   mean, rstd [rows]
 * DTYPES    x, residual, sum, y, weight, bias, dy, dx: dtype.  mean, rstd: stat.  dweight, dbias: grad_dtype
 * BYTES     norm_forward_bytes, norm_backward_bytes: every row read once and written once
 * FLOPS     about 5 a element forward, 11 backward: memory bound everywhere
 * NUMERICS  statistics and sums in stat or better; the variance is of centred values (two passes over a
 *           row that is on chip); in bf16 y is rounded once, sum is rounded before the statistics are taken
 * SAME BITS yes: fixed reduction trees; dweight by fixed blocks of rows summed in order
 * NEEDS     dx may alias dresidual or dy; sum may alias x or residual; y may not alias sum
 * SEEN IN   llama, mistral, qwen2 (RMS); opt, phi, gpt2 (Layer)
 */
#ifndef FLAT_KERNELS_NORM_H
#define FLAT_KERNELS_NORM_H
#include "engine/op.h"
#ifdef __cplusplus
extern "C" {
#endif

enum norm_kind { NORM_RMS = 0, NORM_LAYER = 1 };

struct norm_args {
    enum norm_kind kind;
    enum dtype dtype;
    int64_t rows, cols;
    double eps;
    const void *x;
    const void *residual; /* NULL: no addition, and sum is not written */
    void *sum;
    const void *weight;
    const void *bias; /* NULL for RMS */
    void *y;
    void *mean; /* Layer only */
    void *rstd;
};

struct norm_backward_args {
    enum norm_kind kind;
    enum dtype dtype, grad_dtype;
    int64_t rows, cols;
    const void *x; /* what was normalised: sum where there was a residual */
    const void *weight;
    const void *mean, *rstd;
    const void *dy;
    const void *dresidual; /* NULL: zero */
    void *dx;
    void *dweight; /* NULL: frozen, not computed */
    void *dbias;
};

static inline int64_t norm_forward_bytes(enum norm_kind kind, int64_t rows, int64_t cols, bool residual, enum dtype dtype)
{
    int64_t s = (int64_t)dtype_size(dtype), stat = (int64_t)dtype_size(dtype_stat(dtype));
    return s * (rows * cols * (residual ? 4 : 2) + cols * (kind == NORM_LAYER ? 2 : 1)) +
           stat * rows * (kind == NORM_LAYER ? 2 : 1);
}

static inline int64_t norm_backward_bytes(enum norm_kind kind, int64_t rows, int64_t cols, bool dresidual,
                                          enum dtype dtype, enum dtype grad_dtype)
{
    int64_t s = (int64_t)dtype_size(dtype), stat = (int64_t)dtype_size(dtype_stat(dtype));
    int64_t parameters = kind == NORM_LAYER ? 2 : 1;
    return s * (rows * cols * (dresidual ? 4 : 3) + cols) + stat * rows * parameters +
           2 * (int64_t)dtype_size(grad_dtype) * cols * parameters;
}

int norm_forward(struct engine_context *context, const struct norm_args *args);
int norm_backward(struct engine_context *context, const struct norm_backward_args *args);

#ifdef __cplusplus
}
#endif
#endif
