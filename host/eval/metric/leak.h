/* leak.h - leak@k: what of an answer the best of k sampled texts gives away (arXiv 2511.04934).
 *
 *   leak@k = E[max of the scores of k draws], by n >= k draws without replacement:
 *            sum over i of s_(i) C(i - 1, k - 1) / C(n, k), s_(1) <= ... <= s_(n)
 *
 * the mean over all subsets of k of the n draws of their largest score: unbiased, and with k = 1 the mean of all. O(n log n).
 */
#ifndef FLAT_EVAL_METRIC_LEAK_H
#define FLAT_EVAL_METRIC_LEAK_H
#include <stddef.h>

#include "../../util/error.h"

/* scores[0..n), n >= k >= 1, is sorted. */
double leak_at_k(double *scores, size_t n, size_t k);

#endif
