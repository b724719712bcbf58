/* bench_logprob.c - the loss head's kernel on vocabularies of real models (kernels/logprob.h). */
#include "bench.h"

enum { PLAIN, GRADIENT, WITH_STATISTICS, CAPPED, CAPPED_GRADIENT };
#define CAP 30
static const struct bench_shape shapes[] = {
    {"llama-2-7b", 32000, 0, PLAIN},       {"llama-2-7b gradient", 32000, 0, GRADIENT},
    {"smollm2-135m", 49152, 0, PLAIN},     {"smollm2-135m gradient", 49152, 0, GRADIENT},
    {"opt-2.7b", 50272, 0, PLAIN},         {"opt-2.7b gradient", 50272, 0, GRADIENT},
    {"phi-1.5", 51200, 0, PLAIN},          {"phi-1.5 gradient", 51200, 0, GRADIENT},
    {"llama-3.2-1b", 128256, 0, PLAIN},    {"llama-3.2-1b gradient", 128256, 0, GRADIENT},
    {"qwen2-1.5b", 151936, 0, PLAIN},      {"qwen2-1.5b gradient", 151936, 0, GRADIENT},
    {"gemma-2-2b capped", 256000, 0, CAPPED}, {"gemma-2-2b capped gradient", 256000, 0, CAPPED_GRADIENT},
    {"capped", 1001, 0, CAPPED, .rows = 9}, {"capped gradient", 1001, 0, CAPPED_GRADIENT, .rows = 9},
    {"plain", 2, 0, PLAIN, .rows = 1},     {"plain", 1001, 0, PLAIN, .rows = 9},
    {"gradient", 2, 0, GRADIENT, .rows = 1}, {"gradient", 1001, 0, GRADIENT, .rows = 9},
    {"gradient", 60001, 0, GRADIENT, .rows = 2},
    {"llama-2-7b statistics", 32000, 0, WITH_STATISTICS},
    {"llama-3.2-1b statistics", 128256, 0, WITH_STATISTICS},
    {"statistics", 2, 0, WITH_STATISTICS, .rows = 1}, {"statistics", 1001, 0, WITH_STATISTICS, .rows = 9},
};
static const int64_t rows[] = {256, 2560, 8192, 32768, 0};

enum { LOGITS, TARGETS, LOGPROB, P, Q, LSE, MEAN, VARIANCE, ARGMAX };

static int plan(struct bench_case *c, struct error *error)
{
    bench_values(c, c->dtype, c->rows * c->shape->cols, 0, 3);
    int32_t *target = bench_integers(c->rows, c->shape->cols, error);
    bench_bytes(c, target, (size_t)c->rows * sizeof *target);
    if (!target)
        return STATUS_MEMORY;
    for (int i = LOGPROB; i <= LSE; i++)
        bench_values(c, c->stat, c->rows, 0, 0);
    const bool capped = c->shape->variant >= CAPPED;
    const double bend = capped ? 4 * CAP : 0; /* what a cap adds */
    const double absolute = 2e-6 / 0x1p-23 + bend; /* of log p in float; double is held to as many of its spacings */
    bench_output(c, LOGPROB, absolute, 1);
    bench_output(c, P, 0, 40 + bend);
    bench_output(c, Q, 0, 40 + bend);
    bench_output(c, LSE, absolute, 1);
    if (c->shape->variant == GRADIENT || c->shape->variant == CAPPED_GRADIENT)
        bench_output(c, LOGITS, 0, 40 + bend);
    if (c->shape->variant != WITH_STATISTICS)
        return STATUS_OK;
    bench_values(c, c->stat, c->rows, 0, 0);
    bench_values(c, c->stat, c->rows, 0, 0);
    bench_bytes(c, bench_integers(c->rows, c->shape->cols, error), (size_t)c->rows * sizeof *target);
    if (!c->tensor[ARGMAX].data)
        return STATUS_MEMORY;
    const double square = 1000; /* of log p, in spacings of 1 each */
    bench_output(c, MEAN, square, 0);
    bench_output(c, VARIANCE, square, 0);
    return STATUS_OK;
}

static void forward_args(const struct bench_case *c, void *const *t, union bench_args *args)
{
    const bool statistics = c->shape->variant == WITH_STATISTICS;
    args->logprob_forward = (struct logprob_args){.dtype = c->dtype, .rows = c->rows, .cols = c->shape->cols,
                                                  .stride = c->shape->cols, .logits = t[LOGITS], .targets = t[TARGETS],
                                                  .logprob = t[LOGPROB], .p = t[P], .q = t[Q], .lse = t[LSE],
                                                  .write_gradient = c->shape->variant == GRADIENT ||
                                                                    c->shape->variant == CAPPED_GRADIENT,
                                                  .cap = c->shape->variant >= CAPPED ? CAP : 0,
                                                  .mean = statistics ? t[MEAN] : NULL,
                                                  .variance = statistics ? t[VARIANCE] : NULL,
                                                  .argmax = statistics ? t[ARGMAX] : NULL};
}

BENCH_OP(logprob_forward, rows, shapes, plan, forward_args);
