/* loss_form.h - the divergences of FLAT as functions of the two mean probabilities, for host and device.
 *
 * Source: FLAT (ICLR 2025), variational form  L = -g*(e) + f*(g*(f)),  e = P(template), f = P(forget).
 * total_variation, jensen_shannon, pearson and kl are the paper's; jeffrey is from the authors' code. The
 * authors' code of the last three teaches the model to remember (its g* falls as e rises); the forms here
 * use an increasing g*, so that minimising L always raises e and lowers f.
 */
#ifndef FLAT_KERNELS_LOSS_FORM_H
#define FLAT_KERNELS_LOSS_FORM_H
#include <math.h>

#ifdef __CUDACC__
#define LOSS_FORM static __host__ __device__ inline
#else
#define LOSS_FORM static inline
#endif

enum divergence {
    DIVERGENCE_TOTAL_VARIATION,
    DIVERGENCE_JENSEN_SHANNON,
    DIVERGENCE_PEARSON,
    DIVERGENCE_KL,
    DIVERGENCE_JEFFREY,
    DIVERGENCE_REVERSE_KL,
    DIVERGENCE_SQUARED_HELLINGER,
    DIVERGENCE_NEYMAN,
    DIVERGENCES
};

/* Loss and slopes at (e, f), both in [0, 1]. */
LOSS_FORM void divergence_loss(int divergence, double e, double f, double *loss, double *slope_e, double *slope_f)
{
    const double ln2 = 0.69314718055994530942;
    switch (divergence) {
    case DIVERGENCE_TOTAL_VARIATION: {
        double te = tanh(e), tf = tanh(f);
        *loss = 0.5 * (tf - te), *slope_e = -0.5 * (1 - te * te), *slope_f = 0.5 * (1 - tf * tf);
        break;
    }
    case DIVERGENCE_JENSEN_SHANNON:
        *loss = log1p(exp(-e)) + f + log1p(exp(-f)) - 2 * ln2;
        *slope_e = -1 / (1 + exp(e)), *slope_f = 1 / (1 + exp(-f));
        break;
    case DIVERGENCE_PEARSON:
        *loss = -e + f + f * f / 4, *slope_e = -1, *slope_f = 1 + f / 2;
        break;
    case DIVERGENCE_KL:
        *loss = -e + exp(f - 1), *slope_e = -1, *slope_f = exp(f - 1);
        break;
    case DIVERGENCE_JEFFREY:
        *loss = -e + f + f * f / 4 + f * f * f / 16, *slope_e = -1, *slope_f = 1 + f / 2 + 3 * f * f / 16;
        break;
    case DIVERGENCE_REVERSE_KL:
        *loss = exp(-e) + f - 1, *slope_e = -exp(-e), *slope_f = 1;
        break;
    case DIVERGENCE_SQUARED_HELLINGER:
        *loss = exp(-e) + exp(f) - 2, *slope_e = -exp(-e), *slope_f = exp(f);
        break;
    default: /* DIVERGENCE_NEYMAN */
        *loss = exp(-e) + 1 - 2 * exp(-f / 2), *slope_e = -exp(-e), *slope_f = exp(-f / 2);
        break;
    }
}
#endif
