/* flat.c - FLAT (ICLR 2025): maximise the variational f-divergence between template and forget answers.
 *
 * flat_average "pair"  (the paper):          L = mean over pairs of -g*(e) + f*(g*(f)), e and f the mean token
 *                                            probabilities of one pair's two answers
 * flat_average "batch" (the authors' code):  e, f = sums of p over a micro-batch / (pairs (flat_padded_length - 1)),
 *                                            the non-linearity once a micro-batch, micro-batches averaged
 */
#include "../../../kernels/loss_form.h"
#include "../method.h"

enum flat_average { FLAT_AVERAGE_PAIR, FLAT_AVERAGE_BATCH };
enum flat_scope { FLAT_SCOPE_RANK, FLAT_SCOPE_GLOBAL };
struct flat_options {
    enum divergence divergence;
    enum flat_average flat_average;
    enum flat_scope flat_average_scope;
    int64_t flat_padded_length;
};

static const char *const average_names[] = {[FLAT_AVERAGE_PAIR] = "pair", [FLAT_AVERAGE_BATCH] = "batch", NULL};
static const char *const scope_names[] = {[FLAT_SCOPE_RANK] = "rank", [FLAT_SCOPE_GLOBAL] = "global", NULL};

static const struct option option_rows[] = {
    {.name = "divergence", OPTION_FIELD(struct flat_options, divergence), .choice = divergence_name,
     .initial = "total_variation", .help = "f-divergence between template and forget answers"},
    {.name = "flat_average", OPTION_FIELD(struct flat_options, flat_average), .choices = average_names,
     .initial = "pair",
     .help = "mean probability per pair (the paper) or over the padded batch (the authors' code)"},
    {.name = "flat_average_scope", OPTION_FIELD(struct flat_options, flat_average_scope), .choices = scope_names,
     .initial = "rank", .help = "batch average: the batch of each rank, or of all ranks together"},
    {.name = "flat_padded_length", OPTION_FIELD(struct flat_options, flat_padded_length), .initial = "500", .min = 2,
     .max = OPTION_COUNT_MAX, .help = "batch average: length that every sequence counts as padded to"},
};
static const struct option_group options = {OPTION_GROUP("Method flat", option_rows, struct flat_options),
                                            .source = "Source: FLAT, ICLR 2025, arXiv 2410.11143; divergence and average "
                                                      "are the paper's, 500 is the authors' code on TOFU"};

static bool flat_sums_all_ranks(const void *values)
{
    const struct flat_options *flat = values;
    return flat->flat_average == FLAT_AVERAGE_BATCH && flat->flat_average_scope == FLAT_SCOPE_GLOBAL;
}

static void flat_loss_form(const void *values, const struct step_size *step, int pairs, struct sequence_args *args)
{
    const struct flat_options *flat = values;
    args->divergence = flat->divergence;
    if (flat->flat_average == FLAT_AVERAGE_PAIR) {
        args->loss = LOSS_FLAT_PAIR;
        args->scale = 1.0 / (double)step->pairs;
    } else {
        args->loss = LOSS_FLAT_BATCH;
        args->scale = 1.0 / (double)step->micro_batches;
        args->divisor = (double)pairs * (double)(flat->flat_padded_length - 1);
    }
}

const struct method method_flat = {
    .name = "flat",
    .summary = "f-divergence between template and forget answers, from forget data alone (FLAT, ICLR 2025)",
    .options = &options,
    .needs_template = true,
    .sums_all_ranks = flat_sums_all_ranks,
    .loss_form = flat_loss_form,
};
