/* norm.h - RMS norm and Layer norm over the last axis, with a residual addition before or behind it fused in.
 *
 * WHAT      sum = x + residual (when residual is given)          h = sum, or x without residual
 *           RMS    y = h * rstd * (offset + weight),   rstd = 1 / sqrt(mean(h^2) + eps)
 *           Layer  y = (h - mean) * rstd * weight + bias,  rstd = 1 / sqrt(var(h) + eps)
 *           added: y = that + added, the residual stream behind the norm of a sub-layer's result; d added = dy
 *           backward  dx = (dresidual or 0) + (dh/dx)^T dy;  dweight += ..., dbias += ...
 * SHAPES    x, residual, sum, added, y, dy, dresidual, dx [rows, cols]   weight, bias [cols]   mean, rstd [rows]
 * DTYPES    x, residual, sum, added, y, weight, bias, dy, dx: dtype.  mean, rstd: stat.  dweight, dbias: grad_dtype
 * BYTES     every row read once and written once
 * FLOPS     about 5 per element forward, 11 backward: memory bound everywhere
 * NUMERICS  statistics and sums in stat or better; the variance is of centred values (two passes over a
 *           row that is on chip); in bf16 y is rounded once, sum is rounded before the statistics are taken
 * SAME BITS yes: fixed reduction trees; dweight by fixed blocks of rows summed in order
 * NEEDS     residual or added, not both; dx may alias dresidual or dy; sum may alias x or residual; y may not alias sum
 * SEEN IN   llama and kin (RMS); opt, phi, gpt2 (Layer); gemma2, gemma3_text, olmo2 (added)
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
    const void *added; /* NULL: nothing */
    const void *weight;
    const void *bias; /* NULL for RMS */
    void *y;
    void *mean; /* Layer only */
    void *rstd;
    double offset; /* RMS only: 1 where the weights are stored less 1 (Gemma) */
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
    double offset; /* as in the forward call */
};

static inline const char *norm_forward_check(const struct norm_args *args)
{
    if (enum_value(&args->kind) > NORM_LAYER)
        return "unknown kind";
    if (args->rows < 0 || args->cols <= 0)
        return "rows is negative or cols not positive";
    if (args->rows == 0)
        return NULL;
    if (!(args->x && args->weight && args->y && args->rstd))
        return "x, weight, y or rstd is NULL";
    if (args->residual && !args->sum)
        return "residual without sum";
    if (args->residual && args->added)
        return "both residual and added";
    if (args->offset != 0 && (args->offset != 1 || args->kind != NORM_RMS))
        return "offset is neither 0 nor, for RMS, 1";
    return (args->kind == NORM_RMS ? args->bias != NULL : !args->mean) ? "RMS with a bias, or Layer without mean" : NULL;
}

static inline const char *norm_backward_check(const struct norm_backward_args *args)
{
    if (enum_value(&args->kind) > NORM_LAYER)
        return "unknown kind";
    if (args->rows < 0 || args->cols <= 0)
        return "rows is negative or cols not positive";
    if (args->rows == 0)
        return NULL;
    if (!(args->x && args->weight && args->rstd && args->dy && args->dx))
        return "x, weight, rstd, dy or dx is NULL";
    if (args->offset != 0 && (args->offset != 1 || args->kind != NORM_RMS))
        return "offset is neither 0 nor, for RMS, 1";
    return (args->kind == NORM_RMS ? args->dbias != NULL : !args->mean) ? "RMS with dbias, or Layer without mean" : NULL;
}

/* Every row read once and written once; memory bound everywhere, so that no flops are counted. */
static inline struct op_cost norm_forward_cost(const struct norm_args *args)
{
    const double s = (double)dtype_size(args->dtype), stat = (double)dtype_size(dtype_stat(args->dtype));
    const double rows = (double)args->rows, cols = (double)args->cols;
    const int parameters = args->kind == NORM_LAYER ? 2 : 1;
    return (struct op_cost){s * (rows * cols * (args->residual ? 4 : args->added ? 3 : 2) + cols * parameters) + stat * rows * parameters,
                            0};
}

static inline struct op_cost norm_backward_cost(const struct norm_backward_args *args)
{
    const double s = (double)dtype_size(args->dtype), stat = (double)dtype_size(dtype_stat(args->dtype));
    const double rows = (double)args->rows, cols = (double)args->cols;
    const int parameters = args->kind == NORM_LAYER ? 2 : 1;
    return (struct op_cost){s * (rows * cols * (args->dresidual ? 4 : 3) + cols) + stat * rows * parameters +
                                2 * (double)dtype_size(args->grad_dtype) * cols * parameters,
                            0};
}

int norm_forward(struct engine_context *context, const struct norm_args *args);
int norm_backward(struct engine_context *context, const struct norm_backward_args *args);

#ifdef __cplusplus
}
#endif
#endif
