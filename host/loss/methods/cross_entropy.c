/* cross_entropy.c - the mean negative log-probability of the answer tokens: ordinary fine-tuning.
 *
 * L = -(1/N) sum of logprob over the N answer tokens of the optimizer step.
 */
#include "../method.h"

static void cross_entropy_loss_form(const void *options, const struct step_size *step, int pairs,
                                    struct sequence_args *args)
{
    (void)options;
    (void)pairs;
    args->loss = LOSS_CROSS_ENTROPY;
    args->scale = 1.0 / (double)step->answer_tokens;
}

const struct method method_cross_entropy = {
    .name = "cross_entropy",
    .summary = "mean negative log-probability of the answer tokens",
    .for_finetune = true,
    .loss_form = cross_entropy_loss_form,
};
