/* bench_time.c - times calls of a case, and the limits of the device; see bench.h. */
#include <math.h>
#include <stdlib.h>

#include "../util/clock.h"
#include "../util/memory.h"
#include "bench.h"

#define SAMPLE_SECONDS 1e-3 /* calls shorter than this are timed several at a time */
#define CALLS_MAX 64
#define LIMIT_BYTES ((int64_t)64 << 20)
#define LIMIT_BYTES_GPU ((int64_t)512 << 20)
#define LIMIT_SIZE 1024
#define LIMIT_SIZE_GPU 8192
#define LIMIT_SAMPLES 40
#define LIMIT_SAMPLES_QUICK 10

static int compare_seconds(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

void bench_statistics(double *sample, int samples, int calls, struct bench_timing *timing)
{
    qsort(sample, (size_t)samples, sizeof *sample, compare_seconds);
    timing->samples = samples;
    timing->calls = calls;
    timing->median = (sample[samples / 2] + sample[(samples - 1) / 2]) / 2 / calls;
    timing->p10 = sample[(samples - 1) / 10] / calls;
    timing->p90 = sample[(samples - 1) - (samples - 1) / 10] / calls;
}

/* What is timed: call number `turn` of a user's. An op_status. */
typedef int (*timed_call)(void *user, int64_t turn);

static int sample_take(struct bench *bench, timed_call call, void *user, int64_t *turn, int calls, double *seconds,
                       const char *name, struct error *error)
{
    struct device *device = &bench->device;
    int status = device_status(device, "mark", device->engine->mark(device->context, 0), error);
    for (int i = 0; i < calls && !status; i++)
        status = device_status(device, name, call(user, (*turn)++), error);
    if (!status)
        status = device_status(device, "mark", device->engine->mark(device->context, 1), error);
    if (!status)
        status = device_status(device, "elapsed", device->engine->elapsed(device->context, 0, 1, seconds), error);
    return status;
}

static int calls_time(struct bench *bench, const char *name, timed_call call, void *user, int samples, double warm_up,
                      double budget, struct bench_timing *timing, struct error *error)
{
    double *sample = memory_array((size_t)samples, sizeof *sample, error), begin = clock_seconds(), one = 0;
    if (!sample)
        return STATUS_MEMORY;
    int64_t turn = 0;
    int status = STATUS_OK, taken = 0;
    do /* the last warm-up call, on touched memory, tells how many calls make a sample */
        status = sample_take(bench, call, user, &turn, 1, &one, name, error);
    while (!status && clock_seconds() - begin < warm_up);
    int calls = one >= SAMPLE_SECONDS ? 1 : (int)fmin(CALLS_MAX, ceil(SAMPLE_SECONDS / fmax(one, 1e-9)));
    for (begin = clock_seconds(); taken < samples && !status; taken++) {
        if (budget > 0 && taken >= BENCH_SAMPLES_MIN && clock_seconds() - begin > budget)
            break;
        status = sample_take(bench, call, user, &turn, calls, &sample[taken], name, error);
    }
    if (!status)
        bench_statistics(sample, taken, calls, timing);
    free(sample);
    return status;
}

struct timed_case {
    struct bench *bench;
    const struct bench_case *bench_case;
    const struct bench_arrays *arrays;
};

static int case_call(void *user, int64_t turn)
{
    const struct timed_case *timed = user;
    int set = (int)(turn % timed->arrays->sets);
    return bench_call(timed->bench_case, &timed->bench->device, timed->arrays->pointer + (size_t)set * BENCH_TENSORS);
}

int bench_time(struct bench *bench, const struct bench_case *bench_case, const struct bench_arrays *arrays,
               struct bench_timing *timing, struct error *error)
{
    const struct bench_options *options = bench->options;
    struct timed_case timed = {bench, bench_case, arrays};
    const int samples = options->samples ? (int)options->samples : BENCH_SAMPLES;
    const double warm_up = options->quick ? 0.02 : options->time_budget > 0 ? fmin(0.2, options->time_budget) : 0.2;
    return calls_time(bench, bench_case->op->name, case_call, &timed, samples, warm_up, options->time_budget, timing, error);
}

/* ---- limits ---- */

struct limit_call {
    struct device *device;
    enum { LIMIT_COPY, LIMIT_READ, LIMIT_SCALE, LIMIT_PRODUCT } kind;
    enum dtype dtype;
    void *a, *b, *c;
    int64_t bytes, size;
};

static int limit_run(void *user, int64_t turn)
{
    const struct limit_call *l = user;
    const struct engine *engine = l->device->engine;
    (void)turn;
    switch (l->kind) {
    case LIMIT_COPY: return engine->copy(l->device->context, l->a, l->b, (size_t)l->bytes);
    case LIMIT_READ:
        return engine->adamw_norm(l->device->context, &(struct adamw_norm_args){DTYPE_F32, l->bytes / 4, l->b, l->c, false});
    case LIMIT_SCALE:
        return engine->row_scale(l->device->context, &(struct row_scale_args){DTYPE_F32, l->bytes / 4096, 1024, l->b, l->c,
                                                                              l->a});
    default:
        return engine->linear_forward(l->device->context,
                                      &(struct linear_args){.dtype = l->dtype, .out_dtype = l->dtype, .rows = l->size,
                                                            .in = l->size, .out = l->size, .x = l->a, .weight = l->b,
                                                            .y = l->c, .scale = 1});
    }
}

static int limit_time(struct bench *bench, struct limit_call *call, int kind, double work, double *rate, struct error *error)
{
    struct bench_timing timing = {0};
    call->kind = kind;
    const int samples = bench->options->quick ? LIMIT_SAMPLES_QUICK : LIMIT_SAMPLES;
    int status = calls_time(bench, "limit", limit_run, call, samples, 0.02, 0, &timing, error);
    if (!status) /* what the device can do: the samples that nothing else disturbed */
        *rate = work / timing.p10;
    return status;
}

/* Random operands: a product of zeros draws less power and runs faster on a GPU. */
static int product_fill(struct bench *bench, enum dtype dtype, void *to, int64_t count, struct error *error)
{
    struct bench_case values = {.normal = bench->normal};
    bench_values(&values, dtype, count, 0, 1);
    return bench_tensor_fill(&bench->device, &values, 0, false, to, error);
}

static int product_measure(struct bench *bench, enum dtype dtype, struct error *error)
{
    const int64_t size = bench->gpu ? LIMIT_SIZE_GPU : LIMIT_SIZE;
    struct limit_call call = {.device = &bench->device, .dtype = dtype, .size = size};
    void **const operand[3] = {&call.a, &call.b, &call.c};
    int status = STATUS_OK;
    for (int i = 0; i < 3 && !status; i++)
        status = device_alloc(&bench->device, operand[i], (size_t)(size * size) * dtype_size(dtype), error);
    for (int i = 0; i < 2 && !status; i++)
        status = product_fill(bench, dtype, *operand[i], size * size, error);
    if (!status)
        status = limit_time(bench, &call, LIMIT_PRODUCT, 2 * (double)size * (double)size * (double)size,
                            &bench->limits.product[dtype], error);
    for (int i = 0; i < 3; i++)
        device_free(&bench->device, *operand[i]);
    return status;
}

int bench_limits_measure(struct bench *bench, struct error *error)
{
    struct limit_call call = {.device = &bench->device, .bytes = bench->gpu ? LIMIT_BYTES_GPU : LIMIT_BYTES};
    const double bytes = (double)call.bytes;
    int status = device_alloc(&bench->device, &call.a, (size_t)call.bytes, error);
    if (!status)
        status = device_alloc(&bench->device, &call.b, (size_t)call.bytes, error);
    if (!status)
        status = device_alloc(&bench->device, &call.c, (size_t)(call.bytes / 1024), error);
    if (!status)
        status = product_fill(bench, DTYPE_F32, call.b, call.bytes / 4, error);
    if (!status) /* the factors of row_scale, one per row of 4,096 bytes */
        status = product_fill(bench, DTYPE_F32, call.c, call.bytes / 4096, error);
    if (!status)
        status = limit_time(bench, &call, LIMIT_COPY, 2 * bytes, &bench->limits.copy, error);
    if (!status)
        status = limit_time(bench, &call, LIMIT_SCALE, 2 * bytes, &bench->limits.scale, error);
    if (!status)
        status = limit_time(bench, &call, LIMIT_READ, bytes, &bench->limits.read, error);
    device_free(&bench->device, call.a);
    device_free(&bench->device, call.b);
    device_free(&bench->device, call.c);
    const enum dtype own = bench->device.engine->dtype;
    if (!status)
        status = product_measure(bench, own, error);
    if (!status && bench->options->float32 && own != DTYPE_F32)
        status = product_measure(bench, DTYPE_F32, error);
    return status;
}

double bench_limit_seconds(const struct bench *bench, const struct bench_case *bench_case)
{
    const struct bench_limits *limits = &bench->limits;
    double memory = fmax(limits->copy, fmax(limits->read, limits->scale));
    return fmax(bench_case->bytes / memory, bench_case->flops / limits->product[bench_case->dtype]);
}
