/* sequence.c - CPU: sequence sums, loss, slopes and one weight per token. A few thousand numbers: one thread. */
#include "engine/cpu.h"

#include "loss_form.h"

static int sequences_check(struct engine_context *context, const struct sequence_args *args)
{
    REQUIRE(args->sequences >= 0 && args->rows >= 0, "sequences or rows is negative");
    REQUIRE((unsigned)args->loss <= LOSS_FLAT_BATCH, "unknown loss");
    REQUIRE(args->totals, "totals is NULL");
    REQUIRE(args->part == SEQUENCE_WHOLE || (args->loss == LOSS_FLAT_BATCH && args->batch_sums),
            "a part of another loss than LOSS_FLAT_BATCH, or batch_sums is NULL");
    if (args->sequences == 0)
        return OP_OK;
    REQUIRE(args->begin && args->logprob && args->p && args->logprob_sum && args->prob_sum && args->slope_prob &&
                args->slope_logprob && args->row_scale,
            "begin, logprob, p, a sum, a slope or row_scale is NULL");
    REQUIRE(args->begin[0] == 0 && args->begin[args->sequences] == args->rows, "begin does not run from 0 to rows");
    for (int s = 0; s < args->sequences; s++)
        REQUIRE(args->begin[s] < args->begin[s + 1], "a sequence without rows");
    if (args->loss == LOSS_CROSS_ENTROPY)
        return OP_OK;
    REQUIRE(args->sequences % 2 == 0, "an odd number of sequences in a loss over pairs");
    REQUIRE(args->divergence >= 0 && args->divergence < DIVERGENCES, "unknown divergence");
    REQUIRE(args->loss != LOSS_FLAT_BATCH || args->divisor > 0, "divisor is not positive");
    return OP_OK;
}

static int64_t sequence_length(const struct sequence_args *args, int s) { return args->begin[s + 1] - args->begin[s]; }

/* Sums of every sequence, and the totals that do not depend on the loss. */
static void sums_compute(const struct sequence_args *args)
{
    const real *logprob = args->logprob, *p = args->p;
    double *totals = args->totals;
    for (int s = 0; s < args->sequences; s++) {
        double logprob_sum = 0, prob_sum = 0;
        for (int32_t i = args->begin[s]; i < args->begin[s + 1]; i++) {
            logprob_sum += (double)logprob[i];
            prob_sum += (double)p[i];
            totals[TOTAL_LOW] += p[i] < (real)0.01;
            totals[TOTAL_HIGH] += p[i] > (real)0.99;
        }
        args->logprob_sum[s] = logprob_sum;
        args->prob_sum[s] = prob_sum;
        bool is_template = args->loss != LOSS_CROSS_ENTROPY && s % 2 == 0;
        totals[is_template ? TOTAL_TEMPLATES : TOTAL_FORGETS] += 1;
        totals[is_template ? TOTAL_TEMPLATE_PROB : TOTAL_FORGET_PROB] += prob_sum / (double)sequence_length(args, s);
        totals[TOTAL_TOKENS] += (double)sequence_length(args, s);
        totals[TOTAL_LOGPROB] += logprob_sum;
    }
}

static void loss_cross_entropy(const struct sequence_args *args)
{
    for (int s = 0; s < args->sequences; s++) {
        args->totals[TOTAL_LOSS] -= args->scale * args->logprob_sum[s];
        args->slope_prob[s] = 0;
        args->slope_logprob[s] = -args->scale;
    }
    args->totals[TOTAL_UNITS] += args->sequences;
}

/* Adds one evaluation of the divergence to the totals and gives back its scaled slopes. */
static void divergence_add(const struct sequence_args *args, double e, double f, double *slope_e, double *slope_f)
{
    double loss;
    divergence_loss(args->divergence, e, f, &loss, slope_e, slope_f);
    if (args->part == SEQUENCE_WHOLE || args->count_loss) {
        args->totals[TOTAL_LOSS] += args->scale * loss;
        args->totals[TOTAL_TEMPLATE_SLOPE] += *slope_e;
        args->totals[TOTAL_FORGET_SLOPE] += *slope_f;
        args->totals[TOTAL_UNITS] += 1;
    }
    *slope_e *= args->scale;
    *slope_f *= args->scale;
}

static void loss_flat_pair(const struct sequence_args *args)
{
    for (int s = 0; s < args->sequences; s += 2) {
        double template_length = (double)sequence_length(args, s), forget_length = (double)sequence_length(args, s + 1);
        double slope_e, slope_f;
        divergence_add(args, args->prob_sum[s] / template_length, args->prob_sum[s + 1] / forget_length, &slope_e,
                       &slope_f);
        args->slope_prob[s] = slope_e / template_length;
        args->slope_prob[s + 1] = slope_f / forget_length;
        args->slope_logprob[s] = args->slope_logprob[s + 1] = 0;
    }
}

static void batch_sums_compute(const struct sequence_args *args, double sums[2])
{
    sums[0] = sums[1] = 0;
    for (int s = 0; s < args->sequences; s += 2) {
        sums[0] += args->prob_sum[s];
        sums[1] += args->prob_sum[s + 1];
    }
}

static void loss_flat_batch(const struct sequence_args *args)
{
    double own[2], slope_e, slope_f;
    const double *sums = args->part == SEQUENCE_SLOPES ? args->batch_sums : own;
    if (sums == own)
        batch_sums_compute(args, own);
    divergence_add(args, sums[0] / args->divisor, sums[1] / args->divisor, &slope_e, &slope_f);
    for (int s = 0; s < args->sequences; s += 2) {
        args->slope_prob[s] = slope_e / args->divisor;
        args->slope_prob[s + 1] = slope_f / args->divisor;
        args->slope_logprob[s] = args->slope_logprob[s + 1] = 0;
    }
}

int sequence_loss(struct engine_context *context, const struct sequence_args *args)
{
    REQUIRE_ARGS(args);
    REQUIRE_REAL(args->dtype);
    int status = sequences_check(context, args);
    if (status)
        return status;
    if (args->part == SEQUENCE_SUMS) {
        sums_compute(args);
        batch_sums_compute(args, args->batch_sums);
        return OP_OK;
    }
    if (args->sequences == 0)
        return OP_OK;
    if (args->part == SEQUENCE_WHOLE)
        sums_compute(args);
    switch (args->loss) {
    case LOSS_CROSS_ENTROPY: loss_cross_entropy(args); break;
    case LOSS_FLAT_PAIR: loss_flat_pair(args); break;
    case LOSS_FLAT_BATCH: loss_flat_batch(args); break;
    }
    const real *p = args->p;
    real *row_scale = args->row_scale;
    bool finite = isfinite(args->totals[TOTAL_LOSS]);
    for (int s = 0; s < args->sequences; s++)
        for (int32_t i = args->begin[s]; i < args->begin[s + 1]; i++) {
            double weight = args->slope_prob[s] * (double)p[i] + args->slope_logprob[s];
            row_scale[i] = finite ? (real)-weight : (real)NAN;
        }
    return OP_OK;
}
