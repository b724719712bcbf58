/* sample.h - pick the next token of each row of logits.
 *
 * WHAT      temperature == 0: argmax, the lowest index among equals
 *           cap: z = cap tanh(z' / cap) of the logits z' given, in all of this; an infinite one is then the cap
 *           otherwise nucleus sampling: softmax(z / temperature), the smallest set of most probable tokens
 *           whose mass reaches top_p (ties by index), one uniform draw from (seed, counters[i]) that walks
 *           this set in order of index
 *           -1 for a row that holds NaN or whose largest logit is not finite
 * SHAPES    logits [rows, stride], cols used   ids [rows]   counters [rows]
 * DTYPES    logits: dtype.  arithmetic in stat
 * BYTES     every logit read once for argmax; nucleus sampling reads a row several times
 * NUMERICS  two engines draw the same token unless rounding decides between two
 * SAME BITS yes: the draw depends on (seed, counter) only, not on the batch
 * SEEN IN   generation
 */
#ifndef FLAT_KERNELS_SAMPLE_H
#define FLAT_KERNELS_SAMPLE_H
#include <math.h>

#include "engine/op.h"
#ifdef __cplusplus
extern "C" {
#endif

struct sample_args {
    enum dtype dtype;
    int64_t rows, cols, stride;
    const void *logits;
    double cap; /* 0: none */
    double temperature, top_p;
    uint64_t seed;
    const int64_t *counters; /* NULL when temperature == 0 */
    int32_t *ids;
};

static inline const char *sample_check(const struct sample_args *args)
{
    if (args->rows < 0 || args->rows > INT32_MAX || args->cols <= 0 || args->cols > INT32_MAX ||
        args->stride < args->cols)
        return "rows is negative or above 2^31 - 1, cols not positive or stride below cols";
    if (!(args->temperature >= 0))
        return "temperature is negative";
    if (!(args->cap >= 0 && args->cap < (double)HUGE_VALF))
        return "cap is negative or not finite";
    if (args->rows == 0)
        return NULL;
    if (!(args->logits && args->ids))
        return "logits or ids is NULL";
    return args->temperature > 0 && !(args->counters && args->top_p > 0) ? "counters is NULL or top_p not positive" : NULL;
}

static inline struct op_cost sample_cost(const struct sample_args *args)
{
    return (struct op_cost){(double)args->rows * ((double)args->cols * (double)dtype_size(args->dtype) + 4), 0};
}

#ifdef __CUDACC__
#define SAMPLE_INLINE static __host__ __device__ inline
#else
#define SAMPLE_INLINE static inline
#endif

/* The uniform draw in [0, 1) of (seed, counter): 53 bits of a splitmix64 of both, the same in every engine. */
SAMPLE_INLINE double sample_uniform(uint64_t seed, uint64_t counter)
{
    uint64_t z = seed * 0x9E3779B97F4A7C15ull + counter * 0xD1342543DE82EF95ull + 0x2545F4914F6CDD1Dull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    z ^= z >> 31;
    return (double)(z >> 11) * 0x1p-53;
}

int sample(struct engine_context *context, const struct sample_args *args);

#ifdef __cplusplus
}
#endif
#endif
