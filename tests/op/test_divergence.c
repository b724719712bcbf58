/* test_divergence.c - value, gradient and the target's log-probability against long double and finite differences, with and
 * without a lowered column, for targets from hopeless to certain; equal rows, rows that begin anywhere, infinities; same bits;
 * counted bytes.
 */
#include "../support/op_test.h"

#include <math.h>
#include <string.h>

enum { ROWS_MAX = 32 };

struct problem {
    int64_t rows, cols, stride, reference_stride;
    bool cross_entropy;
    double penalty; /* 0: no column is lowered */
    int32_t targets[ROWS_MAX], lowered[ROWS_MAX];
    double *logits, *reference;
    double cap;
};

struct results {
    double *gradient, *logprob, *p, *q, *lse, *value;
};

/* Every third row is close to its reference, every fourth lowers none. */
static struct problem problem_make(struct op_test *t, const int64_t size[4], bool cross_entropy, double penalty)
{
    struct problem p = {size[0], size[1], size[2], size[3], cross_entropy, penalty, {0}, {0},
                        values_random(t, size[0] * size[2], 1), values_random(t, size[0] * size[3], 2), 0};
    for (int64_t i = 0; i < p.rows; i++) {
        p.targets[i] = (int32_t)(i % 3 == 1 ? p.cols - 1 : i * 7919 % p.cols);
        p.lowered[i] = i % 4 == 3 ? -1 : i % 4 == 2 ? (int32_t)(i * 31 % p.cols) : p.targets[i];
        for (int64_t v = 0; v < p.cols; v++) {
            double *z = &p.logits[i * p.stride + v], *a = &p.reference[i * p.reference_stride + v];
            *z *= 1 + (double)(i % 3);
            *a = i % 3 == 2 ? *z + 0.02 * *a : *a * (1 + (double)(i % 2));
        }
        p.logits[i * p.stride + p.targets[i]] += (double)(i % 9 - 4) * 5;
        p.reference[i * p.reference_stride + p.targets[i]] += (double)(i % 7 - 2) * 5;
    }
    values_round(t->dtype, p.logits, p.rows * p.stride);
    values_round(t->dtype, p.reference, p.rows * p.reference_stride);
    return p;
}

static struct results problem_run(struct op_test *t, const struct problem *p)
{
    void *logits = device_from(t, t->dtype, p->logits, p->rows * p->stride), *stat[5];
    for (int i = 0; i < 5; i++)
        stat[i] = device_new(t, t->stat, p->rows);
    OP_CALL(t, divergence_forward, divergence_args, .dtype = t->dtype, .cross_entropy = p->cross_entropy, .rows = p->rows,
            .cols = p->cols, .stride = p->stride, .reference_stride = p->reference_stride, .logits = logits,
            .reference = device_from(t, t->dtype, p->reference, p->rows * p->reference_stride),
            .targets = device_bytes(t, p->targets, sizeof p->targets),
            .lowered = p->penalty > 0 ? device_bytes(t, p->lowered, sizeof p->lowered) : NULL, .penalty = p->penalty, .cap = p->cap,
            .logprob = stat[0], .p = stat[1], .q = stat[2], .lse = stat[3], .value = stat[4]);
    return (struct results){values_from(t, t->dtype, logits, p->rows * p->stride), values_from(t, t->stat, stat[0], p->rows),
                            values_from(t, t->stat, stat[1], p->rows), values_from(t, t->stat, stat[2], p->rows),
                            values_from(t, t->stat, stat[3], p->rows), values_from(t, t->stat, stat[4], p->rows)};
}

static long double capped(long double z, double cap) { return cap > 0 ? cap * tanhl(z / cap) : z; }

