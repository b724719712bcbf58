/* divergence.h - how far the distribution of a row of logits is from that of a reference model, and the gradient at the logits.
 *
 * WHAT      For row i with logits z and the reference's logits a, p = softmax(z), t = softmax(a'), a' = a but for
 *           a'[c] = a[c] - penalty with c = lowered[i] (none where lowered is NULL or c is negative):
 *             z_v becomes p_v - t_v, the gradient of either value, for which t is a constant
 *             cap: z and a are given as z' and a', of which they are cap tanh(z' / cap) as logprob.h has it, before a penalty;
 *             the gradient is that at z'
 *             value       KL(t || p) = sum over v of t_v (log t_v - log p_v), or
 *                         with cross_entropy  -sum over v of t_v log p_v
 *             logprob, p, q, lse of the row's target under p, as logprob.h has them
 *           KL is summed as t (exp(-d) - 1 + d) with d = log t - log p, whose terms are never negative: the same sum, since
 *           those of p and t are 1, and one in which nothing cancels where the two are close. Equal rows give 0 exactly
 *           (on a GPU: where both begin at the same place of a 16-byte line).
 *           Where t_v = 0 the term is p_v in KL (of what t log t tends to nothing is left), and 0 in the cross-entropy.
 * SHAPES    logits [rows, stride], reference [rows, reference_stride], cols used
 *           targets, lowered, logprob, p, q, lse, value [rows]
 * DTYPES    logits, reference: dtype.  logprob, p, q, lse, value: stat.  targets, lowered: int32
 * BYTES     2 s per logit to read and s to write the gradient in place. A GPU reads both rows a second time, from its caches
 *           while the rows of its blocks fit there (50 MB on sm_90: up to about 65,000 bf16 columns)
 * NUMERICS  four exponentials per logit; logprob, p, q and lse as logprob.h; the gradient
 *           within (4 + |log p|) eps p + the same of t of stat, rounded once more to bf16 of bf16 logits; value relative
 *           within 8 eps (1 + the largest |z| and |a|) / d where its terms are t d^2 / 2, and absolute within 4e-6 in float
 *           a cap adds 8 eps cap to all of that, and what logprob.h says of its slope
 * SAME BITS yes: fixed reduction tree per row
 * NEEDS     0 <= targets[i] < cols, lowered[i] < cols (checked by the host when the batch is built)
 * SEEN IN   retain terms by KL (kl_min, llmu, npo ... with retain_loss kl), UNDIAL
 */
#ifndef FLAT_KERNELS_DIVERGENCE_H
#define FLAT_KERNELS_DIVERGENCE_H
#include <math.h>

#include "engine/op.h"
#ifdef __cplusplus
extern "C" {
#endif

struct divergence_args {
    enum dtype dtype;
    bool cross_entropy;
    int64_t rows, cols, stride, reference_stride; /* strides in elements */
    void *logits;
    const void *reference;
    double cap; /* 0: none */
    const int32_t *targets, *lowered;
    double penalty;
    void *logprob, *p, *q, *lse, *value;
};

static inline const char *divergence_forward_check(const struct divergence_args *args)
{
    if (args->rows < 0 || args->cols <= 0 || args->stride < args->cols || args->reference_stride < args->cols)
        return "rows is negative, cols not positive or a stride below cols";
    if (args->lowered && !(args->penalty >= 0 && args->penalty < 1e30))
        return "penalty is negative or not finite";
    if (!(args->cap >= 0 && args->cap < (double)HUGE_VALF))
        return "cap is negative or not finite";
    return args->rows && !(args->logits && args->reference && args->targets && args->logprob && args->p && args->q &&
                           args->lse && args->value)
               ? "logits, reference, targets, logprob, p, q, lse or value is NULL"
               : NULL;
}

static inline struct op_cost divergence_forward_cost(const struct divergence_args *args)
{
    const double s = (double)dtype_size(args->dtype), stat = (double)dtype_size(dtype_stat(args->dtype));
    return (struct op_cost){(double)args->rows * (3 * s * (double)args->cols + (args->lowered ? 8 : 4) + 5 * stat), 0};
}

int divergence_forward(struct engine_context *context, const struct divergence_args *args);

#ifdef __cplusplus
}
#endif
#endif
