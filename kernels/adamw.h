/* adamw.h - gradient norm, clipping, finite check and the AdamW update over whole arenas.
 *
 * WHAT      adamw_norm  *sum_squares (+)= sum of g^2; a NaN or infinity anywhere makes it non-finite
 *           adamw_step  as torch.optim.AdamW: with clip = min(1, max_grad_norm / (norm + 1e-6)),
 *             norm = sqrt(*sum_squares), t = step (1 based), g = clip grad
 *             w -= lr weight_decay w;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
 *             w -= lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + eps)
 *           A non-finite *sum_squares leaves w, m and v untouched: the device decides, no host wait.
 * SHAPES    all [n]
 * DTYPES    param: dtype.  grad: grad_dtype.  m, v: stat.  master: float, NULL when dtype is float or double.
 *           With a master, w above is master, and param is its rounding
 * BYTES     adamw_norm_bytes, adamw_step_bytes
 * NUMERICS  float arithmetic (double for DTYPE_F64); the norm sums in double by fixed blocks
 * SAME BITS yes: blocks of fixed size summed in order, whatever the number of threads
 * SEEN IN   the end of every step
 */
#ifndef FLAT_KERNELS_ADAMW_H
#define FLAT_KERNELS_ADAMW_H
#include "op.h"
#ifdef __cplusplus
extern "C" {
#endif

struct adamw_norm_args {
    enum dtype grad_dtype;
    int64_t n;
    const void *grad;
    double *sum_squares;
    bool accumulate;
};

struct adamw_args {
    enum dtype dtype, grad_dtype;
    int64_t n;
    void *param;
    const void *grad;
    void *m, *v;
    float *master; /* NULL: none */
    const double *sum_squares;
    double max_grad_norm; /* 0: no clipping */
    double learning_rate, beta1, beta2, eps, weight_decay;
    int64_t step; /* 1 for the first update */
};

static inline int64_t adamw_norm_bytes(int64_t n, enum dtype grad_dtype) { return n * (int64_t)dtype_size(grad_dtype); }

static inline int64_t adamw_step_bytes(int64_t n, enum dtype dtype, enum dtype grad_dtype, bool master)
{
    int64_t stat = (int64_t)dtype_size(dtype_stat(dtype)), s = (int64_t)dtype_size(dtype);
    return n * (4 * stat + (int64_t)dtype_size(grad_dtype) + (master ? s + 8 : 2 * s));
}

int adamw_norm(struct engine_context *context, const struct adamw_norm_args *args);
int adamw_step(struct engine_context *context, const struct adamw_args *args);

#ifdef __cplusplus
}
#endif
#endif
