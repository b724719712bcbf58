/* qk_norm.h - RMS norm of the queries and keys of a fused qkv row together with their rotary positions, in place.
 *
 * WHAT      A row holds heads query heads, then kv_heads key heads of head_dim columns. The norm is over pieces of it: over
 *           each head with weights of head_dim columns or, when wide, over all queries and over all keys with as many
 *           weights as they have columns:
 *             forward   h = x rstd (offset + weight),  rstd = 1 / sqrt(mean(x^2) + eps),  x := R h
 *                       with R the rotation of rope.h by the row's position, the identity without cos
 *                       raw, when given, keeps the x that were there
 *             backward  dh = R^T dx,  dx := rstd (dh g - n mean(dh g n)),  n = raw rstd,  g = offset + weight
 *                       dweight += sum over rows and heads of dh n
 * SHAPES    x, dx [rows, row_stride]   raw [rows, (heads + kv_heads) head_dim]   rstd [rows, pieces]: queries, then keys
 *           q_weight, k_weight, dq_weight, dk_weight [head_dim], or [heads head_dim] and [kv_heads head_dim] when wide
 *           cos, sin [max_positions, rotary_dim / 2]   positions [rows]
 * DTYPES    x, raw, dx, weights: dtype.  rstd, cos, sin: stat.  dq_weight, dk_weight: grad_dtype
 * BYTES     forward: x read and written once, raw written once; backward: raw and dx read once (twice with the weights'
 *           gradients), dx written once. A GPU reads a piece again, from L1, after its sum is known
 * NUMERICS  statistics, sums and products in stat, one rounding a value
 * SAME BITS yes: fixed trees over a piece; dweight by fixed blocks of rows summed in order
 * NEEDS     offset 0 or 1 (Gemma's weights are stored less 1); rotary_dim as rope.h; 0 <= positions[i] < max_positions
 * SEEN IN   qwen3 (a norm a head)
 */
