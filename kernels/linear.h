/* linear.h - y = x W^T + b and its two gradients: every matrix product of the program.
 *
 * WHAT      forward          y  (+)= scale x W^T (+ bias)
 *           backward_input   dx (+)= scale dy W
 *           backward_weight  dW (+)= dy^T x,  dbias (+)= column sums of dy
 *           (+)= means: added to what is there when `accumulate`, otherwise overwritten.
 * SHAPES    x, dx [rows, in]   W, dW [out, in]   y, dy [rows, out]   bias, dbias [out]; row-major, all dense but y and
 *           dy, whose rows may lie y_stride and dy_stride elements apart (some columns of a wider matrix)
 * DTYPES    x, W, bias, dy, dx: dtype.  y: out_dtype (dtype, or float for logits).  dW, dbias: grad_dtype
 * BYTES     linear_bytes: each operand once
 * FLOPS     2 rows in out each
 * HOW       CPU: gemm.c, whose bits depend on neither the number of threads nor that of rows; few rows: dot
 *           products. CUDA: cuBLASLt with a pinned plan per shape
 * NUMERICS  accumulates in float (double for DTYPE_F64); |error| <= 2 sqrt(k) eps sum |a b|
 * SAME BITS yes
 * NEEDS     y and dy dense where there is a bias or dbias
 * SEEN IN   qkv, attention output, feed-forward and lm_head of every family; LoRA (scale, strides)
 */
#ifndef FLAT_KERNELS_LINEAR_H
#define FLAT_KERNELS_LINEAR_H
#include "engine/op.h"
#ifdef __cplusplus
extern "C" {
#endif

struct linear_args {
    enum dtype dtype, out_dtype;
    int64_t rows, in, out;
    const void *x, *weight;
    const void *bias; /* NULL: none */
    void *y;
    bool accumulate;
    int64_t y_stride; /* 0: out */
    double scale;     /* of the product; 0 gives 0 */
};

struct linear_backward_input_args {
    enum dtype dtype;
    int64_t rows, in, out;
    const void *dy, *weight;
    void *dx;
    bool accumulate;
    int64_t dy_stride; /* 0: out */
    double scale;      /* of the product; 0 gives 0 */
};

struct linear_backward_weight_args {
    enum dtype dtype, grad_dtype;
    int64_t rows, in, out;
    const void *dy, *x;
    void *dweight;
    void *dbias; /* NULL: none */
    bool accumulate;
    int64_t dy_stride; /* 0: out */
};

static inline int64_t linear_flops(int64_t rows, int64_t in, int64_t out) { return 2 * rows * in * out; }

static inline int64_t linear_bytes(int64_t rows, int64_t in, int64_t out, enum dtype dtype, enum dtype out_dtype)
{
    return (int64_t)dtype_size(dtype) * (rows * in + in * out) + (int64_t)dtype_size(out_dtype) * rows * out;
}

int linear_forward(struct engine_context *context, const struct linear_args *args);
int linear_backward_input(struct engine_context *context, const struct linear_backward_input_args *args);
int linear_backward_weight(struct engine_context *context, const struct linear_backward_weight_args *args);

#ifdef __cplusplus
}
#endif
#endif
