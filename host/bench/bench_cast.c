/* bench_cast.c - from statistics' type to storage's, as the gradient of float logits goes (kernels/cast.h). */
#include <math.h>

#include "bench.h"

static const struct bench_shape shapes[] = {{"smollm2-135m", 49152}, {"llama-2-7b", 32000}, {"llama-3.2-1b", 128256}};
static const int64_t rows[] = {64, 1024, 0};
enum { X, Y };

static int cast_plan(struct bench_case *c, struct error *error)
{
    (void)error;
    bench_values(c, c->stat, c->rows * c->shape->cols, 0, 1);
    bench_values(c, c->dtype, c->rows * c->shape->cols, 0, 0);
    c->bytes = (double)cast_bytes(c->rows * c->shape->cols, c->stat, c->dtype);
    return STATUS_OK;
}

static int cast_call(const struct bench_case *c, struct device *device, void *const *t)
{
    return device->engine->cast(device->context,
                                &(struct cast_args){c->stat, c->dtype, c->rows * c->shape->cols, t[X], t[Y]});
}

static int cast_check(const struct bench_result *r, struct bench_error *worst, struct error *error)
{
    const struct bench_case *c = r->bench_case;
    const int64_t n = c->rows * c->shape->cols;
    int status = STATUS_OK;
    for (int64_t k = 0; k < 256 && !status; k++) {
        const int64_t i = k * (n - 1) / 255;
        double got = 0, expected = bench_input(c, X, i);
        status = bench_read(r, Y, i, 1, &got, error);
        bench_compare(worst, got, expected, fabs(expected) * bench_rounding(c->dtype));
    }
    return status;
}

const struct bench_op bench_cast = {"cast", rows, shapes, (int)(sizeof shapes / sizeof *shapes), cast_plan, cast_call,
                                    cast_check};
