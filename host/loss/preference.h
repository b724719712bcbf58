/* preference.h - what the methods that prefer one answer to another by a sigmoid share (dpo, altpo):
 *
 *     L = gamma (-(2 / beta) mean over pairs of log sigmoid(beta ((S_e - S_e_ref) - (S_f - S_f_ref)))) + alpha (retain loss)
 *
 * with S the sum of an answer's log-probabilities, e the preferred answer, f the forget answer, ref the model at the start.
 * They differ in where e comes from.
 */
#ifndef FLAT_LOSS_PREFERENCE_H
#define FLAT_LOSS_PREFERENCE_H
#include "method.h"

struct preference_pair_options {
    struct retain_options retain;
    double beta;
};

#define PREFERENCE_PAIR_ROWS                                                                                           \
    {.name = "beta", OPTION_FIELD(struct preference_pair_options, beta), .initial = "0.1", .min = 1e-9, .max = HUGE_VAL,          \
     .help = "how soon a preference that has been learnt counts less"},                                                \
        RETAIN_ROWS(struct preference_pair_options, "nll", "1", "1")

#define PREFERENCE_PAIR_LOGGED                                                                                         \
    {"prob_template", "P(template)", ROLE_TEMPLATE, ROLE_PROB, ROLE_SEQUENCES},                                        \
        {"prob_forget", "P(forget)", ROLE_ANSWER, ROLE_PROB, ROLE_SEQUENCES},                                          \
        {"prob_retain", "P(retain)", ROLE_RETAIN, ROLE_PROB, ROLE_SEQUENCES},                                          \
        {"loss_pair", NULL, ROLE_TEMPLATE, ROLE_LOSS, ROLE_TOTALS}, {"loss_retain", NULL, ROLE_RETAIN, ROLE_LOSS, ROLE_TOTALS}

/* The terms of L; `values` is a struct preference_pair_options. */
static inline void preference_pair_terms(const void *values, const struct loss_scope *scope, struct loss_term term[ROLES])
{
    const struct preference_pair_options *pair = values;
    term[ROLE_TEMPLATE] = (struct loss_term){STATISTIC_LOGPROB_PAIR, LOSS_LOG_SIGMOID,
                                             .scale = pair->retain.gamma * mean_of_sequences(scope, ROLE_ANSWER),
                                             .beta = pair->beta, .sign = 1};
    term[ROLE_ANSWER] = (struct loss_term){STATISTIC_PARTNER};
    term[ROLE_RETAIN] = retain_term(&pair->retain, scope);
}

#endif
