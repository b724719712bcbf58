/* ks.h - the two-sample, two-sided Kolmogorov-Smirnov test: TOFU's forget quality is its p value.
 *
 *   D = max over x of |F1(x) - F2(x)|, F the share of a sample's values that are <= x
 *   p = P(D of two samples of these sizes from one distribution is at least as large)
 *
 * Forget quality compares the forget rows' truth ratios of the unlearned model with those of a model that never saw
 * them: p near 1 means they cannot be told apart, p below 0.05 that they can. D depends on ranks only, so a truth ratio
 * and its inverse give the same p. The smallest p for n rows on both sides is 2 / C(2n, n): 1.9e-23 for 40 rows,
 * 1.1e-239 for 400. Source: scipy.stats.ks_2samp. Exact up to 10,000 values in the longer sample as there (agrees to
 * 1e-14 relative with counting lattice paths in integers); beyond, as there, the exact one-sample distribution at n m /
 * (n + m), by the approximations of Simard and L'Ecuyer 2011.
 * Cost: O(n m) at most for the exact p (0.4 s at most for 10,000 and 10,000), else O(n log n).
 */
#ifndef FLAT_EVAL_METRIC_KS_H
#define FLAT_EVAL_METRIC_KS_H
#include <stddef.h>

#include "../../util/error.h"

enum ks_method { KS_AUTO, KS_EXACT, KS_ASYMPTOTIC };

struct ks {
    double statistic, p;
};

/* Samples need no order. STATUS_INPUT for an empty one or one of more than 2^30 values, STATUS_NONFINITE for a value
 * that is not a number (infinite ones are ordered like others), STATUS_MEMORY. */
int ks_test(const double *x, size_t n, const double *y, size_t m, enum ks_method method, struct ks *ks,
            struct error *error);

/* P(D >= statistic) of the one-sample test with n values, to SciPy's kstwo.sf; NAN for n = 0. */
double ks_one_sample_p(size_t n, double statistic);

#endif
