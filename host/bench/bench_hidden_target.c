/* bench_hidden_target.c - hidden states held against a vector or the reference's (kernels/hidden_target.h). */
#include "bench.h"

enum { ONE, REFERENCE };
static const struct bench_shape shapes[] = {
    {"smollm2-135m", 576, .variant = ONE}, {"smollm2-135m, reference", 576, .variant = REFERENCE},
    {"llama-2-7b", 4096, .variant = ONE}, {"llama-2-7b, reference", 4096, .variant = REFERENCE},
    {"one", 1, .variant = ONE, .rows = 1}, {"odd", 67, .variant = REFERENCE, .rows = 33},
    {"wide", 3000, .variant = ONE, .rows = 5},
};
static const int64_t rows[] = {256, 2560, 8192, 0};
enum { X, RESIDUAL, TARGET, MORE, GRADIENT, VALUE };

static int plan(struct bench_case *c, struct error *error)
{
    (void)error;
    const int64_t count = c->rows * c->shape->cols;
    for (int i = X; i <= MORE; i++)
        bench_values(c, c->dtype, i == TARGET && c->shape->variant == ONE ? c->shape->cols : count, 0, 1);
    bench_values(c, c->dtype, count, 0, 0);
    bench_values(c, c->stat, c->rows, 0, 0);
    bench_output(c, GRADIENT, 8.0 / (double)c->shape->cols, 8);
    bench_output(c, VALUE, 16, 16);
    return STATUS_OK;
}

static void target_args(const struct bench_case *c, void *const *t, union bench_args *args)
{
    const bool one = c->shape->variant == ONE;
    args->hidden_target = (struct hidden_target_args){
        .dtype = c->dtype, .rows = c->rows, .cols = c->shape->cols, .x = t[X], .residual = t[RESIDUAL], .target = t[TARGET],
        .target_residual = one ? NULL : t[MORE], .one_target = one, .gradient = t[GRADIENT], .value = t[VALUE]};
}

BENCH_OP(hidden_target, rows, shapes, plan, target_args);
