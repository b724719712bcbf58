/* bench_qk_norm.c - norm and rotation of queries and keys in a fused qkv row (kernels/qk_norm.h). */
#include "bench.h"

/* cols: elements between rows (the qkv row), depth: head_dim, variant: query heads, extra: key heads; below 0: a wide norm
 * over as many. The rotation covers the whole head, but for heads of 40, of which 16. */
static const struct bench_shape shapes[] = {
    {"qwen3-0.6b", 4096, 128, 16, 8}, {"qwen3-8b", 6144, 128, 32, 8}, {"olmo-2-7b", 12288, 128, 32, -32},
    {"one", 16, 8, 1, 0, .rows = 1}, {"odd", 131, 10, 3, 2, .rows = 37}, {"partial", 400, 40, 5, 1, .rows = 21},
    {"wide", 91, 10, 6, -3, .rows = 37}, {"wide partial", 640, 40, 9, -3, .rows = 9},
};
static const int64_t rows[] = {256, 3840, 16384, 0};
enum { X, Q_WEIGHT, K_WEIGHT, RSTD, COS, SIN, POSITIONS, RAW, DQ_WEIGHT, DK_WEIGHT };
enum { MAX_POSITIONS = 2048 };

static int kv_heads(const struct bench_shape *s) { return s->extra < 0 ? -s->extra : s->extra ? s->extra : 1; }
static int rotary_dim(const struct bench_shape *s) { return (int)(s->depth == 40 ? 16 : s->depth); }

static int common_plan(struct bench_case *c, struct error *error)
{
    const struct bench_shape *s = c->shape;
    const int64_t q = s->extra < 0 ? s->variant * s->depth : s->depth, k = s->extra < 0 ? kv_heads(s) * s->depth : s->depth;
    bench_values(c, c->dtype, c->rows * s->cols, 0, 1);
    bench_values(c, c->dtype, q, 1, 0.3);
    bench_values(c, c->dtype, k, 1, 0.3);
    bench_values(c, c->stat, c->rows * (s->variant + kv_heads(s)), 1, 0.1);
    bench_values(c, c->stat, MAX_POSITIONS * rotary_dim(s) / 2, 0, 0.5); /* any numbers do for cosines and sines */
    bench_values(c, c->stat, MAX_POSITIONS * rotary_dim(s) / 2, 0, 0.5);
    int32_t *positions = bench_integers(c->rows, MAX_POSITIONS, error);
    bench_bytes(c, positions, (size_t)c->rows * sizeof *positions);
    bench_values(c, c->dtype, c->rows * (s->variant + kv_heads(s)) * s->depth, 0, 1);
    bench_values(c, c->dtype, q, 0, 1);
    bench_values(c, c->dtype, k, 0, 1);
    return positions ? STATUS_OK : STATUS_MEMORY;
}

static struct qk_norm_args norm_args(const struct bench_case *c, void *const *t)
{
    const struct bench_shape *s = c->shape;
    return (struct qk_norm_args){.dtype = c->dtype, .rows = c->rows, .row_stride = s->cols, .heads = s->variant,
                                 .kv_heads = kv_heads(s), .head_dim = (int)s->depth, .wide = s->extra < 0, .eps = 1e-6,
                                 .offset = s->depth == 40, .q_weight = t[Q_WEIGHT], .k_weight = t[K_WEIGHT],
                                 .rotary_dim = rotary_dim(s), .positions = t[POSITIONS], .cos = t[COS], .sin = t[SIN],
                                 .x = t[X], .raw = t[RAW], .rstd = t[RSTD]};
}

static int forward_plan(struct bench_case *c, struct error *error)
{
    const int status = common_plan(c, error);
    bench_output(c, X, 16, 16);
    bench_output(c, RSTD, 0, 16);
    bench_output(c, RAW, 0, 0);
    return status;
}

static void forward_args(const struct bench_case *c, void *const *t, union bench_args *args)
{
    args->qk_norm_forward = norm_args(c, t);
}

static int backward_plan(struct bench_case *c, struct error *error)
{
    const int status = common_plan(c, error);
    bench_output(c, X, 40, 16);
    bench_output(c, DQ_WEIGHT, 2000, 40); /* sums over rows and heads */
    bench_output(c, DK_WEIGHT, 2000, 40);
    return status;
}

static void backward_args(const struct bench_case *c, void *const *t, union bench_args *args)
{
    args->qk_norm_backward = (struct qk_norm_backward_args){.forward = norm_args(c, t), .grad_dtype = c->dtype, .dx = t[X],
                                                            .dq_weight = t[DQ_WEIGHT], .dk_weight = t[DK_WEIGHT]};
}

BENCH_OP(qk_norm_forward, rows, shapes, forward_plan, forward_args);
BENCH_OP(qk_norm_backward, rows, shapes, backward_plan, backward_args);
