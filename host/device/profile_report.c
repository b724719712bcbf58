/* profile_report.c - the limits that a profile is held against, and its table; see profile.h. */
#include <stdlib.h>

#include "../util/clock.h"
#include "device.h"

#define X(op, arguments) #op,
static const char *const op_names[] = {ENGINE_OPS(X)};
#undef X

#define MEASURE_BYTES ((size_t)64 << 20)
#define MEASURE_SIZE 1024
#define MEASURE_TIMES 5

int profile_finish(struct profile *profile, struct device *device, struct error *error)
{
    return device_status(device, "elapsed", profile_marks_read(profile, device), error);
}

/* Best of a few copies, read and write counted. */
static int measure_copy(struct profile *profile, struct device *device, void *a, void *b, struct error *error)
{
    for (int i = 0; i < MEASURE_TIMES; i++) {
        double start = clock_seconds();
        int status = device_status(device, "copy", device->engine->copy(device->context, a, b, MEASURE_BYTES), error);
        if (!status)
            status = device_synchronize(device, error);
        if (status)
            return status;
        double rate = 2 * (double)MEASURE_BYTES / (clock_seconds() - start);
        profile->copy_bytes_per_second = rate > profile->copy_bytes_per_second ? rate : profile->copy_bytes_per_second;
    }
    return STATUS_OK;
}

static int measure_product(struct profile *profile, struct device *device, void *a, void *b, struct error *error)
{
    const struct linear_args args = {.dtype = device->engine->dtype, .out_dtype = device->engine->dtype,
                                     .rows = MEASURE_SIZE, .in = MEASURE_SIZE, .out = MEASURE_SIZE, .x = a, .weight = b,
                                     .y = (char *)a + MEASURE_BYTES / 2, .scale = 1};
    for (int i = 0; i < MEASURE_TIMES; i++) {
        double start = clock_seconds();
        int status = device_run(device, error, linear_forward, &args);
        if (!status)
            status = device_synchronize(device, error);
        if (status)
            return status;
        double rate = linear_forward_cost(&args).flops / (clock_seconds() - start);
        profile->flops_per_second = rate > profile->flops_per_second ? rate : profile->flops_per_second;
    }
    return STATUS_OK;
}

int profile_attach(struct profile *profile, struct device *device, struct error *error)
{
    *profile = (struct profile){0};
    void *a = NULL, *b = NULL;
    int status = device_alloc(device, &a, MEASURE_BYTES, error);
    if (!status)
        status = device_alloc(device, &b, MEASURE_BYTES, error);
    if (!status)
        status = device_zero(device, a, MEASURE_BYTES, error);
    if (!status)
        status = device_zero(device, b, MEASURE_BYTES, error);
    if (!status)
        status = measure_copy(profile, device, a, b, error);
    if (!status)
        status = measure_product(profile, device, a, b, error);
    device_free(device, a);
    device_free(device, b);
    profile->attached = clock_seconds();
    device->profile = profile;
    return status;
}

static int by_time(const void *left, const void *right)
{
    const struct profile_row *const *a = left, *const *b = right;
    return ((*a)->seconds < (*b)->seconds) - ((*a)->seconds > (*b)->seconds);
}

void profile_print(const struct profile *profile, FILE *stream)
{
    const struct profile_row *row[ENGINE_OP_COUNT];
    double total = clock_seconds() - profile->attached, other = total;
    for (int op = 0; op < ENGINE_OP_COUNT; op++) {
        row[op] = &profile->row[op];
        other -= row[op]->seconds;
    }
    qsort(row, ENGINE_OP_COUNT, sizeof *row, by_time);
    fprintf(stream, "%-24s %8s %10s %6s %9s %7s %10s %7s\n", "op", "calls", "ms", "share", "GB/s", "of copy", "GFLOP/s",
            "of gemm");
    for (int i = 0; i < ENGINE_OP_COUNT && row[i]->calls; i++) {
        double bytes = row[i]->bytes / row[i]->seconds, flops = row[i]->flops / row[i]->seconds;
        fprintf(stream, "%-24s %8lld %10.1f %5.1f%% %9.1f %6.1f%% %10.1f %6.1f%%\n", op_names[row[i] - profile->row],
                (long long)row[i]->calls, 1e3 * row[i]->seconds, 100 * row[i]->seconds / total, 1e-9 * bytes,
                100 * bytes / profile->copy_bytes_per_second, 1e-9 * flops, 100 * flops / profile->flops_per_second);
    }
    fprintf(stream, "%-24s %8s %10.1f %5.1f%%\n", "host, copies", "", 1e3 * other, 100 * other / total);
    fprintf(stream, "limits: copy %.1f GB/s, matrix product %.1f GFLOP/s, measured on this device\n",
            1e-9 * profile->copy_bytes_per_second, 1e-9 * profile->flops_per_second);
}
