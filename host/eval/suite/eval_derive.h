/* eval_derive.h - the metrics that follow from what a log holds, without a model.
 *
 *   X_Truth_Ratio, forget_truth_ratio    from the probabilities of right and wrong answers (truth_ratio.h)
 *   ra_, wf_Q_A_Prob_normalised          from the same
 *   forget_quality                       KS of the truth ratios with the retain model's; null without its log
 *   model_utility, model_utility_tofu    of TOFU's nine figures, in both forms (utility.h)
 *   mia_*                                AUC from the scores of forget and holdout rows
 *   privleak                             from mia_min_k, against the retain log's or 0.5
 *   memorization_, privacy_, utility_, overall_score     where the log has their parts (composite.h)
 *   mia_reference                        from both logs' mia_loss, the retain model being the reference (membership.h)
 *   forget_refusal_rate, forget_refusal_recall_rate      of the forget generations, with a list of refusals (refusal.h)
 *   forget_repetition                    of the same
 */
#ifndef FLAT_EVAL_SUITE_EVAL_DERIVE_H
#define FLAT_EVAL_SUITE_EVAL_DERIVE_H
#include "eval_log.h"

struct derive_options {
    const struct eval_log *retain; /* the log of a model that never saw the forget set; NULL for none */
    const char *const *refusals;   /* [refusal_count] answers that refuse; NULL for none */
    int refusal_count;
};

/* Adds every metric of the list above whose parts the log has, and works out the aggregates of the others anew from
 * their rows. messages hears when an aggregate of the log differs from that of its rows by more than 1e-6, when both
 * logs have different rows, and what is missing for forget_quality or model_utility. STATUS_INPUT for rows of another
 * form. */
int eval_derive(struct eval_log *log, const struct derive_options *options, struct log *messages, struct error *error);

#endif
