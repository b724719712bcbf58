/* bench_activation.c - SwiGLU, GELU and ReLU of the feed-forward blocks (kernels/activation.h). */
#include "bench.h"

static const struct bench_shape shapes[] = {
    {"smollm2-135m", 1536, 0, ACTIVATION_SWIGLU}, {"llama-3.2-1b", 8192, 0, ACTIVATION_SWIGLU},
    {"llama-2-7b", 11008, 0, ACTIVATION_SWIGLU},  {"phi-1.5", 8192, 0, ACTIVATION_GELU_TANH},
    {"opt-2.7b", 10240, 0, ACTIVATION_RELU},
    {"gemma-2b", 16384, 0, ACTIVATION_GEGLU_TANH}, {"geglu", 131, 0, ACTIVATION_GEGLU_TANH, .rows = 33},
    {"swiglu", 1, 0, ACTIVATION_SWIGLU, .rows = 1},    {"swiglu", 131, 0, ACTIVATION_SWIGLU, .rows = 33},
    {"swiglu", 1536, 0, ACTIVATION_SWIGLU, .rows = 7}, {"gelu tanh", 131, 0, ACTIVATION_GELU_TANH, .rows = 33},
    {"gelu", 131, 0, ACTIVATION_GELU, .rows = 33},     {"gelu", 4096, 0, ACTIVATION_GELU, .rows = 3},
    {"relu", 7, 0, ACTIVATION_RELU, .rows = 300},
};
static const int64_t rows[] = {256, 3840, 16384, 0};
enum { X, Y, DX }; /* Y is dy in the backward case */

static int64_t width(const struct bench_shape *shape) { return shape->cols * (ACTIVATION_GATED(shape->variant) ? 2 : 1); }

static int forward_plan(struct bench_case *c, struct error *error)
{
    (void)error;
    bench_values(c, c->dtype, c->rows * width(c->shape), 0, 1.5);
    bench_values(c, c->dtype, c->rows * c->shape->cols, 0, 0);
    bench_output(c, Y, 4, 4);
    return STATUS_OK;
}

static int backward_plan(struct bench_case *c, struct error *error)
{
    (void)error;
    bench_values(c, c->dtype, c->rows * width(c->shape), 0, 1.5);
    bench_values(c, c->dtype, c->rows * c->shape->cols, 0, 1);
    bench_values(c, c->dtype, c->rows * width(c->shape), 0, 0);
    bench_output(c, DX, 32, 4);
    return STATUS_OK;
}

static void forward_args(const struct bench_case *c, void *const *t, union bench_args *args)
{
    args->activation_forward = (struct activation_args){(enum activation_kind)c->shape->variant, c->dtype, c->rows,
                                                        c->shape->cols, t[X], t[Y]};
}

static void backward_args(const struct bench_case *c, void *const *t, union bench_args *args)
{
    args->activation_backward = (struct activation_backward_args){(enum activation_kind)c->shape->variant, c->dtype, c->rows,
                                                                  c->shape->cols, t[X], t[Y], t[DX]};
}

BENCH_OP(activation_forward, rows, shapes, forward_plan, forward_args);
BENCH_OP(activation_backward, rows, shapes, backward_plan, backward_args);
