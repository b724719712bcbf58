/* cross_entropy.c - the mean negative log-probability of the answer tokens: ordinary fine-tuning.
 *
 *     L = -mean of logprob over answer tokens
 */
#include "../method.h"

static void cross_entropy_terms(const void *options, const struct loss_scope *scope, struct loss_term term[ROLES])
{
    (void)options;
    term[ROLE_ANSWER] = (struct loss_term){STATISTIC_LOGPROB_SUM, .scale = -mean_of_tokens(scope, WITH(ROLE_ANSWER), 0)};
}

const struct method method_cross_entropy = {
    .name = "cross_entropy",
    .summary = "mean negative log-probability of the answer tokens",
    .for_finetune = true,
    .roles = WITH(ROLE_ANSWER),
    .logged = {{"prob_answer", "P(answer)", ROLE_ANSWER, ROLE_PROB, ROLE_SEQUENCES}},
    .terms = cross_entropy_terms,
};
