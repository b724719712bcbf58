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
    {"one", 1, 1, .rows = 1}, {"few rows", 130, 67, .rows = 3}, {"odd", 65, 129, .rows = 37},
    {"aligned", 128, 256, .rows = 64}, {"deep", 1000, 40, .rows = 24},
};
/* A small step, 32 pairs of answers at the head, 32 pairs of tokens in the body. */
static const int64_t rows[] = {256, 2560, 3840, 0};

enum { X, W, Y }; /* of the three tensors; a gradient takes the place of what it is a gradient of */

/* |error| <= 2 sqrt(k) eps sum |a b|, the sum of `depth` products of normal values, of which those of W are 0.02 wide. */
static int plan(struct bench_case *c, int result, int64_t depth, double width)
{
    const int64_t in = c->shape->cols, out = c->shape->depth;
    bench_values(c, c->dtype, c->rows * in, 0, 1);
    bench_values(c, c->dtype, out * in, 0, 0.02);
    bench_values(c, c->dtype, c->rows * out, 0, 1);
    bench_output(c, result, 2 * sqrt((double)depth) * ((double)depth + 8) * width, 0);
    return STATUS_OK;
}

static int forward_plan(struct bench_case *c, struct error *error)
{
    (void)error;
    return plan(c, Y, c->shape->cols, 0.02);
}

static int input_plan(struct bench_case *c, struct error *error)
{
    (void)error;
    return plan(c, X, c->shape->depth, 0.02);
}

static int weight_plan(struct bench_case *c, struct error *error)
{
    (void)error;
    return plan(c, W, c->rows, 1);
}

static void forward_args(const struct bench_case *c, void *const *t, union bench_args *args)
{
    args->linear_forward = (struct linear_args){.dtype = c->dtype, .out_dtype = c->dtype, .rows = c->rows,
                                                .in = c->shape->cols, .out = c->shape->depth, .x = t[X], .weight = t[W],
                                                .y = t[Y], .scale = 1};
}

static void input_args(const struct bench_case *c, void *const *t, union bench_args *args)
{
    args->linear_backward_input = (struct linear_backward_input_args){.dtype = c->dtype, .rows = c->rows,
                                                                      .in = c->shape->cols, .out = c->shape->depth,
                                                                      .dy = t[Y], .weight = t[W], .dx = t[X], .scale = 1};
}

static void weight_args(const struct bench_case *c, void *const *t, union bench_args *args)
{
    args->linear_backward_weight = (struct linear_backward_weight_args){.dtype = c->dtype, .grad_dtype = c->dtype,
                                                                        .rows = c->rows, .in = c->shape->cols,
                                                                        .out = c->shape->depth, .dy = t[Y], .x = t[X],
                                                                        .dweight = t[W]};
}

BENCH_OP(linear_forward, rows, shapes, forward_plan, forward_args);
BENCH_OP(linear_backward_input, rows, shapes, input_plan, input_args);
BENCH_OP(linear_backward_weight, rows, shapes, weight_plan, weight_args);