#ifndef FLAT_KERNELS_QK_NORM_H
#define FLAT_KERNELS_QK_NORM_H
#include "engine/op.h"
#ifdef __cplusplus
extern "C" {
#endif

struct qk_norm_args {
    enum dtype dtype;
    int64_t rows, row_stride; /* row_stride in elements */
    int heads, kv_heads, head_dim;
    bool wide;
    double eps, offset;
    const void *q_weight, *k_weight;
    int rotary_dim;
    const int32_t *positions;
    const void *cos, *sin; /* NULL: no rotation */
    void *x;
    void *raw; /* NULL: not kept (inference) */
    void *rstd;
};

struct qk_norm_backward_args {
    struct qk_norm_args forward; /* as in the forward call; raw and rstd are read, x is not */
    enum dtype grad_dtype;
    void *dx;                     /* at row_stride */
    void *dq_weight, *dk_weight; /* NULL: frozen, not computed */
};

/* Pieces of a row: one rstd each. */
static inline int qk_norm_pieces(const struct qk_norm_args *args)
{
    return args->wide ? 2 : args->heads + args->kv_heads;
}

static inline const char *qk_norm_forward_check(const struct qk_norm_args *args)
{
    if (args->rows < 0 || args->rows > INT32_MAX || args->heads <= 0 || args->kv_heads <= 0 || args->head_dim <= 0)
        return "rows is negative or above 2^31 - 1, or heads, kv_heads or head_dim not positive";
    if (args->row_stride < ((int64_t)args->heads + args->kv_heads) * args->head_dim)
        return "row_stride is below (heads + kv_heads) * head_dim";
    if (args->offset != 0 && args->offset != 1)
        return "offset is neither 0 nor 1";
    if (args->cos && (args->rotary_dim <= 0 || args->rotary_dim % 2 || args->rotary_dim > args->head_dim))
        return "rotary_dim is not even, positive and at most head_dim";
    if (args->rows == 0)
        return NULL;
    if (args->cos && !(args->sin && args->positions))
        return "cos without sin or positions";
    return args->q_weight && args->k_weight && args->x && args->rstd ? NULL : "q_weight, k_weight, x or rstd is NULL";
}

static inline const char *qk_norm_backward_check(const struct qk_norm_backward_args *args)
{
    struct qk_norm_args forward = args->forward;
    forward.x = args->dx;
    const char *broken = qk_norm_forward_check(&forward);
    if (broken || args->forward.rows == 0)
        return broken;
    if (!args->forward.raw)
        return "raw is NULL";
    return !args->dq_weight == !args->dk_weight ? NULL : "of dq_weight and dk_weight one is NULL";
}

static inline struct op_cost qk_norm_forward_cost(const struct qk_norm_args *args)
{
    const double s = (double)dtype_size(args->dtype), stat = (double)dtype_size(dtype_stat(args->dtype));
    const double rows = (double)args->rows, cols = ((double)args->heads + args->kv_heads) * args->head_dim;
    return (struct op_cost){
        rows * (cols * s * (args->raw ? 3 : 2) + stat * (qk_norm_pieces(args) + (args->cos ? args->rotary_dim : 0))), 0};
}

static inline struct op_cost qk_norm_backward_cost(const struct qk_norm_backward_args *args)
{
    const struct qk_norm_args *forward = &args->forward;
    const double s = (double)dtype_size(forward->dtype), stat = (double)dtype_size(dtype_stat(forward->dtype));
    const double rows = (double)forward->rows, cols = ((double)forward->heads + forward->kv_heads) * forward->head_dim;
    const double tables = forward->cos ? forward->rotary_dim : 0, passes = args->dq_weight ? 2 : 1;
    return (struct op_cost){rows * (cols * s * (2 * passes + 1) + passes * stat * (qk_norm_pieces(forward) + tables)), 0};
}

/* What the CUDA kernel of the forward pass asks memory for: x twice, weights and tables once a head, the row's position by
 * every thread of a group (32, or 256 for a wide norm). All but the first reading of each comes from L1. */
static inline int64_t qk_norm_forward_moved(const struct qk_norm_args *args)
{
    const int64_t s = (int64_t)dtype_size(args->dtype), heads = args->heads + args->kv_heads;
    const int64_t columns = heads * args->head_dim * s * (args->raw ? 5 : 4);
    const int64_t rotation = args->cos ? heads * args->rotary_dim * 4 + qk_norm_pieces(args) * (args->wide ? 1024 : 128) : 0;
    return args->rows * (columns + rotation + 4 * qk_norm_pieces(args));
}

/* The same of the backward pass: dx and raw twice, weights and tables twice per head, rstd and the position by every thread. The
 * weights' gradients take dx, raw and the tables once more, rstd and the position per pair, and a partial sum per eight rows. */
static inline int64_t qk_norm_backward_moved(const struct qk_norm_backward_args *args)
{
    const struct qk_norm_args *forward = &args->forward;
    const int64_t s = (int64_t)dtype_size(forward->dtype), heads = forward->heads + forward->kv_heads;
    const int64_t columns = heads * forward->head_dim, tables = forward->cos ? heads * forward->rotary_dim * 4 : 0;
    const int64_t numbers = forward->cos ? 2 : 1;
    const int64_t pairs = heads * (forward->head_dim - (forward->cos ? forward->rotary_dim / 2 : 0));
    const int64_t weights = (forward->wide ? heads : 2) * forward->head_dim, group = forward->wide ? 256 : 32;
    int64_t moved = forward->rows * (columns * s * 7 + 2 * tables + qk_norm_pieces(forward) * group * 4 * numbers);
    if (args->dq_weight)
        moved += forward->rows * (columns * s * 2 + tables + pairs * 4 * numbers) + (forward->rows + 7) / 8 * weights * 8 +
                 2 * weights * (int64_t)dtype_size(args->grad_dtype);
    return moved;
}

int qk_norm_forward(struct engine_context *context, const struct qk_norm_args *args);
int qk_norm_backward(struct engine_context *context, const struct qk_norm_backward_args *args);

#ifdef __cplusplus
}
#endif
#endif
