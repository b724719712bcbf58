/* test_sample.c - argmax and its ties; the frequencies of nucleus sampling against the probabilities; logits that a cap
 * bends; draws that depend on (seed, counter) alone; CUDA draw for draw against the CPU, and its counted bytes.
 */
#include "../support/op_test.h"

#include <math.h>
#include <string.h>

enum { DRAWS = 40000 };

/* Samples every row of logits [rows, stride] with counters first_counter + i. */
static void capped_sample(struct op_test *t, const double *logits, int64_t rows, int64_t cols, int64_t stride, double cap,
                          double temperature, double top_p, int64_t first_counter, int32_t *ids)
{
    int64_t counters[DRAWS];
    for (int64_t i = 0; i < rows; i++)
        counters[i] = first_counter + i, ids[i] = -1;
    void *device_ids = device_bytes(t, ids, (size_t)rows * sizeof *ids);
    OP_CALL(t, sample, sample_args, .dtype = t->dtype, .rows = rows, .cols = cols, .stride = stride,
            .logits = device_from(t, t->dtype, logits, rows * stride), .cap = cap, .temperature = temperature, .top_p = top_p,
            .seed = 11, .counters = temperature > 0 ? device_bytes(t, counters, (size_t)rows * sizeof *counters) : NULL,
            .ids = device_ids);
    op_test_status(t, "copy_out", t->engine->copy_out(t->context, ids, device_ids, (size_t)rows * sizeof *ids));
}

static void rows_sample(struct op_test *t, const double *logits, int64_t rows, int64_t cols, int64_t stride,
                        double temperature, double top_p, int64_t first_counter, int32_t *ids)
{
    capped_sample(t, logits, rows, cols, stride, 0, temperature, top_p, first_counter, ids);
}

/* What the cap leaves is what counts: of logits far beyond it the lowest index, and else the largest. */
static void test_capped_argmax(void **state)
{
    (void)state;
    for (int e = 0; e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        const double rows[] = {1, 700, 2, 900, -5, 3, 4, 3.5, INFINITY, 2, 2000, INFINITY};
        int32_t ids[3];
        capped_sample(t, rows, 3, 4, 4, 5, 0, 1, 0, ids);
        assert_true(ids[0] == 1 && ids[1] == 2 && ids[2] == 0);
        op_test_close(t);
    }
}

static void test_argmax(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        for (int64_t cols = 1; cols < 9000; cols += cols < 100 ? 13 : 4003) {
            struct op_test *t = op_test_open(op_test_engines[e], 2);
            enum { ROWS = 16 };
            int64_t stride = cols + 3;
            double *logits = values_random(t, ROWS * stride, 1);
            int32_t ids[ROWS];
            for (int64_t i = 0; i < ROWS; i++) {
                for (int64_t v = cols; v < stride; v++)
                    logits[i * stride + v] = 1000; /* beyond cols */
                logits[i * stride + i * 5 % cols] = 50; /* a tie, or the same place twice */
                logits[i * stride + i * 11 % cols] = 50;
            }
            rows_sample(t, logits, ROWS, cols, stride, 0, 1, 0, ids);
            for (int64_t i = 0; i < ROWS; i++) {
                int64_t a = i * 5 % cols, b = i * 11 % cols;
                assert_int_equal(ids[i], a < b ? a : b);
            }
            for (int64_t i = 0; i < ROWS * stride; i++)
                logits[i] = -1e30; /* equals everywhere */
            rows_sample(t, logits, ROWS, cols, stride, 0, 1, 0, ids);
            assert_int_equal(ids[ROWS - 1], 0);
            op_test_close(t);
        }
}

/* Draws many times from one distribution; counts against the probabilities of the nucleus, within 5 sigma. */
static void distribution_check(struct op_test *t, const double *row, int64_t cols, double temperature, double top_p,
                               double cap, const double *expected)
{
    static int32_t ids[DRAWS];
    double count[16] = {0}, *logits = values_new(t, DRAWS * cols);
    for (int64_t i = 0; i < DRAWS; i++)
        memcpy(logits + i * cols, row, (size_t)cols * sizeof *row);
    capped_sample(t, logits, DRAWS, cols, cols, cap, temperature, top_p, 0, ids);
    for (int64_t i = 0; i < DRAWS; i++) {
        assert_in_range(ids[i], 0, cols - 1);
        count[ids[i]]++;
    }
    for (int64_t v = 0; v < cols; v++) {
        double sigma = sqrt(DRAWS * expected[v] * (1 - expected[v])), mean = DRAWS * expected[v];
        assert_close("count", &count[v], &mean, 1, 5 * sigma + 1e-9, 0);
    }
}

