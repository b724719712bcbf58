/* memorization.h - how much of an answer the model says by itself, read off the most probable token at each position
 * given the true tokens before it.
 *
 *   exact memorization   share of the labels that are the most probable token; NAN without labels
 *   extraction strength  1 - k / n, k the smallest start from which all are right to the end
 *
 * open-unlearning leaves the last label (end of sequence) out: pass the labels without it. Its extraction strength of a
 * text whose last label is wrong is 1/n, as if it were right, and 0 only for n = 0; the papers' is 0 there and NAN for
 * n = 0. O(n).
 */
#ifndef FLAT_EVAL_METRIC_MEMORIZATION_H
#define FLAT_EVAL_METRIC_MEMORIZATION_H
#include <stddef.h>
#include <stdint.h>

enum extraction_form { EXTRACTION_OPEN_UNLEARNING, EXTRACTION_PAPER };

/* argmax, labels: [count] */
double exact_memorization(const int32_t *argmax, const int32_t *labels, size_t count);
double extraction_strength(const int32_t *argmax, const int32_t *labels, size_t count, enum extraction_form form);

#endif
