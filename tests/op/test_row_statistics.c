/* test_row_statistics.c - maximum, argmax, mean and the cross-entropy without the target against long double, for targets
 * from hopeless to certain; ties, single outputs, rows that begin anywhere; same bits; counted bytes.
 */
#include "../support/op_test.h"

#include <math.h>
#include <string.h>

struct problem {
    int64_t rows, cols, stride;
    int32_t targets[32];
    double *logits, cap;
};

struct results {
    double *most, *mean, *rest;
    int32_t argmax[32];
};

static struct problem problem_make(struct op_test *t, int64_t rows, int64_t cols, int64_t stride)
{
    struct problem p = {rows, cols, stride, {0}, values_random(t, rows * stride, 1), 0};
    for (int64_t i = 0; i < rows; i++) {
        p.targets[i] = (int32_t)(i % 3 == 1 ? cols - 1 : i * 7919 % cols);
        for (int64_t v = 0; v < cols; v++)
            p.logits[i * stride + v] *= i % 4 == 3 ? 12 : 1 + (double)(i % 3);
        p.logits[i * stride + p.targets[i]] += (double)(i % 9 - 4) * 8;
    }
    values_round(t->dtype, p.logits, rows * stride);
    return p;
}

static struct results problem_run(struct op_test *t, const struct problem *p)
{
    struct results r;
    void *most = device_new(t, t->stat, p->rows), *mean = device_new(t, t->stat, p->rows);
    void *rest = device_new(t, t->stat, p->rows), *argmax = device_bytes(t, r.argmax, sizeof r.argmax);
    OP_CALL(t, row_statistics, row_statistics_args, .dtype = t->dtype, .rows = p->rows, .cols = p->cols,
            .stride = p->stride, .logits = device_from(t, t->dtype, p->logits, p->rows * p->stride),
            .targets = device_bytes(t, p->targets, sizeof p->targets), .most = most, .mean = mean, .rest = rest,
            .argmax = argmax, .cap = p->cap);
    op_test_status(t, "copy_out", t->engine->copy_out(t->context, r.argmax, argmax, sizeof r.argmax));
    r.most = values_from(t, t->stat, most, p->rows), r.mean = values_from(t, t->stat, mean, p->rows);
    r.rest = values_from(t, t->stat, rest, p->rows);
    return r;
}

static void row_check(struct op_test *t, const struct problem *p, const struct results *r, int64_t i)
{
    const double *given = p->logits + i * p->stride, bend = 2 * p->cap * t->eps;
    double *z = values_new(t, p->cols);
    for (int64_t v = 0; v < p->cols; v++)
        z[v] = p->cap > 0 ? p->cap * tanh(given[v] / p->cap) : given[v];
    long double sum = 0, size = 0, rest = 0, weighted = 0;
    int64_t best = 0;
    for (int64_t v = 0; v < p->cols; v++) {
        best = z[v] > z[best] ? v : best;
        sum += z[v], size += fabs(z[v]);
    }
    for (int64_t v = 0; v < p->cols; v++)
        if (v != p->targets[i]) {
            const long double e = expl((long double)z[v] - z[best]);
            rest += e, weighted += e * ((long double)z[v] - z[best]);
        }
    const double mean = (double)(sum / p->cols);
    const double entropy = (double)(logl(rest + expl((long double)z[p->targets[i]] - z[best])) - weighted / rest);
    if (p->cap > 0) /* which may have made several equal but for rounding */
        assert_close("argmax", &z[r->argmax[i]], &z[best], 1, bend, 0);
    else
        assert_int_equal(r->argmax[i], best);
    assert_close("most", &r->most[i], &z[best], 1, bend, 0);
    assert_close("mean", &r->mean[i], &mean, 1, t->eps * (double)(size / p->cols) + bend, t->eps);
    /* double has no wider type to sum in */
    const double sums = t->stat == DTYPE_F64 ? sqrt((double)p->cols) : 0;
    if (p->cols > 1)
        assert_close("rest", &r->rest[i], &entropy, 1, 4 * t->eps + 2 * bend * (1 + (double)fabsl(weighted / rest)), (8 + sums + (double)fabsl(weighted / rest)) * t->eps);
}

