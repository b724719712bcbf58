/* row_statistics.c - CPU: maximum, mean and the cross-entropy without the target of rows of logits. Sums are double. */
#include "engine/cpu.h"

#include <omp.h>

/* Exponentials are taken in real and in blocks, which the compiler vectorises, and join the double sums. */
enum { SUM_BLOCK = 256 };

/* -(sum over v of e_v (z_v - lse)) / sum of e_v, both without the target, e_v = exp(z_v - most). */
static double rest_entropy(const real *z, int64_t cols, int64_t target, real most)
{
    double sum = 0, weighted = 0;
    for (int64_t begin = 0; begin < cols; begin += SUM_BLOCK) {
        const int64_t count = min_i64(SUM_BLOCK, cols - begin);
        real e[SUM_BLOCK], distance[SUM_BLOCK];
        for (int64_t i = 0; i < count; i++) {
            distance[i] = z[begin + i] - most;
            e[i] = exp_real(distance[i]);
        }
        if (target >= begin && target < begin + count)
            e[target - begin] = 0;
        for (int64_t i = 0; i < count; i++) {
            sum += (double)e[i];
            weighted += (double)e[i] * (double)distance[i];
        }
    }
    return log(sum + exp((double)z[target] - (double)most)) - weighted / sum;
}

/* capped: room for a row, with a cap. */
static void row_compute(const struct row_statistics_args *args, int64_t i, real *capped)
{
    const real *z = (const real *)args->logits + i * args->stride;
    if (args->cap > 0) {
        const real inner = (real)(1 / args->cap), outer = (real)args->cap;
        for (int64_t v = 0; v < args->cols; v++)
            capped[v] = soft_cap(z[v], inner, outer);
        z = capped;
    }
    int64_t best = 0;
    double sum = 0;
    for (int64_t v = 0; v < args->cols; v++) {
        best = z[v] > z[best] ? v : best;
        sum += (double)z[v];
    }
    if (args->most)
        ((real *)args->most)[i] = z[best];
    if (args->argmax)
        args->argmax[i] = (int32_t)best;
    if (args->mean)
        ((real *)args->mean)[i] = (real)(sum / (double)args->cols);
    if (args->rest)
        ((real *)args->rest)[i] = (real)rest_entropy(z, args->cols, args->targets[i], z[best]);
}

int row_statistics(struct engine_context *context, const struct row_statistics_args *args)
{
    REQUIRE_CONTRACT(row_statistics, args);
    REQUIRE_REAL(args->dtype);
    const int threads = engine_threads(context, args->rows * args->cols);
    const size_t bytes = args->cap > 0 ? (size_t)args->cols * sizeof(real) : 0;
    char *scratch = bytes ? engine_scratch(context, threads, bytes) : NULL;
    if (bytes && !scratch)
        return OP_MEMORY;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < args->rows; i++)
        row_compute(args, i, scratch ? (real *)(scratch + (size_t)omp_get_thread_num() * scratch_stride(bytes)) : NULL);
    return OP_OK;
}
