/* divergence.c - CPU: a row's distribution against the reference's: value, gradient in place, and the target's log-probability.
 * Both rows stay in the cache for their passes: maximum, sum, gradient. Sums over a row are double. Capped logits are copies
 * of the two rows, a pair for each thread.
 */
#include "engine/cpu.h"

#include <omp.h>

/* Exponentials are taken in real and in blocks, which the compiler vectorises, and join the double sums. */
enum { SUM_BLOCK = 256 };

/* A row with one column lowered: what its softmax needs. */
struct distribution {
    int64_t lowered;
    real shift; /* what its logit is lowered by */
    real most;  /* the largest logit */
    double rest, own, sum; /* of exp(z - most): all but the lowered column, that one, both */
};

/* Columns [begin, begin + count) of the row into block. */
static void block_take(const struct distribution *d, const real *z, int64_t begin, int64_t count, real *block)
{
    for (int64_t i = 0; i < count; i++)
        block[i] = z[begin + i];
    if (d->lowered >= begin && d->lowered < begin + count)
        block[d->lowered - begin] -= d->shift;
}

static void sums_compute(struct distribution *d, const real *z, int64_t cols)
{
    real block[SUM_BLOCK];
    d->most = -INFINITY;
    for (int64_t begin = 0; begin < cols; begin += SUM_BLOCK) {
        const int64_t count = min_i64(SUM_BLOCK, cols - begin);
        block_take(d, z, begin, count, block);
        real most = d->most;
#pragma omp simd reduction(max : most)
        for (int64_t i = 0; i < count; i++)
            most = block[i] > most ? block[i] : most;
        d->most = most;
    }
    for (int64_t begin = 0; begin < cols; begin += SUM_BLOCK) {
        const int64_t count = min_i64(SUM_BLOCK, cols - begin);
        block_take(d, z, begin, count, block);
        for (int64_t i = 0; i < count; i++)
            block[i] = exp_real(block[i] - d->most);
        if (d->lowered >= begin && d->lowered < begin + count)
            block[d->lowered - begin] = 0;
        real part = 0;
#pragma omp simd reduction(+ : part)
        for (int64_t i = 0; i < count; i++)
            part += block[i];
        d->rest += (double)part;
    }
    d->own = exp((double)(z[d->lowered] - d->shift) - (double)d->most);
    d->sum = d->rest + d->own;
}

/* exp(-d) - 1 + d for |d| < 1/4, within a rounding of double. */
static real gap_near(real d)
{
    static const double inverse_factorial[] = {1. / 2, 1. / 6, 1. / 24, 1. / 120, 1. / 720, 1. / 5040, 1. / 40320, 1. / 362880,
                                               1. / 3628800, 1. / 39916800, 1. / 479001600, 1. / 6227020800.};
    real sum = 0;
    for (int i = 11; i >= 0; i--)
        sum = sum * -d + (real)inverse_factorial[i];
    return sum * d * d;
}

/* Gradient in place, and the value. apart: log of the sums, z's less a's. */
static double gradient_compute(const struct divergence_args *args, real *z, const real *a, const struct distribution *own,
                               const struct distribution *reference)
{
    const real scale = (real)(1 / own->sum), reference_scale = (real)(1 / reference->sum);
    const real log_sum = (real)log(own->sum), apart = (real)(log(own->sum) - log(reference->sum));
    double value = 0;
    for (int64_t begin = 0; begin < args->cols; begin += SUM_BLOCK) {
        const int64_t count = min_i64(SUM_BLOCK, args->cols - begin);
        real block[SUM_BLOCK], part = 0, *at = z + begin;
        block_take(reference, a, begin, count, block);
#pragma omp simd reduction(+ : part)
        for (int64_t i = 0; i < count; i++) {
            const real x = at[i] - own->most, y = block[i] - reference->most;
            const real p = exp_real(x) * scale, t = exp_real(y) * reference_scale, d = y - x + apart;
            const real far = p - t + t * d, near = t * gap_near(d);
            const real divergence = t > 0 ? (d < (real)0.25 && d > (real)-0.25 ? near : far) : p;
            const real entropy = t > 0 ? t * (log_sum - x) : 0;
            part += args->cross_entropy ? entropy : divergence;
            at[i] = p - t;
        }
        value += (double)part;
    }
    return value;
}

static const real *row_cap(const real *given, double cap, int64_t cols, real *z)
{
    const real inner = (real)(1 / cap), outer = (real)cap;
#pragma omp simd
    for (int64_t v = 0; v < cols; v++)
        z[v] = soft_cap(given[v], inner, outer);
    return z;
}

/* given = the gradient at the capped logits, times the slope of the cap. */
static void row_uncap(real *given, double cap, int64_t cols, const real *gradient)
{
    const real inner = (real)(1 / cap);
#pragma omp simd
    for (int64_t v = 0; v < cols; v++)
        given[v] = gradient[v] * soft_cap_slope(given[v], inner);
}

/* capped: room for two rows, with a cap. */
static void row_compute(const struct divergence_args *args, int64_t i, real *capped)
{
    real *given = (real *)args->logits + i * args->stride, *z = given;
    const real *a = (const real *)args->reference + i * args->reference_stride;
    if (args->cap > 0) {
        row_cap(given, args->cap, args->cols, z = capped);
        a = row_cap(a, args->cap, args->cols, capped + args->cols);
    }
    const real target_logit = z[args->targets[i]];
    struct distribution own = {.lowered = args->targets[i]};
    struct distribution reference = own; /* without a lowered column, one by nothing: equal rows have equal sums then */
    if (args->lowered && args->lowered[i] >= 0)
        reference = (struct distribution){.lowered = args->lowered[i], .shift = (real)args->penalty};
    sums_compute(&own, z, args->cols);
    sums_compute(&reference, a, args->cols);
    const double lse = (double)own.most + log(own.sum);
    ((real *)args->logprob)[i] = (real)(own.own > 0 ? -log1p(own.rest / own.own) : (double)target_logit - lse);
    ((real *)args->p)[i] = (real)(own.own / own.sum);
    ((real *)args->q)[i] = (real)(own.rest / own.sum);
    ((real *)args->lse)[i] = (real)lse;
    ((real *)args->value)[i] = (real)gradient_compute(args, z, a, &own, &reference);
    if (args->cap > 0)
        row_uncap(given, args->cap, args->cols, z);
}

int divergence_forward(struct engine_context *context, const struct divergence_args *args)
{
    REQUIRE_CONTRACT(divergence_forward, args);
    REQUIRE_REAL(args->dtype);
    const int threads = engine_threads(context, args->rows * args->cols);
    const size_t bytes = args->cap > 0 ? 2 * (size_t)args->cols * sizeof(real) : 0;
    char *scratch = bytes ? engine_scratch(context, threads, bytes) : NULL;
    if (bytes && !scratch)
        return OP_MEMORY;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < args->rows; i++)
        row_compute(args, i, scratch ? (real *)(scratch + (size_t)omp_get_thread_num() * scratch_stride(bytes)) : NULL);
    return OP_OK;
}
