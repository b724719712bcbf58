/* bench_divergence.c - rows of a vocabulary against those of a reference model (kernels/divergence.h). */
#include "../util/memory.h"
#include "bench.h"

enum { KL, PENALISED };
static const struct bench_shape shapes[] = {
    {"llama-2-7b", 32000, 0, KL},    {"smollm2-135m", 49152, 0, KL},    {"llama-3.2-1b", 128256, 0, KL},
    {"llama-2-7b penalised", 32000, 0, PENALISED},
    {"two", 2, 0, KL, .rows = 1},    {"odd", 1001, 0, KL, .rows = 9},   {"wide", 60001, 0, KL, .rows = 2},
    {"odd penalised", 1001, 0, PENALISED, .rows = 9},
};
static const int64_t rows[] = {256, 2560, 8192, 0};

enum { LOGITS, REFERENCE, TARGETS, LOGPROB, P, Q, LSE, VALUE };

static int plan(struct bench_case *c, struct error *error)
{
    bench_values(c, c->dtype, c->rows * c->shape->cols, 0, 3);
    bench_values(c, c->dtype, c->rows * c->shape->cols, 0, 3);
    int32_t *target = bench_integers(c->rows, c->shape->cols, error);
    bench_bytes(c, target, (size_t)c->rows * sizeof *target);
    for (int i = LOGPROB; i <= VALUE; i++)
        bench_values(c, c->stat, c->rows, 0, 0);
    const double absolute = 2e-6 / 0x1p-23; /* of log p in float; double is held to as many of its spacings */
    bench_output(c, LOGITS, 2, 40);
    bench_output(c, LOGPROB, absolute, 1);
    bench_output(c, P, 0, 40);
    bench_output(c, Q, 0, 40);
    bench_output(c, LSE, absolute, 1);
    bench_output(c, VALUE, 2 * absolute, 8);
    return target ? STATUS_OK : STATUS_MEMORY;
}

static void divergence_args(const struct bench_case *c, void *const *t, union bench_args *args)
{
    const bool penalised = c->shape->variant == PENALISED;
    args->divergence_forward = (struct divergence_args){
        .dtype = c->dtype, .cross_entropy = penalised, .rows = c->rows, .cols = c->shape->cols, .stride = c->shape->cols,
        .reference_stride = c->shape->cols, .logits = t[LOGITS], .reference = t[REFERENCE], .targets = t[TARGETS],
        .lowered = penalised ? t[TARGETS] : NULL, .penalty = 10, .logprob = t[LOGPROB], .p = t[P], .q = t[Q], .lse = t[LSE],
        .value = t[VALUE]};
}

BENCH_OP(divergence_forward, rows, shapes, plan, divergence_args);