static void test_distribution(void **state)
{
    (void)state;
    const double p[] = {0.1, 0.35, 0.1, 0.25, 0.2};
    for (int e = op_test_first(); e < OP_TEST_ENGINES; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 2);
        double logits[5], hot[5], hot_sum = 0;
        for (int v = 0; v < 5; v++) {
            logits[v] = log(p[v]) + 3;
            hot[v] = sqrt(p[v]);
            hot_sum += hot[v];
        }
        for (int v = 0; v < 5; v++)
            hot[v] /= hot_sum;
        distribution_check(t, logits, 5, 1, 1, 0, p);
        distribution_check(t, logits, 5, 2, 1, 0, hot);
        distribution_check(t, logits, 5, 1, 0.3, 0, (double[]){0, 1, 0, 0, 0});
        distribution_check(t, logits, 5, 1, 0.55, 0, (double[]){0, 0.35 / 0.6, 0, 0.25 / 0.6, 0});
        distribution_check(t, logits, 5, 1, 0.75, 0, (double[]){0, 0.35 / 0.8, 0, 0.25 / 0.8, 0.2 / 0.8});
        /* Of the equal tokens 0 and 2 the lower index comes first. */
        distribution_check(t, logits, 5, 1, 0.85, 0, (double[]){0.1 / 0.9, 0.35 / 0.9, 0, 0.25 / 0.9, 0.2 / 0.9});
        distribution_check(t, logits, 5, 1, 1e-9, 0, (double[]){0, 1, 0, 0, 0});
        distribution_check(t, logits, 5, 1e-3, 1, 0, (double[]){0, 1, 0, 0, 0});
        for (int v = 0; v < 5; v++) /* the same once a cap of 4 has bent them */
            logits[v] = 4 * atanh(logits[v] / 4);
        distribution_check(t, logits, 5, 1, 1, 4, p);
        distribution_check(t, logits, 5, 2, 0.999, 4, hot);
        op_test_close(t);
    }
}

/* All rows in one batch, again with other counters, and one of them alone. Fewer in the emulation, which is slow. */
enum { DRAW_ROWS = 50, DRAW_COLS = 999, DRAW_ALONE = 3 };

static void draws_fill(struct op_test *t, void *user, double *out)
{
    (void)user;
    int32_t ids[2 * DRAW_ROWS] = {0}, alone;
    int64_t rows = op_test_is_cuda(t) ? DRAW_ALONE + 1 : DRAW_ROWS;
    double *logits = values_random(t, rows * DRAW_COLS, 1);
    rows_sample(t, logits, rows, DRAW_COLS, DRAW_COLS, 0.8, 0.9, 100, ids);
    rows_sample(t, logits, rows, DRAW_COLS, DRAW_COLS, 0.8, 0.9, 5000, ids + DRAW_ROWS);
    rows_sample(t, logits + DRAW_ALONE * DRAW_COLS, 1, DRAW_COLS, DRAW_COLS, 0.8, 0.9, 100 + DRAW_ALONE, &alone);
    assert_int_equal(alone, ids[DRAW_ALONE]);
    assert_memory_not_equal(ids, ids + DRAW_ROWS, (size_t)rows * sizeof *ids);
    for (int i = 0; i < 2 * DRAW_ROWS; i++)
        out[i] = ids[i];
}

static void test_same_draws(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        op_test_same_bits(op_test_engines[e], 2 * DRAW_ROWS, draws_fill, NULL);
}

