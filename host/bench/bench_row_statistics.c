/* bench_row_statistics.c - what else methods want to know of rows of logits (kernels/row_statistics.h). */
#include "../util/memory.h"
#include "bench.h"

enum { PLAIN, CAPPED };
#define CAP 30
static const struct bench_shape shapes[] = {
    {"gemma-2-2b capped", 256000, 0, CAPPED}, {"capped", 1001, 0, CAPPED, .rows = 9},
    {"llama-2-7b", 32000}, {"smollm2-135m", 49152}, {"llama-3.2-1b", 128256}, {"qwen2-1.5b", 151936},
    {"two", 2, .rows = 1}, {"odd", 1001, .rows = 9}, {"wide", 60001, .rows = 2},
};
static const int64_t rows[] = {256, 2560, 8192, 0};

enum { LOGITS, TARGETS, MOST, MEAN, REST, ARGMAX };

static int plan(struct bench_case *c, struct error *error)
{
    bench_values(c, c->dtype, c->rows * c->shape->cols, 0, 3);
    int32_t *target = bench_integers(c->rows, c->shape->cols, error), *argmax = bench_integers(c->rows, 1, error);
    bench_bytes(c, target, (size_t)c->rows * sizeof *target);
    for (int i = MOST; i <= REST; i++)
        bench_values(c, c->stat, c->rows, 0, 0);
    bench_bytes(c, argmax, (size_t)c->rows * sizeof *argmax);
    const double bend = c->shape->variant == CAPPED ? 2 * CAP : 0; /* what a cap adds */
    bench_output(c, MOST, bend, 0);
    bench_output(c, MEAN, 8 + bend, 8);
    bench_output(c, REST, 8 + 16 * bend, 32);
    return target && argmax ? STATUS_OK : STATUS_MEMORY;
}

static void statistics_args(const struct bench_case *c, void *const *t, union bench_args *args)
{
    args->row_statistics = (struct row_statistics_args){.dtype = c->dtype, .rows = c->rows, .cols = c->shape->cols,
                                                        .stride = c->shape->cols, .logits = t[LOGITS],
                                                        .targets = t[TARGETS], .most = t[MOST], .mean = t[MEAN],
                                                        .rest = t[REST], .argmax = t[ARGMAX],
                                                        .cap = c->shape->variant == CAPPED ? CAP : 0};
}

BENCH_OP(row_statistics, rows, shapes, plan, statistics_args);
