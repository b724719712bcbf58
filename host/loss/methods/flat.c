/* flat.c - FLAT (ICLR 2025): maximise the variational f-divergence between template and forget answers.
 *
 *     L = mean over pairs of -g*(e) + f*(g*(f)),  e and f the template's and the forget answer's probability
 *
 * flat_average "pair"  (the paper):          e and f are the mean token probabilities of one pair's two answers
 * flat_average "batch" (the authors' code):  e, f = sums of p over a micro-batch / (pairs (flat_padded_length - 1)),
 *                                            the non-linearity once a micro-batch, micro-batches averaged
 * Template and forget answers have a term each: the loss is a sum of a part of e and a part of f.
 */
#include "../method.h"

enum flat_average { FLAT_AVERAGE_PAIR, FLAT_AVERAGE_BATCH };
struct flat_options {
    enum divergence divergence;
    enum flat_average flat_average;
    int64_t flat_padded_length;
};

static const char *const average_names[] = {[FLAT_AVERAGE_PAIR] = "pair", [FLAT_AVERAGE_BATCH] = "batch", NULL};

static const struct option option_rows[] = {
    {.name = "divergence", OPTION_FIELD(struct flat_options, divergence), .choice = divergence_name,
     .initial = "total_variation", .help = "f-divergence between template and forget answers"},
    {.name = "flat_average", OPTION_FIELD(struct flat_options, flat_average), .choices = average_names,
     .initial = "pair",
     .help = "mean probability per pair (the paper) or over the padded batch (the authors' code)"},
    {.name = "flat_padded_length", OPTION_FIELD(struct flat_options, flat_padded_length), .initial = "500", .min = 2,
     .max = OPTION_COUNT_MAX, .help = "batch average: length that every sequence counts as padded to"},
};
static const struct option_group options = {OPTION_GROUP("Method flat", option_rows, struct flat_options),
                                            .source = "Source: FLAT, ICLR 2025, arXiv 2410.11143; divergence and average "
                                                      "are the paper's, 500 is the authors' code on TOFU"};

static void flat_terms(const void *values, const struct loss_scope *scope, struct loss_term term[ROLES])
{
    const struct flat_options *flat = values;
    struct loss_term both = {STATISTIC_PROB_MEAN, .scale = mean_of_sequences(scope, ROLE_ANSWER)};
    if (flat->flat_average == FLAT_AVERAGE_BATCH) {
        const struct loss_scope micro_batch = {.step = scope->micro_batch, .step_sequences = scope->micro_batch_sequences};
        both.statistic = STATISTIC_PROB_BATCH;
        both.scale = 1.0 / scope->micro_batches;
        both.divisor = (double)(flat->flat_padded_length - 1) / mean_of_sequences(&micro_batch, ROLE_ANSWER);
    }
    term[ROLE_TEMPLATE] = term[ROLE_ANSWER] = both;
    term[ROLE_TEMPLATE].function = loss_template(flat->divergence);
    term[ROLE_ANSWER].function = loss_forget(flat->divergence);
}

const struct method method_flat = {
    .name = "flat",
    .summary = "f-divergence between template and forget answers, from forget data alone (FLAT, ICLR 2025)",
    .options = &options,
    .roles = WITH(ROLE_TEMPLATE) | WITH(ROLE_ANSWER),
    .logged = {{"prob_template", "P(template)", ROLE_TEMPLATE, ROLE_PROB, ROLE_SEQUENCES},
               {"prob_forget", "P(forget)", ROLE_ANSWER, ROLE_PROB, ROLE_SEQUENCES},
               {"slope_template", NULL, ROLE_TEMPLATE, ROLE_SLOPE, ROLE_UNITS},
               {"slope_forget", NULL, ROLE_ANSWER, ROLE_SLOPE, ROLE_UNITS}},
    .terms = flat_terms,
};
