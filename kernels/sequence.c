/* sequence.c - CPU: sequence sums, loss, slopes and one weight per target. A few thousand numbers: one thread. */
#include "engine/cpu.h"

/* What only an engine can check that reads device memory. */
static int arrays_check(struct engine_context *context, const struct sequence_args *args)
{
    REQUIRE(args->begin[0] == 0 && args->begin[args->sequences] == args->rows, "begin does not run from 0 to rows");
    bool pair = false;
    for (int s = 0; s < args->sequences; s++) {
        REQUIRE(args->begin[s] < args->begin[s + 1], "a sequence without rows");
        REQUIRE(args->role[s] >= 0 && args->role[s] < SEQUENCE_ROLES, "unknown role");
        const enum sequence_statistic statistic = args->term[args->role[s]].statistic;
        REQUIRE(pair == (statistic == STATISTIC_PARTNER), "a pair without its partner, or a partner without its pair");
        pair = statistic == STATISTIC_LOGPROB_PAIR;
    }
    REQUIRE(!pair, "a pair without its partner, or a partner without its pair");
    return OP_OK;
}

static int64_t sequence_length(const struct sequence_args *args, int s) { return args->begin[s + 1] - args->begin[s]; }

/* Targets of sequence s, from the first that its term counts: value and weight of each. */
static void tokens_compute(const struct sequence_args *args, int s)
{
    const struct loss_term *term = &args->term[args->role[s]];
    const real *logprob = args->logprob, *p = args->p, *q = args->q, *row_value = args->row_value;
    double *const total = args->totals + total_of(args->role[s], ROLE_LOSS);
    for (int32_t i = args->begin[s] + term->skip; i < args->begin[s + 1]; i++) {
        double value, weight;
        token_evaluate(term->token, term->a, term->b, (double)logprob[i], (double)p[i], (double)q[i],
                       row_value ? (double)row_value[i] : 0, &value, &weight);
        total[ROLE_LOSS] += term->scale * value;
        total[ROLE_SLOPE] += weight;
        total[ROLE_UNITS] += 1;
    }
}

/* Sums of every sequence, and the totals that do not depend on the loss. */
static void sums_compute(const struct sequence_args *args)
{
    const real *logprob = args->logprob, *p = args->p;
    for (int s = 0; s < args->sequences; s++) {
        double *const total = args->totals + total_of(args->role[s], ROLE_LOSS);
        double logprob_sum = 0, prob_sum = 0;
        for (int32_t i = args->begin[s]; i < args->begin[s + 1]; i++) {
            logprob_sum += (double)logprob[i];
            prob_sum += (double)p[i];
            total[ROLE_LOW] += p[i] < (real)0.01;
            total[ROLE_HIGH] += p[i] > (real)0.99;
        }
        args->logprob_sum[s] = logprob_sum;
        args->prob_sum[s] = prob_sum;
        total[ROLE_SEQUENCES] += 1;
        total[ROLE_TOKENS] += (double)sequence_length(args, s);
        total[ROLE_PROB] += prob_sum / (double)sequence_length(args, s);
        total[ROLE_LOGPROB] += logprob_sum;
    }
}

static double relative_logprob(const struct sequence_args *args, int s)
{
    return args->logprob_sum[s] - (args->reference ? args->reference[s] : 0);
}

/* One unit of a role: into the totals, and its slope with the scale. */
static double unit_add(const struct sequence_args *args, int role, double x)
{
    const struct loss_term *term = &args->term[role];
    double *const total = args->totals + total_of(role, ROLE_LOSS), value, slope;
    loss_evaluate(term->function, term->beta, term->sign, term->delta, x, &value, &slope);
    total[ROLE_LOSS] += term->scale * value;
    total[ROLE_SLOPE] += slope;
    total[ROLE_UNITS] += 1;
    return term->scale * slope;
}

/* The unit of PROB_BATCH of a role: its slope at every p. */
static double batch_unit(const struct sequence_args *args, int role)
{
    double sum = 0;
    bool any = false;
    for (int s = 0; s < args->sequences; s++)
        if (args->role[s] == role) {
            sum += args->prob_sum[s];
            any = true;
        }
    return any ? unit_add(args, role, sum / args->term[role].divisor) / args->term[role].divisor : 0;
}

static void slopes_compute(const struct sequence_args *args)
{
    double batch_slope[SEQUENCE_ROLES] = {0};
    for (int r = 0; r < SEQUENCE_ROLES; r++)
        if (args->term[r].statistic == STATISTIC_PROB_BATCH)
            batch_slope[r] = batch_unit(args, r);
    for (int s = 0; s < args->sequences; s++) {
        const int role = args->role[s];
        const double length = (double)sequence_length(args, s);
        double prob = 0, logprob = 0;
        switch (args->term[role].statistic) {
        case STATISTIC_LOGPROB_SUM: logprob = unit_add(args, role, relative_logprob(args, s)); break;
        case STATISTIC_LOGPROB_MEAN: logprob = unit_add(args, role, args->logprob_sum[s] / length) / length; break;
        case STATISTIC_PROB_MEAN: prob = unit_add(args, role, args->prob_sum[s] / length) / length; break;
        case STATISTIC_LOGPROB_PAIR:
            logprob = unit_add(args, role, relative_logprob(args, s) - relative_logprob(args, s + 1));
            break;
        case STATISTIC_PARTNER: logprob = -args->slope_logprob[s - 1]; break;
        case STATISTIC_PROB_BATCH: prob = batch_slope[role]; break;
        default: break; /* NONE; TOKENS: a weight of each target's own */
        }
        args->slope_prob[s] = prob;
        args->slope_logprob[s] = logprob;
    }
}

static void weights_compute(const struct sequence_args *args, bool finite)
{
    const real *logprob = args->logprob, *p = args->p, *q = args->q;
    real *row_scale = args->row_scale;
    for (int s = 0; s < args->sequences; s++) {
        const struct loss_term *term = &args->term[args->role[s]];
        for (int32_t i = args->begin[s]; i < args->begin[s + 1]; i++) {
            double weight = args->slope_prob[s] * (double)p[i] + args->slope_logprob[s], value;
            if (term->statistic == STATISTIC_TOKENS && i - args->begin[s] >= term->skip) {
                token_evaluate(term->token, term->a, term->b, (double)logprob[i], (double)p[i], (double)q[i], 0, &value,
                               &weight);
                weight *= term->scale;
            }
            row_scale[i] = finite ? (real)-weight : (real)NAN;
        }
    }
}

int sequence_loss(struct engine_context *context, const struct sequence_args *args)
{
    REQUIRE_CONTRACT(sequence_loss, args);
    REQUIRE_REAL(args->dtype);
    if (args->sequences == 0)
        return OP_OK;
    int status = arrays_check(context, args);
    if (status)
        return status;
    sums_compute(args);
    for (int s = 0; s < args->sequences; s++)
        if (args->term[args->role[s]].statistic == STATISTIC_TOKENS)
            tokens_compute(args, s);
    slopes_compute(args);
    double loss = 0;
    for (int r = 0; r < SEQUENCE_ROLES; r++)
        loss += args->totals[total_of(r, ROLE_LOSS)];
    args->totals[TOTAL_LOSS] = loss;
    weights_compute(args, isfinite(loss));
    return OP_OK;
}
