/* bench_rope.c - rotary embedding of queries and keys in a fused qkv row (kernels/rope.h). */
#include <math.h>

#include "bench.h"

/* cols: elements between rows (the qkv row), depth: rotary_dim, variant: heads of queries and keys. head_dim is
 * twice the rotary part in Phi, and equal to it otherwise. */
static const struct bench_shape shapes[] = {
    {"smollm2-135m", 960, 64, 12},  {"llama-3.2-1b", 3072, 64, 40}, {"qwen2-1.5b", 2048, 128, 14},
    {"phi-1.5", 6144, 32, 64},      {"llama-2-7b", 12288, 128, 64},
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
    c->bytes = (double)rope_bytes(c->rows, c->shape->variant, (int)c->shape->depth, c->dtype);
    return STATUS_OK;
}

static int call(const struct bench_case *c, struct device *device, void *const *t)
{
    return device->engine->rope(device->context,
                                &(struct rope_args){.dtype = c->dtype, .rows = c->rows, .row_stride = c->shape->cols,
                                                    .heads = c->shape->variant, .head_dim = head_dim(c->shape),
                                                    .rotary_dim = (int)c->shape->depth, .direction = 1,
                                                    .positions = t[POSITIONS], .cos = t[COS], .sin = t[SIN], .x = t[X]});
}

static int check(const struct bench_result *r, struct bench_error *worst, struct error *error)
{
    const struct bench_case *c = r->bench_case;
    const int half = (int)c->shape->depth / 2;
    int status = STATUS_OK;
    for (int k = 0; k < 64 && !status; k++) {
        int64_t row = k * (c->rows - 1) / 63, head = k % c->shape->variant, j = k * 5 % half;
        int64_t at = row * c->shape->cols + head * head_dim(c->shape) + j;
        int64_t table = ((const int32_t *)c->tensor[POSITIONS].data)[row] * half + j;
        double a = bench_input(c, X, at), b = bench_input(c, X, at + half), got[2] = {0};
        double cosine = bench_input(c, COS, table), sine = bench_input(c, SIN, table);
        double expected[2] = {a * cosine - b * sine, b * cosine + a * sine};
        double size = fabs(a) + fabs(b);
        for (int i = 0; i < 2 && !status; i++) {
            status = bench_read(r, X, at + i * half, 1, &got[i], error);
            bench_compare(worst, got[i], expected[i],
                          4 * bench_epsilon(c) * size + bench_rounding(c->dtype) * fabs(expected[i]));
        }
    }
    return status;
}

const struct bench_op bench_rope = {"rope", rows, shapes, (int)(sizeof shapes / sizeof *shapes), plan, call, check};
