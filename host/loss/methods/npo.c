/* npo.c - negative preference optimisation (Zhang et al. 2024).
 *
 *     L = gamma (-(2 / beta) mean over forget answers of log sigmoid(-beta (S - S_ref))) + alpha (retain loss)
 *
 * with S the sum of an answer's log-probabilities and S_ref that of the model at the start.
 */
#include "../method.h"

struct npo_options {
    struct retain_options retain;
    double beta;
};

static const struct option option_rows[] = {
    {.name = "beta", OPTION_FIELD(struct npo_options, beta), .initial = "0.1", .min = 1e-9, .max = HUGE_VAL,
     .help = "how soon an answer that has become less likely counts less"},
    RETAIN_ROWS(struct npo_options, "nll", "1", "1"),
};
static const struct option_group options = {OPTION_GROUP("Method npo", option_rows, struct npo_options),
                                            .source = "Source: NPO, arXiv 2404.05868; the defaults are open-unlearning's; "
                                                      "retain_loss none is the paper's plain NPO"};

static void npo_terms(const void *values, const struct loss_scope *scope, struct loss_term term[ROLES])
{
    const struct npo_options *npo = values;
    term[ROLE_ANSWER] = (struct loss_term){STATISTIC_LOGPROB_SUM, LOSS_LOG_SIGMOID,
                                           .scale = npo->retain.gamma * mean_of_sequences(scope, ROLE_ANSWER),
                                           .beta = npo->beta, .sign = -1};
    term[ROLE_RETAIN] = retain_term(&npo->retain, scope);
}

const struct method method_npo = {
    .name = "npo",
    .summary = "negative preference: forget answers fall below what the model at the start gave them (NPO)",
    .roles = WITH(ROLE_ANSWER),
    .retains = true,
    .reference_sums = true,
    .options = &options,
    .logged = {{"prob_forget", "P(forget)", ROLE_ANSWER, ROLE_PROB, ROLE_SEQUENCES},
               {"prob_retain", "P(retain)", ROLE_RETAIN, ROLE_PROB, ROLE_SEQUENCES},
               {"loss_forget", NULL, ROLE_ANSWER, ROLE_LOSS, ROLE_TOTALS},
               {"loss_retain", NULL, ROLE_RETAIN, ROLE_LOSS, ROLE_TOTALS}},
    .terms = npo_terms,
};
