/* test_sample.c - argmax and its ties; the frequencies of nucleus sampling against the probabilities; draws that
 * depend on (seed, counter) alone.
 */
#include "op_test.h"

#include <math.h>
#include <string.h>

enum { DRAWS = 40000 };

/* Samples every row of logits [rows, stride] with counters first_counter + i. */
static void rows_sample(struct op_test *t, const double *logits, int64_t rows, int64_t cols, int64_t stride,
                        double temperature, double top_p, int64_t first_counter, int32_t *ids)
{
    int64_t counters[DRAWS];
    for (int64_t i = 0; i < rows; i++)
        counters[i] = first_counter + i, ids[i] = -1;
    void *device_ids = device_bytes(t, ids, (size_t)rows * sizeof *ids);
    OP_CALL(t, sample, sample_args, .dtype = t->dtype, .rows = rows, .cols = cols, .stride = stride,
            .logits = device_from(t, t->dtype, logits, rows * stride), .temperature = temperature, .top_p = top_p,
            .seed = 11, .counters = temperature > 0 ? device_bytes(t, counters, (size_t)rows * sizeof *counters) : NULL,
            .ids = device_ids);
    op_test_status(t, "copy_out", t->engine->copy_out(t->context, ids, device_ids, (size_t)rows * sizeof *ids));
}

static void test_argmax(void **state)
{
    (void)state;
    for (int e = 0; e < OP_TEST_ENGINES; e++)
        for (int64_t cols = 1; cols < 200; cols += 13) {
            struct op_test *t = op_test_open(op_test_engines[e], 2);
            enum { ROWS = 40 };
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
                logits[i] = -INFINITY; /* equals everywhere */
            rows_sample(t, logits, ROWS, cols, stride, 0, 1, 0, ids);
            assert_int_equal(ids[ROWS - 1], 0);
            op_test_close(t);
        }
}

/* Draws many times from one distribution; counts against the probabilities of the nucleus, within 5 sigma. */
static void distribution_check(struct op_test *t, const double *row, int64_t cols, double temperature, double top_p,
                               const double *expected)
{
    static int32_t ids[DRAWS];
    double count[16] = {0}, *logits = values_new(t, DRAWS * cols);
    for (int64_t i = 0; i < DRAWS; i++)
        memcpy(logits + i * cols, row, (size_t)cols * sizeof *row);
    rows_sample(t, logits, DRAWS, cols, cols, temperature, top_p, 0, ids);
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
    for (int e = 0; e < OP_TEST_ENGINES; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 2);
        double logits[5], hot[5], hot_sum = 0;
        for (int v = 0; v < 5; v++) {
            logits[v] = log(p[v]) + 3;
            hot[v] = sqrt(p[v]);
            hot_sum += hot[v];
        }
        for (int v = 0; v < 5; v++)
            hot[v] /= hot_sum;
        distribution_check(t, logits, 5, 1, 1, p);
        distribution_check(t, logits, 5, 2, 1, hot);
        distribution_check(t, logits, 5, 1, 0.3, (double[]){0, 1, 0, 0, 0});
        distribution_check(t, logits, 5, 1, 0.55, (double[]){0, 0.35 / 0.6, 0, 0.25 / 0.6, 0});
        distribution_check(t, logits, 5, 1, 0.75, (double[]){0, 0.35 / 0.8, 0, 0.25 / 0.8, 0.2 / 0.8});
        /* Of the equal tokens 0 and 2 the lower index comes first. */
        distribution_check(t, logits, 5, 1, 0.85, (double[]){0.1 / 0.9, 0.35 / 0.9, 0, 0.25 / 0.9, 0.2 / 0.9});
        distribution_check(t, logits, 5, 1, 1e-9, (double[]){0, 1, 0, 0, 0});
        distribution_check(t, logits, 5, 1e-3, 1, (double[]){0, 1, 0, 0, 0});
        op_test_close(t);
    }
}

/* A row's draw is the same alone, in a batch and for any number of threads; another counter draws anew. */
static void test_same_draws(void **state)
{
    (void)state;
    enum { ROWS = 50 };
    for (int e = 0; e < OP_TEST_ENGINES; e++) {
        int32_t first[ROWS], ids[ROWS];
        int64_t cols = 999;
        for (int threads = 1; threads <= 3; threads++) {
            struct op_test *t = op_test_open(op_test_engines[e], threads);
            double *logits = values_random(t, ROWS * cols, 1);
            rows_sample(t, logits, ROWS, cols, cols, 0.8, 0.9, 100, threads == 1 ? first : ids);
            if (threads > 1)
                assert_memory_equal(ids, first, sizeof ids);
            for (int i = 0; i < ROWS; i += 7) {
                rows_sample(t, logits + i * cols, 1, cols, cols, 0.8, 0.9, 100 + i, ids);
                assert_int_equal(ids[0], first[i]);
            }
            rows_sample(t, logits, ROWS, cols, cols, 0.8, 0.9, 5000, ids);
            assert_memory_not_equal(ids, first, sizeof ids);
            op_test_close(t);
        }
    }
}

static void test_contract(void **state)
{
    (void)state;
    for (int e = 0; e < OP_TEST_ENGINES; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        void *a = device_new(t, t->dtype, 4);
        OP_REFUSES(t, sample, sample_args, .dtype = DTYPE_BF16, .rows = 1, .cols = 2, .stride = 2, .logits = a,
                   .ids = a);
        OP_REFUSES(t, sample, sample_args, .dtype = t->dtype, .rows = 1, .cols = 2, .stride = 1, .logits = a, .ids = a);
        OP_REFUSES(t, sample, sample_args, .dtype = t->dtype, .rows = 1, .cols = 2, .stride = 2, .logits = a,
                   .temperature = -1, .ids = a);
        OP_REFUSES(t, sample, sample_args, .dtype = t->dtype, .rows = 1, .cols = 2, .stride = 2, .logits = a,
                   .temperature = 1, .top_p = 1, .ids = a);
        OP_REFUSES(t, sample, sample_args, .dtype = t->dtype, .rows = 1, .cols = 2, .stride = 2, .ids = a);
        op_test_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_argmax), cmocka_unit_test(test_distribution),
                                       cmocka_unit_test(test_same_draws), cmocka_unit_test(test_contract)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
