/* test_cache.c - rows into their places of a cache, wide and odd, aligned or not, some into none, the rest of it untouched;
 * counted bytes; the contract.
 */
#include "../support/op_test.h"

#include <string.h>

enum { PLACES = 11 };

static void check(struct op_test *t, int64_t rows, int64_t cols, int64_t in_stride, int64_t out_stride, int64_t offset,
                  bool some)
{
    int32_t places[] = {7, 0, 10, 3, 4, 9, 1};
    for (int i = 0; i < 7 && some; i += 3)
        places[i] = -1;
    const int64_t skip = offset * (int64_t)dtype_size(t->dtype);
    double *in = values_random(t, rows * in_stride + 1, 5), *out = values_random(t, PLACES * out_stride, 6);
    values_round(t->dtype, in, rows * in_stride);
    values_round(t->dtype, out, PLACES * out_stride);
    char *x = (char *)device_new(t, t->dtype, rows * in_stride + offset) + skip;
    char *y = (char *)device_new(t, t->dtype, PLACES * out_stride + offset) + skip;
    device_set(t, t->dtype, x, in, rows * in_stride);
    device_set(t, t->dtype, y, out, PLACES * out_stride);
    OP_CALL(t, cache_write, cache_args, .dtype = t->dtype, .rows = rows, .cols = cols, .in_stride = in_stride,
            .out_stride = out_stride, .row_of = device_bytes(t, places, sizeof places), .in = x, .out = y);
    for (int64_t i = 0; i < rows; i++)
        if (places[i] >= 0)
            memcpy(out + places[i] * out_stride, in + i * in_stride, (size_t)cols * sizeof *out);
    assert_same("out", values_from(t, t->dtype, y, PLACES * out_stride), out, PLACES * out_stride);
}

static void test_places(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 2);
        for (int64_t offset = 0; offset < 2; offset++) {
            check(t, 7, 64, 192, 64, offset, false);
            check(t, 7, 24, 40, 56, offset, true);
            check(t, 5, 7, 22, 9, offset, false);
            check(t, 5, 7, 22, 9, offset, true);
            check(t, 1, 1, 1, 1, offset, false);
            check(t, 0, 4, 4, 4, offset, false);
        }
        op_test_close(t);
    }
}

static void test_bytes(void **state)
{
    (void)state;
    for (int e = OP_TEST_ENGINES; e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        op_test_bytes_begin(t);
        check(t, 7, 384, 960, 384, 0, false);
        op_test_bytes_check(t, "cache_write", OP_BYTES(cache_write, cache_args, .dtype = t->dtype, .rows = 7, .cols = 384), 0);
        op_test_close(t);
    }
}

static void test_contract(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        void *a = device_new(t, t->dtype, 16);
        const struct cache_args good = {.dtype = t->dtype, .rows = 2, .cols = 4, .in_stride = 4, .out_stride = 4, .row_of = a,
                                        .in = a, .out = a};
        OP_REFUSES(t, cache_write, cache_args, .dtype = DTYPE_F16, .rows = 2, .cols = 4, .in_stride = 4, .out_stride = 4,
                   .row_of = a, .in = a, .out = a);
        struct cache_args bad = good;
        bad.rows = -1;
        assert_non_null(cache_write_check(&bad));
        bad = good, bad.cols = 0;
        assert_non_null(cache_write_check(&bad));
        bad = good, bad.in_stride = 3;
        assert_non_null(cache_write_check(&bad));
        bad = good, bad.out_stride = 3;
        assert_non_null(cache_write_check(&bad));
        bad = good, bad.row_of = NULL;
        assert_non_null(cache_write_check(&bad));
        assert_null(cache_write_check(&good));
        op_test_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_places), cmocka_unit_test(test_bytes),
                                       cmocka_unit_test(test_contract)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
