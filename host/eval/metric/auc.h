/* auc.h - the area under the ROC curve of two groups of scores: how well a threshold on the score tells them apart.
 *
 *   AUC = P(positive > negative) + P(positive = negative) / 2        1/2: not at all
 *
 * Source: scikit-learn's roc_auc_score. open-unlearning labels forget rows negative and holdout rows positive with the
 * loss as score, so 1 means that the forget rows are surely members; MUSE's own code negates the score, and its value
 * is one minus this. Cost: one sort.
 */
#ifndef FLAT_EVAL_METRIC_AUC_H
#define FLAT_EVAL_METRIC_AUC_H
#include <stddef.h>

#include "../../util/error.h"

/* STATUS_INPUT for an empty group or one of more than 2^30 scores, STATUS_NONFINITE for a score that is not a number
 * (infinite ones are ordered like others), STATUS_MEMORY. */
int auc_score(const double *negative, size_t negatives, const double *positive, size_t positives, double *auc,
              struct error *error);

#endif
