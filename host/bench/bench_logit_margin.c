/* bench_logit_margin.c - the gradient of the margin of rows of logits (kernels/logit_margin.h). */
#include "../util/memory.h"
#include "bench.h"

static const struct bench_shape shapes[] = {
    {"llama-2-7b", 32000}, {"smollm2-135m", 49152}, {"llama-3.2-1b", 128256},
    {"two", 2, .rows = 1}, {"odd", 1001, .rows = 9}, {"wide", 60001, .rows = 2},
};
static const int64_t rows[] = {256, 2560, 8192, 0};

enum { LOGITS, MOST, MEAN, VALUE, ARGMAX };

static int plan(struct bench_case *c, struct error *error)
{
    int32_t *argmax = bench_integers(c->rows, c->shape->cols, error);
    bench_values(c, c->dtype, c->rows * c->shape->cols, 0, 3);
    bench_values(c, c->stat, c->rows, 12, 2);
    bench_values(c, c->stat, c->rows, 0, 1);
    bench_values(c, c->stat, c->rows, 0, 0);
    bench_bytes(c, argmax, (size_t)c->rows * sizeof *argmax);
    bench_output(c, LOGITS, 0, 8);
    bench_output(c, VALUE, 0, 8);
    return argmax ? STATUS_OK : STATUS_MEMORY;
}

static void margin_args(const struct bench_case *c, void *const *t, union bench_args *args)
{
    args->logit_margin = (struct logit_margin_args){.dtype = c->dtype, .rows = c->rows, .cols = c->shape->cols,
                                                    .stride = c->shape->cols, .most = t[MOST], .mean = t[MEAN],
                                                    .argmax = t[ARGMAX], .logits = t[LOGITS], .value = t[VALUE]};
}

BENCH_OP(logit_margin, rows, shapes, plan, margin_args);
