/* rouge.h - ROUGE-1 and ROUGE-L of one pair of texts, as rouge-score 0.1.2 computes them.
 *
 *   ROUGE-1   overlap o = sum over words of min(count in target, count in prediction)
 *   ROUGE-L   l = length of the longest common subsequence of the two word lists
 *   precision = o / words of the prediction, recall = o / words of the target, F1 = 2 p r / (p + r); 0 where it would
 *   be
 *   0 / 0, so an empty text on either side gives 0 everywhere
 *
 * TOFU reports recall with the stemmer; MUSE's own code F1 without it, open-unlearning's MUSE F1 with it.
 * Cost: O(n log n) to number the words; the subsequence takes n m / 64 word operations at most (bit-parallel, Hyyro
 * 2004), and nothing for words of the prediction that the target lacks.
 */
#ifndef FLAT_EVAL_METRIC_ROUGE_H
#define FLAT_EVAL_METRIC_ROUGE_H
#include <stdbool.h>
#include <stddef.h>

#include "../../util/error.h"

struct rouge_measure {
    double precision, recall, f1; /* 0 to 1 */
};
struct rouge {
    struct rouge_measure rouge1, rougeL;
};

/* Any bytes are accepted (words.h says what becomes of them). STATUS_MEMORY, or STATUS_INPUT for a text of 2 GiB. */
int rouge_score(const char *target, size_t target_length, const char *prediction, size_t prediction_length, bool stem,
                struct rouge *rouge, struct error *error);

#endif
