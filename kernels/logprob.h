/* logprob.h - fused log-softmax, gather of the target's log-probability, and the gradient at the logits.
 *
 * WHAT      For row i with logits z and target y, with S = sum over v != y of exp(z_v - m), m = max z:
 *             q = 1 - p = S / (S + exp(z_y - m)),   p = 1 - q,   logprob = -log1p(S / exp(z_y - m)),
 *             lse = m + log(S + exp(z_y - m))
 *           q is formed from the sum that leaves the target out, so nothing cancels when p -> 1
 *           (when exp(z_y - m) underflows, logprob = z_y - lse).
 *           That is logprob, p, q and lse; with write_gradient z is replaced by p_v - 1[v = y] (the target's entry is -q).
 *           A loss weight c_i then only scales rows: dL/dz = -c_i (p - onehot), so dX = diag(-c) ((p - onehot) W) and
 *           dW = (p - onehot)^T (diag(-c) h): row_scale.h does both
 * SHAPES    logits [rows, stride], cols used   targets [rows]   logprob, p, q, lse [rows]
 * DTYPES    logits: dtype (bf16 or float).  logprob, p, q, lse: stat
 * BYTES     s a logit to read, s more to write the gradient in place. With the gradient a GPU keeps a row of up to 224 KB
 *           (sm_90) or 160 KB (sm_80) on the chip; s more a logit beyond that
 * NUMERICS  one exp a logit, on a GPU one more for its gradient; log p within 2e-6 absolute of double on the same
 *           logits (float; where |log p| > 32 half a spacing and 5e-7, for the rounding of the result), p <= 1 always;
 *           p, q and p_v relative within (4 + |log p|) eps and so on of stat, however close to 0 or 1 (on a CPU 16 in
 *           place of 4 above 1000 columns); the gradient of bf16 logits is rounded once more, to bf16
 * SAME BITS yes: fixed reduction tree a row
 * NEEDS     0 <= targets[i] < cols (checked by the host when the batch is built)
 * SEEN IN   every loss
 */
#ifndef FLAT_KERNELS_LOGPROB_H
#define FLAT_KERNELS_LOGPROB_H
#include "engine/op.h"
#ifdef __cplusplus
extern "C" {
#endif

struct logprob_args {
    enum dtype dtype;
    int64_t rows, cols, stride; /* stride in elements */
    void *logits;
    const int32_t *targets;
    void *logprob, *p, *q, *lse;
    bool write_gradient;
};

static inline const char *logprob_forward_check(const struct logprob_args *args)
{
    if (args->rows < 0 || args->cols <= 0 || args->stride < args->cols)
        return "rows is negative, cols not positive or stride below cols";
    return args->rows && !(args->logits && args->targets && args->logprob && args->p && args->q && args->lse)
               ? "logits, targets, logprob, p, q or lse is NULL"
               : NULL;
}

static inline struct op_cost logprob_forward_cost(const struct logprob_args *args)
{
    const double s = (double)dtype_size(args->dtype), stat = (double)dtype_size(dtype_stat(args->dtype));
    return (struct op_cost){
        (double)args->rows * ((double)args->cols * s * (args->write_gradient ? 2 : 1) + 4 + 4 * stat), 0};
}

int logprob_forward(struct engine_context *context, const struct logprob_args *args);

#ifdef __cplusplus
}
#endif
#endif
