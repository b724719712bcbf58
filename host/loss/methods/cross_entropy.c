/* cross_entropy.c - the mean negative log-probability of the answer tokens: ordinary fine-tuning.
 *
 * L = -(1/N) sum of logprob over the N answer tokens of the optimizer step.
 */
#include "../method.h"

static void cross_entropy_terms(const void *options, const struct loss_scope *scope, struct loss_term term[ROLES])
{
    (void)options;
    term[ROLE_ANSWER] = (struct loss_term){
        .statistic = STATISTIC_LOGPROB_SUM,
        .scale = -1.0 / (double)count_tokens(scope->step, scope->step_sequences, ROLE_ANSWER),
    };
}

const struct method method_cross_entropy = {
    .name = "cross_entropy",
    .summary = "mean negative log-probability of the answer tokens",
    .for_finetune = true,
    .logged = {{"prob_answer", "P(answer)", ROLE_ANSWER, ROLE_PROB, ROLE_SEQUENCES}},
    .terms = cross_entropy_terms,
};
