/* probability.h - the probability of an answer as TOFU and open-unlearning report it.
 *
 *   P(answer) = exp(-loss), loss = mean over the answer's targets, end of sequence included, of -logprob: the geometric
 *   mean
 *   of the token probabilities. FLAT's own P is their arithmetic mean, another number.
 *   normalised = P(answer) / (P(answer) + sum of P(wrong) + eps)     eps: 1e-10 in open-unlearning, 0 in TOFU's code
 *
 * A loss of NAN (an answer without a target) gives NAN.
 */
#ifndef FLAT_EVAL_METRIC_PROBABILITY_H
#define FLAT_EVAL_METRIC_PROBABILITY_H
#include <stddef.h>

/* The eps of open-unlearning's formulas; TOFU's have none. */
#define OPEN_UNLEARNING_EPS 1e-10

double answer_probability(double loss);
/* wrong[0..count): the losses of the wrong answers. */
double answer_probability_normalised(double loss, const double *wrong, size_t count, double eps);

#endif
