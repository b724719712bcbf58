/* bench_norm.c - RMS and Layer norm with the residual addition, forward and backward (kernels/norm.h). */
#include <math.h>

#include "bench.h"

static const struct bench_shape shapes[] = {
    {"smollm2-135m", 576, 0, NORM_RMS},  {"qwen2-1.5b", 1536, 0, NORM_RMS},   {"llama-3.2-1b", 2048, 0, NORM_RMS},
    {"phi-1.5", 2048, 0, NORM_LAYER},    {"opt-2.7b", 2560, 0, NORM_LAYER},   {"llama-2-7b", 4096, 0, NORM_RMS},
};
static const int64_t rows[] = {256, 3840, 16384, 0};
#define EPS 1e-5

enum { X, RESIDUAL, SUM, WEIGHT, BIAS, OUT, MEAN, RSTD };                     /* forward */
enum { H, W, B_MEAN, B_RSTD, DY, DRESIDUAL, DX, DWEIGHT, DBIAS };           /* backward */

static int forward_plan(struct bench_case *c, struct error *error)
{
    const int64_t n = c->rows * c->shape->cols;
    (void)error;
    bench_values(c, c->dtype, n, 0, 1);
    bench_values(c, c->dtype, n, 0, 1);
    bench_values(c, c->dtype, n, 0, 0);
    bench_values(c, c->dtype, c->shape->cols, 1, 0.1);
    bench_values(c, c->dtype, c->shape->cols, 0, 0.1);
    bench_values(c, c->dtype, n, 0, 0);
    bench_values(c, c->stat, c->rows, 0, 0);
    bench_values(c, c->stat, c->rows, 0, 0);
    c->bytes = (double)norm_forward_bytes((enum norm_kind)c->shape->variant, c->rows, c->shape->cols, true, c->dtype);
    return STATUS_OK;
}

static int forward_call(const struct bench_case *c, struct device *device, void *const *t)
{
    const bool layer = c->shape->variant == NORM_LAYER;
    return device->engine->norm_forward(
        device->context, &(struct norm_args){.kind = (enum norm_kind)c->shape->variant, .dtype = c->dtype, .rows = c->rows,
                                             .cols = c->shape->cols, .eps = EPS, .x = t[X], .residual = t[RESIDUAL],
                                             .sum = t[SUM], .weight = t[WEIGHT], .bias = layer ? t[BIAS] : NULL,
                                             .y = t[OUT], .mean = layer ? t[MEAN] : NULL, .rstd = t[RSTD]});
}

/* Some rows, from the sum as it is stored: bf16 rounds it before the statistics are taken. */
static int forward_check(const struct bench_result *r, struct bench_error *worst, struct error *error)
{
    const struct bench_case *c = r->bench_case;
    const bool layer = c->shape->variant == NORM_LAYER;
    const int64_t cols = c->shape->cols;
    double sum[4096], y[4096];
    int status = STATUS_OK;
    for (int k = 0; k < 4 && !status; k++) {
        int64_t first = k * (c->rows - 1) / 3 * cols;
        status = bench_read(r, SUM, first, cols, sum, error);
        if (!status)
            status = bench_read(r, OUT, first, cols, y, error);
        double mean = 0, squares = 0;
        for (int64_t j = 0; j < cols; j++) {
            double expected = bench_input(c, X, first + j) + bench_input(c, RESIDUAL, first + j);
            bench_compare(worst, sum[j], expected, bench_rounding(c->dtype) * fabs(expected));
            mean += layer ? sum[j] / (double)cols : 0;
        }
        for (int64_t j = 0; j < cols; j++)
            squares += (sum[j] - mean) * (sum[j] - mean);
        double rstd = 1 / sqrt(squares / (double)cols + EPS);
        for (int64_t j = 0; j < cols; j++) {
            double expected = (sum[j] - mean) * rstd * bench_input(c, WEIGHT, j) + (layer ? bench_input(c, BIAS, j) : 0);
            bench_compare(worst, y[j], expected,
                          16 * bench_epsilon(c) + (8 * bench_epsilon(c) + bench_rounding(c->dtype)) * fabs(expected));
        }
    }
    return status;
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
    c->bytes = (double)norm_backward_bytes((enum norm_kind)c->shape->variant, c->rows, cols, true, c->dtype, c->dtype);
    return STATUS_OK;
}

