/* bench_logprob.c - the loss head's rows of logits (kernels/logprob.h), at every vocabulary of the models. */
#include <math.h>
#include <stdlib.h>

#include "../util/memory.h"
#include "bench.h"

enum { PLAIN, GRADIENT };
static const struct bench_shape forward_shapes[] = {
    {"llama-2-7b", 32000, 0, PLAIN},       {"llama-2-7b gradient", 32000, 0, GRADIENT},
    {"smollm2-135m", 49152, 0, PLAIN},     {"smollm2-135m gradient", 49152, 0, GRADIENT},
    {"opt-2.7b", 50272, 0, PLAIN},         {"opt-2.7b gradient", 50272, 0, GRADIENT},
    {"phi-1.5", 51200, 0, PLAIN},          {"phi-1.5 gradient", 51200, 0, GRADIENT},
    {"llama-3.2-1b", 128256, 0, PLAIN},    {"llama-3.2-1b gradient", 128256, 0, GRADIENT},
    {"qwen2-1.5b", 151936, 0, PLAIN},      {"qwen2-1.5b gradient", 151936, 0, GRADIENT},
};
static const struct bench_shape backward_shapes[] = {
    {"llama-2-7b", 32000}, {"smollm2-135m", 49152}, {"phi-1.5", 51200}, {"llama-3.2-1b", 128256}, {"qwen2-1.5b", 151936},
};
/* Rows of answers scaled by their weights, before the product that gives dW. */
static const struct bench_shape scale_shapes[] = {
    {"smollm2-135m", 576}, {"llama-3.2-1b", 2048}, {"opt-2.7b", 2560}, {"llama-2-7b", 4096},
};
static const int64_t rows[] = {256, 2560, 8192, 32768, 0};

enum { LOGITS, TARGETS, LOGPROB, P, Q, LSE, WEIGHT };
enum { CHECKED_ROWS = 4 };

static int targets_plan(struct bench_case *c, struct error *error)
{
    int32_t *target = bench_integers(c->rows, c->shape->cols, error);
    if (!target)
        return STATUS_MEMORY;
    bench_bytes(c, target, (size_t)c->rows * sizeof *target);
    return STATUS_OK;
}

static int forward_plan(struct bench_case *c, struct error *error)
{
    bench_values(c, c->dtype, c->rows * c->shape->cols, 0, 3);
    int status = targets_plan(c, error);
    for (int i = LOGPROB; i <= LSE; i++)
        bench_values(c, c->stat, c->rows, 0, 0);
    c->bytes = (double)logprob_forward_bytes(c->rows, c->shape->cols, c->shape->variant == GRADIENT, c->dtype);
    return status;
}

static int forward_call(const struct bench_case *c, struct device *device, void *const *t)
{
    return device->engine->logprob_forward(
        device->context, &(struct logprob_args){.dtype = c->dtype, .rows = c->rows, .cols = c->shape->cols,
                                                .stride = c->shape->cols, .logits = t[LOGITS], .targets = t[TARGETS],
                                                .logprob = t[LOGPROB], .p = t[P], .q = t[Q], .lse = t[LSE],
                                                .write_gradient = c->shape->variant == GRADIENT});
}

static int backward_plan(struct bench_case *c, struct error *error)
{
    bench_values(c, c->dtype, c->rows * c->shape->cols, 0, 3);
    int status = targets_plan(c, error);
    bench_values(c, c->stat, c->rows, 0, 0);
    bench_values(c, c->stat, c->rows, 0, 0);
    bench_values(c, c->stat, c->rows, 0.5, 0.1);                                 /* q */
    bench_values(c, c->stat, c->rows, log((double)c->shape->cols) + 4.5, 0.1); /* lse of these logits, about */
    bench_values(c, c->stat, c->rows, 0, 1);                                     /* weight */
    c->bytes = (double)logprob_backward_bytes(c->rows, c->shape->cols, c->dtype);
    return status;
}

static int backward_call(const struct bench_case *c, struct device *device, void *const *t)
{
    return device->engine->logprob_backward(
        device->context, &(struct logprob_backward_args){.dtype = c->dtype, .rows = c->rows, .cols = c->shape->cols,
                                                         .stride = c->shape->cols, .logits = t[LOGITS],
                                                         .targets = t[TARGETS], .lse = t[LSE], .q = t[Q],
                                                         .weight = t[WEIGHT]});
}

