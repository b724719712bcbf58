/* sequence.h - from token quantities to sequence sums, loss and one weight per target.
 *
 * WHAT      Every sequence has a role (a forget answer, a template answer, ...; the caller's own numbers). The loss is a sum
 *           of one term for each role:
 *             L = sum over roles of scale * sum over the units of the role of function(x)
 *           What a unit is and what x is of it, `statistic` says; the functions are those of loss_function.h. Out come the
 *           sums of every sequence, dL/d(sum), c_i = dL/dlogprob of every target, stored as row_scale[i] = -c_i, which is
 *           what multiplies the rows of (p - onehot), and totals for the log. It is one call: no step waits for the host.
 * STATISTICS  of a sequence s with |s| targets, sums over its targets
 *             NONE          nothing: the role has no part of the loss, and is counted in the totals only
 *             LOGPROB_SUM   x = sum of logprob - reference[s]
 *             LOGPROB_MEAN  x = (sum of logprob) / |s|
 *             PROB_MEAN     x = (sum of p) / |s|
 *             LOGPROB_PAIR  x = (sum of logprob - reference)[s] - (the same)[s + 1]; the term of s + 1 is PARTNER
 *             PARTNER       the part of the loss is that of the sequence before
 *             PROB_BATCH    one unit of all sequences of the role: x = (sum of p over all of them) / divisor
 *             TOKENS        a unit for each target but the first `skip` of a sequence, with a function of its own
 * SAME BITS yes
 * FINITE    while totals[TOTAL_LOSS] is not finite, every row_scale is NaN: the gradients of the micro-batch become
 *           NaN, adamw_norm with them, and adamw_step leaves the weights alone
 * SHAPES    begin [sequences + 1]: target rows of sequence s are begin[s] .. begin[s+1]-1, all rows in order
 *           role, reference, logprob_sum, prob_sum, slope_* [sequences]   logprob, p, q, row_value, row_scale [rows]
 * DTYPES    logprob, p, q, row_value, row_scale: stat.  reference, sums, slopes, totals: double
 * BYTES     3 stat per row and little else: latency, not bandwidth
 * NUMERICS  sums in double, on the CPU in order of rows, on a GPU in a fixed tree: within 1e-15 of each other relative
 *           to the sum of absolute values
 * NEEDS     begin as under SHAPES, no sequence without rows, roles in range, a PARTNER after every LOGPROB_PAIR and nowhere
 *           else (device memory: a GPU engine cannot check it)
 * SEEN IN   every method
 */
#ifndef FLAT_KERNELS_SEQUENCE_H
#define FLAT_KERNELS_SEQUENCE_H
#include "engine/op.h"
#include "loss_function.h"
#ifdef __cplusplus
extern "C" {
#endif

enum { SEQUENCE_ROLES = 4 };

enum sequence_statistic {
    STATISTIC_NONE,
    STATISTIC_LOGPROB_SUM,
    STATISTIC_LOGPROB_MEAN,
    STATISTIC_PROB_MEAN,
    STATISTIC_LOGPROB_PAIR,
    STATISTIC_PARTNER,
    STATISTIC_PROB_BATCH,
    STATISTIC_TOKENS,
    STATISTICS
};

/* What the sequences of one role add to the loss; all zero: nothing. */
struct loss_term {
    enum sequence_statistic statistic;
    enum loss_function function;
    double scale;
    double divisor;           /* STATISTIC_PROB_BATCH */
    double beta, sign, delta; /* LOSS_LOG_SIGMOID */
    enum token_function token; /* STATISTIC_TOKENS */
    int skip;
    double a, b;               /* TOKEN_POWER */
};

/* totals[]: running sums over the micro-batches of one optimizer step; the host clears them before a step. The loss, which
 * is the sum of the roles' parts, and for each role: */
enum role_total {
    ROLE_LOSS,      /* the role's part of the loss */
    ROLE_UNITS,     /* what the function was evaluated for */
    ROLE_SLOPE,     /* sum over the units of the function's slope, before `scale` */
    ROLE_SEQUENCES,
    ROLE_TOKENS,    /* targets */
    ROLE_PROB,      /* sum over sequences of their mean token probability */
    ROLE_LOGPROB,   /* sum of logprob over targets */
    ROLE_LOW,       /* targets with p < 0.01 */
    ROLE_HIGH,      /* targets with p > 0.99 */
    ROLE_TOTALS
};
enum { TOTAL_LOSS = 0, SEQUENCE_TOTALS = 1 + SEQUENCE_ROLES * ROLE_TOTALS };

LOSS_FUNCTION int total_of(int role, enum role_total total) { return 1 + role * ROLE_TOTALS + (int)total; }

struct sequence_args {
    enum dtype dtype; /* of the stat arrays: DTYPE_F32 or DTYPE_F64 */
    struct loss_term term[SEQUENCE_ROLES];
    int sequences;
    int64_t rows;
    const int32_t *begin, *role;
    const double *reference;  /* NULL: zeros */
    const void *logprob, *p;
    const void *q, *row_value; /* STATISTIC_TOKENS only; row_value not for TOKEN_POWER */
    double *logprob_sum, *prob_sum;     /* out */
    double *slope_prob, *slope_logprob; /* out */
    void *row_scale;                    /* out */
    double *totals;                     /* [SEQUENCE_TOTALS], added to; the loss anew */
};

static inline const char *sequence_term_check(const struct sequence_args *args, const struct loss_term *term)
{
    const unsigned statistic = enum_value(&term->statistic), function = enum_value(&term->function);
    if (statistic >= STATISTICS || function >= LOSS_FUNCTIONS || enum_value(&term->token) >= TOKEN_FUNCTIONS)
        return "unknown statistic or function";
    if (statistic == STATISTIC_PROB_BATCH && !(term->divisor > 0))
        return "divisor is not positive";
    if (function == LOSS_LOG_SIGMOID && !(term->beta > 0))
        return "beta is not positive";
    if (statistic == STATISTIC_TOKENS && (!args->q || term->skip < 0 || (term->token != TOKEN_POWER && !args->row_value)))
        return "a function of targets without q or row_value, or skip is negative";
    return NULL;
}

static inline const char *sequence_loss_check(const struct sequence_args *args)
{
    if (args->sequences < 0 || args->rows < args->sequences || args->rows > INT32_MAX)
        return "sequences is negative, rows are fewer or above 2^31 - 1";
    if (!args->totals)
        return "totals is NULL";
    if (args->sequences == 0)
        return NULL;
    if (!(args->begin && args->role && args->logprob && args->p && args->logprob_sum && args->prob_sum &&
          args->slope_prob && args->slope_logprob && args->row_scale))
        return "begin, role, logprob, p, a sum, a slope or row_scale is NULL";
    for (int r = 0; r < SEQUENCE_ROLES; r++) {
        const char *broken = sequence_term_check(args, &args->term[r]);
        if (broken)
            return broken;
    }
    return NULL;
}

static inline struct op_cost sequence_loss_cost(const struct sequence_args *args)
{
    const double stat = (double)dtype_size(args->dtype);
    return (struct op_cost){3 * stat * (double)args->rows + 44.0 * args->sequences, 0};
}

int sequence_loss(struct engine_context *context, const struct sequence_args *args);

#ifdef __cplusplus
}
#endif
#endif
