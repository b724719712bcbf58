/* llmu.c - large language model unlearning (Yao et al. 2023): ascent on forget answers, the forget questions with the answers
 * of other rows, and on retained ones the distributions of the start.
 *
 *     L = gamma (mean of logprob over forget answer tokens) - random_weight (the same over random answers)
 *         + alpha (mean of KL(ref || p) over retained positions)
 *
 * One random answer per row, as in FLAT's code; the authors' takes five, the cross-entropy in place of KL, whose gradient is
 * the same, and a mean over each sequence first.
 */
#include "../method.h"

struct llmu_options {
    struct retain_options retain;
    double random_weight;
};

static const struct option option_rows[] = {
    KL_ROWS(struct llmu_options, "0.5", "1"),
    {.name = "random_weight", OPTION_FIELD(struct llmu_options, random_weight), .initial = "1", .max = HUGE_VAL,
     .help = "weight of learning other rows' answers to the forget questions"},
};
static const struct option_group options = {OPTION_GROUP("Method llmu", option_rows, struct llmu_options),
                                            .source = "Source: LLMU, arXiv 2310.10683; the weights are its code's"};

static void llmu_terms(const void *values, const struct loss_scope *scope, struct loss_term term[ROLES])
{
    const struct llmu_options *llmu = values;
    term[ROLE_ANSWER] = (struct loss_term){
        STATISTIC_LOGPROB_SUM, .scale = llmu->retain.gamma * mean_of_tokens(scope, WITH(ROLE_ANSWER), 0)};
    term[ROLE_RANDOM] = (struct loss_term){
        STATISTIC_LOGPROB_SUM, .scale = -llmu->random_weight * mean_of_tokens(scope, WITH(ROLE_RANDOM), 0)};
    term[ROLE_RETAIN] = retain_kl_term(&llmu->retain, scope);
}

const struct method method_llmu = {
    .name = "llmu",
    .summary = "ascent on forget answers, other rows' answers in their place, the starting model on retained ones (LLMU)",
    .roles = WITH(ROLE_ANSWER) | WITH(ROLE_RANDOM) | WITH(ROLE_RETAIN),
    .retains_by_kl = true,
    .options = &options,
    .logged = {{"prob_forget", "P(forget)", ROLE_ANSWER, ROLE_PROB, ROLE_SEQUENCES},
               {"prob_random", "P(random)", ROLE_RANDOM, ROLE_PROB, ROLE_SEQUENCES},
               {"prob_retain", "P(retain)", ROLE_RETAIN, ROLE_PROB, ROLE_SEQUENCES},
               {"loss_forget", NULL, ROLE_ANSWER, ROLE_LOSS, ROLE_TOTALS},
               {"loss_random", NULL, ROLE_RANDOM, ROLE_LOSS, ROLE_TOTALS},
               {"loss_retain", NULL, ROLE_RETAIN, ROLE_LOSS, ROLE_TOTALS}},
    .terms = llmu_terms,
};
