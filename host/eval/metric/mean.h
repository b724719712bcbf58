/* mean.h - means over rows. A row without a value is NAN throughout the metrics. O(n). */
#ifndef FLAT_EVAL_METRIC_MEAN_H
#define FLAT_EVAL_METRIC_MEAN_H
#include <stddef.h>

/* NAN when a value is, and of no values. */
double mean_of(const double *values, size_t count);
/* The same over the values that are not NAN; NAN when there is none. */
double mean_of_present(const double *values, size_t count);
/* count / sum of 1 / x, as scipy.stats.hmean: 0 when a value is 0, NAN when one is negative or NAN, and of no
 * values. */
double harmonic_mean(const double *values, size_t count);

#endif
