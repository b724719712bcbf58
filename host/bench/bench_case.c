/* bench_case.c - a case: its name, cost and call, and its arrays: values by formula, copies on the device; see bench.h. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../util/float16.h"
#include "../util/memory.h"
#include "bench.h"

/* Values repeat after so many elements, at an offset of each tensor's own. A prime: no row length divides it. */
enum { PERIOD = 1048573, SETS_MAX = 64 };

float *bench_normal_make(struct error *error)
{
    float *normal = memory_array(PERIOD, sizeof *normal, error);
    for (uint64_t i = 0; normal && i < PERIOD; i++) {
        double sum = -2;
        for (uint64_t k = 0; k < 4; k++)
            sum += sample_uniform(0xBE7C4, 4 * i + k);
        normal[i] = (float)(sum * sqrt(3));
    }
    return normal;
}

int bench_values(struct bench_case *bench_case, enum dtype dtype, int64_t count, double mean, double deviation)
{
    bench_case->tensor[bench_case->tensors] = (struct bench_tensor){
        .dtype = dtype, .count = count, .mean = mean, .deviation = deviation, .bytes = (size_t)count * dtype_size(dtype)};
    return bench_case->tensors++;
}

int bench_bytes(struct bench_case *bench_case, void *data, size_t bytes)
{
    bench_case->tensor[bench_case->tensors] = (struct bench_tensor){.data = data, .bytes = bytes};
    return bench_case->tensors++;
}

void bench_output(struct bench_case *bench_case, int tensor, double absolute, double relative)
{
    const double spacing = bench_epsilon(bench_case);
    bench_case->output[bench_case->outputs++] = (struct bench_output){tensor, absolute * spacing,
                                                                      relative * spacing};
}

int32_t *bench_integers(int64_t count, int64_t below, struct error *error)
{
    int32_t *out = memory_array((size_t)count, sizeof *out, error);
    for (int64_t i = 0; out && i < count; i++)
        out[i] = (int32_t)(sample_uniform(0x1D5, (uint64_t)i) * (double)below);
    return out;
}

double bench_rounding(enum dtype dtype)
{
    return dtype == DTYPE_F64 ? 0x1p-53 : dtype == DTYPE_F32 ? 0x1p-24 : dtype == DTYPE_BF16 ? 0x1p-8 : 0x1p-11;
}

double bench_epsilon(const struct bench_case *bench_case) { return 2 * bench_rounding(bench_case->stat); }

double bench_value(enum dtype dtype, const void *stored, int64_t i)
{
    switch (dtype) {
    case DTYPE_F64: return ((const double *)stored)[i];
    case DTYPE_F32: return (double)((const float *)stored)[i];
    case DTYPE_BF16: return (double)float_from_bf16(((const uint16_t *)stored)[i]);
    default: return (double)float_from_f16(((const uint16_t *)stored)[i]);
    }
}

static void value_store(enum dtype dtype, void *stored, int64_t i, double value)
{
    switch (dtype) {
    case DTYPE_F64: ((double *)stored)[i] = value; break;
    case DTYPE_F32: ((float *)stored)[i] = (float)value; break;
    case DTYPE_BF16: ((uint16_t *)stored)[i] = bf16_from_float((float)value); break;
    default: ((uint16_t *)stored)[i] = f16_from_float((float)value);
    }
}

/* Entry i of a tensor before rounding. */
static double value_at(const struct bench_case *bench_case, int tensor, int64_t i)
{
    const struct bench_tensor *t = &bench_case->tensor[tensor];
    if (t->deviation == 0)
        return t->mean;
    return t->mean + t->deviation * (double)bench_case->normal[(i + (int64_t)tensor * 99991) % PERIOD];
}

double bench_input(const struct bench_case *bench_case, int tensor, int64_t i)
{
    const struct bench_tensor *t = &bench_case->tensor[tensor];
    double stored;
    value_store(t->dtype, &stored, 0, value_at(bench_case, tensor, i));
    return bench_value(t->dtype, &stored, 0);
}

void bench_compare(struct bench_error *worst, double got, double expected, double allowed)
{
    double difference = got == expected ? 0 : fabs(got - expected), share = difference / allowed;
    if (difference == 0)
        share = 0;
    if (!(share <= worst->of_allowed)) /* a NaN counts as infinitely wrong */
        worst->of_allowed = isnan(share) ? INFINITY : share;
    if (!(difference <= worst->difference))
        worst->difference = isnan(difference) ? INFINITY : difference;
}

size_t bench_case_bytes(const struct bench_case *bench_case)
{
    size_t bytes = 0;
    for (int t = 0; t < bench_case->tensors; t++)
        bytes += bench_case->tensor[t].bytes;
    return bytes;
}

int bench_tensor_fill(struct device *device, const struct bench_case *bench_case, int number, bool in_double, void *to,
                      struct error *error)
{
    const struct bench_tensor *tensor = &bench_case->tensor[number];
    if (tensor->data)
        return device_copy_in(device, to, tensor->data, tensor->bytes, error);
    const enum dtype stored = in_double ? DTYPE_F64 : tensor->dtype;
    const size_t s = dtype_size(stored);
    const int64_t period = tensor->count < PERIOD ? tensor->count : PERIOD;
    void *tile = memory_array((size_t)period, s, error);
    if (!tile)
        return STATUS_MEMORY;
    for (int64_t i = 0; i < period; i++)
        value_store(stored, tile, i, bench_input(bench_case, number, i));
    /* the first period comes from the host, and twice as much from the device at every turn */
    int status = device_copy_in(device, to, tile, (size_t)period * s, error);
    free(tile);
    for (int64_t done = period, count; done < tensor->count && !status; done += count) {
        count = tensor->count - done < done ? tensor->count - done : done;
        status = device_status(device, "copy", device->engine->copy(device->context, (char *)to + (size_t)done * s, to,
                                                                    (size_t)count * s), error);
    }
    return status;
}

