/* test_row_scale.c - rows times numbers of their own: in place, at odd addresses, counted bytes. */
#include "../support/op_test.h"

/* y may be x, or begin at another distance from a 16-byte boundary than x. */
static void product_check(struct op_test *t, int64_t rows, int64_t cols, int64_t x_offset, int64_t y_offset,
                            bool alias)
{
    size_t s = dtype_size(t->dtype);
    double *x = values_random(t, rows * cols + x_offset, 1), *scale = values_random(t, rows, 2);
    values_round(t->stat, scale, rows);
    char *device_x = device_from(t, t->dtype, x, rows * cols + x_offset);
    char *y = alias ? device_x : device_new(t, t->dtype, rows * cols + y_offset);
    device_x += (size_t)x_offset * s;
    y += (size_t)y_offset * s;
    OP_CALL(t, row_scale, row_scale_args, .dtype = t->dtype, .rows = rows, .cols = cols, .x = device_x,
            .scale = device_from(t, t->stat, scale, rows), .y = y);
    for (int64_t k = 0; k < rows * cols; k++)
        x[k] = x[k + x_offset] * scale[k / cols];
    assert_close("y", values_from(t, t->dtype, y, rows * cols), x, rows * cols, 1e-37, t->rounding);
}

static void test_row_scale(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        for (int threads = 1; threads <= 3; threads++) {
            struct op_test *t = op_test_open(op_test_engines[e], threads);
            product_check(t, 91, 517, 0, 0, false);
            product_check(t, 91, 517, 1, 1, true);
            product_check(t, 5, 1032, 3, 2, false);
            product_check(t, 7, 2560, 0, 0, true);
            product_check(t, 3, 1, 0, 0, false);
            op_test_close(t);
        }
}

static void test_bytes(void **state)
{
    (void)state;
    enum { ROWS = 2, COLS = 20000 };
    for (int e = OP_TEST_ENGINES; e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        op_test_bytes_begin(t);
        product_check(t, ROWS, COLS, 0, 0, true);
        op_test_bytes_check(t, "row_scale", OP_BYTES(row_scale, row_scale_args, .dtype = t->dtype, .rows = ROWS,
                            .cols = COLS), 0.01);
        op_test_close(t);
    }
}

static void test_contract(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        void *a = device_new(t, t->dtype, 4);
        OP_REFUSES(t, row_scale, row_scale_args, .dtype = t->dtype, .rows = 1, .cols = 2, .x = a, .y = a);
        OP_REFUSES(t, row_scale, row_scale_args, .dtype = t->dtype, .rows = 1, .x = a, .scale = a, .y = a);
        OP_CALL(t, row_scale, row_scale_args, .dtype = t->dtype, .cols = 2);
        op_test_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_row_scale), cmocka_unit_test(test_bytes),
                                       cmocka_unit_test(test_contract)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
