/* grad_diff.c - gradient difference: ascent on forget answers, descent on retained ones (TOFU, Maini et al. 2024).
 *
 *     L = gamma (mean of logprob over forget answer tokens) + alpha (retain loss)
 */
#include "../method.h"

struct grad_diff_options {
    struct retain_options retain;
};

static const struct option option_rows[] = {RETAIN_ROWS(struct grad_diff_options, "nll", "1", "1")};
static const struct option_group options = {OPTION_GROUP("Method grad_diff", option_rows, struct grad_diff_options),
                                            .source = "Source: TOFU, arXiv 2401.06121; unit weights are its code's"};

static void grad_diff_terms(const void *values, const struct loss_scope *scope, struct loss_term term[ROLES])
{
    const struct grad_diff_options *method = values;
    term[ROLE_ANSWER] = (struct loss_term){
        STATISTIC_LOGPROB_SUM, .scale = method->retain.gamma * mean_of_tokens(scope, WITH(ROLE_ANSWER), 0)};
    term[ROLE_RETAIN] = retain_term(&method->retain, scope);
}

const struct method method_grad_diff = {
    .name = "grad_diff",
    .summary = "gradient ascent on forget answers, descent on retained ones",
    .roles = WITH(ROLE_ANSWER),
    .retains = true,
    .options = &options,
    .logged = {{"prob_forget", "P(forget)", ROLE_ANSWER, ROLE_PROB, ROLE_SEQUENCES},
               {"prob_retain", "P(retain)", ROLE_RETAIN, ROLE_PROB, ROLE_SEQUENCES},
               {"loss_forget", NULL, ROLE_ANSWER, ROLE_LOSS, ROLE_TOTALS},
               {"loss_retain", NULL, ROLE_RETAIN, ROLE_LOSS, ROLE_TOTALS}},
    .terms = grad_diff_terms,
};
