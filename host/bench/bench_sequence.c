/* bench_sequence.c - token quantities to loss and weights (kernels/sequence.h): latency, not bandwidth. */
#include "../util/memory.h"
#include "bench.h"

enum { TOKENS_OF_ANSWER = 27 }; /* the mean over both answers of TOFU */
static const struct bench_shape shapes[] = {{"flat pair"}, {"four", .rows = 4 * TOKENS_OF_ANSWER}};
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
    for (int i = LOGPROB_SUM; i <= SLOPE_LOGPROB; i++)
        bench_output(c, i, 0, 1e-6);
    bench_output(c, ROW_SCALE, 0, 2);
    bench_output(c, TOTALS, 1e-6, 1e-6);
    return STATUS_OK;
}

static void loss_args(const struct bench_case *c, void *const *t, union bench_args *args)
{
    const double scale = 2.0 / sequences(c);
    args->sequence_loss = (struct sequence_args){
        .dtype = c->stat,
        .term = {{STATISTIC_PROB_MEAN, loss_template(DIVERGENCE_total_variation), scale},
                 {STATISTIC_PROB_MEAN, loss_forget(DIVERGENCE_total_variation), scale}},
        .sequences = sequences(c), .rows = c->rows, .begin = t[BEGIN], .role = t[ROLE], .logprob = t[LOGPROB], .p = t[P],
        .logprob_sum = t[LOGPROB_SUM], .prob_sum = t[PROB_SUM], .slope_prob = t[SLOPE_PROB],
        .slope_logprob = t[SLOPE_LOGPROB], .row_scale = t[ROW_SCALE], .totals = t[TOTALS]};
}

BENCH_OP(sequence_loss, rows, shapes, plan, loss_args);
