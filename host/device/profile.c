/* profile.c - see profile.h. */
#include "profile.h"

#include <stdlib.h>

#include "../util/clock.h"
#include "device.h"

#define X(op, arguments) #op,
static const char *const op_names[] = {ENGINE_OPS(X)};
#undef X

#define MEASURE_BYTES ((size_t)64 << 20)
#define MEASURE_SIZE 1024
#define MEASURE_TIMES 5

static void attention_cost(const struct profile *profile, const struct attention_args *a, bool backward, double *bytes,
                           double *flops)
{
    *bytes = (double)(backward ? attention_backward_bytes(a->rows, a->heads, a->kv_heads, a->head_dim, a->dtype)
                               : attention_forward_bytes(a->rows, a->heads, a->kv_heads, a->head_dim, a->dtype));
    *flops = (double)(backward ? attention_backward_flops(profile->visible_keys, a->heads, a->head_dim)
                               : attention_forward_flops(profile->visible_keys, a->heads, a->head_dim));
}

/* Bytes and flops of a call, by the rooms' cards. */
static void call_cost(const struct profile *profile, enum engine_op op, const void *arguments, double *bytes, double *flops)
{
    *bytes = *flops = 0;
    switch (op) {
    case ENGINE_OP_embedding_forward: {
        const struct embedding_args *a = arguments;
        *bytes = (double)embedding_forward_bytes(a->rows, a->cols, a->position_table != NULL, a->dtype);
        break;
    }
    case ENGINE_OP_norm_forward: {
        const struct norm_args *a = arguments;
        *bytes = (double)norm_forward_bytes(a->kind, a->rows, a->cols, a->residual != NULL, a->dtype);
        break;
    }
    case ENGINE_OP_norm_backward: {
        const struct norm_backward_args *a = arguments;
        *bytes = (double)norm_backward_bytes(a->kind, a->rows, a->cols, a->dresidual != NULL, a->dtype, a->grad_dtype);
        break;
    }
    case ENGINE_OP_rope: {
        const struct rope_args *a = arguments;
        *bytes = (double)rope_bytes(a->rows, a->heads, a->rotary_dim, a->dtype);
        break;
    }
    case ENGINE_OP_attention_forward: attention_cost(profile, arguments, false, bytes, flops); break;
    case ENGINE_OP_attention_backward:
        attention_cost(profile, &((const struct attention_backward_args *)arguments)->forward, true, bytes, flops);
        break;
    case ENGINE_OP_linear_forward: {
        const struct linear_args *a = arguments;
        *bytes = (double)linear_bytes(a->rows, a->in, a->out, a->dtype, a->out_dtype);
        *flops = (double)linear_flops(a->rows, a->in, a->out);
        break;
    }
    case ENGINE_OP_linear_backward_input: {
        const struct linear_backward_input_args *a = arguments;
        *bytes = (double)linear_bytes(a->rows, a->out, a->in, a->dtype, a->dtype);
        *flops = (double)linear_flops(a->rows, a->in, a->out);
        break;
    }
    case ENGINE_OP_linear_backward_weight: {
        const struct linear_backward_weight_args *a = arguments;
        *bytes = (double)linear_bytes(a->in, a->rows, a->out, a->dtype, a->grad_dtype);
        *flops = (double)linear_flops(a->rows, a->in, a->out);
        break;
    }
    case ENGINE_OP_activation_forward: {
        const struct activation_args *a = arguments;
        *bytes = (double)activation_forward_bytes(a->kind, a->rows, a->cols, a->dtype);
        break;
    }
    case ENGINE_OP_activation_backward: {
        const struct activation_backward_args *a = arguments;
        *bytes = (double)activation_backward_bytes(a->kind, a->rows, a->cols, a->dtype);
        break;
    }
    case ENGINE_OP_logprob_forward: {
        const struct logprob_args *a = arguments;
        *bytes = (double)logprob_forward_bytes(a->rows, a->cols, a->write_gradient, a->dtype);
        break;
    }
    case ENGINE_OP_logprob_backward: {
        const struct logprob_backward_args *a = arguments;
        *bytes = (double)logprob_backward_bytes(a->rows, a->cols, a->dtype);
        break;
    }
    case ENGINE_OP_row_scale: {
        const struct row_scale_args *a = arguments;
        *bytes = (double)row_scale_bytes(a->rows, a->cols, a->dtype);
        break;
    }
    case ENGINE_OP_cast: {
        const struct cast_args *a = arguments;
        *bytes = (double)cast_bytes(a->n, a->from, a->to);
        break;
    }
    case ENGINE_OP_adamw_norm: {
        const struct adamw_norm_args *a = arguments;
        *bytes = (double)adamw_norm_bytes(a->n, a->grad_dtype);
        break;
    }
    case ENGINE_OP_adamw_step: {
        const struct adamw_args *a = arguments;
        *bytes = (double)adamw_step_bytes(a->n, a->dtype, a->grad_dtype, a->master != NULL);
        break;
    }
    case ENGINE_OP_sample: {
        const struct sample_args *a = arguments;
        *bytes = (double)sample_bytes(a->rows, a->cols, a->dtype);
        break;
    }
    default: break; /* embedding_backward, sequence_loss: small, and their size is in device memory */
    }
}

/* Reads the pending marks. */
static int pending_read(struct profile *profile, struct device *device)
{
    int op_status = OP_OK;
    for (int i = 0; i < profile->pendings && op_status == OP_OK; i++) {
        double seconds = 0;
        op_status = device->engine->elapsed(device->context, 2 * i, 2 * i + 1, &seconds);
        profile->row[profile->pending[i]].seconds += seconds;
    }
    profile->pendings = 0;
    return op_status;
}

int profile_op_begin(struct profile *profile, struct device *device)
{
    return device->engine->mark(device->context, 2 * profile->pendings);
}

int profile_op_end(struct profile *profile, struct device *device, enum engine_op op, const void *arguments)
{
    int op_status = device->engine->mark(device->context, 2 * profile->pendings + 1);
    if (op_status != OP_OK)
        return op_status;
    double bytes, flops;
    call_cost(profile, op, arguments, &bytes, &flops);
    struct profile_row *row = &profile->row[op];
    row->calls++;
    row->bytes += bytes;
    row->flops += flops;
    profile->pending[profile->pendings++] = op;
    return profile->pendings == PROFILE_PENDING ? pending_read(profile, device) : OP_OK;
}

int profile_finish(struct profile *profile, struct device *device, struct error *error)
{
    return device_status(device, "elapsed", pending_read(profile, device), error);
}

/* Best of a few copies, read and write counted. */
static int measure_copy(struct profile *profile, struct device *device, void *a, void *b, struct error *error)
{
    for (int i = 0; i < MEASURE_TIMES; i++) {
        double start = clock_seconds();
        int status = device_status(device, "copy", device->engine->copy(device->context, a, b, MEASURE_BYTES), error);
        if (!status)
            status = device_status(device, "synchronize", device->engine->synchronize(device->context), error);
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
            status = device_status(device, "synchronize", device->engine->synchronize(device->context), error);
        if (status)
            return status;
        double rate = (double)linear_flops(MEASURE_SIZE, MEASURE_SIZE, MEASURE_SIZE) / (clock_seconds() - start);
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
