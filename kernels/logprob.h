/* logprob.h - fused log-softmax, gather of the target's log-probability, and the loss gradient at the logits.
 *
 * WHAT      For row i with logits z and target y, with S = sum over v != y of exp(z_v - m), m = max z:
 *             q = 1 - p = S / (S + exp(z_y - m)),   p = 1 - q,   logprob = -log1p(S / exp(z_y - m)),
 *             lse = m + log(S + exp(z_y - m))
 *           q is formed from the sum that leaves the target out, so nothing cancels when p -> 1
 *           (when exp(z_y - m) underflows, logprob = z_y - lse).
 *           logprob_forward   gives logprob, p, q, lse, and with write_gradient replaces z by p_v - 1[v = y]
 *                             (the target's entry is -q). A loss weight c_i then only scales rows:
 *                             dL/dz = -c_i (p - onehot), so dX = diag(-c) ((p - onehot) W) and
 *                             dW = (p - onehot)^T (diag(-c) h): row_scale does both.
 *           logprob_backward  the one-kernel form for callers that know c: z := c_i (1[v = y] - p_v),
 *                             from the saved lse and q.
 *           row_scale         y_i = scale_i x_i
 * SHAPES    logits [rows, stride], cols used   targets [rows]   logprob, p, q, lse, weight, scale [rows]
 * DTYPES    logits: dtype (bf16 or float).  logprob, p, q, lse, weight, scale: stat
 * BYTES     logprob_forward_bytes: s a logit to read, s more to write the gradient in place. With the gradient a GPU
 *           keeps a row of up to 224 KB (sm_90) or 160 KB (sm_80) on the chip; s more a logit beyond that
 *           logprob_backward_bytes: 2 s a logit
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

struct logprob_backward_args {
    enum dtype dtype;
    int64_t rows, cols, stride;
    void *logits;
    const int32_t *targets;
    const void *lse, *q, *weight;
};

struct row_scale_args {
    enum dtype dtype;
    int64_t rows, cols;
    const void *x, *scale;
    void *y; /* may alias x */
};

static inline int64_t logprob_forward_bytes(int64_t rows, int64_t cols, bool write_gradient, enum dtype dtype)
{
    return rows * (cols * (int64_t)dtype_size(dtype) * (write_gradient ? 2 : 1) +
                   4 + 4 * (int64_t)dtype_size(dtype_stat(dtype)));
}

static inline int64_t logprob_backward_bytes(int64_t rows, int64_t cols, enum dtype dtype)
{
    return rows * (2 * cols * (int64_t)dtype_size(dtype) + 4 + 3 * (int64_t)dtype_size(dtype_stat(dtype)));
}

static inline int64_t row_scale_bytes(int64_t rows, int64_t cols, enum dtype dtype)
{
    return rows * (2 * cols * (int64_t)dtype_size(dtype) + (int64_t)dtype_size(dtype_stat(dtype)));
}

int logprob_forward(struct engine_context *context, const struct logprob_args *args);
int logprob_backward(struct engine_context *context, const struct logprob_backward_args *args);
int row_scale(struct engine_context *context, const struct row_scale_args *args);

#ifdef __cplusplus
}
#endif
#endif
