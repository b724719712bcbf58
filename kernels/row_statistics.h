/* row_statistics.h - what else methods want to know of a row of logits, beside what logprob.h gives.
 *
 * WHAT      For row i with logits z, target y, p = softmax(z):
 *             most, argmax   the largest logit and its column, the lowest among equals
 *             mean           of the logits
 *             rest           -(1 / (1 - p_y)) sum over v other than y of p_v log p_v: the cross-entropy of p against p
 *                            without the target, formed from sums that leave the target out
 *           cap: all of it of z = cap tanh(z' / cap), z' the logits given
 *           Each is given where its array is not NULL. Before logprob_forward, which may write over the logits.
 * SHAPES    logits [rows, stride], cols used   targets, most, argmax, mean, rest [rows]
 * DTYPES    logits: dtype.  most, mean, rest: stat.  targets, argmax: int32
 * BYTES     s a logit on a CPU; a GPU reads a row twice, the second time from its caches while rows are short
 * NUMERICS  most exact; mean and rest within 8 eps of stat of the sum of absolute values; a cap adds 2 eps cap to most and
 *           mean, and to rest 4 eps cap times 1 + the deviation of log p from its mean
 * SAME BITS yes: fixed reduction tree a row
 * NEEDS     0 <= targets[i] < cols where rest is wanted (checked by the host when the batch is built)
 * SEEN IN   CE-U (rest), PDU (most, argmax, mean)
 */
#ifndef FLAT_KERNELS_ROW_STATISTICS_H
#define FLAT_KERNELS_ROW_STATISTICS_H
#include <math.h>

#include "engine/op.h"
#ifdef __cplusplus
extern "C" {
#endif

struct row_statistics_args {
    enum dtype dtype;
    int64_t rows, cols, stride; /* stride in elements */
    const void *logits;
    double cap; /* 0: none */
    const int32_t *targets; /* for rest */
    void *most, *mean, *rest;
    int32_t *argmax;
};

static inline const char *row_statistics_check(const struct row_statistics_args *args)
{
    if (args->rows < 0 || args->cols <= 0 || args->stride < args->cols)
        return "rows is negative, cols not positive or stride below cols";
    if (!(args->cap >= 0 && args->cap < (double)HUGE_VALF))
        return "cap is negative or not finite";
    if (args->rows && !args->logits)
        return "logits is NULL";
    return args->rows && args->rest && !args->targets ? "rest without targets" : NULL;
}

static inline struct op_cost row_statistics_cost(const struct row_statistics_args *args)
{
    return (struct op_cost){(double)args->rows * (double)args->cols * (double)dtype_size(args->dtype), 0};
}

int row_statistics(struct engine_context *context, const struct row_statistics_args *args);

#ifdef __cplusplus
}
#endif
#endif