/* log of the sum of exponentials, with one column lowered. */
static long double lse_naive(const double *z, int64_t cols, double cap, int64_t lowered, double penalty)
{
    long double most = -INFINITY, sum = 0;
    for (int64_t v = 0; v < cols; v++)
        most = fmaxl(most, capped(z[v], cap) - (v == lowered ? penalty : 0));
    for (int64_t v = 0; v < cols; v++)
        sum += expl(capped(z[v], cap) - (v == lowered ? penalty : 0) - most);
    return most + logl(sum);
}

/* Of row i, with the logits z; probabilities of the reference into `reference` and of the model into `own`. */
static long double value_naive(const struct problem *p, const double *z, int64_t i, double *own, double *reference)
{
    const double *a = p->reference + i * p->reference_stride;
    const int64_t lowered = p->penalty > 0 ? p->lowered[i] : -1;
    const long double lse = lse_naive(z, p->cols, p->cap, -1, 0);
    const long double reference_lse = lse_naive(a, p->cols, p->cap, lowered, p->penalty);
    long double value = 0;
    for (int64_t v = 0; v < p->cols; v++) {
        const long double log_p = capped(z[v], p->cap) - lse;
        const long double log_t = capped(a[v], p->cap) - (v == lowered ? p->penalty : 0) - reference_lse;
        own[v] = (double)expl(log_p), reference[v] = (double)expl(log_t);
        value += log_t > -11000 ? expl(log_t) * ((p->cross_entropy ? 0 : log_t) - log_p) : 0;
    }
    return value;
}

static void row_check(struct op_test *t, const struct problem *p, const struct results *r, int64_t i)
{
    const double *z = p->logits + i * p->stride, own_logit = (double)capped(z[p->targets[i]], p->cap), bend = 8 * p->cap;
    double *own = values_new(t, p->cols), *reference = values_new(t, p->cols), *expected = values_new(t, p->cols);
    const double value = (double)value_naive(p, z, i, own, reference);
    for (int64_t v = 0; v < p->cols; v++) {
        const double x = p->cap > 0 ? z[v] / p->cap : 0, slope = 1 / (cosh(x) * cosh(x));
        const double size = own[v] * (20 + bend + 2 * fabs(x) + fabs(log(own[v] + 1e-300))) + reference[v] * (20 + bend + 2 * fabs(x) + fabs(log(reference[v] + 1e-300)));
        expected[v] = (own[v] - reference[v]) * slope;
        const double got = r->gradient[i * p->stride + v];
        if (!(fabs(got - expected[v]) <= t->eps * size * slope + t->rounding * fabs(expected[v]) + 1e-37))
            fail_msg("%s: row %d column %d: %g, expected %g", t->name, (int)i, (int)v, got, expected[v]);
    }
    const long double exact = capped(z[p->targets[i]], p->cap) - lse_naive(z, p->cols, p->cap, -1, 0);
    const double logprob = (double)exact, lse = own_logit - logprob;
    const double absolute = (t->stat == DTYPE_F64 ? 1e-13 : 4e-6) + bend * t->eps;
    assert_close("value", &r->value[i], &value, 1, absolute, (16 + bend) * t->eps);
    assert_close("logprob", &r->logprob[i], &logprob, 1, absolute, t->eps);
    assert_close("lse", &r->lse[i], &lse, 1, absolute, t->eps);
    assert_close("p", &r->p[i], &own[p->targets[i]], 1, 0, (20 + bend + fabs(logprob)) * t->eps);
    const double rest = (double)-expm1l(exact);
    assert_close("q", &r->q[i], &rest, 1, 8 * t->eps * (logprob > -1e-3), (20 + bend + fabs(logprob)) * t->eps);
    for (int64_t v = p->cols; v < p->stride; v++)
        assert_true(r->gradient[i * p->stride + v] == z[v]);
}

static const double penalties[] = {0, 10};