static int backward_call(const struct bench_case *c, struct device *device, void *const *t)
{
    const bool layer = c->shape->variant == NORM_LAYER;
    return device->engine->norm_backward(
        device->context, &(struct norm_backward_args){.kind = (enum norm_kind)c->shape->variant, .dtype = c->dtype,
                                                      .grad_dtype = c->dtype, .rows = c->rows, .cols = c->shape->cols,
                                                      .x = t[H], .weight = t[W], .mean = layer ? t[B_MEAN] : NULL,
                                                      .rstd = t[B_RSTD], .dy = t[DY], .dresidual = t[DRESIDUAL],
                                                      .dx = t[DX], .dweight = t[DWEIGHT],
                                                      .dbias = layer ? t[DBIAS] : NULL});
}

/* The normalised value of entry (row, j) of the backward case's input. */
static double normalised(const struct bench_case *c, int64_t row, int64_t j)
{
    double mean = c->shape->variant == NORM_LAYER ? bench_input(c, B_MEAN, row) : 0;
    return (bench_input(c, H, row * c->shape->cols + j) - mean) * bench_input(c, B_RSTD, row);
}

/* Some columns of dweight: sums over all rows. */
static int dweight_check(const struct bench_result *r, struct bench_error *worst, struct error *error)
{
    const struct bench_case *c = r->bench_case;
    int status = STATUS_OK;
    for (int k = 0; k < 4 && !status; k++) {
        int64_t j = k * (c->shape->cols - 1) / 3;
        double got = 0, sum = 0, size = 0;
        for (int64_t row = 0; row < c->rows; row++) {
            double term = bench_input(c, DY, row * c->shape->cols + j) * normalised(c, row, j);
            sum += term;
            size += fabs(term);
        }
        status = bench_read(r, DWEIGHT, j, 1, &got, error);
        bench_compare(worst, got, sum, 2 * sqrt((double)c->rows) * bench_epsilon(c) * size +
                                           bench_rounding(c->dtype) * fabs(sum));
    }
    return status;
}

static int backward_check(const struct bench_result *r, struct bench_error *worst, struct error *error)
{
    const struct bench_case *c = r->bench_case;
    const int64_t cols = c->shape->cols;
    double dx[4096];
    int status = dweight_check(r, worst, error);
    for (int k = 0; k < 4 && !status; k++) {
        int64_t row = k * (c->rows - 1) / 3;
        double mean = 0, dot = 0, rstd = bench_input(c, B_RSTD, row);
        for (int64_t j = 0; j < cols; j++) {
            double g = bench_input(c, DY, row * cols + j) * bench_input(c, W, j);
            mean += c->shape->variant == NORM_LAYER ? g / (double)cols : 0;
            dot += g * normalised(c, row, j) / (double)cols;
        }
        status = bench_read(r, DX, row * cols, cols, dx, error);
        for (int64_t j = 0; j < cols; j++) {
            double g = bench_input(c, DY, row * cols + j) * bench_input(c, W, j);
            double expected = bench_input(c, DRESIDUAL, row * cols + j) + rstd * (g - mean - normalised(c, row, j) * dot);
            bench_compare(worst, dx[j], expected,
                          128 * bench_epsilon(c) + (8 * bench_epsilon(c) + bench_rounding(c->dtype)) * fabs(expected));
        }
    }
    return status;
}

#define SHAPES (int)(sizeof shapes / sizeof *shapes)
const struct bench_op bench_norm_forward = {"norm_forward", rows, shapes, SHAPES, forward_plan, forward_call, forward_check};
const struct bench_op bench_norm_backward = {"norm_backward", rows, shapes, SHAPES, backward_plan, backward_call,
                                             backward_check};
