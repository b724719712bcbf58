/* truth_ratio.h - how likely wrong answers are beside the right one.
 *
 * With a = loss of the reference answer (the paraphrase on forget and retain rows, the answer itself on real authors
 * and world facts), w_k the losses of the K wrong ones, each the mean -logprob of the answer's targets:
 *   geometric      R = exp(-mean w) / (exp(-a) + eps)       eps 0: TOFU's logs, leaderboard; 1e-10: open-unlearning
 *   arithmetic     R = (mean of exp(-w)) / (exp(-a) + eps)  eps 0: TOFU's utils.py, the paper's model utility
 *   probability    exp(-a) / (exp(-a) + exp(-mean w) + eps) 1e-10: OpenUnlearning's knowledge form, prob_mean
 * and for the mean over rows:
 *   closer to 1    min(R, 1 / (R + eps))     forget rows: best when right and wrong are equally likely
 *   true better    max(0, 1 - R)             all other rows
 *
 * eps decides the value for collapsed models: at a = 25 it makes 0.12 of the R = 1 of equal answers. In float64.
 */
#ifndef FLAT_EVAL_METRIC_TRUTH_RATIO_H
#define FLAT_EVAL_METRIC_TRUTH_RATIO_H
#include <stddef.h>

enum truth_ratio_form { TRUTH_RATIO_GEOMETRIC, TRUTH_RATIO_ARITHMETIC, TRUTH_RATIO_PROBABILITY };

/* wrong[0..count), count > 0: the losses of the wrong answers. NAN when a loss is. */
double truth_ratio(enum truth_ratio_form form, double right, const double *wrong, size_t count, double eps);
double truth_ratio_closer_to_1(double ratio, double eps);
double truth_ratio_true_better(double ratio);

#endif
