/* bench_row_scale.c - rows of answers times their weights, before the product that gives dW (kernels/row_scale.h). */
#include "bench.h"

static const struct bench_shape shapes[] = {
    {"smollm2-135m", 576}, {"llama-3.2-1b", 2048}, {"opt-2.7b", 2560}, {"llama-2-7b", 4096},
    {"one", 1, .rows = 1}, {"odd", 67, .rows = 33}, {"wide", 3000, .rows = 5},
};
static const int64_t rows[] = {256, 2560, 8192, 32768, 0};
enum { X, SCALE, Y };

static int plan(struct bench_case *c, struct error *error)
{
    (void)error;
    bench_values(c, c->dtype, c->rows * c->shape->cols, 0, 1);
    bench_values(c, c->stat, c->rows, 0, 1);
    bench_values(c, c->dtype, c->rows * c->shape->cols, 0, 0);
    bench_output(c, Y, 0, 1);
    return STATUS_OK;
}

static void scale_args(const struct bench_case *c, void *const *t, union bench_args *args)
{
    args->row_scale = (struct row_scale_args){c->dtype, c->rows, c->shape->cols, t[X], t[SCALE], t[Y]};
}

BENCH_OP(row_scale, rows, shapes, plan, scale_args);
