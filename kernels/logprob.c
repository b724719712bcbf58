/* logprob.c - CPU: log-softmax, gather of the target's log-probability and the gradient at the logits.
 * A row stays in the cache for its three passes: maximum, exponentials (one per logit), gradient. What is left
 * of a row are a few numbers, and these are double. Capped logits are a copy of the row, one for each thread.
 */
#include "engine/cpu.h"

#include <omp.h>

/* Exponentials summed in real before they join the double sum. */
enum { SUM_BLOCK = 1024 };

static real row_max(const real *z, int64_t cols)
{
    real most = -INFINITY;
#pragma omp simd reduction(max : most)
    for (int64_t v = 0; v < cols; v++)
        most = z[v] > most ? z[v] : most;
    return most;
}

/* Sum of exp(z_v - most). */
static double row_sum(const real *z, real most, int64_t cols)
{
    double sum = 0;
    for (int64_t begin = 0; begin < cols; begin += SUM_BLOCK) {
        int64_t end = min_i64(cols, begin + SUM_BLOCK);
        real part = 0;
#pragma omp simd reduction(+ : part)
        for (int64_t v = begin; v < end; v++)
            part += exp_real(z[v] - most);
        sum += (double)part;
    }
    return sum;
}

/* The same, with the exponentials stored in place of the logits. */
static double row_exponentiate(real *z, real most, int64_t cols)
{
    double sum = 0;
    for (int64_t begin = 0; begin < cols; begin += SUM_BLOCK) {
        int64_t end = min_i64(cols, begin + SUM_BLOCK);
        real part = 0;
#pragma omp simd reduction(+ : part)
        for (int64_t v = begin; v < end; v++) {
            real e = exp_real(z[v] - most);
            z[v] = e;
            part += e;
        }
        sum += (double)part;
    }
    return sum;
}

/* Sums over a row of w, w a and w a^2, with a = z_v - most and w = exp(a). */
struct moments {
    double sum, first, second;
};

/* Below this an exponential is 0 in every type; -infinity becomes it, so that 0 times it is 0. */
#define LEAST_APART ((real)-1e4)

static struct moments row_moments(const real *z, real most, int64_t cols)
{
    struct moments m = {0};
    for (int64_t begin = 0; begin < cols; begin += SUM_BLOCK) {
        int64_t end = min_i64(cols, begin + SUM_BLOCK);
        real sum = 0, first = 0, second = 0;
#pragma omp simd reduction(+ : sum, first, second)
        for (int64_t v = begin; v < end; v++) {
            real a = z[v] - most, w = exp_real(a), bounded = a > LEAST_APART ? a : LEAST_APART;
            sum += w;
            first += w * bounded;
            second += w * bounded * bounded;
        }
        m.sum += (double)sum, m.first += (double)first, m.second += (double)second;
    }
    return m;
}

/* The first column with the largest logit. */
static int32_t row_argmax(const real *z, real most, int64_t cols)
{
    for (int64_t v = 0; v < cols; v++)
        if (z[v] == most)
            return (int32_t)v;
    return 0;
}

/* Mean and variance of log p = a - log(sum) under p, from the moments of the row without its target and the target's. */
static void moments_store(const struct logprob_args *args, int64_t i, struct moments m, double own, double target_apart)
{
    double a = fmax(target_apart, (double)LEAST_APART), sum = m.sum + own;
    double first = (m.first + own * a) / sum, second = (m.second + own * a * a) / sum;
    ((real *)args->mean)[i] = (real)(first - log(sum));
    ((real *)args->variance)[i] = (real)(second > first * first ? second - first * first : sum - sum);
}

static void row_cap(const real *given, double cap, int64_t cols, real *z)
{
    const real inner = (real)(1 / cap), outer = (real)cap;
#pragma omp simd
    for (int64_t v = 0; v < cols; v++)
        z[v] = soft_cap(given[v], inner, outer);
}

/* given = the gradient at the capped logits, times the slope of the cap. */
static void row_uncap(real *given, double cap, int64_t cols, const real *gradient)
{
    const real inner = (real)(1 / cap);
#pragma omp simd
    for (int64_t v = 0; v < cols; v++)
        given[v] = gradient[v] * soft_cap_slope(given[v], inner);
}

/* capped: room for a row, with a cap. */
static void row_forward(const struct logprob_args *args, int64_t i, real *capped)
{
    int64_t cols = args->cols, target = args->targets[i];
    real *given = (real *)args->logits + i * args->stride, *z = given;
    if (args->cap > 0)
        row_cap(given, args->cap, cols, z = capped);
    real most = row_max(z, cols), target_logit = z[target];
    if (args->argmax)
        args->argmax[i] = row_argmax(z, most, cols);
    /* Leaves the target out of the sum; put back, or replaced by its gradient, below. */
    z[target] = -INFINITY;
    struct moments moments = {0};
    if (args->mean)
        moments = row_moments(z, most, cols);
    double rest = args->mean ? moments.sum : args->write_gradient ? row_exponentiate(z, most, cols) : row_sum(z, most, cols);
    double own = exp((double)target_logit - (double)most), sum = rest + own, lse = (double)most + log(sum);
    ((real *)args->logprob)[i] = (real)(own > 0 ? -log1p(rest / own) : (double)target_logit - lse);
    ((real *)args->p)[i] = (real)(own / sum);
    ((real *)args->q)[i] = (real)(rest / sum);
    ((real *)args->lse)[i] = (real)lse;
    if (args->mean)
        moments_store(args, i, moments, own, (double)target_logit - (double)most);
    if (!args->write_gradient) {
        z[target] = target_logit;
        return;
    }
    real scale = (real)(1 / sum);
#pragma omp simd
    for (int64_t v = 0; v < cols; v++)
        z[v] *= scale;
    z[target] = -((const real *)args->q)[i];
    if (args->cap > 0)
        row_uncap(given, args->cap, cols, z);
}

int logprob_forward(struct engine_context *context, const struct logprob_args *args)
{
    REQUIRE_CONTRACT(logprob_forward, args);
    REQUIRE_REAL(args->dtype);
    const int64_t rows = args->rows;
    const int threads = engine_threads(context, rows * args->cols);
    const size_t bytes = args->cap > 0 ? (size_t)args->cols * sizeof(real) : 0;
    char *scratch = bytes ? engine_scratch(context, threads, bytes) : NULL;
    if (bytes && !scratch)
        return OP_MEMORY;

#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < rows; i++)
        row_forward(args, i, scratch ? (real *)(scratch + (size_t)omp_get_thread_num() * scratch_stride(bytes)) : NULL);
    return OP_OK;
}
