/* kl_min.c - KL minimisation: ascent on forget answers, and on retained ones the distributions of the start (TOFU, Maini et al.
 * 2024).
 *
 *     L = gamma (mean of logprob over forget answer tokens) + alpha (mean of KL(ref || p) over retained positions)
 */
#include "../method.h"

struct kl_min_options {
    struct retain_options retain;
};

static const struct option option_rows[] = {KL_ROWS(struct kl_min_options, "1", "1")};
static const struct option_group options = {OPTION_GROUP("Method kl_min", option_rows, struct kl_min_options),
                                            .source = "Source: TOFU, arXiv 2401.06121; unit weights are its code's"};

static void kl_min_terms(const void *values, const struct loss_scope *scope, struct loss_term term[ROLES])
{
    const struct kl_min_options *method = values;
    term[ROLE_ANSWER] = (struct loss_term){
        STATISTIC_LOGPROB_SUM, .scale = method->retain.gamma * mean_of_tokens(scope, WITH(ROLE_ANSWER), 0)};
    term[ROLE_RETAIN] = retain_kl_term(&method->retain, scope);
}

const struct method method_kl_min = {
    .name = "kl_min",
    .summary = "gradient ascent on forget answers, the starting model's distributions on retained ones",
    .roles = WITH(ROLE_ANSWER) | WITH(ROLE_RETAIN),
    .retains_by_kl = true,
    .options = &options,
    .logged = {{"prob_forget", "P(forget)", ROLE_ANSWER, ROLE_PROB, ROLE_SEQUENCES},
               {"prob_retain", "P(retain)", ROLE_RETAIN, ROLE_PROB, ROLE_SEQUENCES},
               {"loss_forget", NULL, ROLE_ANSWER, ROLE_LOSS, ROLE_TOTALS},
               {"loss_retain", NULL, ROLE_RETAIN, ROLE_LOSS, ROLE_TOTALS}},
    .terms = kl_min_terms,
};
