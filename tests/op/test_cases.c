/* test_cases.c - every op on the test shapes of its table (host/bench/bench_<op>.c), each engine and type against the double
 * engine on the same inputs. A failure names the case.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../../host/bench/bench.h"
#include "../support/op_test.h"
#include "../support/tiny_model.h"

/* The cases of an op that are for the tests; how many there are. */
static int op_check(const struct bench_op *op, enum dtype dtype, struct device *device, struct device *oracle,
                    const float *normal)
{
    int checked = 0;
    for (int s = 0; s < op->shapes; s++) {
        struct error error = {0};
        struct bench_error worst = {0};
        struct bench_case c;
        if (!op->shape[s].rows)
            continue;
        int status = bench_case_make(&c, op, &op->shape[s], op->shape[s].rows, dtype, normal, &error);
        if (!status)
            status = bench_check(&c, device, oracle, &worst, &error);
        if (status)
            fail_msg("%s: %s", device->engine->name, error.text);
        if (!(worst.of_allowed <= 1))
            fail_msg("%s on %s: off by %g, %g times what is allowed", c.name, device->engine->name, worst.difference,
                     worst.of_allowed);
        bench_case_free(&c);
        checked++;
    }
    return checked;
}

static void engine_check(const char *name, enum dtype dtype)
{
    struct error error = {0};
    struct device device, oracle;
    tiny_device_open(&device, name, 2);
    tiny_device_open(&oracle, "cpu64", 2);
    float *normal = bench_normal_make(&error);
    assert_non_null(normal);
    int ops = 0;
    for (const struct bench_op *const *op = bench_ops; *op; op++, ops++)
        if (!op_check(*op, dtype, &device, &oracle, normal))
            fail_msg("%s has no case for the tests", (*op)->name);
    assert_int_equal(ops, ENGINE_OP_COUNT - 1); /* all but adamw_prepare, which has no arrays */
    free(normal);
    device_close(&device);
    device_close(&oracle);
}

static void test_cpu(void **state)
{
    (void)state;
    op_test_cpu_only();
    engine_check("cpu", DTYPE_F32);
}

static void test_cuda_f32(void **state)
{
    (void)state;
    engine_check("emu-f32", DTYPE_F32);
}

static void test_cuda_bf16(void **state)
{
    (void)state;
    engine_check("emu-bf16", DTYPE_BF16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cpu), cmocka_unit_test(test_cuda_f32),
                                       cmocka_unit_test(test_cuda_bf16)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
