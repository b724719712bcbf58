/* flat.c - FLAT (ICLR 2025): maximise the variational f-divergence between template and forget answers.
 *
 * flat_average "pair"  (the paper):          L = mean over pairs of -g*(e) + f*(g*(f)), e and f the mean token
 *                                            probabilities of one pair's two answers
 * flat_average "batch" (the authors' code):  e, f = sums of p over a micro-batch / (pairs (flat_padded_length - 1)),
 *                                            the non-linearity once a micro-batch, micro-batches averaged
 */
#include <string.h>

#include "../../../kernels/loss_form.h"
#include "../method.h"

static void flat_loss_form(const struct settings *settings, const struct step_size *step, int pairs,
                           struct sequence_args *args)
{
    args->divergence = divergence_find(settings->divergence);
    if (!strcmp(settings->flat_average, "pair")) {
        args->loss = LOSS_FLAT_PAIR;
        args->scale = 1.0 / (double)step->pairs;
    } else {
        args->loss = LOSS_FLAT_BATCH;
        args->scale = 1.0 / (double)step->micro_batches;
        args->divisor = (double)pairs * (double)(settings->flat_padded_length - 1);
    }
}

const struct method method_flat = {
    .name = "flat",
    .summary = "f-divergence between template and forget answers, from forget data alone (FLAT, ICLR 2025)",
    .needs_template = true,
    .loss_form = flat_loss_form,
};
