/* bench_sample.c - picking the next tokens of a batch of prompts (kernels/sample.h). */
#include <math.h>
#include <stdlib.h>

#include "../util/memory.h"
#include "bench.h"

enum { ARGMAX, NUCLEUS, CAPPED };
#define CAP 30
static const struct bench_shape shapes[] = {
    {"llama-2-7b argmax", 32000, 0, ARGMAX},    {"llama-2-7b nucleus", 32000, 0, NUCLEUS},
    {"llama-3.2-1b argmax", 128256, 0, ARGMAX}, {"llama-3.2-1b nucleus", 128256, 0, NUCLEUS},
    {"qwen2-1.5b argmax", 151936, 0, ARGMAX},   {"qwen2-1.5b nucleus", 151936, 0, NUCLEUS},
    {"gemma-2-2b capped argmax", 256000, 0, CAPPED},
    {"capped argmax", 1001, 0, CAPPED, .rows = 7},
    {"argmax", 1, 0, ARGMAX, .rows = 1},   {"argmax", 1001, 0, ARGMAX, .rows = 7},
    {"nucleus", 1, 0, NUCLEUS, .rows = 1}, {"nucleus", 1001, 0, NUCLEUS, .rows = 7},
};
static const int64_t rows[] = {8, 64, 0};
#define TEMPERATURE 0.8
#define TOP_P 0.9
#define SEED 7

enum { LOGITS, COUNTERS, IDS };

static int plan(struct bench_case *c, struct error *error)
{
    int64_t *counters = memory_array((size_t)c->rows, sizeof *counters, error);
    int32_t *ids = bench_integers(c->rows, 1, error);
    bench_values(c, c->dtype, c->rows * c->shape->cols, 0, 3);
    bench_bytes(c, counters, (size_t)c->rows * sizeof *counters);
    bench_bytes(c, ids, (size_t)c->rows * sizeof *ids);
    for (int64_t i = 0; counters && i < c->rows; i++)
        counters[i] = i;
    return counters && ids ? STATUS_OK : STATUS_MEMORY;
}

static void draw_args(const struct bench_case *c, void *const *t, union bench_args *args)
{
    const bool draw = c->shape->variant == NUCLEUS;
    args->sample = (struct sample_args){.dtype = c->dtype, .rows = c->rows, .cols = c->shape->cols,
                                        .stride = c->shape->cols, .logits = t[LOGITS],
                                        .cap = c->shape->variant == CAPPED ? CAP : 0, .temperature = draw ? TEMPERATURE : 0, .top_p = draw ? TOP_P : 1, .seed = SEED,
                                        .counters = draw ? t[COUNTERS] : NULL, .ids = t[IDS]};
}

static int descending(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a < b) - (a > b);
}

/* How far the drawn token's stretch of the walk over the nucleus lies from the draw, as a share of the nucleus: 0 when it
 * is the token that the draw hits. sorted is scratch. */
static double draw_distance(const double *probability, double *sorted, int64_t cols, int32_t id, double uniform)
{
    double total = 0, mass = 0, nucleus = 0, before = 0, least;
    for (int64_t v = 0; v < cols; v++)
        total += sorted[v] = probability[v];
    qsort(sorted, (size_t)cols, sizeof *sorted, descending);
    int64_t last = 0;
    while ((mass += sorted[last]) < TOP_P * total && last < cols - 1)
        last++;
    least = sorted[last];
    int64_t ties = 1; /* tokens as probable as the last member that are members: those of the lowest index */
    while (ties <= last && sorted[last - ties] == least)
        ties++;
    for (int64_t v = 0; v < cols; v++) {
        bool member = probability[v] > least || (probability[v] == least && ties-- > 0);
        before += member && v < id ? probability[v] : 0;
        nucleus += member ? probability[v] : 0;
    }
    double low = before / nucleus, high = (before + probability[id]) / nucleus;
    if (probability[id] < least * (1 - 1e-5))
        return 1; /* no member of the nucleus */
    return fmax(0, fmax(low - uniform, uniform - high));
}

/* The largest logit, the lowest index among equals; or the token that the walk of the contract reaches, which another
 * rounding may move by a token. */
static int check(const struct bench_case *c, struct device *device, void *const *pointer, struct bench_error *worst,
                 struct error *error)
{
    const int64_t cols = c->shape->cols;
    double *z = memory_array((size_t)cols, sizeof *z, error), *sorted = memory_array((size_t)cols, sizeof *sorted, error);
    int status = z && sorted ? STATUS_OK : STATUS_MEMORY;
    for (int64_t k = 0; k < 4 && !status; k++) {
        int64_t row = k * (c->rows - 1) / 3, best = 0;
        int32_t id = -1;
        status = device_copy_out(device, &id, (const int32_t *)pointer[IDS] + row, sizeof id, error);
        for (int64_t v = 0; v < cols; v++) {
            z[v] = bench_input(c, LOGITS, row * cols + v);
            best = z[v] > z[best] ? v : best;
        }
        double most = z[best];
        if (id < 0 || id >= cols)
            bench_compare(worst, id, (double)best, 0);
        else if (c->shape->variant == ARGMAX)
            bench_compare(worst, id, (double)best, 0.5);
        else if (c->shape->variant == CAPPED) /* of logits within a spacing of the cap the first */
            bench_compare(worst, z[id], most, 1e-4);
        else {
            for (int64_t v = 0; v < cols; v++)
                z[v] = exp((z[v] - most) / TEMPERATURE);
            bench_compare(worst, draw_distance(z, sorted, cols, id, sample_uniform(SEED, (uint64_t)row)), 0, 1e-4);
        }
    }
    free(z);
    free(sorted);
    return status;
}

BENCH_OP(sample, rows, shapes, plan, draw_args, check);
