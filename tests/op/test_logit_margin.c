/* test_logit_margin.c - the margin's square and its gradient, after row_statistics as PDU has it: rows that begin anywhere,
 * ties, against differences; counted bytes.
 */
#include "../support/op_test.h"

#include <math.h>
#include <string.h>

struct results {
    double *gradient, *value;
};

/* Rows of logits through row_statistics and logit_margin. */
static struct results margin_run(struct op_test *t, const double *z, int64_t rows, int64_t cols, int64_t stride)
{
    void *logits = device_from(t, t->dtype, z, rows * stride), *most = device_new(t, t->stat, rows);
    void *mean = device_new(t, t->stat, rows), *value = device_new(t, t->stat, rows);
    int32_t zeros[64] = {0};
    void *argmax = device_bytes(t, zeros, sizeof zeros);
    OP_CALL(t, row_statistics, row_statistics_args, .dtype = t->dtype, .rows = rows, .cols = cols, .stride = stride,
            .logits = logits, .most = most, .mean = mean, .argmax = argmax);
    OP_CALL(t, logit_margin, logit_margin_args, .dtype = t->dtype, .rows = rows, .cols = cols, .stride = stride, .most = most,
            .mean = mean, .argmax = argmax, .logits = logits, .value = value);
    return (struct results){values_from(t, t->dtype, logits, rows * stride), values_from(t, t->stat, value, rows)};
}

static void margin_check(struct op_test *t, int64_t rows, int64_t cols, int64_t stride)
{
    double *z = values_random(t, rows * stride, 1);
    if (cols > 8)
        z[5] = z[7] = 9; /* a tie: the lower column */
    values_round(t->dtype, z, rows * stride);
    const struct results r = margin_run(t, z, rows, cols, stride);
    const double rounding = t->dtype == DTYPE_BF16 ? 0x1p-8 : t->dtype == DTYPE_F32 ? 0x1p-24 : 0x1p-53;
    const double eps = t->dtype == DTYPE_F64 ? 0x1p-53 : 0x1p-24;
    for (int64_t i = 0; i < rows; i++) {
        const double *row = z + i * stride;
        long double sum = 0, size = 0;
        int64_t best = 0;
        for (int64_t v = 0; v < cols; v++) {
            sum += row[v], size += fabs(row[v]);
            best = row[v] > row[best] ? v : best;
        }
        const double margin = (double)(row[best] - sum / cols), slack = 16 * eps * (double)(fabs(row[best]) + size / cols);
        if (!(fabs(r.value[i] - margin * margin) <= 2 * margin * slack + slack * slack + 4 * eps * margin * margin))
            fail_msg("value %d is %.9g, expected %.9g", (int)i, r.value[i], margin * margin);
        for (int64_t v = 0; v < stride; v++) {
            const double expected = v >= cols ? row[v] : 2 * margin * ((v == best) - 1.0 / (double)cols);
            const double allowed = v >= cols ? 0 : 2 * slack + (rounding + 4 * eps) * fabs(expected);
            if (!(fabs(r.gradient[i * stride + v] - expected) <= allowed))
                fail_msg("row %d, column %d: %.9g, expected %.9g", (int)i, (int)v, r.gradient[i * stride + v], expected);
        }
    }
}

static void test_logit_margin(void **state)
{
    (void)state;
    for (int e = 0; e < OP_TEST_VARIANTS; e++)
        for (int threads = 1; threads <= 3; threads++) {
            struct op_test *t = op_test_open(op_test_engines[e], threads);
            margin_check(t, 33, 1001, 1001);
            margin_check(t, 5, 517, 523);
            margin_check(t, 1, 2, 2);
            margin_check(t, 2, 1, 1);
            margin_check(t, 3, 8192, 8192);
            op_test_close(t);
        }
}

/* Moving one logit moves the value as the gradient says. */
static void test_differences(void **state)
{
    (void)state;
    enum { COLS = 13 };
    struct op_test *t = op_test_open("cpu64", 1);
    double *z = values_random(t, COLS, 3);
    const struct results r = margin_run(t, z, 1, COLS, COLS);
    for (int v = 0; v < COLS; v++) {
        double value[2];
        for (int side = 0; side < 2; side++) {
            double moved[COLS];
            memcpy(moved, z, sizeof moved);
            moved[v] += side ? 1e-6 : -1e-6;
            value[side] = margin_run(t, moved, 1, COLS, COLS).value[0];
        }
        assert_true(fabs((value[1] - value[0]) / 2e-6 - r.gradient[v]) < 1e-7);
    }
    op_test_close(t);
}

static void test_bytes(void **state)
{
    (void)state;
    enum { ROWS = 2, COLS = 20000 };
    for (int e = OP_TEST_ENGINES; e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        const double most[ROWS] = {3, 4}, mean[ROWS] = {1, 1};
        const int32_t argmax[ROWS] = {7, 19999};
        void *logits = device_new(t, t->dtype, (int64_t)ROWS * COLS), *value = device_new(t, t->stat, ROWS);
        void *device_most = device_from(t, t->stat, most, ROWS), *device_mean = device_from(t, t->stat, mean, ROWS);
        void *device_argmax = device_bytes(t, argmax, sizeof argmax);
        op_test_bytes_begin(t);
        OP_CALL(t, logit_margin, logit_margin_args, .dtype = t->dtype, .rows = ROWS, .cols = COLS, .stride = COLS,
                .most = device_most, .mean = device_mean, .argmax = device_argmax, .logits = logits, .value = value);
        op_test_bytes_check(t, "logit_margin", OP_BYTES(logit_margin, logit_margin_args, .dtype = t->dtype, .rows = ROWS,
                            .cols = COLS), 0.05);
        op_test_close(t);
    }
}

static void test_contract(void **state)
{
    (void)state;
    for (int e = 0; e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        void *a = device_new(t, t->dtype, 4);
        OP_REFUSES(t, logit_margin, logit_margin_args, .dtype = t->dtype, .rows = 1, .cols = 4, .stride = 4, .logits = a);
        OP_REFUSES(t, logit_margin, logit_margin_args, .dtype = t->dtype, .rows = 1, .cols = 4, .stride = 3, .most = a,
                   .mean = a, .argmax = a, .logits = a, .value = a);
        OP_CALL(t, logit_margin, logit_margin_args, .dtype = t->dtype, .cols = 2, .stride = 2);
        op_test_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_logit_margin), cmocka_unit_test(test_differences),
                                       cmocka_unit_test(test_bytes), cmocka_unit_test(test_contract)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
