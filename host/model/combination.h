/* combination.h - weights of several folders as one model:
 *
 *     w = b w_0 + sum_i a_i (w_i - w_0)      task vectors (Ilharco et al. 2023): b = 1; a_i < 0 takes away what was learned
 *     w = b w_0 + sum_i a_i w_i              linear: a weighted sum of models
 *
 * in float32, in the order of the models, and rounded once, to the type that the result is stored in. A struct weights
 * of the first model that has a combination gives its values wherever the files' own would be read (weights.h); buffers
 * that are no weights stay the first model's.
 *
 * Cost: every file is read once; host memory is three pieces of 4 MiB for each one in hand.
 */
#ifndef FLAT_MODEL_COMBINATION_H
#define FLAT_MODEL_COMBINATION_H
#include <stdatomic.h>

#include "weights.h"

struct combination {
    struct weights *weights; /* [count] the other models, opened against the first one's table */
    float *weight;           /* [count] a_i */
    atomic_bool *differs;    /* [count] whether a value read so far is another than the first model's */
    int count;
    float first_weight;      /* b */
    bool task_vectors;
};

/* Opens the models of so many folders; `model` is the first one's table and `directory` its folder. All must be of its family
 * and shapes, and like it in whether lm_head has weights of its own: STATUS_INPUT names what is not. */
int combination_open(struct combination *combination, const struct model *model, const char *directory,
                     const char *const *directories, int count, struct error *error);
/* Elements [first, first + count) of a tensor of the table, as the files have them: from the first model's in `values` to the
 * combined ones. Several threads may ask at once. */
int combination_apply(const struct combination *combination, const struct model *model, int tensor, int64_t first,
                      int64_t count, float *values, struct error *error);
/* Safe after a failure and on {0}. */
void combination_close(struct combination *combination);

#endif
