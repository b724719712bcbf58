/* bench_cast.c - from statistics' type to storage's, as the gradient of float logits goes (kernels/cast.h). */
#include "bench.h"

static const struct bench_shape shapes[] = {
    {"smollm2-135m", 49152}, {"llama-2-7b", 32000}, {"llama-3.2-1b", 128256},
    {"one", 1, .rows = 1},   {"odd", 333, .rows = 7}, {"wide", 20000, .rows = 3},
};
static const int64_t rows[] = {64, 1024, 0};
enum { X, Y };

static int plan(struct bench_case *c, struct error *error)
{
    (void)error;
    bench_values(c, c->stat, c->rows * c->shape->cols, 0, 1);
    bench_values(c, c->dtype, c->rows * c->shape->cols, 0, 0);
    bench_output(c, Y, 0, 0);
    return STATUS_OK;
}

static void cast_args(const struct bench_case *c, void *const *t, union bench_args *args)
{
    args->cast = (struct cast_args){c->stat, c->dtype, c->rows * c->shape->cols, t[X], t[Y]};
}

BENCH_OP(cast, rows, shapes, plan, cast_args);
