/* adamw.h - gradient norm, clipping, finite check and the AdamW update over whole arenas.
 *
 * WHAT      adamw_norm  *sum_squares (+)= sum of g^2; a NaN or infinity anywhere makes it non-finite
 *           adamw_prepare  once per step, from *sum_squares over all arenas and the state: t = ++updates,
 *             clip = min(1, max_grad_norm / (norm + 1e-6)), norm = sqrt(*sum_squares), and the factors of t below.
 *             A non-finite *sum_squares sets skip instead: the update is left out and not counted
 *           adamw_step  as torch.optim.AdamW, with g = clip grad
 *             w -= lr weight_decay w;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
 *             w -= lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + eps)
 *             With skip, w, m and v stay as they are
 *           The device decides and counts: the host waits for nothing, and the three can be captured and replayed.
 * SHAPES    all [n]
 * DTYPES    param: dtype.  grad: grad_dtype.  m, v: stat.  low: 16 bits, NULL when dtype is float or double.
 *           With low, w above is a float whose halves (engine/rounding.h) are param and low: the same bits as of a float copy
 *           of the weights, which updates below a bf16's spacing need, in half its memory
 * BYTES     norm: the gradients once. step: moments, param, low and gradients read once, all but these written once
 * NUMERICS  float arithmetic (double for DTYPE_F64); the norm sums in double by fixed blocks; adamw_prepare in double
 * SAME BITS yes: blocks of fixed size summed in order, whatever the number of threads
 * SEEN IN   the end of every step
 */
#ifndef FLAT_KERNELS_ADAMW_H
#define FLAT_KERNELS_ADAMW_H
#include "engine/op.h"
#include "engine/rounding.h"
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

/* In device memory, one for all that a run trains. A run begins with all bytes 0 (or with the updates made before); the
 * host writes learning_rate before adamw_prepare, which fills in the rest. */
struct adamw_state {
    double learning_rate;
    int64_t updates;   /* made so far, the one prepared included */
    int64_t skip;      /* 1: this update is left out */
    double clip;       /* factor of the gradients */
    double rate;       /* learning_rate / (1 - beta1^updates) */
    double correction; /* 1 / sqrt(1 - beta2^updates) */
};

struct adamw_prepare_args {
    const double *sum_squares;
    double max_grad_norm; /* 0: no clipping */
    double beta1, beta2;
    struct adamw_state *state;
};

struct adamw_args {
    enum dtype dtype, grad_dtype;
    int64_t n;
    void *param;
    const void *grad;
    void *m, *v;
    uint16_t *low; /* NULL: none */
    const struct adamw_state *state; /* after adamw_prepare */
    double beta1, beta2, eps, weight_decay;
};

static inline const char *adamw_norm_check(const struct adamw_norm_args *args)
{
    if (args->n < 0)
        return "n is negative";
    return args->sum_squares && (args->grad || args->n == 0) ? NULL : "grad or sum_squares is NULL";
}

static inline const char *adamw_prepare_check(const struct adamw_prepare_args *args)
{
    return args->sum_squares && args->state ? NULL : "sum_squares or state is NULL";
}

static inline const char *adamw_step_check(const struct adamw_args *args)
{
    if (args->n < 0)
        return "n is negative";
    if (args->low && args->dtype != DTYPE_BF16)
        return "weights of this type are no halves of floats";
    if (!args->state)
        return "state is NULL";
    return args->n && !(args->param && args->grad && args->m && args->v) ? "param, grad, m or v is NULL" : NULL;
}

static inline struct op_cost adamw_norm_cost(const struct adamw_norm_args *args)
{
    return (struct op_cost){(double)args->n * (double)dtype_size(args->grad_dtype), 0};
}

static inline struct op_cost adamw_prepare_cost(const struct adamw_prepare_args *args)
{
    (void)args;
    return (struct op_cost){sizeof(double) + sizeof(struct adamw_state), 0};
}

static inline struct op_cost adamw_step_cost(const struct adamw_args *args)
{
    const double stat = (double)dtype_size(dtype_stat(args->dtype)), s = (double)dtype_size(args->dtype);
    return (struct op_cost){
        (double)args->n * (4 * stat + (double)dtype_size(args->grad_dtype) + 2 * s + (args->low ? 4 : 0)), 0};
}

int adamw_norm(struct engine_context *context, const struct adamw_norm_args *args);
int adamw_prepare(struct engine_context *context, const struct adamw_prepare_args *args);
int adamw_step(struct engine_context *context, const struct adamw_args *args);

#ifdef __cplusplus
}
#endif
#endif
