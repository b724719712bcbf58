/* bench_sequence.c - token quantities to loss and weights (kernels/sequence.h): latency, not bandwidth. */
#include <math.h>
#include <stdlib.h>

#include "../util/memory.h"
#include "bench.h"

enum { TOKENS_OF_ANSWER = 27 }; /* the mean over both answers of TOFU */
static const struct bench_shape shapes[] = {{"flat pair", 0}};
static const int64_t rows[] = {2 * 32 * TOKENS_OF_ANSWER, 2 * 256 * TOKENS_OF_ANSWER, 0};

enum { BEGIN, ROLE, LOGPROB, P, LOGPROB_SUM, PROB_SUM, SLOPE_PROB, SLOPE_LOGPROB, ROW_SCALE, TOTALS };

static int sequences(const struct bench_case *c) { return (int)(c->rows / TOKENS_OF_ANSWER); }

static int plan(struct bench_case *c, struct error *error)
{
    const int count = sequences(c);
    int32_t *begin = memory_array((size_t)count + 1, sizeof *begin, error);
    int32_t *role = memory_array((size_t)count, sizeof *role, error);
    bench_bytes(c, begin, ((size_t)count + 1) * sizeof *begin);
    bench_bytes(c, role, (size_t)count * sizeof *role);
    if (!begin || !role)
        return STATUS_MEMORY;
    for (int s = 0; s <= count; s++)
        begin[s] = s * TOKENS_OF_ANSWER;
    for (int s = 0; s < count; s++)
        role[s] = s % 2;
    bench_values(c, c->stat, c->rows, -2, 0.5);
    bench_values(c, c->stat, c->rows, 0.5, 0.1);
    for (int i = LOGPROB_SUM; i <= SLOPE_LOGPROB; i++)
        bench_values(c, DTYPE_F64, count, 0, 0);
    bench_values(c, c->stat, c->rows, 0, 0);
    bench_values(c, DTYPE_F64, SEQUENCE_TOTALS, 0, 0);
    c->bytes = 3.0 * (double)c->rows * (double)dtype_size(c->stat);
    return STATUS_OK;
}

static int call(const struct bench_case *c, struct device *device, void *const *t)
{
    const double scale = 2.0 / sequences(c);
    return device->engine->sequence_loss(
        device->context,
        &(struct sequence_args){.dtype = c->stat,
                                .term = {{STATISTIC_PROB_MEAN, loss_template(DIVERGENCE_total_variation), scale},
                                         {STATISTIC_PROB_MEAN, loss_forget(DIVERGENCE_total_variation), scale}},
                                .sequences = sequences(c), .rows = c->rows, .begin = t[BEGIN], .role = t[ROLE],
                                .logprob = t[LOGPROB], .p = t[P], .logprob_sum = t[LOGPROB_SUM],
                                .prob_sum = t[PROB_SUM], .slope_prob = t[SLOPE_PROB],
                                .slope_logprob = t[SLOPE_LOGPROB], .row_scale = t[ROW_SCALE], .totals = t[TOTALS]});
}

static int check(const struct bench_result *r, struct bench_error *worst, struct error *error)
{
    const struct bench_case *c = r->bench_case;
    double loss = 0, got = 0;
    for (int pair = 0; pair < sequences(c) / 2; pair++) {
        double mean[2] = {0};
        for (int64_t i = 0; i < 2 * TOKENS_OF_ANSWER; i++)
            mean[i / TOKENS_OF_ANSWER] += bench_input(c, P, pair * 2 * TOKENS_OF_ANSWER + i) / TOKENS_OF_ANSWER;
        loss += (tanh(mean[1]) - tanh(mean[0])) / 2 * 2.0 / sequences(c);
    }
    int status = bench_read(r, TOTALS, TOTAL_LOSS, 1, &got, error);
    bench_compare(worst, got, loss, 1e-13);
    return status;
}

const struct bench_op bench_sequence_loss = {"sequence_loss", rows, shapes, 1, plan, call, check};
