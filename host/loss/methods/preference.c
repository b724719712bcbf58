/* preference.c - preference optimisation as TOFU has it (IDK): learn to refuse the forget questions, keep the others.
 *
 *     L = -mean of logprob over the tokens of template and retained answers together
 */
#include "../method.h"

static void preference_terms(const void *options, const struct loss_scope *scope, struct loss_term term[ROLES])
{
    (void)options;
    term[ROLE_TEMPLATE] = term[ROLE_RETAIN] = (struct loss_term){
        STATISTIC_LOGPROB_SUM, .scale = -mean_of_tokens(scope, WITH(ROLE_TEMPLATE) | WITH(ROLE_RETAIN), 0)};
}

const struct method method_preference = {
    .name = "preference",
    .summary = "fine-tuning on template answers to the forget questions and on retained answers (PO, IDK)",
    .roles = WITH(ROLE_TEMPLATE) | WITH(ROLE_RETAIN),
    .logged = {{"prob_template", "P(template)", ROLE_TEMPLATE, ROLE_PROB, ROLE_SEQUENCES},
               {"prob_retain", "P(retain)", ROLE_RETAIN, ROLE_PROB, ROLE_SEQUENCES},
               {"loss_template", NULL, ROLE_TEMPLATE, ROLE_LOSS, ROLE_TOTALS},
               {"loss_retain", NULL, ROLE_RETAIN, ROLE_LOSS, ROLE_TOTALS}},
    .terms = preference_terms,
};
