/* logits_combine.h - the logits of a model from which those that a reinforced one raises are taken back.
 *
 * WHAT      z = z - alpha max(0, r - z): where training further on a text has raised a logit (r > z), what it was raised by is
 *           subtracted alpha times ("Who's Harry Potter?", arXiv 2310.02238)
 * SHAPES    z, r [count]
 * DTYPES    z, r: dtype
 * BYTES     s each of z and r to read, s to write z in place
 * NUMERICS  in stat, then one rounding; the product may be fused into the sum. A NaN of r alone counts as no more than z
 * SAME BITS yes
 * SEEN IN   scoring and decoding with a reinforced model
 */
#ifndef FLAT_KERNELS_LOGITS_COMBINE_H
#define FLAT_KERNELS_LOGITS_COMBINE_H
#include "engine/op.h"
#ifdef __cplusplus
extern "C" {
#endif

struct logits_combine_args {
    enum dtype dtype;
    int64_t count;
    void *z;
    const void *r;
    double alpha;
};

static inline const char *logits_combine_check(const struct logits_combine_args *args)
{
    if (args->count < 0 || !(args->alpha >= 0))
        return "count or alpha is negative";
    return args->count && !(args->z && args->r) ? "z or r is NULL" : NULL;
}

static inline struct op_cost logits_combine_cost(const struct logits_combine_args *args)
{
    return (struct op_cost){3 * (double)args->count * (double)dtype_size(args->dtype), 0};
}

int logits_combine(struct engine_context *context, const struct logits_combine_args *args);

#ifdef __cplusplus
}
#endif
#endif
