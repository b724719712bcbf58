/* test_logits_combine.c - logits less what a reinforced model raises them by: any alpha, odd addresses, what is not finite,
 * counted bytes.
 */
#include "../support/op_test.h"

#include <math.h>

static void combine_check(struct op_test *t, int64_t count, int64_t z_offset, int64_t r_offset, double alpha)
{
    const size_t s = dtype_size(t->dtype);
    double *z = values_random(t, count + z_offset, 1), *r = values_random(t, count + r_offset, 2);
    values_round(t->dtype, z, count + z_offset);
    values_round(t->dtype, r, count + r_offset);
    char *device_z = device_from(t, t->dtype, z, count + z_offset), *device_r = device_from(t, t->dtype, r, count + r_offset);
    OP_CALL(t, logits_combine, logits_combine_args, .dtype = t->dtype, .count = count, .z = device_z + (size_t)z_offset * s,
            .r = device_r + (size_t)r_offset * s, .alpha = alpha);
    double size = 0;
    for (int64_t i = 0; i < count; i++) {
        const double raised = r[i + r_offset] - z[i + z_offset];
        size = fmax(size, fabs(z[i + z_offset]) + alpha * fabs(raised));
        z[i] = z[i + z_offset] - (raised > 0 ? alpha * raised : 0);
    }
    assert_close("z", values_from(t, t->dtype, device_z + (size_t)z_offset * s, count), z, count,
                 size * 4 * (t->dtype == DTYPE_F64 ? 1.2e-16 : 6e-8), t->rounding);
}

static void test_logits_combine(void **state)
{
    (void)state;
    for (int e = 0; e < OP_TEST_VARIANTS; e++)
        for (int threads = 1; threads <= 3; threads++) {
            struct op_test *t = op_test_open(op_test_engines[e], threads);
            combine_check(t, 91 * 517, 0, 0, 1);
            combine_check(t, 5003, 1, 1, 16);
            combine_check(t, 5003, 3, 2, 0.5);
            combine_check(t, 1, 0, 0, 2);
            combine_check(t, 4096, 0, 0, 0);
            op_test_close(t);
        }
}

/* A token that one of the models excludes, and a NaN. */
static void test_not_finite(void **state)
{
    (void)state;
    static const double z[] = {-INFINITY, -INFINITY, 1, 1, NAN}, r[] = {-INFINITY, 2, -INFINITY, NAN, 1};
    for (int e = 0; e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        void *device_z = device_from(t, t->dtype, z, 5);
        OP_CALL(t, logits_combine, logits_combine_args, .dtype = t->dtype, .count = 5, .z = device_z,
                .r = device_from(t, t->dtype, r, 5), .alpha = 2);
        const double *got = values_from(t, t->dtype, device_z, 5);
        assert_true(got[0] == -INFINITY && got[1] == -INFINITY && got[2] == 1 && got[3] == 1 && isnan(got[4]));
        op_test_close(t);
    }
}

static void test_bytes(void **state)
{
    (void)state;
    enum { COUNT = 40000 };
    for (int e = OP_TEST_ENGINES; e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        op_test_bytes_begin(t);
        combine_check(t, COUNT, 0, 0, 1);
        op_test_bytes_check(t, "logits_combine", OP_BYTES(logits_combine, logits_combine_args, .dtype = t->dtype, .count = COUNT),
                            0.01);
        op_test_close(t);
    }
}

static void test_contract(void **state)
{
    (void)state;
    for (int e = 0; e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        void *a = device_new(t, t->dtype, 4);
        OP_REFUSES(t, logits_combine, logits_combine_args, .dtype = t->dtype, .count = 4, .z = a);
        OP_REFUSES(t, logits_combine, logits_combine_args, .dtype = t->dtype, .count = 4, .z = a, .r = a, .alpha = -1);
        OP_REFUSES(t, logits_combine, logits_combine_args, .dtype = t->dtype, .count = -1, .z = a, .r = a);
        OP_CALL(t, logits_combine, logits_combine_args, .dtype = t->dtype);
        op_test_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_logits_combine), cmocka_unit_test(test_not_finite),
                                       cmocka_unit_test(test_bytes), cmocka_unit_test(test_contract)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
