/* loss_function.h - the functions that losses are made of, each with its derivative, once for host and device.
 *
 * A function takes a statistic x of a sequence (a pair, a micro-batch) to its part of the loss, or a target's log-probability
 * to one weight. A new one is a row of a list: choices, help and documentation are made from the lists, and a row without
 * one of its parts does not compile.
 *
 * DIVERGENCES  FLAT (ICLR 2025), variational form  L = -g*(e) + f*(g*(f)),  e = P(template), f = P(forget): a part of e alone
 *              and one of f alone. total_variation, jensen_shannon, pearson and kl are the paper's; jeffrey is from the
 *              authors' code. The authors' code of the last three teaches the model to remember (its g* falls as e rises);
 *              the forms here use an increasing g*, so that minimising L always raises e and lowers f.
 * LOG_SIGMOID  -(2 / beta) log sigmoid(beta (sign x - delta)): DPO and NPO (Zhang et al. 2024), SimNPO (Fan et al. 2024)
 * TOKENS       weights w(p) that count as constants in the gradient of w logprob: WGA, SatImp; or of -log(1 - p): CEU
 */
#ifndef FLAT_KERNELS_LOSS_FUNCTION_H
#define FLAT_KERNELS_LOSS_FUNCTION_H
#include <math.h>

#ifdef __CUDACC__
#define LOSS_FUNCTION static __host__ __device__ inline
#else
#define LOSS_FUNCTION static inline
#endif

#define LOSS_LN2 0.69314718055994530942

/* X(name, -g*(x), its derivative, f*(g*(x)), its derivative) */
#define DIVERGENCES(X)                                                                                        \
    X(total_variation, -0.5 * tanh(x), -0.5 * (1 - tanh(x) * tanh(x)), 0.5 * tanh(x), 0.5 * (1 - tanh(x) * tanh(x)))  \
    X(jensen_shannon, log1p(exp(-x)) - LOSS_LN2, -1 / (1 + exp(x)), x + log1p(exp(-x)) - LOSS_LN2, 1 / (1 + exp(-x))) \
    X(pearson, -x, -1, x + x * x / 4, 1 + x / 2)                                                               \
    X(kl, -x, -1, exp(x - 1), exp(x - 1))                                                                      \
    X(jeffrey, -x, -1, x + x * x / 4 + x * x * x / 16, 1 + x / 2 + 3 * x * x / 16)                             \
    X(reverse_kl, exp(-x), -exp(-x), x - 1, 1)                                                                 \
    X(squared_hellinger, exp(-x) - 1, -exp(-x), exp(x) - 1, exp(x))                                            \
    X(neyman, exp(-x) - 1, -exp(-x), 2 - 2 * exp(-x / 2), exp(-x / 2))

#define X(name, template_value, template_slope, forget_value, forget_slope) DIVERGENCE_##name,
enum divergence { DIVERGENCES(X) DIVERGENCE_COUNT };
#undef X

/* Functions of a statistic. The two parts of divergence d are LOSS_DIVERGENCE + 2 d and one more. */
enum loss_function {
    LOSS_LINEAR, /* x */
    LOSS_LOG_SIGMOID,
    LOSS_DIVERGENCE,
    LOSS_FUNCTIONS = LOSS_DIVERGENCE + 2 * DIVERGENCE_COUNT
};

static inline enum loss_function loss_template(int divergence)
{
    return (enum loss_function)(LOSS_DIVERGENCE + 2 * divergence);
}

static inline enum loss_function loss_forget(int divergence)
{
    return (enum loss_function)(LOSS_DIVERGENCE + 2 * divergence + 1);
}

/* log(1 + exp(t)) without overflow. */
LOSS_FUNCTION double softplus(double t) { return (t > 0 ? t : 0) + log1p(exp(-fabs(t))); }

/* Value and derivative at x. */
LOSS_FUNCTION void loss_evaluate(int function, double beta, double sign, double delta, double x, double *value,
                                 double *slope)
{
    switch (function) {
    case LOSS_LOG_SIGMOID: {
        const double y = beta * (sign * x - delta);
        *value = 2 / beta * softplus(-y);
        *slope = -2 * sign / (1 + exp(y));
        break;
    }
#define X(name, template_value, template_slope, forget_value, forget_slope)                                   \
    case LOSS_DIVERGENCE + 2 * DIVERGENCE_##name: *value = template_value, *slope = template_slope; break;    \
    case LOSS_DIVERGENCE + 2 * DIVERGENCE_##name + 1: *value = forget_value, *slope = forget_slope; break;
        DIVERGENCES(X)
#undef X
    default: *value = x, *slope = 1; /* LOSS_LINEAR */
    }
}

/* Functions of one target: its part of the loss, and the weight c = d(value)/d(logprob) that goes with it. */
enum token_function {
    TOKEN_POWER,        /* [p^a (1 - p)^b] logprob, [.] a constant for the gradient */
    TOKEN_UNLIKELIHOOD, /* row_value, whose gradient is that of -log(1 - p) */
    TOKEN_GIVEN,        /* row_value, whose gradient another op has left in the place of p - onehot */
    TOKEN_FUNCTIONS
};

/* row_value: what another op has left for this target. */
LOSS_FUNCTION void token_evaluate(int function, double a, double b, double logprob, double p, double q,
                                  double row_value, double *value, double *weight)
{
    switch (function) {
    case TOKEN_POWER:
        *weight = pow(p, a) * pow(q, b);
        *value = *weight * logprob;
        break;
    case TOKEN_UNLIKELIHOOD: *weight = p / q, *value = row_value; break;
    default: *weight = -1, *value = row_value; /* TOKEN_GIVEN */
    }
}
#endif
