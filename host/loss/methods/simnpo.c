/* simnpo.c - NPO without a reference model: the mean log-probability of an answer itself (Fan et al. 2024).
 *
 *     L = gamma (-(2 / beta) mean over forget answers of log sigmoid(beta (-M - delta))) + alpha (retain loss)
 *
 * with M the mean of an answer's log-probabilities.
 */
#include "../method.h"

struct simnpo_options {
    struct retain_options retain;
    double beta, delta;
};

static const struct option option_rows[] = {
    {.name = "beta", OPTION_FIELD(struct simnpo_options, beta), .initial = "4.5", .min = 1e-9, .max = HUGE_VAL,
     .help = "how soon an answer that has become less likely counts less"},
    {.name = "delta", OPTION_FIELD(struct simnpo_options, delta), .initial = "0", .min = -HUGE_VAL, .max = HUGE_VAL,
     .help = "margin: -log probability per token that is asked for"},
    RETAIN_ROWS(struct simnpo_options, "nll", "0.125", "1"),
};
static const struct option_group options = {OPTION_GROUP("Method simnpo", option_rows, struct simnpo_options),
                                            .source = "Source: SimNPO, arXiv 2410.07163; the defaults are its code's for "
                                                      "TOFU forget10 and open-unlearning's"};

static void simnpo_terms(const void *values, const struct loss_scope *scope, struct loss_term term[ROLES])
{
    const struct simnpo_options *simnpo = values;
    term[ROLE_ANSWER] = (struct loss_term){STATISTIC_LOGPROB_MEAN, LOSS_LOG_SIGMOID,
                                           .scale = simnpo->retain.gamma * mean_of_sequences(scope, ROLE_ANSWER),
                                           .beta = simnpo->beta, .sign = -1, .delta = simnpo->delta};
    term[ROLE_RETAIN] = retain_term(&simnpo->retain, scope);
}

const struct method method_simnpo = {
    .name = "simnpo",
    .summary = "negative preference by the mean log-probability, without a reference (SimNPO)",
    .roles = WITH(ROLE_ANSWER),
    .retains = true,
    .options = &options,
    .logged = {{"prob_forget", "P(forget)", ROLE_ANSWER, ROLE_PROB, ROLE_SEQUENCES},
               {"prob_retain", "P(retain)", ROLE_RETAIN, ROLE_PROB, ROLE_SEQUENCES},
               {"loss_forget", NULL, ROLE_ANSWER, ROLE_LOSS, ROLE_TOTALS},
               {"loss_retain", NULL, ROLE_RETAIN, ROLE_LOSS, ROLE_TOTALS}},
    .terms = simnpo_terms,
};
