/* bench_check.c - a case against the double engine on the same inputs; see bench.h. */
#include <math.h>
#include <stdlib.h>

#include "../util/memory.h"
#include "bench.h"

/* What the double engine is given to do at most: about a second of one core. Beyond it a case has fewer rows. */
#define CHECK_FLOPS 2e9
#define CHECK_BYTES 2e8

/* Fills the arrays and calls the op once. */
static int case_run(const struct bench_case *c, const struct bench_case *values, bool in_double, struct device *device,
                    void **pointer, struct error *error)
{
    int status = STATUS_OK;
    for (int t = 0; t < c->tensors && !status; t++) {
        status = device_alloc(device, &pointer[t], c->tensor[t].bytes, error);
        if (!status)
            status = bench_tensor_fill(device, values, t, in_double && !c->tensor[t].data, pointer[t], error);
    }
    return status ? status : device_status(device, c->op->name, bench_call(c, device, pointer), error);
}

/* A tensor on the host; NULL with the error set. */
static void *tensor_read(const struct bench_case *c, int tensor, struct device *device, const void *from,
                         struct error *error)
{
    void *values = memory_array(c->tensor[tensor].bytes, 1, error);
    if (values && device_copy_out(device, values, from, c->tensor[tensor].bytes, error)) {
        free(values);
        return NULL;
    }
    return values;
}

static int output_compare(const struct bench_case *c, const struct bench_case *oracle_case, const struct bench_output *output,
                          struct device *device, void *const *pointer, struct device *oracle, void *const *oracle_pointer,
                          struct bench_error *worst, struct error *error)
{
    const struct bench_tensor *tensor = &c->tensor[output->tensor];
    void *got = tensor_read(c, output->tensor, device, pointer[output->tensor], error);
    double *expected = got ? tensor_read(oracle_case, output->tensor, oracle, oracle_pointer[output->tensor], error) : NULL;
    for (int64_t i = 0; expected && i < tensor->count; i++)
        bench_compare(worst, bench_value(tensor->dtype, got, i), expected[i],
                      output->absolute + (output->relative + bench_rounding(tensor->dtype)) * fabs(expected[i]) + 1e-37);
    const int status = expected ? STATUS_OK : STATUS_MEMORY;
    free(expected);
    free(got);
    return status;
}

static int64_t rows_checked(const struct bench_case *c)
{
    const double share = fmin(1, fmin(CHECK_FLOPS / fmax(c->flops, 1), CHECK_BYTES / fmax(c->bytes, 1)));
    const int64_t rows = (int64_t)((double)c->rows * share);
    return rows < 1 ? 1 : rows;
}

int bench_check(const struct bench_case *bench_case, struct device *device, struct device *oracle,
                struct bench_error *worst, struct error *error)
{
    struct bench_case c, wide = {0};
    void *pointer[BENCH_TENSORS] = {0}, *oracle_pointer[BENCH_TENSORS] = {0};
    int status = bench_case_make(&c, bench_case->op, bench_case->shape, rows_checked(bench_case), bench_case->dtype,
                                 bench_case->normal, error);
    if (!status)
        status = bench_case_make(&wide, c.op, c.shape, c.rows, DTYPE_F64, c.normal, error);
    if (!status)
        status = case_run(&c, &c, false, device, pointer, error);
    if (!status && c.op->check)
        status = c.op->check(&c, device, pointer, worst, error);
    if (!status && !c.op->check)
        status = case_run(&wide, &c, true, oracle, oracle_pointer, error);
    for (int i = 0; i < c.outputs && !status && !c.op->check; i++)
        status = output_compare(&c, &wide, &c.output[i], device, pointer, oracle, oracle_pointer, worst, error);
    for (int t = 0; t < BENCH_TENSORS; t++) {
        device_free(device, pointer[t]);
        device_free(oracle, oracle_pointer[t]);
    }
    bench_case_free(&c);
    bench_case_free(&wide);
    if (status)
        error_prefix(error, "%s", bench_case->name);
    return status;
}