static void test_naive(void **state)
{
    (void)state;
    static const int64_t sizes[][4] = {{1, 1, 1, 1},         {2, 2, 2, 2},         {9, 17, 20, 19},       {18, 1025, 1025, 1025},
                                       {9, 2999, 3000, 3008}, {3, 50257, 50257, 50257}, {2, 12288, 12288, 12296}};
    for (int e = 0; e < OP_TEST_VARIANTS; e++)
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
            for (int form = 0; form < 4; form++) {
                struct op_test *t = op_test_open(op_test_engines[e], 2);
                struct problem p = problem_make(t, sizes[k], form % 2, penalties[form / 2]);
                p.cap = sizes[k][1] > 10000 ? 0 : (double[]){0, 30, 4, 0}[(form + k) % 4];
                struct results r = problem_run(t, &p);
                for (int64_t i = 0; i < p.rows; i++)
                    row_check(t, &p, &r, i);
                op_test_close(t);
            }
}

struct difference {
    const struct problem *problem;
    double *z, *own, *reference;
};

static double difference_value(void *user)
{
    const struct difference *d = user;
    return (double)value_naive(d->problem, d->z, 0, d->own, d->reference);
}

/* The gradient is that of the value, by finite differences. */
static void test_gradient(void **state)
{
    (void)state;
    static const int64_t size[] = {1, 40, 40, 40};
    for (int form = 0; form < 8; form++) {
        struct op_test *t = op_test_open("cpu64", 1);
        struct problem p = problem_make(t, size, form % 2, penalties[form / 2 % 2]);
        p.cap = form < 4 ? 0 : 7;
        struct results r = problem_run(t, &p);
        struct difference d = {&p, p.logits, values_new(t, 40), values_new(t, 40)};
        gradient_check("divergence", p.logits, r.gradient, 40, difference_value, &d, 1e-7);
        op_test_close(t);
    }
}

/* A row against itself: value and gradient are 0, not about 0. Close to it: the value keeps its digits. */
static void test_equal(void **state)
{
    (void)state;
    static const int64_t size[] = {9, 3001, 3001, 3001};
    for (int e = 0; e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        struct problem p = problem_make(t, size, false, 0);
        memcpy(p.reference, p.logits, (size_t)(p.rows * p.stride) * sizeof *p.logits);
        struct results r = problem_run(t, &p);
        for (int64_t i = 0; i < p.rows * p.stride; i++)
            assert_true(r.gradient[i] == 0);
        for (int64_t i = 0; i < p.rows; i++)
            assert_true(r.value[i] == 0);
        double *own = values_new(t, p.cols), *reference = values_new(t, p.cols);
        p.reference[p.targets[0]] += 0.125, p.logits[p.targets[0]] = 0;
        p.reference[p.targets[0]] = 0.125;
        r = problem_run(t, &p);
        const double value = (double)value_naive(&p, p.logits, 0, own, reference);
        assert_close("a small value", r.value, &value, 1, 0, t->stat == DTYPE_F64 ? 1e-12 : 2e-4);
        op_test_close(t);
    }
}

/* What the reference excludes, what the model excludes, and NaN stay in their rows. */
static void test_extremes(void **state)
{
    (void)state;
    static const int64_t size[] = {5, 300, 304, 304};
    for (int e = 0; e < OP_TEST_VARIANTS; e++)
        for (int cross_entropy = 0; cross_entropy < 2; cross_entropy++) {
            struct op_test *t = op_test_open(op_test_engines[e], 1);
            struct problem p = problem_make(t, size, cross_entropy, 10);
            p.reference[7] = -INFINITY;
            p.logits[p.stride + 9] = p.reference[p.reference_stride + 9] = -INFINITY;
            p.logits[2 * p.stride + 11] = -INFINITY;
            p.logits[3 * p.stride + 13] = NAN;
            struct results r = problem_run(t, &p);
            assert_true(isfinite(r.value[0]) && isfinite(r.gradient[7]) && r.gradient[7] >= 0);
            assert_true(isfinite(r.value[1]) && r.gradient[p.stride + 9] == 0);
            assert_true(isinf(r.value[2]) && isfinite(r.gradient[2 * p.stride + 11]));
            assert_true(isnan(r.value[3]) && isnan(r.gradient[3 * p.stride]));
            row_check(t, &p, &r, 4);
            op_test_close(t);
        }
}

