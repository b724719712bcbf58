/* altpo.c - alternate preference optimisation (Mekala et al. 2024): DPO whose preferred answers are plausible false ones that
 * the model itself has made, one for each row of forget_data (--alternate_key).
 *
 *     L = gamma (-(2 / beta) mean over pairs of log sigmoid(beta ((S_e - S_e_ref) - (S_f - S_f_ref)))) + alpha (retain loss)
 *
 * with S the sum of an answer's log-probabilities, e the alternate, f the forget answer, ref the model at the start.
 */
#include "../method.h"

struct altpo_options {
    struct retain_options retain;
    double beta;
};

static const struct option option_rows[] = {
    {.name = "beta", OPTION_FIELD(struct altpo_options, beta), .initial = "0.1", .min = 1e-9, .max = HUGE_VAL,
     .help = "how soon a preference that has been learnt counts less"},
    RETAIN_ROWS(struct altpo_options, "nll", "1", "1"),
};
static const struct option_group options = {OPTION_GROUP("Method altpo", option_rows, struct altpo_options),
                                            .source = "Source: AltPO, arXiv 2409.13474; beta and alpha are its authors' choice for "
                                                      "Llama-2 on TOFU (learning_rate 5e-5, 2 epochs of 5 alternates)"};

static void altpo_terms(const void *values, const struct loss_scope *scope, struct loss_term term[ROLES])
{
    const struct altpo_options *altpo = values;
    term[ROLE_TEMPLATE] = (struct loss_term){STATISTIC_LOGPROB_PAIR, LOSS_LOG_SIGMOID,
                                             .scale = altpo->retain.gamma * mean_of_sequences(scope, ROLE_ANSWER),
                                             .beta = altpo->beta, .sign = 1};
    term[ROLE_ANSWER] = (struct loss_term){STATISTIC_PARTNER};
    term[ROLE_RETAIN] = retain_term(&altpo->retain, scope);
}

const struct method method_altpo = {
    .name = "altpo",
    .summary = "prefers the rows' alternate answers to forget answers, beside the model at the start (AltPO)",
    .roles = WITH(ROLE_TEMPLATE) | WITH(ROLE_ANSWER),
    .retains = true,
    .alternates = true,
    .reference_sums = true,
    .options = &options,
    .logged = {{"prob_template", "P(template)", ROLE_TEMPLATE, ROLE_PROB, ROLE_SEQUENCES},
               {"prob_forget", "P(forget)", ROLE_ANSWER, ROLE_PROB, ROLE_SEQUENCES},
               {"prob_retain", "P(retain)", ROLE_RETAIN, ROLE_PROB, ROLE_SEQUENCES},
               {"loss_pair", NULL, ROLE_TEMPLATE, ROLE_LOSS, ROLE_TOTALS},
               {"loss_retain", NULL, ROLE_RETAIN, ROLE_LOSS, ROLE_TOTALS}},
    .terms = altpo_terms,
};
