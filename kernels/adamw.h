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
 * SHAPES    all [n], but m_scale, v_scale [n / 256, rounded up]
 * DTYPES    param: dtype.  grad: grad_dtype.  low: 16 bits, NULL when dtype is float or double.  m, v by `moments`:
 *             ADAMW_FLOAT  stat
 *             ADAMW_BF16   bf16, rounded at random (engine/rounding.h) by seed, updates and first + i alone. To nearest, v
 *                          would stand still: with b2 = 0.999 a step changes it by less than half a bf16's spacing
 *             ADAMW_8BIT   codes of engine/dynamic_map.h, of m / m_scale and v / v_scale with the largest magnitude of each
 *                          256 elements as scale; all bytes 0 are a beginning. Arrays begin at multiples of 16 bytes
 *           The update of w takes m and v before they are rounded.
 *           With low, w above is a float whose halves (engine/rounding.h) are param and low: the same bits as of a float copy
 *           of the weights, which updates below a bf16's spacing need, in half its memory
 * BYTES     norm: the gradients once. step: moments, param, low and gradients read once, all but the gradients written once
 * NUMERICS  float arithmetic (double for DTYPE_F64); the norm sums in double by fixed blocks; adamw_prepare in double
 * SAME BITS yes: blocks of fixed size summed in order, whatever the number of threads
 * SEEN IN   the end of every step
 */
#ifndef FLAT_KERNELS_ADAMW_H
#define FLAT_KERNELS_ADAMW_H
#include "engine/dynamic_map.h"
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

/* What moments are stored in. */
enum adamw_moments { ADAMW_FLOAT, ADAMW_BF16, ADAMW_8BIT };

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
    enum adamw_moments moments;
    void *m, *v;
    float *m_scale, *v_scale; /* ADAMW_8BIT */
    int64_t first;            /* ADAMW_BF16: place of element 0 in all that is trained */
    uint64_t seed;            /* ADAMW_BF16 */
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
    const unsigned moments = enum_value(&args->moments);
    if (moments > ADAMW_8BIT || args->first < 0)
        return "moments is unknown or first negative";
    if (args->n && moments == ADAMW_8BIT && !(args->m_scale && args->v_scale))
        return "m_scale or v_scale is NULL";
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

/* Of one moment of one element, with its part of the scale. */
static inline double adamw_moment_bytes(enum adamw_moments moments, enum dtype dtype)
{
    return moments == ADAMW_FLOAT  ? (double)dtype_size(dtype_stat(dtype))
           : moments == ADAMW_BF16 ? 2
                                   : 1 + (double)sizeof(float) / DYNAMIC_BLOCK;
}

static inline struct op_cost adamw_step_cost(const struct adamw_args *args)
{
    const double s = (double)dtype_size(args->dtype), moment = adamw_moment_bytes(args->moments, args->dtype);
    return (struct op_cost){
        (double)args->n * (4 * moment + (double)dtype_size(args->grad_dtype) + 2 * s + (args->low ? 4 : 0)), 0};
}

int adamw_norm(struct engine_context *context, const struct adamw_norm_args *args);
int adamw_prepare(struct engine_context *context, const struct adamw_prepare_args *args);
int adamw_step(struct engine_context *context, const struct adamw_args *args);

#ifdef __cplusplus
}
#endif
#endif
