/* method.h - a training objective: which answers it needs and how sequence sums become a loss.
 *
 * A method is one file host/loss/methods/<method>.c that defines `const struct method method_<method>`; the build lists them.
 * The arithmetic itself (loss, slopes, token weights) is the engine's sequence_loss; a method says which form, with
 * which scale.
 */
#ifndef FLAT_LOSS_METHOD_H
#define FLAT_LOSS_METHOD_H
#include "../../kernels/sequence.h"
#include "../util/error.h"
#include "../util/options.h"

/* What is being averaged over in one optimizer step, over all micro-batches and ranks. */
struct step_size {
    int64_t pairs, answer_tokens, micro_batches;
};

struct method {
    const char *name, *summary;
    bool for_finetune;     /* offered by finetune; otherwise by unlearn */
    const struct option_group *options; /* its own options: flags of the command line while it is chosen; NULL: none */
    bool needs_template;   /* a template answer beside each row's own: sequences 2k and 2k + 1 */
    /* Whether the loss is one of the sums over all ranks. NULL: never. */
    bool (*sums_all_ranks)(const void *options);
    /* Fills loss, divergence, scale and divisor for a micro-batch of `pairs` rows in a step of the given size. */
    void (*loss_form)(const void *options, const struct step_size *step, int pairs,
                      struct sequence_args *args);
};

/* All methods of host/loss/methods/, NULL-ended. Made by the build. */
extern const struct method *const methods[];

/* What is said of the method on a command line. */
struct method_options {
    int method;         /* of those for unlearn, in order */
    const void *values; /* the method's own struct */
};
extern const struct option_group method_option_group;
const struct method *method_chosen(const struct method_options *options);

/* By name; an unknown one is STATUS_USAGE with the known names. */
int method_find(const char *name, bool finetune, const struct method **method, struct error *error);

/* The spec's names of enum divergence, in order; -1 when unknown. */
int divergence_find(const char *name);
/* NULL behind the last. */
const char *divergence_name(int divergence);

#endif