static void problem_fill(struct op_test *t, void *user, double *out)
{
    const int64_t *size = user;
    struct problem p = problem_make(t, size, false, 10);
    struct results r = problem_run(t, &p);
    memcpy(out, r.value, (size_t)p.rows * sizeof *out);
    memcpy(out + p.rows, r.logprob, (size_t)p.rows * sizeof *out);
    memcpy(out + 2 * p.rows, r.gradient, (size_t)(p.rows * p.stride) * sizeof *out);
}

static void test_same_bits(void **state)
{
    (void)state;
    int64_t size[] = {9, 4099, 4104, 4100};
    for (int e = 0; e < OP_TEST_VARIANTS; e++)
        op_test_same_bits(op_test_engines[e], size[0] * (2 + size[2]), problem_fill, size);
}

/* Two passes over both rows, and one row written. */
static void test_bytes(void **state)
{
    (void)state;
    static const int64_t size[] = {2, 32000, 32000, 32000};
    for (int e = OP_TEST_ENGINES; e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        struct problem p = problem_make(t, size, false, 0);
        op_test_bytes_begin(t);
        problem_run(t, &p);
        op_test_bytes_check(t, "divergence_forward", OP_BYTES(divergence_forward, divergence_args, .dtype = t->dtype,
                            .rows = 2, .cols = 32000) + 2 * 2 * 32000 * (int64_t)dtype_size(t->dtype), 0.01);
        op_test_close(t);
    }
}

static void test_contract(void **state)
{
    (void)state;
    for (int e = 0; e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        const double logits[] = {1, 4, 2};
        const int32_t target = 1;
        void *z = device_from(t, t->dtype, logits, 3), *a = device_from(t, t->dtype, logits, 3), *stat[5];
        void *targets = device_bytes(t, &target, sizeof target);
        for (int i = 0; i < 5; i++)
            stat[i] = device_new(t, t->stat, 1);
#define ARGS .dtype = t->dtype, .rows = 1, .cols = 3, .logits = z, .targets = targets, .logprob = stat[0], .p = stat[1],        \
             .q = stat[2], .lse = stat[3]
        OP_REFUSES(t, divergence_forward, divergence_args, ARGS, .stride = 3, .reference_stride = 3, .reference = a);
        OP_REFUSES(t, divergence_forward, divergence_args, ARGS, .stride = 3, .reference_stride = 3, .value = stat[4]);
        OP_REFUSES(t, divergence_forward, divergence_args, ARGS, .stride = 2, .reference_stride = 3, .reference = a,
                   .value = stat[4]);
        OP_REFUSES(t, divergence_forward, divergence_args, ARGS, .stride = 3, .reference_stride = 2, .reference = a,
                   .value = stat[4]);
        OP_REFUSES(t, divergence_forward, divergence_args, ARGS, .stride = 3, .reference_stride = 3, .reference = a,
                   .value = stat[4], .lowered = targets, .penalty = -1);
        OP_REFUSES(t, divergence_forward, divergence_args, ARGS, .stride = 3, .reference_stride = 3, .reference = a,
                   .value = stat[4], .cap = -1);
        OP_CALL(t, divergence_forward, divergence_args, .dtype = t->dtype, .cols = 3, .stride = 3, .reference_stride = 3);
        OP_CALL(t, divergence_forward, divergence_args, ARGS, .stride = 3, .reference_stride = 3, .reference = a,
                .value = stat[4]);
#undef ARGS
        assert_true(values_from(t, t->stat, stat[4], 1)[0] == 0);
        op_test_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_naive),     cmocka_unit_test(test_gradient),
                                       cmocka_unit_test(test_equal),     cmocka_unit_test(test_extremes),
                                       cmocka_unit_test(test_same_bits), cmocka_unit_test(test_bytes),
                                       cmocka_unit_test(test_contract)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
