/* wga.c - weighted gradient ascent (Wang et al. 2025): tokens that the model knows well count most.
 *
 *     L = gamma (mean over forget answer tokens of [p^beta] logprob) + alpha (retain loss),  [.] a constant for the gradient
 */
#include "../method.h"

struct wga_options {
    struct retain_options retain;
    double beta;
};

static const struct option option_rows[] = {
    {.name = "beta", OPTION_FIELD(struct wga_options, beta), .initial = "1", .max = HUGE_VAL,
     .help = "power of a token's probability that is its weight"},
    RETAIN_ROWS(struct wga_options, "nll", "1", "1"),
};
static const struct option_group options = {OPTION_GROUP("Method wga", option_rows, struct wga_options),
                                            .source = "Source: WGA, arXiv 2502.19301; the defaults are open-unlearning's"};

static void wga_terms(const void *values, const struct loss_scope *scope, struct loss_term term[ROLES])
{
    const struct wga_options *wga = values;
    term[ROLE_ANSWER] = (struct loss_term){STATISTIC_TOKENS, .token = TOKEN_POWER, .a = wga->beta,
                                           .scale = wga->retain.gamma * mean_of_tokens(scope, WITH(ROLE_ANSWER), 0)};
    term[ROLE_RETAIN] = retain_term(&wga->retain, scope);
}

const struct method method_wga = {
    .name = "wga",
    .summary = "gradient ascent weighted by the probability of each token (WGA)",
    .roles = WITH(ROLE_ANSWER),
    .retains = true,
    .options = &options,
    .logged = {{"prob_forget", "P(forget)", ROLE_ANSWER, ROLE_PROB, ROLE_SEQUENCES},
               {"prob_retain", "P(retain)", ROLE_RETAIN, ROLE_PROB, ROLE_SEQUENCES},
               {"loss_forget", NULL, ROLE_ANSWER, ROLE_LOSS, ROLE_TOTALS},
               {"loss_retain", NULL, ROLE_RETAIN, ROLE_LOSS, ROLE_TOTALS}},
    .terms = wga_terms,
};
