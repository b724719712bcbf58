/* dpo.c - direct preference optimisation of template answers over forget answers (Rafailov et al. 2023; IdkDPO). The formula:
 * preference.h, with the template answer preferred.
 */
#include "../preference.h"

static const struct option option_rows[] = {PREFERENCE_PAIR_ROWS};
static const struct option_group options = {OPTION_GROUP("Method dpo", option_rows, struct preference_pair_options),
                                            .source = "Source: DPO, arXiv 2305.18290; factor and defaults are open-unlearning's "
                                                      "IdkDPO"};

const struct method method_dpo = {
    .name = "dpo",
    .summary = "prefers template answers to forget answers, beside the model at the start (DPO)",
    .roles = WITH(ROLE_TEMPLATE) | WITH(ROLE_ANSWER),
    .retains = true,
    .reference_sums = true,
    .options = &options,
    .logged = {PREFERENCE_PAIR_LOGGED},
    .terms = preference_pair_terms,
};
