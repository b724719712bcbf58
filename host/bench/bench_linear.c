/* bench_linear.c - the matrix products of the models: y = x W^T and its two gradients (kernels/linear.h). */
#include <math.h>

#include "bench.h"

/* cols: in, depth: out. */
static const struct bench_shape shapes[] = {
    {"llama-2-7b qkv", 4096, 12288},      {"llama-2-7b o", 4096, 4096},        {"llama-2-7b up", 4096, 22016},
    {"llama-2-7b down", 11008, 4096},     {"llama-2-7b head", 4096, 32000},    {"llama-3.2-1b qkv", 2048, 3072},
    {"llama-3.2-1b o", 2048, 2048},       {"llama-3.2-1b up", 2048, 16384},    {"llama-3.2-1b down", 8192, 2048},
    {"llama-3.2-1b head", 2048, 128256},  {"phi-1.5 qkv", 2048, 6144},         {"phi-1.5 up", 2048, 8192},
    {"phi-1.5 head", 2048, 51200},        {"opt-2.7b qkv", 2560, 7680},        {"opt-2.7b up", 2560, 10240},
    {"opt-2.7b down", 10240, 2560},       {"opt-2.7b head", 2560, 50272},      {"smollm2-135m qkv", 576, 960},
    {"smollm2-135m o", 576, 576},         {"smollm2-135m up", 576, 3072},      {"smollm2-135m down", 1536, 576},
    {"smollm2-135m head", 576, 49152},    {"qwen2-1.5b up", 1536, 17920},      {"qwen2-1.5b head", 1536, 151936},
};
/* A small step, 32 pairs of answers at the head, 32 pairs of tokens in the body. */
static const int64_t rows[] = {256, 2560, 3840, 0};

enum { X, W, Y }; /* of the three tensors; a gradient takes the place of what it is a gradient of */
enum { ENTRIES = 24 };

static int plan(struct bench_case *c, struct error *error)
{
    const int64_t in = c->shape->cols, out = c->shape->depth;
    (void)error;
    bench_values(c, c->dtype, c->rows * in, 0, 1);
    bench_values(c, c->dtype, out * in, 0, 0.02);
    bench_values(c, c->dtype, c->rows * out, 0, 1);
    c->flops = (double)linear_flops(c->rows, in, out);
    c->bytes = (double)linear_bytes(c->rows, in, out, c->dtype, c->dtype);
    return STATUS_OK;
}

static int forward_call(const struct bench_case *c, struct device *device, void *const *t)
{
    return device->engine->linear_forward(
        device->context, &(struct linear_args){.dtype = c->dtype, .out_dtype = c->dtype, .rows = c->rows,
                                               .in = c->shape->cols, .out = c->shape->depth, .x = t[X], .weight = t[W],
                                               .y = t[Y], .scale = 1});
}

static int input_call(const struct bench_case *c, struct device *device, void *const *t)
{
    return device->engine->linear_backward_input(
        device->context, &(struct linear_backward_input_args){.dtype = c->dtype, .rows = c->rows, .in = c->shape->cols,
                                                              .out = c->shape->depth, .dy = t[Y], .weight = t[W],
                                                              .dx = t[X], .scale = 1});
}

static int weight_call(const struct bench_case *c, struct device *device, void *const *t)
{
    return device->engine->linear_backward_weight(
        device->context, &(struct linear_backward_weight_args){.dtype = c->dtype, .grad_dtype = c->dtype, .rows = c->rows,
                                                               .in = c->shape->cols, .out = c->shape->depth, .dy = t[Y],
                                                               .x = t[X], .dweight = t[W]});
}

/* Entries of result = sum over k of a[i a_row + k a_step] b[j b_row + k b_step], result [m, n], within the card's bound. */
struct product {
    int result, a, b;
    int64_t m, n, k, a_row, a_step, b_row, b_step;
};

static int product_check(const struct bench_result *r, const struct product *p, struct bench_error *worst,
                         struct error *error)
{
    const struct bench_case *c = r->bench_case;
    int status = STATUS_OK;
    for (int e = 0; e < ENTRIES && !status; e++) {
        int64_t i = e * (p->m - 1) / (ENTRIES - 1), j = (e * 7 % ENTRIES) * (p->n - 1) / (ENTRIES - 1);
        double sum = 0, size = 0, got = 0;
        for (int64_t k = 0; k < p->k; k++) {
            double term = bench_input(c, p->a, i * p->a_row + k * p->a_step) *
                          bench_input(c, p->b, j * p->b_row + k * p->b_step);
            sum += term;
            size += fabs(term);
        }
        status = bench_read(r, p->result, i * p->n + j, 1, &got, error);
        bench_compare(worst, got, sum,
                      2 * sqrt((double)p->k) * bench_epsilon(c) * size + bench_rounding(c->dtype) * fabs(sum));
    }
    return status;
}

static int forward_check(const struct bench_result *r, struct bench_error *worst, struct error *error)
{
    const int64_t in = r->bench_case->shape->cols, out = r->bench_case->shape->depth, m = r->bench_case->rows;
    return product_check(r, &(struct product){Y, X, W, m, out, in, in, 1, in, 1}, worst, error);
}

static int input_check(const struct bench_result *r, struct bench_error *worst, struct error *error)
{
    const int64_t in = r->bench_case->shape->cols, out = r->bench_case->shape->depth, m = r->bench_case->rows;
    return product_check(r, &(struct product){X, Y, W, m, in, out, out, 1, 1, in}, worst, error);
}

static int weight_check(const struct bench_result *r, struct bench_error *worst, struct error *error)
{
    const int64_t in = r->bench_case->shape->cols, out = r->bench_case->shape->depth, m = r->bench_case->rows;
    return product_check(r, &(struct product){W, Y, X, out, in, m, 1, out, 1, in}, worst, error);
}

#define SHAPES (int)(sizeof shapes / sizeof *shapes)
const struct bench_op bench_linear_forward = {"linear_forward", rows, shapes, SHAPES, plan, forward_call, forward_check};
const struct bench_op bench_linear_backward_input = {"linear_backward_input", rows, shapes, SHAPES, plan, input_call,
                                                     input_check};
const struct bench_op bench_linear_backward_weight = {"linear_backward_weight", rows, shapes, SHAPES, plan, weight_call,
                                                      weight_check};
