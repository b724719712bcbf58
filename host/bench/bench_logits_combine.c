/* bench_logits_combine.c - logits less what a reinforced model raises them by (kernels/logits_combine.h). */
#include "bench.h"

static const struct bench_shape shapes[] = {
    {"llama-2-7b", 32000}, {"smollm2-135m", 49152}, {"llama-3.2-1b", 128256},
    {"one", 1, .rows = 1}, {"odd", 67, .rows = 33}, {"wide", 30001, .rows = 2},
};
static const int64_t rows[] = {8, 256, 2560, 0};
enum { Z, R };

static int plan(struct bench_case *c, struct error *error)
{
    (void)error;
    bench_values(c, c->dtype, c->rows * c->shape->cols, 0, 3);
    bench_values(c, c->dtype, c->rows * c->shape->cols, 0, 3);
    bench_output(c, Z, 64, 8);
    return STATUS_OK;
}

static void combine_args(const struct bench_case *c, void *const *t, union bench_args *args)
{
    args->logits_combine = (struct logits_combine_args){c->dtype, c->rows * c->shape->cols, t[Z], t[R], 2};
}

BENCH_OP(logits_combine, rows, shapes, plan, combine_args);
