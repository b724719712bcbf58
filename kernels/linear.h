/* linear.h - y = x W^T + b and its two gradients: every matrix product of the program.
 *
 * WHAT      forward          y  (+)= scale x W^T (+ bias)
 *           backward_input   dx (+)= scale dy W
 *           backward_weight  dW (+)= dy^T x,  dbias (+)= column sums of dy
 *           (+)= means: added to what is there when `accumulate`, otherwise overwritten.
 * SHAPES    x, dx [rows, in]   W, dW [out, in]   y, dy [rows, out]   bias, dbias [out]; row-major, all dense but y and
 *           dy, whose rows may lie y_stride and dy_stride elements apart (some columns of a wider matrix)
 * DTYPES    x, W, bias, dy, dx: dtype.  y: out_dtype (dtype, or float for logits).  dW, dbias: grad_dtype
 * BYTES     each operand once; what is added to is read too
 * FLOPS     2 rows in out each
 * HOW       CPU: gemm.c, whose bits depend on neither the number of threads nor that of rows; few rows: dot
 *           products. Forward with a packed weight: gemm_packed.c, for any number of rows, and the bits of gemm.c.
 *           CUDA: cuBLASLt with a pinned plan per shape
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

/* How a weight lies in memory: as the contract says, or as engine->linear_pack has left it. */
enum linear_form { LINEAR_PLAIN, LINEAR_PACKED, LINEAR_PACKED_BF16 };

struct linear_args {
    enum dtype dtype, out_dtype;
    int64_t rows, in, out;
    const void *x, *weight;
    enum linear_form form; /* of weight */
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

/* Elements between rows of y or dy, by what the arguments say. */
static inline int64_t linear_stride(int64_t given, int64_t out) { return given ? given : out; }

/* Sizes of matrices, and a stride of y or dy (0: dense) that goes with them; `bias` is bias or dbias. */
static inline const char *linear_shape_check(int64_t rows, int64_t in, int64_t out, int64_t stride, const void *bias)
{
    if (rows < 0 || in <= 0 || out <= 0 || rows > INT32_MAX || in > INT32_MAX || out > INT32_MAX)
        return "rows, in or out is no size of a matrix";
    if (stride && (stride < out || stride > INT32_MAX))
        return "the stride is below out";
    return stride && stride != out && bias ? "a bias goes with dense rows only" : NULL;
}

static inline const char *linear_forward_check(const struct linear_args *args)
{
    const char *broken = linear_shape_check(args->rows, args->in, args->out, args->y_stride, args->bias);
    if (broken)
        return broken;
    if (args->out_dtype != args->dtype && args->out_dtype != DTYPE_F32)
        return "out_dtype is neither dtype nor float32";
    if (enum_value(&args->form) > LINEAR_PACKED_BF16)
        return "form is none of a weight";
    return args->rows && !(args->x && args->weight && args->y) ? "x, weight or y is NULL" : NULL;
}

static inline const char *linear_backward_input_check(const struct linear_backward_input_args *args)
{
    const char *broken = linear_shape_check(args->rows, args->in, args->out, args->dy_stride, NULL);
    if (broken)
        return broken;
    return args->rows && !(args->dy && args->weight && args->dx) ? "dy, weight or dx is NULL" : NULL;
}

static inline const char *linear_backward_weight_check(const struct linear_backward_weight_args *args)
{
    const char *broken = linear_shape_check(args->rows, args->in, args->out, args->dy_stride, args->dbias);
    if (broken)
        return broken;
    if (args->grad_dtype != args->dtype && args->grad_dtype != DTYPE_F32)
        return "grad_dtype is neither dtype nor float32";
    return args->dweight && ((args->dy && args->x) || args->rows == 0) ? NULL : "dy, x or dweight is NULL";
}

/* A product of [m, k] and [k, n]: each operand once, and what it is added to. */
static inline struct op_cost linear_product_cost(int64_t m, int64_t n, int64_t k, enum dtype dtype, enum dtype out_dtype,
                                                 bool accumulate)
{
    const double rows = (double)m, cols = (double)n, depth = (double)k;
    return (struct op_cost){(double)dtype_size(dtype) * depth * (rows + cols) +
                                (double)dtype_size(out_dtype) * rows * cols * (accumulate ? 2 : 1),
                            2 * rows * cols * depth};
}

static inline struct op_cost linear_forward_cost(const struct linear_args *args)
{
    return linear_product_cost(args->rows, args->out, args->in, args->dtype, args->out_dtype, args->accumulate);
}

static inline struct op_cost linear_backward_input_cost(const struct linear_backward_input_args *args)
{
    return linear_product_cost(args->rows, args->in, args->out, args->dtype, args->dtype, args->accumulate);
}

static inline struct op_cost linear_backward_weight_cost(const struct linear_backward_weight_args *args)
{
    return linear_product_cost(args->out, args->in, args->rows, args->dtype, args->grad_dtype, args->accumulate);
}

int linear_forward(struct engine_context *context, const struct linear_args *args);
int linear_backward_input(struct engine_context *context, const struct linear_backward_input_args *args);
int linear_backward_weight(struct engine_context *context, const struct linear_backward_weight_args *args);

#ifdef __cplusplus
}
#endif
#endif