/* Entries of a row of gradients around the target and over the row. factor: what p - onehot is multiplied by. */
static int row_check(const struct bench_result *r, int64_t row, double lse, double q, double factor,
                     struct bench_error *worst, struct error *error)
{
    const struct bench_case *c = r->bench_case;
    const int64_t cols = c->shape->cols;
    const int32_t target = ((const int32_t *)c->tensor[TARGETS].data)[row];
    double *got = memory_array((size_t)cols, sizeof *got, error);
    int status = got ? bench_read(r, LOGITS, row * cols, cols, got, error) : STATUS_MEMORY;
    for (int64_t v = 0; v < cols && !status; v++) {
        double z = bench_input(c, LOGITS, row * cols + v);
        double expected = factor * (v == target ? -q : exp(z - lse));
        double share = bench_rounding(c->dtype) + (20 + fabs(z - lse)) * bench_epsilon(c);
        bench_compare(worst, got[v], expected, share * fabs(expected) + 1e-37);
    }
    free(got);
    return status;
}

static int forward_check(const struct bench_result *r, struct bench_error *worst, struct error *error)
{
    const struct bench_case *c = r->bench_case;
    const int64_t cols = c->shape->cols;
    int status = STATUS_OK;
    for (int k = 0; k < CHECKED_ROWS && !status; k++) {
        int64_t row = k * (c->rows - 1) / (CHECKED_ROWS - 1);
        const int32_t target = ((const int32_t *)c->tensor[TARGETS].data)[row];
        double rest = 0, own = exp(bench_input(c, LOGITS, row * cols + target)), got = 0;
        for (int64_t v = 0; v < cols; v++)
            rest += v == target ? 0 : exp(bench_input(c, LOGITS, row * cols + v));
        double logprob = -log1p(rest / own);
        status = bench_read(r, LOGPROB, row, 1, &got, error);
        bench_compare(worst, got, logprob, 2e-6 + fabs(logprob) * bench_epsilon(c));
        if (!status && c->shape->variant == GRADIENT)
            status = row_check(r, row, log(rest + own), rest / (rest + own), 1, worst, error);
    }
    return status;
}

static int backward_check(const struct bench_result *r, struct bench_error *worst, struct error *error)
{
    const struct bench_case *c = r->bench_case;
    int status = STATUS_OK;
    for (int k = 0; k < CHECKED_ROWS && !status; k++) {
        int64_t row = k * (c->rows - 1) / (CHECKED_ROWS - 1);
        status = row_check(r, row, bench_input(c, LSE, row), bench_input(c, Q, row), -bench_input(c, WEIGHT, row), worst,
                           error);
    }
    return status;
}

enum { SCALE_X, SCALE_S, SCALE_Y };

static int scale_plan(struct bench_case *c, struct error *error)
{
    (void)error;
    bench_values(c, c->dtype, c->rows * c->shape->cols, 0, 1);
    bench_values(c, c->stat, c->rows, 0, 1);
    bench_values(c, c->dtype, c->rows * c->shape->cols, 0, 0);
    c->bytes = (double)row_scale_bytes(c->rows, c->shape->cols, c->dtype);
    return STATUS_OK;
}

static int scale_call(const struct bench_case *c, struct device *device, void *const *t)
{
    return device->engine->row_scale(device->context, &(struct row_scale_args){c->dtype, c->rows, c->shape->cols,
                                                                               t[SCALE_X], t[SCALE_S], t[SCALE_Y]});
}

static int scale_check(const struct bench_result *r, struct bench_error *worst, struct error *error)
{
    const struct bench_case *c = r->bench_case;
    int status = STATUS_OK;
    for (int64_t k = 0; k < 64 && !status; k++) {
        int64_t row = k * (c->rows - 1) / 63, i = row * c->shape->cols + k * (c->shape->cols - 1) / 63;
        double got = 0, expected = bench_input(c, SCALE_X, i) * bench_input(c, SCALE_S, row);
        status = bench_read(r, SCALE_Y, i, 1, &got, error);
        bench_compare(worst, got, expected, fabs(expected) * (bench_rounding(c->dtype) + bench_epsilon(c)));
    }
    return status;
}

#define COUNT(table) (int)(sizeof table / sizeof *table)
const struct bench_op bench_logprob_forward = {"logprob_forward", rows, forward_shapes, COUNT(forward_shapes),
                                               forward_plan, forward_call, forward_check};
const struct bench_op bench_logprob_backward = {"logprob_backward", rows, backward_shapes, COUNT(backward_shapes),
                                                backward_plan, backward_call, backward_check};
const struct bench_op bench_row_scale = {"row_scale", rows, scale_shapes, COUNT(scale_shapes), scale_plan, scale_call,
                                         scale_check};