/* The same tokens as the CPU's double arithmetic draws from the same logits. Rounded to bf16 these have many equals. */
static void test_like_cpu(void **state)
{
    (void)state;
    static const struct {
        int64_t cols, stride;
        double temperature, top_p, cap;
    } cases[] = {{1, 1, 1, 0.5},        {5, 5, 0.5, 0.7},      {40, 43, 1, 0.9},      {999, 1001, 0.7, 0.95},
                 {3000, 3000, 1.5, 0.3}, {3000, 3001, 1, 1},   {3000, 3000, 1, 1e-9}, {50257, 50257, 1, 0.9},
                 {999, 999, 1e-3, 0.9}, {999, 999, 1e3, 0.999},
                 {3000, 3001, 0.7, 0.9, 5},      {999, 1001, 1, 1, 2}};
    enum { ROWS = 6 };
    for (int e = OP_TEST_ENGINES; e < OP_TEST_VARIANTS; e++)
        for (int i = 0; i < (int)(sizeof cases / sizeof *cases); i++) {
            struct op_test *cpu = op_test_open("cpu64", 1), *t = op_test_open(op_test_engines[e], 1);
            int64_t cols = cases[i].cols, stride = cases[i].stride, rows = cols > 10000 ? 3 : ROWS;
            double *logits = values_random(t, rows * stride, 4);
            int32_t expected[ROWS], ids[ROWS];
            for (int64_t k = 0; k < rows * stride; k++)
                logits[k] = k % 11 == 3 ? -INFINITY : (double)(k / stride % 3 + 1) * logits[k];
            values_round(t->dtype, logits, rows * stride);
            capped_sample(cpu, logits, rows, cols, stride, cases[i].cap, cases[i].temperature, cases[i].top_p, 70, expected);
            capped_sample(t, logits, rows, cols, stride, cases[i].cap, cases[i].temperature, cases[i].top_p, 70, ids);
            for (int64_t row = 0; row < rows; row++)
                if (ids[row] != expected[row])
                    fail_msg("%s case %d row %d: token %d, the CPU draws %d", t->name, i, (int)row, ids[row],
                             expected[row]);
            op_test_close(t);
            op_test_close(cpu);
        }
}

/* A row that has no distribution gives no token. */
static void test_not_finite(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        for (int temperature = 0; temperature < 2; temperature++) {
            struct op_test *t = op_test_open(op_test_engines[e], 1);
            const double rows[] = {NAN, 1, 2, NAN, NAN, NAN, 0, INFINITY, 1, -INFINITY, -INFINITY, -INFINITY};
            int32_t ids[4];
            rows_sample(t, rows, 4, 3, 3, temperature, 0.9, 0, ids);
            for (int i = 0; i < 4; i++)
                assert_int_equal(ids[i], -1);
            op_test_close(t);
        }
}

static void test_bytes(void **state)
{
    (void)state;
    for (int e = OP_TEST_ENGINES; e < OP_TEST_VARIANTS; e++)
        for (int64_t cols = 2048; cols <= 50272; cols += 48224) {
            struct op_test *t = op_test_open(op_test_engines[e], 1);
            int32_t ids[3];
            double *logits = values_random(t, 3 * cols, 1);
            op_test_bytes_begin(t);
            rows_sample(t, logits, 3, cols, cols, 0, 1, 0, ids);
            op_test_bytes_check(t, "sample", OP_BYTES(sample, sample_args, .dtype = t->dtype, .rows = 3, .cols = cols), 0.01);
            op_test_close(t);
        }
}

static void test_contract(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        void *a = device_new(t, t->dtype, 4);
        OP_REFUSES(t, sample, sample_args, .dtype = DTYPE_F16, .rows = 1, .cols = 2, .stride = 2, .logits = a,
                   .ids = a);
        OP_REFUSES(t, sample, sample_args, .dtype = t->dtype, .rows = 1, .cols = 2, .stride = 1, .logits = a, .ids = a);
        OP_REFUSES(t, sample, sample_args, .dtype = t->dtype, .rows = 1, .cols = 2, .stride = 2, .logits = a,
                   .temperature = -1, .ids = a);
        OP_REFUSES(t, sample, sample_args, .dtype = t->dtype, .rows = 1, .cols = 2, .stride = 2, .logits = a,
                   .temperature = 1, .top_p = 1, .ids = a);
        OP_REFUSES(t, sample, sample_args, .dtype = t->dtype, .rows = 1, .cols = 2, .stride = 2, .ids = a);
        OP_REFUSES(t, sample, sample_args, .dtype = t->dtype, .rows = 1, .cols = 2, .stride = 2, .logits = a, .cap = -1,
                   .ids = a);
        OP_CALL(t, sample, sample_args, .dtype = t->dtype, .cols = 2, .stride = 2);
        op_test_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_argmax), cmocka_unit_test(test_distribution),
                                       cmocka_unit_test(test_capped_argmax),
                                       cmocka_unit_test(test_same_draws), cmocka_unit_test(test_like_cpu),
                                       cmocka_unit_test(test_not_finite), cmocka_unit_test(test_bytes),
                                       cmocka_unit_test(test_contract)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
