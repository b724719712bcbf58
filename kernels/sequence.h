/* sequence.h - from token quantities to sequence sums, loss, slopes and one weight per token.
 *
 * WHAT      sequence_sums     logprob_sum[s] = sum of logprob, prob_sum[s] = sum of p over the tokens of s
 *           sequence_loss     from the sums: the loss of this micro-batch, dL/d(prob_sum) and
 *                             dL/d(logprob_sum) of every sequence, and totals for the log (form by form below)
 *           sequence_weights  c_i = slope_prob[s] p_i + slope_logprob[s], stored as row_scale[i] = -c_i, which
 *                             is what multiplies the rows of (p - onehot)
 *           The three are one call; no step waits for the host.
 * FORMS     `scale` is 1 / (pairs, or tokens, of the whole optimizer step); |s| = tokens of sequence s.
 *           LOSS_CROSS_ENTROPY  L = -scale sum of logprob_sum over all sequences  (scale = 1 / tokens)
 *           LOSS_FLAT_PAIR      e, f = prob_sum / |s| of each pair; L = scale sum over pairs of -g*(e) + f*(g*(f))
 *           LOSS_FLAT_BATCH     e = sum over template sequences of prob_sum / divisor, likewise f;
 *                               L = scale (-g*(e) + f*(g*(f))), divisor = B (flat_padded_length - 1)
 *           The divergences are those of loss_form.h.
 * PARTS     LOSS_FLAT_BATCH over the micro-batches of several ranks takes two calls with a sum over the ranks in between:
 *           SEQUENCE_SUMS leaves the sums of prob_sum over template and over forget sequences in batch_sums and adds to
 *           the totals what does not depend on the loss; SEQUENCE_SLOPES goes on from batch_sums as it then is. Loss,
 *           slopes and unit of such a common batch enter the totals where count_loss: on one of the ranks
 * FINITE    while totals[TOTAL_LOSS] is not finite, every row_scale is NaN: the gradients of the micro-batch become
 *           NaN, adamw_norm with them, and adamw_step leaves the weights alone
 * SHAPES    begin [sequences + 1]: target rows of sequence s are begin[s] .. begin[s+1]-1, all rows in order
 *           pairs: sequence 2k is the template answer and 2k+1 the forget answer of pair k (FLAT forms)
 *           logprob, p, row_scale [rows]   logprob_sum, prob_sum, slope_* [sequences]
 * DTYPES    logprob, p, row_scale: stat.  sums, slopes, totals: double
 * BYTES     3 stat a row and little else: latency, not bandwidth
 * NUMERICS  sums in double, on the CPU in order of rows, on a GPU in a fixed tree: within 1e-15 of each other relative
 *           to the sum of absolute values
 * SAME BITS yes
 * NEEDS     begin as under SHAPES, no sequence without rows (begin is device memory: a GPU engine cannot check it)
 * SEEN IN   every method
 */
#ifndef FLAT_KERNELS_SEQUENCE_H
#define FLAT_KERNELS_SEQUENCE_H
#include "engine/op.h"
#ifdef __cplusplus
extern "C" {
#endif

enum loss_kind { LOSS_CROSS_ENTROPY = 0, LOSS_FLAT_PAIR = 1, LOSS_FLAT_BATCH = 2 };
enum sequence_part { SEQUENCE_WHOLE = 0, SEQUENCE_SUMS = 1, SEQUENCE_SLOPES = 2 };

/* totals[]: running sums over the micro-batches of one optimizer step; the host clears them before a step. */
enum sequence_total {
    TOTAL_LOSS,            /* the loss of the step */
    TOTAL_TEMPLATE_PROB,   /* sum over template sequences of their mean token probability */
    TOTAL_FORGET_PROB,     /* the same over the other sequences: forget answers, or all for cross entropy */
    TOTAL_TEMPLATE_SLOPE,  /* sum over pairs (or micro-batches) of dL/de before `scale` */
    TOTAL_FORGET_SLOPE,    /* dL/df likewise */
    TOTAL_UNITS,           /* pairs (LOSS_FLAT_PAIR), micro-batches (LOSS_FLAT_BATCH), sequences otherwise */
    TOTAL_TEMPLATES,       /* template sequences */
    TOTAL_FORGETS,         /* other sequences */
    TOTAL_TOKENS,          /* answer tokens */
    TOTAL_LOW,             /* answer tokens with p < 0.01 */
    TOTAL_HIGH,            /* answer tokens with p > 0.99 */
    TOTAL_LOGPROB,         /* sum of log-probabilities of all answer tokens */
    SEQUENCE_TOTALS
};

struct sequence_args {
    enum dtype dtype; /* of the stat arrays: DTYPE_F32 or DTYPE_F64 */
    enum loss_kind loss;
    int divergence; /* enum divergence of loss_form.h, FLAT forms only */
    double scale, divisor;
    int sequences;
    int64_t rows;
    const int32_t *begin;
    const void *logprob, *p;
    double *logprob_sum, *prob_sum;         /* out */
    double *slope_prob, *slope_logprob;     /* out */
    void *row_scale;                        /* out */
    double *totals;                         /* [SEQUENCE_TOTALS], added to */
    enum sequence_part part;                /* other than SEQUENCE_WHOLE: LOSS_FLAT_BATCH only */
    double *batch_sums;                     /* [2], with a part: template, forget */
    bool count_loss;                        /* SEQUENCE_SLOPES only */
};

int sequence_loss(struct engine_context *context, const struct sequence_args *args);

#ifdef __cplusplus
}
#endif
#endif
