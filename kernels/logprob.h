/* logprob.h - fused log-softmax, gather of the target's log-probability, and the gradient at the logits.
 *
 * WHAT      For row i with logits z and target y, with S = sum over v != y of exp(z_v - m), m = max z:
 *             q = 1 - p = S / (S + exp(z_y - m)),   p = 1 - q,   logprob = -log1p(S / exp(z_y - m)),
 *             lse = m + log(S + exp(z_y - m))
 *           q is formed from the sum that leaves the target out, so nothing cancels when p -> 1
 *           (when exp(z_y - m) underflows, logprob = z_y - lse).
 *           That is logprob, p, q and lse; with write_gradient z is replaced by p_v - 1[v = y] (the target's entry is -q).
 *           cap: the logits z' given are first bent to z = cap tanh(z' / cap), and the gradient is that at z', times
 *           1 - (z / cap)^2; all else speaks of z.
 *           A loss weight c_i then only scales rows: dL/dz = -c_i (p - onehot), so dX = diag(-c) ((p - onehot) W) and
 *           dW = (p - onehot)^T (diag(-c) h): row_scale.h does both
 *           With mean, variance and argmax, and then without write_gradient, the same pass says how the row's
 *           distribution looks: mean = sum over v of p_v log p_v (the entropy with its sign turned), variance = sum over v
 *           of p_v (log p_v - mean)^2, where p_v = 0 counts 0, and argmax, the lowest index of the largest logit, as
 *           torch.argmax has it (NaN passed over; 0 in a row of NaN and -infinity alone, where op sample says -1).
 * SHAPES    logits [rows, stride], cols used   targets, logprob, p, q, lse, mean, variance, argmax [rows]
 * DTYPES    logits: dtype (bf16 or float).  logprob, p, q, lse, mean, variance: stat.  argmax: int32
 * BYTES     with and without a cap: s per logit to read, s more to write the gradient in place. With the gradient a GPU keeps a row of up to 224 KB
 *           (sm_90) or 160 KB (sm_80) on the chip; s more per logit beyond that
 * NUMERICS  one exp per logit, on a GPU one more for its gradient; log p within 2e-6 absolute of double on the same
 *           logits (float; where |log p| > 32 half a spacing and 5e-7, for the rounding of the result), p <= 1 always;
 *           p, q and p_v relative within (4 + |log p|) eps and so on of stat, however close to 0 or 1 (on a CPU 16 in
 *           place of 4 above 1000 columns); the gradient of bf16 logits is rounded once more, to bf16
 *           cap: z within 2 spacings of itself, 2 eps cap at most, which adds 4 eps cap absolute to log p, and as much
 *           relative to p, q and p_v; 1 - (z / cap)^2 relative within (8 + 2 |z'| / cap) eps, however close to 0
 *           mean and variance from sums of exp(a), exp(a) a and exp(a) a^2 with a = z_v - m <= 0, of one sign each: with
 *           E the mean of a^2 under p, 32 eps (1 + E) absolute
 * SAME BITS yes: fixed reduction tree per row
 * NEEDS     0 <= targets[i] < cols (checked by the host when the batch is built)
 * SEEN IN   every loss; a cap in gemma2
 */
#ifndef FLAT_KERNELS_LOGPROB_H
#define FLAT_KERNELS_LOGPROB_H
#include <math.h>

#include "engine/op.h"
#ifdef __cplusplus
extern "C" {
#endif

struct logprob_args {
    enum dtype dtype;
    int64_t rows, cols, stride; /* stride in elements */
    void *logits;
    double cap; /* 0: none */
    const int32_t *targets;
    void *logprob, *p, *q, *lse;
    bool write_gradient;
    void *mean, *variance; /* of log p under p, and the likeliest column: all three, or NULL */
    int32_t *argmax;
};

static inline const char *logprob_forward_check(const struct logprob_args *args)
{
    if (args->rows < 0 || args->cols <= 0 || args->stride < args->cols)
        return "rows is negative, cols not positive or stride below cols";
    if (!(args->cap >= 0 && args->cap < (double)HUGE_VALF))
        return "cap is negative or not finite";
    const int statistics = (args->mean != NULL) + (args->variance != NULL) + (args->argmax != NULL);
    if (statistics != 0 && statistics != 3)
        return "of mean, variance and argmax one is NULL and another is not";
    if (statistics && args->write_gradient)
        return "mean, variance and argmax come without write_gradient only";
    return args->rows && !(args->logits && args->targets && args->logprob && args->p && args->q && args->lse)
               ? "logits, targets, logprob, p, q or lse is NULL"
               : NULL;
}

static inline struct op_cost logprob_forward_cost(const struct logprob_args *args)
{
    const double s = (double)dtype_size(args->dtype), stat = (double)dtype_size(dtype_stat(args->dtype));
    const double row = 4 + 4 * stat + (args->mean ? 4 + 2 * stat : 0);
    return (struct op_cost){
        (double)args->rows * ((double)args->cols * s * (args->write_gradient ? 2 : 1) + row), 0};
}

int logprob_forward(struct engine_context *context, const struct logprob_args *args);

#ifdef __cplusplus
}
#endif
#endif