/* As many copies as make four times the last cache, and no more than half of the free memory. */
static int sets_choose(struct bench *bench, const struct bench_case *bench_case, int *sets, struct error *error)
{
    size_t available, bytes = bench_case_bytes(bench_case) + BENCH_TENSORS * 64;
    int status = device_status(&bench->device, "memory_free",
                               bench->device.engine->memory_free(bench->device.context, &available), error);
    if (status)
        return status;
    if (bytes > available / 2)
        return error_set(error, STATUS_MEMORY, "%s: needs %.2f GB and %.2f GB are free; leave it out with --filter",
                         bench_case->name, 1e-9 * (double)bytes, 1e-9 * (double)available);
    size_t wanted = 4 * bench->cache_bytes / bytes + 1, most = available / 2 / bytes;
    wanted = wanted < 2 ? 2 : wanted > SETS_MAX ? SETS_MAX : wanted;
    *sets = (int)(wanted < most ? wanted : most);
    return STATUS_OK;
}

int bench_arrays_make(struct bench_arrays *arrays, struct bench *bench, const struct bench_case *bench_case,
                      struct error *error)
{
    *arrays = (struct bench_arrays){0};
    int status = sets_choose(bench, bench_case, &arrays->sets, error);
    if (status)
        return status;
    arrays->pointer = memory_array((size_t)arrays->sets * BENCH_TENSORS, sizeof *arrays->pointer, error);
    status = arrays->pointer ? STATUS_OK : STATUS_MEMORY;
    for (int set = 0; set < arrays->sets && !status; set++)
        for (int t = 0; t < bench_case->tensors && !status; t++) {
            void **to = &arrays->pointer[set * BENCH_TENSORS + t];
            const struct bench_tensor *tensor = &bench_case->tensor[t];
            status = device_alloc(&bench->device, to, tensor->bytes, error);
            if (!status && !set)
                status = bench_tensor_fill(&bench->device, bench_case, t, false, *to, error);
            else if (!status)
                status = device_status(&bench->device, "copy",
                                       bench->device.engine->copy(bench->device.context, *to, arrays->pointer[t],
                                                                  tensor->bytes), error);
        }
    return status;
}

void bench_arrays_free(struct bench_arrays *arrays, struct bench *bench)
{
    for (int i = 0; arrays->pointer && i < arrays->sets * BENCH_TENSORS; i++)
        device_free(&bench->device, arrays->pointer[i]);
    free(arrays->pointer);
    *arrays = (struct bench_arrays){0};
}

bool bench_filter_takes(const char *filter, const char *name)
{
    if (!*filter)
        return true;
    for (const char *part = filter; *part; part += *part == ',') {
        const size_t length = strcspn(part, ",");
        if (length && memmem(name, strlen(name), part, length))
            return true;
        part += length;
    }
    return false;
}

int bench_case_make(struct bench_case *bench_case, const struct bench_op *op, const struct bench_shape *shape, int64_t rows,
                    enum dtype dtype, const float *normal, struct error *error)
{
    *bench_case = (struct bench_case){.op = op, .shape = shape, .rows = rows, .dtype = dtype, .stat = dtype_stat(dtype),
                                      .normal = normal};
    char sizes[80];
    int n = snprintf(sizes, sizeof sizes, "%lld", (long long)rows);
    if (shape->cols)
        n += snprintf(sizes + n, sizeof sizes - (size_t)n, "x%lld", (long long)shape->cols);
    if (shape->depth)
        snprintf(sizes + n, sizeof sizes - (size_t)n, "x%lld", (long long)shape->depth);
    snprintf(bench_case->name, sizeof bench_case->name, "%s/%s/%s/%s", op->name, dtype_name(dtype), shape->model, sizes);
    for (char *space = strchr(bench_case->name, ' '); space; space = strchr(space, ' '))
        *space = '.';
    int status = op->plan(bench_case, error);
    if (status)
        return status;
    char somewhere[BENCH_TENSORS]; /* addresses for the arguments; nothing is read there */
    void *pointer[BENCH_TENSORS];
    for (int i = 0; i < BENCH_TENSORS; i++)
        pointer[i] = &somewhere[i];
    union bench_args args = {0};
    op->args(bench_case, pointer, &args);
    struct op_cost cost = {0};
    switch (op->op) {
#define X(name, arguments) \
    case ENGINE_OP_##name: cost = name##_cost(&args.name); break;
        ENGINE_OPS(X)
#undef X
    default: break;
    }
    bench_case->bytes = cost.bytes, bench_case->flops = cost.flops;
    return STATUS_OK;
}

int bench_call(const struct bench_case *bench_case, struct device *device, void *const *pointer)
{
    union bench_args args = {0};
    bench_case->op->args(bench_case, pointer, &args);
    switch (bench_case->op->op) {
#define X(name, arguments) \
    case ENGINE_OP_##name: return device->engine->name(device->context, &args.name);
        ENGINE_OPS(X)
#undef X
    default: return OP_CONTRACT;
    }
}

void bench_case_free(struct bench_case *bench_case)
{
    for (int t = 0; t < bench_case->tensors; t++)
        free(bench_case->tensor[t].data);
    bench_case->tensors = 0;
}
