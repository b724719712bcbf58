/* repetition.h - how much a text repeats itself: the plain sign of a model that unlearning has ruined.
 *
 *   repeated[n-1] = 1 - distinct n-grams / n-grams                               Welleck et al. 2020: rep-n
 *   entropy[n-1]  = -sum p log2 p over the n-grams, p their share of all n-grams  bits
 *   weighted      = (2/3 entropy[1] + 4/3 entropy[2]) / 2      Meng et al. 2022, ROME: generation entropy
 *
 * A text that is too short for an n-gram repeats nothing: 0, and entropy 0. Cost: O(n log n).
 */
#ifndef FLAT_EVAL_METRIC_REPETITION_H
#define FLAT_EVAL_METRIC_REPETITION_H
#include "ngrams.h"

struct repetition {
    size_t count; /* tokens, or words */
    double repeated[NGRAM_ORDERS], entropy[NGRAM_ORDERS], weighted;
};

/* Of token ids, each 0 or more. */
int repetition_of_ids(const int32_t *ids, size_t count, struct repetition *repetition, struct error *error);
/* Of the words of a text: rouge-score's tokens without the stemmer. Any bytes are accepted. */
int repetition_of_text(const char *text, size_t length, struct repetition *repetition, struct error *error);

#endif