static void test_naive(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {{1, 1, 1}, {2, 2, 2}, {9, 17, 20}, {18, 1025, 1025}, {9, 2999, 3000}, {3, 50257, 50257}};
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        for (int k = 0; k < (int)(sizeof sizes / sizeof *sizes); k++) {
            struct op_test *t = op_test_open(op_test_engines[e], 2);
            struct problem p = problem_make(t, sizes[k][0], sizes[k][1], sizes[k][2]);
            for (int capped = 0; capped < (sizes[k][1] < 2000 ? 3 : 2); capped++) {
                p.cap = (double[]){0, 30, 5}[capped];
                struct results r = problem_run(t, &p);
                for (int64_t i = 0; i < p.rows; i++)
                    row_check(t, &p, &r, i);
            }
            op_test_close(t);
        }
}

/* Equal logits: the first is the largest, and the rest is uniform over the others with log p = -log cols. */
static void test_ties(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        struct problem p = {2, 600, 600, {599, 0}, values_new(t, 1200), 0};
        const double log_cols = log(600);
        for (int i = 0; i < 1200; i++)
            p.logits[i] = 3;
        struct results r = problem_run(t, &p);
        assert_true(r.argmax[0] == 0 && r.argmax[1] == 0 && r.most[0] == 3 && r.mean[1] == 3);
        assert_close("rest", &r.rest[0], &log_cols, 1, 0, 4 * t->eps);
        assert_close("rest", &r.rest[1], &log_cols, 1, 0, 4 * t->eps);
        p.logits[7] = NAN;
        r = problem_run(t, &p);
        assert_true(isnan(r.rest[0]) && isnan(r.mean[0]) && r.argmax[0] >= 0 && r.argmax[0] < 600 && !isnan(r.rest[1]));
        op_test_close(t);
    }
}

static void problem_fill(struct op_test *t, void *user, double *out)
{
    const int64_t *size = user;
    struct problem p = problem_make(t, size[0], size[1], size[2]);
    struct results r = problem_run(t, &p);
    memcpy(out, r.mean, (size_t)p.rows * sizeof *out);
    memcpy(out + p.rows, r.rest, (size_t)p.rows * sizeof *out);
}

static void test_same_bits(void **state)
{
    (void)state;
    int64_t size[] = {17, 4099, 4104};
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        op_test_same_bits(op_test_engines[e], 2 * size[0], problem_fill, size);
}

/* Two passes over a row. */
static void test_bytes(void **state)
{
    (void)state;
    for (int e = OP_TEST_ENGINES; e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        struct problem p = problem_make(t, 2, 32000, 32000);
        op_test_bytes_begin(t);
        problem_run(t, &p);
        op_test_bytes_check(t, "row_statistics", 2 * OP_BYTES(row_statistics, row_statistics_args, .dtype = t->dtype,
                            .rows = 2, .cols = 32000), 0.01);
        op_test_close(t);
    }
}

static void test_contract(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        const double logits[] = {1, 4, 2};
        void *a = device_from(t, t->dtype, logits, 3), *mean = device_new(t, t->stat, 1);
        OP_REFUSES(t, row_statistics, row_statistics_args, .dtype = t->dtype, .rows = 1, .cols = 3, .stride = 3, .logits = a,
                   .rest = mean);
        OP_REFUSES(t, row_statistics, row_statistics_args, .dtype = t->dtype, .rows = 1, .cols = 3, .stride = 2, .logits = a);
        OP_REFUSES(t, row_statistics, row_statistics_args, .dtype = t->dtype, .rows = 1, .cols = 3, .stride = 3);
        OP_REFUSES(t, row_statistics, row_statistics_args, .dtype = t->dtype, .rows = 1, .cols = 3, .stride = 3, .logits = a,
                   .cap = NAN);
        OP_CALL(t, row_statistics, row_statistics_args, .dtype = t->dtype, .cols = 3, .stride = 3);
        OP_CALL(t, row_statistics, row_statistics_args, .dtype = t->dtype, .rows = 1, .cols = 3, .stride = 3, .logits = a,
                .mean = mean);
        assert_true(fabs(values_from(t, t->stat, mean, 1)[0] - 7. / 3) < 1e-6);
        op_test_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_naive), cmocka_unit_test(test_ties),
                                       cmocka_unit_test(test_same_bits), cmocka_unit_test(test_bytes),
                                       cmocka_unit_test(test_contract)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
