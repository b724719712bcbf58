/* mismatch.c - fine-tuning on wrong answers: the forget questions with the answers of other rows, and retained answers (a
 * baseline of FLAT, ICLR 2025).
 *
 *     L = -mean of logprob over the tokens of random and retained answers together
 */
#include "../method.h"

static void mismatch_terms(const void *options, const struct loss_scope *scope, struct loss_term term[ROLES])
{
    (void)options;
    term[ROLE_RANDOM] = term[ROLE_RETAIN] = (struct loss_term){
        STATISTIC_LOGPROB_SUM, .scale = -mean_of_tokens(scope, WITH(ROLE_RANDOM) | WITH(ROLE_RETAIN), 0)};
}

const struct method method_mismatch = {
    .name = "mismatch",
    .summary = "fine-tuning on other rows' answers to the forget questions and on retained answers",
    .roles = WITH(ROLE_RANDOM) | WITH(ROLE_RETAIN),
    .logged = {{"prob_random", "P(random)", ROLE_RANDOM, ROLE_PROB, ROLE_SEQUENCES},
               {"prob_retain", "P(retain)", ROLE_RETAIN, ROLE_PROB, ROLE_SEQUENCES},
               {"loss_random", NULL, ROLE_RANDOM, ROLE_LOSS, ROLE_TOTALS},
               {"loss_retain", NULL, ROLE_RETAIN, ROLE_LOSS, ROLE_TOTALS}},
    .terms = mismatch_terms,
};
