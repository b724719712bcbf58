/* dpo.c - direct preference optimisation of template answers over forget answers (Rafailov et al. 2023; IdkDPO).
 *
 *     L = gamma (-(2 / beta) mean over pairs of log sigmoid(beta ((S_e - S_e_ref) - (S_f - S_f_ref)))) + alpha (retain loss)
 *
 * with S the sum of an answer's log-probabilities, e the template, f the forget answer, ref the model at the start.
 */
#include "../method.h"

struct dpo_options {
    struct retain_options retain;
    double beta;
};

static const struct option option_rows[] = {
    {.name = "beta", OPTION_FIELD(struct dpo_options, beta), .initial = "0.1", .min = 1e-9, .max = HUGE_VAL,
     .help = "how soon a preference that has been learnt counts less"},
    RETAIN_ROWS(struct dpo_options, "nll", "1", "1"),
};
static const struct option_group options = {OPTION_GROUP("Method dpo", option_rows, struct dpo_options),
                                            .source = "Source: DPO, arXiv 2305.18290; factor and defaults are open-unlearning's "
                                                      "IdkDPO"};

static void dpo_terms(const void *values, const struct loss_scope *scope, struct loss_term term[ROLES])
{
    const struct dpo_options *dpo = values;
    term[ROLE_TEMPLATE] = (struct loss_term){STATISTIC_LOGPROB_PAIR, LOSS_LOG_SIGMOID,
                                             .scale = dpo->retain.gamma * mean_of_sequences(scope, ROLE_ANSWER),
                                             .beta = dpo->beta, .sign = 1};
    term[ROLE_ANSWER] = (struct loss_term){STATISTIC_PARTNER};
    term[ROLE_RETAIN] = retain_term(&dpo->retain, scope);
}

const struct method method_dpo = {
    .name = "dpo",
    .summary = "prefers template answers to forget answers, beside the model at the start (DPO)",
    .roles = WITH(ROLE_TEMPLATE) | WITH(ROLE_ANSWER),
    .retains = true,
    .reference_sums = true,
    .options = &options,
    .logged = {{"prob_template", "P(template)", ROLE_TEMPLATE, ROLE_PROB, ROLE_SEQUENCES},
               {"prob_forget", "P(forget)", ROLE_ANSWER, ROLE_PROB, ROLE_SEQUENCES},
               {"prob_retain", "P(retain)", ROLE_RETAIN, ROLE_PROB, ROLE_SEQUENCES},
               {"loss_pair", NULL, ROLE_TEMPLATE, ROLE_LOSS, ROLE_TOTALS},
               {"loss_retain", NULL, ROLE_RETAIN, ROLE_LOSS, ROLE_TOTALS}},
    .terms = dpo_terms,
};
