/* rmu.c - representation misdirection (WMDP, Li et al. 2024): at one layer, the hidden states of forget answers become one
 * vector, and those of retained ones stay what they were.
 *
 *     L = gamma (mean of |h - u|^2 / d over forget answer positions) + alpha (mean of |h - h_ref|^2 / d over retained ones)
 *
 * h the output of decoder layer `layer`, d its size, u = steering_coeff times a unit vector whose direction is drawn once:
 * uniform in [0, 1) for each component, all positive as in the authors' program. Positions are those that predict the answer; nothing
 * above the layer is run, trained or decayed.
 */
#include "../method.h"

enum rmu_average { RMU_TOKENS, RMU_OPEN_UNLEARNING };

struct rmu_options {
    double gamma, alpha, steering_coeff;
    int64_t layer;
    enum rmu_average rmu_average;
};

static const char *const average_names[] = {[RMU_TOKENS] = "tokens", [RMU_OPEN_UNLEARNING] = "open_unlearning", NULL};
static const struct option option_rows[] = {
    {.name = "gamma", OPTION_FIELD(struct rmu_options, gamma), .initial = "1", .max = HUGE_VAL,
     .help = "weight of the loss on what is to be forgotten"},
    {.name = "alpha", OPTION_FIELD(struct rmu_options, alpha), .initial = "1", .max = HUGE_VAL,
     .help = "weight of the loss on retain_data"},
    {.name = "steering_coeff", OPTION_FIELD(struct rmu_options, steering_coeff), .initial = "2", .max = HUGE_VAL,
     .help = "length of the vector that hidden states of forget answers are to become"},
    {.name = "layer", OPTION_FIELD(struct rmu_options, layer), .initial = "7", .max = OPTION_COUNT_MAX,
     .help = "decoder layer, counted from 0, whose output is steered; later ones are left as they are"},
    {.name = "rmu_average", OPTION_FIELD(struct rmu_options, rmu_average), .choices = average_names, .initial = "tokens",
     .help = "tokens is the mean over answer tokens; open_unlearning what its code computes, the mean of the sequences' sums times "
             "the mean of 1 / their tokens"},
};
static const struct option_group options = {
    OPTION_GROUP("Method rmu", option_rows, struct rmu_options),
    .source = "Source: WMDP, arXiv 2403.03218; layer and steering_coeff are open-unlearning's for TOFU (WMDP: 20, alpha 100)"};

static struct loss_term distance_term(double weight, const struct rmu_options *rmu, const struct loss_scope *scope,
                                      enum role role)
{
    const double mean = rmu->rmu_average == RMU_TOKENS
                            ? mean_of_tokens(scope, WITH(role), 0)
                            : mean_of_sequences(scope, role) * mean_of_inverse_lengths(scope, role);
    return (struct loss_term){STATISTIC_TOKENS, .token = TOKEN_GIVEN, .scale = weight * mean};
}

static void rmu_terms(const void *values, const struct loss_scope *scope, struct loss_term term[ROLES])
{
    const struct rmu_options *rmu = values;
    term[ROLE_ANSWER] = distance_term(rmu->gamma, rmu, scope, ROLE_ANSWER);
    term[ROLE_RETAIN] = distance_term(rmu->alpha, rmu, scope, ROLE_RETAIN);
}

static struct hidden_use rmu_hidden(const void *values)
{
    const struct rmu_options *rmu = values;
    return (struct hidden_use){rmu->layer, rmu->steering_coeff};
}

const struct method method_rmu = {
    .name = "rmu",
    .summary = "hidden states of forget answers steered to one vector, those of retained ones kept (RMU)",
    .roles = WITH(ROLE_ANSWER) | WITH(ROLE_RETAIN),
    .hidden = rmu_hidden,
    .options = &options,
    .logged = {{"loss_forget", "loss(forget)", ROLE_ANSWER, ROLE_LOSS, ROLE_TOTALS},
               {"loss_retain", "loss(retain)", ROLE_RETAIN, ROLE_LOSS, ROLE_TOTALS}},
    .terms = rmu_terms,
};
