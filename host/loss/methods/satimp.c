/* satimp.c - gradient ascent weighted by saturation and importance of each token (Yang et al. 2025).
 *
 *     L = gamma (mean over forget answer tokens of [p^beta1 (1 - p)^beta2] logprob) + alpha (retain loss),
 *     [.] a constant for the gradient
 */
#include "../method.h"

struct satimp_options {
    struct retain_options retain;
    double beta1, beta2;
};

static const struct option option_rows[] = {
    {.name = "beta1", OPTION_FIELD(struct satimp_options, beta1), .initial = "5", .max = HUGE_VAL,
     .help = "power of a token's probability in its weight: what is forgotten already counts less"},
    {.name = "beta2", OPTION_FIELD(struct satimp_options, beta2), .initial = "1", .max = HUGE_VAL,
     .help = "power of one minus the probability: what the model is sure of counts less"},
    RETAIN_ROWS(struct satimp_options, "nll", "1", "0.1"),
};
static const struct option_group options = {
    OPTION_GROUP("Method satimp", option_rows, struct satimp_options),
    .source = "Source: SatImp, arXiv 2505.11953; the defaults are those of open-unlearning's class and of its page (its yaml "
              "has gamma and alpha the other way round)"};

static void satimp_terms(const void *values, const struct loss_scope *scope, struct loss_term term[ROLES])
{
    const struct satimp_options *satimp = values;
    term[ROLE_ANSWER] = (struct loss_term){STATISTIC_TOKENS, .token = TOKEN_POWER, .a = satimp->beta1, .b = satimp->beta2,
                                           .scale = satimp->retain.gamma * mean_of_tokens(scope, WITH(ROLE_ANSWER), 0)};
    term[ROLE_RETAIN] = retain_term(&satimp->retain, scope);
}

const struct method method_satimp = {
    .name = "satimp",
    .summary = "gradient ascent weighted by saturation and importance of each token (SatImp)",
    .roles = WITH(ROLE_ANSWER),
    .retains = true,
    .options = &options,
    .logged = {{"prob_forget", "P(forget)", ROLE_ANSWER, ROLE_PROB, ROLE_SEQUENCES},
               {"prob_retain", "P(retain)", ROLE_RETAIN, ROLE_PROB, ROLE_SEQUENCES},
               {"loss_forget", NULL, ROLE_ANSWER, ROLE_LOSS, ROLE_TOTALS},
               {"loss_retain", NULL, ROLE_RETAIN, ROLE_LOSS, ROLE_TOTALS}},
    .terms = satimp_terms,
};
