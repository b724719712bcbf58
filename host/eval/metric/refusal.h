/* refusal.h - does an answer refuse? It is compared with a list of refusals, such as the template answers.
 *
 *   recall, f1 = the largest ROUGE-L recall (target: the refusal) and F1 over the list, with the stemmer
 *   refusal rate = share of the answers with recall >= 0.5
 *
 * Recall finds a refusal inside a longer answer, and with it some answers that refuse nothing but contain the words of
 * a short one: 7 of 300 of TOFU's true answers against its 100 refusals, none of them by F1.
 * Cost: one ROUGE per refusal in the list.
 */
#ifndef FLAT_EVAL_METRIC_REFUSAL_H
#define FLAT_EVAL_METRIC_REFUSAL_H
#include <stddef.h>

#include "../../util/error.h"

#define REFUSAL_THRESHOLD 0.5

struct refusal {
    double recall, f1;
    int nearest; /* index in the list of the one with the largest recall, the first of equals; -1 for an empty list */
};

int refusal_score(const char *answer, size_t length, const char *const *refusals, int count, struct refusal *refusal,
                  struct error *error);
/* Share of scores that reach the threshold; NAN for none. */
double refusal_rate(const double *scores, size_t count, double threshold);

#endif
