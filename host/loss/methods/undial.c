/* undial.c - self-distillation on adjusted logits (Dong et al. 2024): the starting model's distributions with the forget
 * tokens' logits lowered are what forget answers are to have.
 *
 *     L = gamma (mean over forget answer tokens of -sum over v of t_v log p_v) + alpha (retain loss)
 *     t = softmax(logits of the starting model, less beta at the target)
 *
 * open-unlearning's program takes the mean over all positions; where there is no answer its index of the target is -100,
 * which lowers the hundredth of the last entries of the vocabulary.
 */
#include "../method.h"

enum undial_positions { UNDIAL_ANSWER, UNDIAL_REAL, UNDIAL_OPEN_UNLEARNING };
struct undial_options {
    struct retain_options retain;
    double beta;
    enum undial_positions undial_positions;
};

static const char *const positions_names[] = {
    [UNDIAL_ANSWER] = "answer", [UNDIAL_REAL] = "real", [UNDIAL_OPEN_UNLEARNING] = "open_unlearning", NULL};
static const struct option option_rows[] = {
    {.name = "beta", OPTION_FIELD(struct undial_options, beta), .initial = "10", .max = 1e6,
     .help = "how far the forget tokens' logits are lowered"},
    {.name = "undial_positions", OPTION_FIELD(struct undial_options, undial_positions), .choices = positions_names,
     .initial = "answer",
     .help = "positions of forget rows that the mean is over: those that predict the answer; real, the prompt's too, which are "
             "distilled as they are; or open_unlearning, where entry V - 100 is lowered in the prompt's, as its code does"},
    RETAIN_ROWS(struct undial_options, "none", "1", "1"),
};
static const struct option_group options = {OPTION_GROUP("Method undial", option_rows, struct undial_options),
                                            .source = "Source: UNDIAL, arXiv 2402.10052; the defaults are open-unlearning's"};

static struct distribution_use undial_distribution(const void *values)
{
    const struct undial_options *undial = values;
    return (struct distribution_use){
        .used = true,
        .cross_entropy = true,
        .positions = undial->undial_positions == UNDIAL_ANSWER ? POSITIONS_ANSWER : POSITIONS_SHIFTED,
        .penalty = undial->beta,
        .penalises_prompt = undial->undial_positions == UNDIAL_OPEN_UNLEARNING};
}

static void undial_terms(const void *values, const struct loss_scope *scope, struct loss_term term[ROLES])
{
    const struct undial_options *undial = values;
    term[ROLE_ANSWER] = (struct loss_term){STATISTIC_TOKENS, .token = TOKEN_GIVEN,
                                           .scale = undial->retain.gamma * mean_of_tokens(scope, WITH(ROLE_ANSWER), 0)};
    term[ROLE_RETAIN] = retain_term(&undial->retain, scope);
}

const struct method method_undial = {
    .name = "undial",
    .summary = "distils the starting model with the forget tokens' logits lowered (UNDIAL)",
    .roles = WITH(ROLE_ANSWER),
    .retains = true,
    .distribution = undial_distribution,
    .options = &options,
    .logged = {{"prob_forget", "P(forget)", ROLE_ANSWER, ROLE_PROB, ROLE_SEQUENCES},
               {"prob_retain", "P(retain)", ROLE_RETAIN, ROLE_PROB, ROLE_SEQUENCES},
               {"loss_forget", NULL, ROLE_ANSWER, ROLE_LOSS, ROLE_TOTALS},
               {"loss_retain", NULL, ROLE_RETAIN, ROLE_LOSS, ROLE_TOTALS}},
    .terms = undial_terms,
};
