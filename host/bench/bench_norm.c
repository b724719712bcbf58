/* bench_norm.c - RMS and Layer norm with the residual addition, forward and backward (kernels/norm.h). */
#include <math.h>

#include "bench.h"

enum { BEHIND = 2 }; /* RMS, the residual stream added behind the norm */
static const struct bench_shape shapes[] = {
    {"smollm2-135m", 576, 0, NORM_RMS},  {"qwen2-1.5b", 1536, 0, NORM_RMS},   {"llama-3.2-1b", 2048, 0, NORM_RMS},
    {"phi-1.5", 2048, 0, NORM_LAYER},    {"opt-2.7b", 2560, 0, NORM_LAYER},   {"llama-2-7b", 4096, 0, NORM_RMS},
    {"rms", 8, 0, NORM_RMS, .rows = 1},      {"rms", 129, 0, NORM_RMS, .rows = 33}, {"rms", 4104, 0, NORM_RMS, .rows = 3},
    {"layer", 8, 0, NORM_LAYER, .rows = 1},  {"layer", 129, 0, NORM_LAYER, .rows = 33},
    {"layer", 4104, 0, NORM_LAYER, .rows = 3}, {"layer", 24, 0, NORM_LAYER, .rows = 600},
    {"gemma-2-2b behind", 2304, 0, BEHIND}, {"behind", 129, 0, BEHIND, .rows = 33},
};
static const int64_t rows[] = {256, 3840, 16384, 0};
#define EPS 1e-5

enum { X, RESIDUAL, SUM, WEIGHT, BIAS, OUT, MEAN, RSTD };                     /* forward */
enum { H, W, B_MEAN, B_RSTD, DY, DRESIDUAL, DX, DWEIGHT, DBIAS };           /* backward */

static int forward_plan(struct bench_case *c, struct error *error)
{
    const int64_t n = c->rows * c->shape->cols;
    const bool layer = c->shape->variant == NORM_LAYER;
    (void)error;
    bench_values(c, c->dtype, n, 0, 1);
    bench_values(c, c->dtype, n, 0, 1);
    bench_values(c, c->dtype, n, 0, 0);
    bench_values(c, c->dtype, c->shape->cols, 1, 0.1);
    bench_values(c, c->dtype, c->shape->cols, 0, 0.1);
    bench_values(c, c->dtype, n, 0, 0);
    bench_values(c, c->stat, c->rows, 0, 0);
    bench_values(c, c->stat, c->rows, 0, 0);
    /* the sum is rounded to its type before the statistics are taken; its values are below 8, 6 deviations */
    const double rounded = 8 * bench_rounding(c->dtype) / bench_epsilon(c);
    const double mean_rounded = rounded / sqrt((double)c->shape->cols) + 4;
    if (c->shape->variant != BEHIND)
        bench_output(c, SUM, 0, 1);
    bench_output(c, OUT, 16 + rounded, 8 + rounded);
    bench_output(c, RSTD, 0, 8 + rounded);
    if (layer)
        bench_output(c, MEAN, mean_rounded, 0);
    return STATUS_OK;
}

static void forward_args(const struct bench_case *c, void *const *t, union bench_args *args)
{
    const bool layer = c->shape->variant == NORM_LAYER, behind = c->shape->variant == BEHIND;
    args->norm_forward = (struct norm_args){.kind = layer ? NORM_LAYER : NORM_RMS, .dtype = c->dtype, .rows = c->rows,
                                            .cols = c->shape->cols, .eps = EPS, .x = t[X],
                                            .residual = behind ? NULL : t[RESIDUAL], .sum = behind ? NULL : t[SUM],
                                            .added = behind ? t[RESIDUAL] : NULL, .weight = t[WEIGHT], .bias = layer ? t[BIAS] : NULL,
                                            .y = t[OUT], .mean = layer ? t[MEAN] : NULL, .rstd = t[RSTD]};
}

static int backward_plan(struct bench_case *c, struct error *error)
{
    const int64_t cols = c->shape->cols, n = c->rows * cols;
    (void)error;
    bench_values(c, c->dtype, n, 0, 1);
    bench_values(c, c->dtype, cols, 1, 0.1);
    bench_values(c, c->stat, c->rows, 0, 0.01);
    bench_values(c, c->stat, c->rows, 1, 0.01);
    bench_values(c, c->dtype, n, 0, 1);
    bench_values(c, c->dtype, n, 0, 1);
    bench_values(c, c->dtype, n, 0, 0);
    bench_values(c, c->dtype, cols, 0, 0);
    bench_values(c, c->dtype, cols, 0, 0);
    const double column = 2 * sqrt((double)c->rows) * ((double)c->rows + 8);
    bench_output(c, DX, 128, 8);
    bench_output(c, DWEIGHT, column, 0);
    if (c->shape->variant == NORM_LAYER)
        bench_output(c, DBIAS, column, 0);
    return STATUS_OK;
}

static void backward_args(const struct bench_case *c, void *const *t, union bench_args *args)
{
    const bool layer = c->shape->variant == NORM_LAYER;
    args->norm_backward = (struct norm_backward_args){.kind = layer ? NORM_LAYER : NORM_RMS, .dtype = c->dtype,
                                                      .grad_dtype = c->dtype, .rows = c->rows, .cols = c->shape->cols,
                                                      .x = t[H], .weight = t[W], .mean = layer ? t[B_MEAN] : NULL,
                                                      .rstd = t[B_RSTD], .dy = t[DY],
                                                      .dresidual = c->shape->variant == BEHIND ? NULL : t[DRESIDUAL],
                                                      .dx = t[DX], .dweight = t[DWEIGHT],
                                                      .dbias = layer ? t[DBIAS] : NULL};
}

BENCH_OP(norm_forward, rows, shapes, forward_plan, forward_args);
BENCH_OP(norm_backward, rows, shapes, backward_plan, backward_args);
