/* altpo.c - alternate preference optimisation (Mekala et al. 2024): DPO whose preferred answers are plausible false ones that
 * the model itself has made, one for each row of forget_data (--alternate_key). The formula: preference.h.
 */
#include "../preference.h"

static const struct option option_rows[] = {PREFERENCE_PAIR_ROWS};
static const struct option_group options = {OPTION_GROUP("Method altpo", option_rows, struct preference_pair_options),
                                            .source = "Source: AltPO, arXiv 2409.13474; beta and alpha are its authors' choice for "
                                                      "Llama-2 on TOFU (learning_rate 5e-5, 2 epochs of 5 alternates)"};

const struct method method_altpo = {
    .name = "altpo",
    .summary = "prefers the rows' alternate answers to forget answers, beside the model at the start (AltPO)",
    .roles = WITH(ROLE_TEMPLATE) | WITH(ROLE_ANSWER),
    .retains = true,
    .alternates = true,
    .reference_sums = true,
    .options = &options,
    .logged = {PREFERENCE_PAIR_LOGGED},
    .terms = preference_pair_terms,
};
