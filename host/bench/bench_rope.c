/* bench_rope.c - rotary embedding of queries and keys in a fused qkv row (kernels/rope.h). */
#include "bench.h"

/* cols: elements between rows (the qkv row), depth: rotary_dim, variant: heads of queries and keys. head_dim is
 * twice the rotary part in Phi, and equal to it otherwise. */
static const struct bench_shape shapes[] = {
    {"smollm2-135m", 960, 64, 12},  {"llama-3.2-1b", 3072, 64, 40}, {"qwen2-1.5b", 2048, 128, 14},
    {"phi-1.5", 6144, 32, 64},      {"llama-2-7b", 12288, 128, 64},
    {"one", 8, 8, 1, .rows = 1}, {"odd", 131, 10, 3, .rows = 37}, {"partial", 400, 32, 5, .rows = 21},
};
static const int64_t rows[] = {256, 3840, 16384, 0};
enum { X, COS, SIN, POSITIONS };
enum { MAX_POSITIONS = 2048 };

static int head_dim(const struct bench_shape *shape) { return (int)shape->depth == 32 ? 64 : (int)shape->depth; }

static int plan(struct bench_case *c, struct error *error)
{
    bench_values(c, c->dtype, c->rows * c->shape->cols, 0, 1);
    bench_values(c, c->stat, MAX_POSITIONS * c->shape->depth / 2, 0, 0.5); /* any numbers do for cosines and sines */
    bench_values(c, c->stat, MAX_POSITIONS * c->shape->depth / 2, 0, 0.5);
    int32_t *positions = bench_integers(c->rows, MAX_POSITIONS, error);
    if (!positions)
        return STATUS_MEMORY;
    bench_bytes(c, positions, (size_t)c->rows * sizeof *positions);
    bench_output(c, X, 8, 4);
    return STATUS_OK;
}

static void rotation_args(const struct bench_case *c, void *const *t, union bench_args *args)
{
    args->rope = (struct rope_args){.dtype = c->dtype, .rows = c->rows, .row_stride = c->shape->cols,
                                    .heads = c->shape->variant, .head_dim = head_dim(c->shape),
                                    .rotary_dim = (int)c->shape->depth, .direction = 1, .positions = t[POSITIONS],
                                    .cos = t[COS], .sin = t[SIN], .x = t[X]};
}

BENCH_OP(rope, rows, shapes, plan, rotation_args);
