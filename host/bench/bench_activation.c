/* bench_activation.c - SwiGLU, GELU and ReLU of the feed-forward blocks (kernels/activation.h). */
#include <math.h>

#include "bench.h"

static const struct bench_shape shapes[] = {
    {"smollm2-135m", 1536, 0, ACTIVATION_SWIGLU}, {"llama-3.2-1b", 8192, 0, ACTIVATION_SWIGLU},
    {"llama-2-7b", 11008, 0, ACTIVATION_SWIGLU},  {"phi-1.5", 8192, 0, ACTIVATION_GELU_TANH},
    {"opt-2.7b", 10240, 0, ACTIVATION_RELU},
};
static const int64_t rows[] = {256, 3840, 16384, 0};
enum { X, Y, DX }; /* Y is dy in the backward case */

static int64_t width(const struct bench_shape *shape) { return shape->cols * (shape->variant == ACTIVATION_SWIGLU ? 2 : 1); }

static int forward_plan(struct bench_case *c, struct error *error)
{
    (void)error;
    bench_values(c, c->dtype, c->rows * width(c->shape), 0, 1.5);
    bench_values(c, c->dtype, c->rows * c->shape->cols, 0, 0);
    c->bytes = (double)activation_forward_bytes((enum activation_kind)c->shape->variant, c->rows, c->shape->cols, c->dtype);
    return STATUS_OK;
}

static int backward_plan(struct bench_case *c, struct error *error)
{
    (void)error;
    bench_values(c, c->dtype, c->rows * width(c->shape), 0, 1.5);
    bench_values(c, c->dtype, c->rows * c->shape->cols, 0, 1);
    bench_values(c, c->dtype, c->rows * width(c->shape), 0, 0);
    c->bytes = (double)activation_backward_bytes((enum activation_kind)c->shape->variant, c->rows, c->shape->cols, c->dtype);
    return STATUS_OK;
}

static int forward_call(const struct bench_case *c, struct device *device, void *const *t)
{
    return device->engine->activation_forward(
        device->context, &(struct activation_args){(enum activation_kind)c->shape->variant, c->dtype, c->rows,
                                                   c->shape->cols, t[X], t[Y]});
}

static int backward_call(const struct bench_case *c, struct device *device, void *const *t)
{
    return device->engine->activation_backward(
        device->context, &(struct activation_backward_args){(enum activation_kind)c->shape->variant, c->dtype, c->rows,
                                                            c->shape->cols, t[X], t[Y], t[DX]});
}

/* Value and slope at z of the function that is applied to x, or to the gate. */
static void function_of(int kind, double z, double *value, double *slope)
{
    const double root = sqrt(2 / 3.14159265358979323846);
    double inner = root * (z + 0.044715 * z * z * z), t = tanh(inner), sigmoid = 1 / (1 + exp(-z));
    switch (kind) {
    case ACTIVATION_SWIGLU:
        *value = z * sigmoid, *slope = sigmoid * (1 + z * (1 - sigmoid));
        break;
    case ACTIVATION_GELU_TANH:
        *value = z / 2 * (1 + t), *slope = (1 + t) / 2 + z / 2 * (1 - t * t) * root * (1 + 3 * 0.044715 * z * z);
        break;
    default: /* ACTIVATION_RELU */
        *value = z > 0 ? z : 0, *slope = z > 0;
    }
}

static int check(const struct bench_result *r, bool backward, struct bench_error *worst, struct error *error)
{
    const struct bench_case *c = r->bench_case;
    const int64_t cols = c->shape->cols;
    const bool gated = c->shape->variant == ACTIVATION_SWIGLU;
    int status = STATUS_OK;
    for (int k = 0; k < 256 && !status; k++) {
        int64_t row = k * (c->rows - 1) / 255, j = k * 37 % cols, at = row * width(c->shape) + j;
        double value, slope, got = 0, up = gated ? bench_input(c, X, at + cols) : 1;
        function_of(c->shape->variant, bench_input(c, X, at), &value, &slope);
        double dy = backward ? bench_input(c, Y, row * cols + j) : 1;
        double expected = backward ? dy * slope * up : value * up;
        /* four roundings of values of this size: 1 + t and the like cancel where the function is small */
        double allowed = 8 * bench_epsilon(c) * (1 + fabs(bench_input(c, X, at))) * fabs(dy * up) +
                         bench_rounding(c->dtype) * fabs(expected);
        status = bench_read(r, backward ? DX : Y, backward ? at : row * cols + j, 1, &got, error);
        bench_compare(worst, got, expected, allowed + 1e-37);
        if (!status && backward && gated) {
            status = bench_read(r, DX, at + cols, 1, &got, error);
            bench_compare(worst, got, dy * value,
                          8 * bench_epsilon(c) * fabs(dy) * (1 + fabs(value)) + bench_rounding(c->dtype) * fabs(dy * value));
        }
    }
    return status;
}

static int forward_check(const struct bench_result *r, struct bench_error *worst, struct error *error)
{
    return check(r, false, worst, error);
}

static int backward_check(const struct bench_result *r, struct bench_error *worst, struct error *error)
{
    return check(r, true, worst, error);
}

#define SHAPES (int)(sizeof shapes / sizeof *shapes)
const struct bench_op bench_activation_forward = {"activation_forward", rows, shapes, SHAPES, forward_plan, forward_call,
                                                  forward_check};
const struct bench_op bench_activation_backward = {"activation_backward", rows, shapes, SHAPES, backward_plan,
                                                   backward_call, backward_check};
