/* test_nf4_dequantize.c - every code with every kind of scale against what the quantizer of the host says that it stands for, bit for
 * bit; sizes from none to many blocks; counted bytes.
 */
#include "../support/op_test.h"

#include <stdlib.h>

#include "../../host/util/quantize.h"

/* Codes two to a byte, the first in the upper half. */
static uint8_t *codes_pack(const uint8_t *code, int64_t n)
{
    uint8_t *pair = malloc((size_t)n / 2 + 1);
    assert_non_null(pair);
    for (int64_t i = 0; i < n / 2; i++)
        pair[i] = (uint8_t)(code[2 * i] << 4 | code[2 * i + 1]);
    return pair;
}

/* n values become codes as weights do where they are loaded, and come back. */
static void check(struct op_test *t, const double *values, int64_t n)
{
    float *rounded = calloc((size_t)n + 1, sizeof *rounded), *scale = calloc((size_t)n / NF4_BLOCK + 1, sizeof *scale);
    uint8_t *code = calloc((size_t)n + 1, 1);
    double *expected = values_new(t, n + 1);
    assert_true(rounded && scale && code);
    for (int64_t i = 0; i < n; i++)
        rounded[i] = (float)values[i];
    for (int64_t i = 0; i < n; i += NF4_BLOCK)
        scale[i / NF4_BLOCK] = nf4_encode(rounded + i, NF4_BLOCK, code + i);
    nf4_round(rounded, n);
    for (int64_t i = 0; i < n; i++)
        expected[i] = rounded[i];
    values_round(t->dtype, expected, n);
    uint8_t *pair = codes_pack(code, n);
    void *y = device_new(t, t->dtype, n);
    OP_CALL(t, nf4_dequantize, nf4_dequantize_args, .dtype = t->dtype, .n = n, .code = device_bytes(t, pair, (size_t)n / 2),
            .scale = device_bytes(t, scale, (size_t)n / NF4_BLOCK * sizeof *scale), .y = y);
    assert_same("y", values_from(t, t->dtype, y, n), expected, n);
    free(rounded), free(scale), free(code), free(pair);
}

static void sizes_run(struct op_test *t)
{
    static const int64_t sizes[] = {0, 64, 128, 192, 2048, 8192, 8192 + 64, 40000 / 64 * 64};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        check(t, values_random(t, sizes[i] + 1, 3), sizes[i]);
}

/* Each code in each place of a word; a block of zeros, of the largest and of the smallest numbers. */
static void codes_run(struct op_test *t)
{
    enum { BLOCKS = 8 };
    double *values = values_new(t, BLOCKS * NF4_BLOCK);
    static const double scales[] = {1, 0, 3e38, 1e-38, 1e-42, 0.0371, 7, 1 + 0x1p-23};
    for (int block = 0; block < BLOCKS; block++)
        for (int i = 0; i < NF4_BLOCK; i++)
            values[block * NF4_BLOCK + i] = scales[block] * (double)nf4_level[(i * 5 + block) % NF4_LEVELS];
    check(t, values, BLOCKS * NF4_BLOCK);
}

static void bytes_run(struct op_test *t)
{
    enum { N = 100 * 1024 };
    op_test_bytes_begin(t);
    check(t, values_random(t, N, 3), N);
    op_test_bytes_check(t, "nf4_dequantize", OP_BYTES(nf4_dequantize, nf4_dequantize_args, .dtype = t->dtype, .n = N), 0);
}

static void contract_run(struct op_test *t)
{
    static const uint8_t zeros[256] = {0};
    void *y = device_new(t, t->dtype, 128);
    const uint8_t *code = device_bytes(t, zeros, sizeof zeros);
    const float *scale = device_bytes(t, zeros, 16);
    OP_REFUSES(t, nf4_dequantize, nf4_dequantize_args, .dtype = t->dtype, .n = 32, .code = code, .scale = scale, .y = y);
    OP_REFUSES(t, nf4_dequantize, nf4_dequantize_args, .dtype = t->dtype, .n = -64, .code = code, .scale = scale, .y = y);
    OP_REFUSES(t, nf4_dequantize, nf4_dequantize_args, .dtype = t->dtype, .n = 64, .code = code, .y = y);
    OP_REFUSES(t, nf4_dequantize, nf4_dequantize_args, .dtype = t->dtype, .n = 64, .code = code + 8, .scale = scale, .y = y);
    OP_REFUSES(t, nf4_dequantize, nf4_dequantize_args, .dtype = DTYPE_F16, .n = 64, .code = code, .scale = scale, .y = y);
}

static void run_all(void (*run)(struct op_test *t))
{
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 2);
        run(t);
        op_test_close(t);
    }
}

static void test_sizes(void **state) { (void)state, run_all(sizes_run); }
static void test_codes(void **state) { (void)state, run_all(codes_run); }
static void test_bytes(void **state) { (void)state, run_all(bytes_run); }
static void test_contract(void **state) { (void)state, run_all(contract_run); }

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sizes), cmocka_unit_test(test_codes), cmocka_unit_test(test_bytes),
                                       cmocka_unit_test(test_contract)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
