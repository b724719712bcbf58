/* grad_ascent.c - gradient ascent on the forget answers (TOFU, Maini et al. 2024).
 *
 *     L = mean of logprob over forget answer tokens
 */
#include "../method.h"

static void grad_ascent_terms(const void *options, const struct loss_scope *scope, struct loss_term term[ROLES])
{
    (void)options;
    term[ROLE_ANSWER] = (struct loss_term){STATISTIC_LOGPROB_SUM, .scale = mean_of_tokens(scope, WITH(ROLE_ANSWER), 0)};
}

const struct method method_grad_ascent = {
    .name = "grad_ascent",
    .summary = "raises the cross-entropy of the forget answers, without bound",
    .roles = WITH(ROLE_ANSWER),
    .logged = {{"prob_forget", "P(forget)", ROLE_ANSWER, ROLE_PROB, ROLE_SEQUENCES}},
    .terms = grad_ascent_terms,
};
