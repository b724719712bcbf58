/* ceu.c - cross-entropy unlearning (Yang 2025): the model's own distribution without the target is what it is to learn.
 *
 *     L = mean over forget answer tokens of -(1 / (1 - p)) sum over v other than the target of [p_v] log p_v,
 *     [.] a constant for the gradient, which is that of -log(1 - p), unlikelihood: c = p / (1 - p) at every target
 *
 * The first tokens of an answer may be left out.
 */
#include "../method.h"

struct ceu_options {
    int64_t ignore_first_n_answer_tokens;
};

static const struct option option_rows[] = {
    {.name = "ignore_first_n_answer_tokens", OPTION_FIELD(struct ceu_options, ignore_first_n_answer_tokens), .initial = "1",
     .max = OPTION_COUNT_MAX, .help = "tokens at the beginning of every forget answer that are left as they are"},
};
static const struct option_group options = {OPTION_GROUP("Method ceu", option_rows, struct ceu_options),
                                            .source = "Source: CE-U, arXiv 2503.01224; the default is open-unlearning's"};

static void ceu_terms(const void *values, const struct loss_scope *scope, struct loss_term term[ROLES])
{
    const struct ceu_options *ceu = values;
    const int skip = (int)ceu->ignore_first_n_answer_tokens;
    term[ROLE_ANSWER] = (struct loss_term){STATISTIC_TOKENS, .token = TOKEN_UNLIKELIHOOD, .skip = skip,
                                           .scale = mean_of_tokens(scope, WITH(ROLE_ANSWER), skip)};
}

const struct method method_ceu = {
    .name = "ceu",
    .summary = "cross-entropy against the model's own distribution without the forget token (CE-U)",
    .roles = WITH(ROLE_ANSWER),
    .rest_entropy = true,
    .options = &options,
    .logged = {{"prob_forget", "P(forget)", ROLE_ANSWER, ROLE_PROB, ROLE_SEQUENCES}},
    .terms = ceu_terms,
};
