/* sample.c - CPU: pick the next token of each row of logits. */
#include "engine/cpu.h"

#include <stdlib.h>

struct candidate {
    double probability; /* not normalised: exp((z - max) / temperature) */
    int32_t id;
};

/* Most probable first, equals by index. */
static int candidate_compare(const void *left, const void *right)
{
    const struct candidate *a = left, *b = right;
    if (a->probability != b->probability)
        return a->probability > b->probability ? -1 : 1;
    return (a->id > b->id) - (a->id < b->id);
}

static const real *row_cap(const real *given, double cap, int64_t cols, real *z)
{
    const real inner = (real)(1 / cap), outer = (real)cap;
#pragma omp simd
    for (int64_t v = 0; v < cols; v++)
        z[v] = soft_cap(given[v], inner, outer);
    return z;
}

static int32_t row_argmax(const real *z, int64_t cols)
{
    real most = -INFINITY;
#pragma omp simd reduction(max : most)
    for (int64_t v = 0; v < cols; v++) {
        const real value = z[v] == z[v] ? z[v] : INFINITY;
        most = value > most ? value : most;
    }
    for (int64_t v = 0; v < cols && isfinite(most); v++)
        if (z[v] == most)
            return (int32_t)v;
    return -1;
}

/* The last member of the nucleus in the order of candidate_compare. A token below (1 - top_p) / cols of the
 * mass is never needed, since all of those together do not reach 1 - top_p: only the others are sorted. */
static struct candidate nucleus_last(const double *probability, int64_t cols, double total, double top_p,
                                     struct candidate *candidates)
{
    int64_t count = 0;
    double least = (1 - top_p) * total / (double)cols, mass = 0;
    for (int64_t v = 0; v < cols; v++)
        if (probability[v] >= least)
            candidates[count++] = (struct candidate){probability[v], (int32_t)v};
    qsort(candidates, (size_t)count, sizeof *candidates, candidate_compare);
    int64_t last = 0;
    for (; last < count - 1; last++) {
        mass += candidates[last].probability;
        if (mass >= top_p * total)
            break;
    }
    return candidates[last];
}

/* Scratch: cols probabilities, then cols candidates. The draw walks the nucleus in order of index. */
static int32_t row_draw(const real *z, const struct sample_args *args, double uniform, double *probability)
{
    int64_t cols = args->cols;
    const int32_t likeliest = row_argmax(z, cols);
    if (likeliest < 0)
        return likeliest;
    double most = (double)z[likeliest], total = 0;
    for (int64_t v = 0; v < cols; v++) {
        probability[v] = exp(((double)z[v] - most) / args->temperature);
        total += probability[v];
    }
    struct candidate last = {0, (int32_t)cols};
    if (args->top_p < 1)
        last = nucleus_last(probability, cols, total, args->top_p, (struct candidate *)(probability + cols));
    double nucleus = 0, walked = 0;
    for (int64_t v = 0; v < cols; v++) {
        if (candidate_compare(&(struct candidate){probability[v], (int32_t)v}, &last) > 0)
            probability[v] = 0;
        nucleus += probability[v];
    }
    int32_t id = 0;
    for (int64_t v = 0; v < cols; v++) {
        if (!(probability[v] > 0))
            continue;
        id = (int32_t)v; /* the last one stands when rounding leaves the walk short of the draw */
        walked += probability[v];
        if (walked > uniform * nucleus)
            break;
    }
    return id;
}

int sample(struct engine_context *context, const struct sample_args *args)
{
    REQUIRE_CONTRACT(sample, args);
    REQUIRE_REAL(args->dtype);
    int64_t rows = args->rows, cols = args->cols;
    if (rows == 0)
        return OP_OK;
    bool draw = args->temperature > 0;
    const size_t capped = args->cap > 0 ? (size_t)cols * sizeof(double) : 0; /* room of the capped logits, before the rest */
    const size_t bytes = capped + (draw ? (size_t)cols * (sizeof(double) + sizeof(struct candidate)) : 0);
    char *scratch = engine_scratch(context, rows, bytes);
    if (!scratch)
        return OP_MEMORY;

#pragma omp parallel for schedule(static) num_threads(engine_threads(context, rows *cols))
    for (int64_t i = 0; i < rows; i++) {
        const real *z = (const real *)args->logits + i * args->stride;
        char *room = scratch + (size_t)i * scratch_stride(bytes);
        if (capped)
            z = row_cap(z, args->cap, cols, (real *)room);
        args->ids[i] = draw ? row_draw(z, args, sample_uniform(args->seed, (uint64_t)args->counters[i]),
                                       (double *)(room + capped))
                            : row_argmax(z, cols);
    }
    return OP_OK;
}
