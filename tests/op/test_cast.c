/* test_cast.c - every pair of storage types against the rounding of the host, bit for bit, at odd lengths and addresses;
 * special numbers; counted bytes.
 */
#include "../support/op_test.h"

#include <math.h>
#include <string.h>

/* Types that an engine takes: a CPU engine its own, the CUDA kernels float and bf16 in both of their variants. */
static int types_of(const struct op_test *t, enum dtype type[2])
{
    type[0] = op_test_is_cuda(t) ? DTYPE_F32 : t->dtype, type[1] = DTYPE_BF16;
    return op_test_is_cuda(t) ? 2 : 1;
}

static void *array_new(struct op_test *t, enum dtype dtype, int64_t n, int64_t offset)
{
    return (char *)device_new(t, dtype, n + offset) + offset * (int64_t)dtype_size(dtype);
}

static void check(struct op_test *t, enum dtype from, enum dtype to, const double *values, int64_t n, int64_t offset)
{
    void *x = array_new(t, from, n, offset), *y = array_new(t, to, n, offset);
    double *expected = values_new(t, n);
    memcpy(expected, values, (size_t)n * sizeof *values);
    values_round(from, expected, n);
    values_round(to, expected, n);
    device_set(t, from, x, values, n);
    OP_CALL(t, cast, cast_args, .from = from, .to = to, .n = n, .x = x, .y = y);
    assert_same("y", values_from(t, to, y, n), expected, n);
}

static void check_all(void (*run)(struct op_test *t, enum dtype from, enum dtype to))
{
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 2);
        enum dtype type[2];
        const int types = types_of(t, type);
        for (int i = 0; i < types * types; i++)
            run(t, type[i / types], type[i % types]);
        op_test_close(t);
    }
}

static void sizes_run(struct op_test *t, enum dtype from, enum dtype to)
{
    static const int64_t sizes[] = {0, 1, 7, 8, 9, 2048, 5003};
    for (int i = 0; i < 7; i++)
        for (int64_t offset = 0; offset < 2; offset++)
            check(t, from, to, values_random(t, sizes[i] + 1, 3), sizes[i], offset);
}

static void test_sizes(void **state)
{
    (void)state;
    check_all(sizes_run);
}

/* Ties of bf16 go to the even neighbour; the largest float has none. */
static void special_run(struct op_test *t, enum dtype from, enum dtype to)
{
    const double special[] = {0, -0.0, 1, -1, 1 + 0x1p-8, 1 + 0x3p-8, 1 + 0x1p-8 + 0x1p-20, INFINITY, -INFINITY,
                              0x1.fffffep127, -0x1.fep127, 0x1p-126, 0x1p-133, 3e-39};
    check(t, from, to, special, sizeof special / sizeof *special, 0);
    void *x = device_from(t, from, &(double){NAN}, 1), *y = device_from(t, to, special, 1);
    OP_CALL(t, cast, cast_args, .from = from, .to = to, .n = 1, .x = x, .y = y);
    assert_true(isnan(*values_from(t, to, y, 1)));
}

static void test_special(void **state)
{
    (void)state;
    check_all(special_run);
}

static void bytes_run(struct op_test *t, enum dtype from, enum dtype to)
{
    op_test_bytes_begin(t);
    check(t, from, to, values_random(t, 100000, 3), 100000, 0);
    op_test_bytes_check(t, "cast", OP_BYTES(cast, cast_args, .from = from, .to = to, .n = 100000), 0);
}

static void test_bytes(void **state)
{
    (void)state;
    check_all(bytes_run);
}

static void test_contract(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        void *a = device_new(t, t->dtype, 4);
        OP_REFUSES(t, cast, cast_args, .from = DTYPE_F16, .to = t->dtype, .n = 4, .x = a, .y = a);
        OP_REFUSES(t, cast, cast_args, .from = t->dtype, .to = DTYPE_F16, .n = 4, .x = a, .y = a);
        OP_REFUSES(t, cast, cast_args, .from = t->dtype, .to = t->dtype, .n = -1, .x = a, .y = a);
        OP_REFUSES(t, cast, cast_args, .from = t->dtype, .to = t->dtype, .n = 4, .x = a);
        op_test_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sizes), cmocka_unit_test(test_special),
                                       cmocka_unit_test(test_bytes), cmocka_unit_test(test_contract)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
