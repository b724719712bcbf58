/* test_logprob.c - log-probabilities and their gradient against long double sums, from p of 1e-30 to 1 - 1e-30;
 * q = 1 - p without cancellation; mean, variance and argmax of the distribution; logits that a cap bends, also where it is
 * reached; finite differences; same bits; on CUDA every place a row can wait in, rows that begin anywhere, and counted
 * bytes.
 */
#include "../support/metric_golden.h"
#include "../support/op_test.h"

#include <math.h>
#include <string.h>

struct problem {
    int64_t rows, cols, stride;
    int32_t targets[64];
    double *logits, *weight;
    double cap;
};

struct results {
    double *logprob, *p, *q, *lse, *logits; /* logits: afterwards */
    double *mean, *variance;                /* asked for in place of the gradient */
    int32_t *argmax;
};

enum form { PLAIN, GRADIENT, WITH_STATISTICS };

static struct problem problem_make(struct op_test *t, int64_t rows, int64_t cols, int64_t stride)
{
    struct problem p = {rows, cols, stride, {0}, values_random(t, rows * stride, 1), values_random(t, rows, 2)};
    for (int64_t i = 0; i < rows; i++) {
        p.targets[i] = (int32_t)(i % 3 == 1 ? cols - 1 : i * 7919 % cols);
        /* From hopeless to certain targets, over a range of scales. */
        double *z = p.logits + i * stride;
        for (int64_t v = 0; v < cols; v++)
            z[v] *= i % 4 == 3 ? 12 : 1 + (double)(i % 3);
        z[p.targets[i]] += (double)(i % 9 - 4) * 8;
    }
    values_round(t->dtype, p.logits, rows * stride);
    return p;
}

static int32_t *integers_from(struct op_test *t, const int32_t *device, int64_t n)
{
    int32_t *out = (int32_t *)(void *)values_new(t, n);
    op_test_status(t, "copy_out", t->engine->copy_out(t->context, out, device, (size_t)n * sizeof *out));
    return out;
}

static struct results forward_run(struct op_test *t, const struct problem *p, enum form form)
{
    void *logits = device_from(t, t->dtype, p->logits, p->rows * p->stride);
    void *logprob = device_new(t, t->stat, p->rows), *prob = device_new(t, t->stat, p->rows);
    void *q = device_new(t, t->stat, p->rows), *lse = device_new(t, t->stat, p->rows);
    const bool statistics = form == WITH_STATISTICS;
    void *mean = statistics ? device_new(t, t->stat, p->rows) : NULL;
    void *variance = statistics ? device_new(t, t->stat, p->rows) : NULL;
    int32_t *argmax = statistics ? device_bytes(t, p->targets, (size_t)p->rows * sizeof *argmax) : NULL;
    OP_CALL(t, logprob_forward, logprob_args, .dtype = t->dtype, .rows = p->rows, .cols = p->cols,
            .stride = p->stride, .logits = logits, .targets = device_bytes(t, p->targets, sizeof p->targets),
            .logprob = logprob, .p = prob, .q = q, .lse = lse, .write_gradient = form == GRADIENT, .mean = mean,
            .variance = variance, .argmax = argmax, .cap = p->cap);
    return (struct results){values_from(t, t->stat, logprob, p->rows), values_from(t, t->stat, prob, p->rows),
                            values_from(t, t->stat, q, p->rows), values_from(t, t->stat, lse, p->rows),
                            values_from(t, t->dtype, logits, p->rows * p->stride),
                            statistics ? values_from(t, t->stat, mean, p->rows) : NULL,
                            statistics ? values_from(t, t->stat, variance, p->rows) : NULL,
                            statistics ? integers_from(t, argmax, p->rows) : NULL};
}

/* What storing a value adds to its relative error, where that is not the statistics' own type. */
static double storage_error(const struct op_test *t) { return t->dtype == DTYPE_BF16 ? t->rounding : 0; }

/* What the row's logits are: bent by the cap. */
static const double *row_capped(struct op_test *t, const struct problem *p, int64_t i)
{
    const double *given = p->logits + i * p->stride;
    double *z = p->cap > 0 ? values_new(t, p->cols) : NULL;
    for (int64_t v = 0; v < p->cols && z; v++)
        z[v] = p->cap * tanh(given[v] / p->cap);
    return z ? z : given;
}

static void row_check(struct op_test *t, const struct problem *p, const struct results *r, int64_t i)
{
    const double *z = row_capped(t, p, i), *given = p->logits + i * p->stride, *gradient = r->logits + i * p->stride;
    int32_t target = p->targets[i];
    long double most = -INFINITY, rest = 0;
    for (int64_t v = 0; v < p->cols; v++)
        most = fmaxl(most, (long double)z[v]);
    for (int64_t v = 0; v < p->cols; v++)
        rest += v == target ? 0 : expl((long double)z[v] - most);
    long double own = expl((long double)z[target] - most);
    double q = (double)(rest / (rest + own)), prob = (double)(own / (rest + own));
    double lse = (double)(most + logl(rest + own)), logprob = (double)-log1pl(rest / own);
    double eps = t->eps, bend = 4 * p->cap; /* what a cap adds, in eps */
    double sum_bound = (p->cols > 1000 ? 16 : 4) + bend; /* in eps, what the sum adds to that of one exponential */
    double q_bound = (sum_bound + fabs(fmax(log(q), -1e3))) * eps;
    assert_true(r->p[i] <= 1 && r->p[i] >= 0);
    /* Relative bounds, however close to 0 or 1 p is: the exponential passes on the rounding of z - max. */
    assert_close("p", &r->p[i], &prob, 1, 1e-37, (sum_bound + fabs(logprob)) * eps);
    assert_close("q", &r->q[i], &q, 1, 1e-37, q_bound);
    assert_close("logprob", &r->logprob[i], &logprob, 1, 1e-37, q_bound);
    double half_spacing = ldexp(t->eps / 2, ilogb(logprob));
    assert_true(fabs(r->logprob[i] - logprob) <= fmax(2e-6, half_spacing + 5e-7) + bend * eps);
    assert_close("lse", &r->lse[i], &lse, 1, (1 + bend) * eps, 2 * eps);
    for (int64_t v = 0; v < p->cols; v++) {
        const double pv = v == target ? -q : (double)(expl((long double)z[v] - most) / (rest + own));
        const double x = p->cap > 0 ? given[v] / p->cap : 0, dz = pv / (cosh(x) * cosh(x));
        /* the exponentials of p and of the slope may each underflow */
        assert_close("gradient", &gradient[v], &dz, 1, 1e-37,
                     (sum_bound + fabs(fmax(log(fabs(pv)), -1e3)) + (p->cap > 0 ? 8 + 2 * fabs(x) : 0)) * eps +
                         storage_error(t));
    }
}

/* Mean and variance of log p in two passes, and the first of the largest. */
static void statistics_check(struct op_test *t, const struct problem *p, const struct results *r, int64_t i)
{
    const double *z = row_capped(t, p, i), bend = 4 * p->cap * t->eps;
    int64_t best = 0;
    for (int64_t v = 1; v < p->cols; v++)
        best = z[v] > z[best] ? v : best;
    long double sum = 0, mean = 0, variance = 0, square = 0;
    for (int64_t v = 0; v < p->cols; v++)
        sum += expl((long double)z[v] - z[best]);
    for (int64_t v = 0; v < p->cols; v++) {
        long double a = (long double)z[v] - z[best], share = expl(a) / sum;
        mean += share > 0 ? share * (a - logl(sum)) : 0;
        square += share > 0 ? share * a * a : 0;
    }
    for (int64_t v = 0; v < p->cols; v++) {
        long double a = (long double)z[v] - z[best], share = expl(a) / sum;
        variance += share > 0 ? share * (a - logl(sum) - mean) * (a - logl(sum) - mean) : 0;
    }
    const double expected[] = {(double)mean, (double)variance}, bound = 32 * t->eps * (1 + (double)square);
    assert_close("mean", &r->mean[i], &expected[0], 1, bound + fabs(expected[0]) * t->eps + bend * (1 + sqrt((double)variance)), 0);
    assert_close("variance", &r->variance[i], &expected[1], 1, bound + bend * 2 * ((double)variance + sqrt((double)variance)), 0);
    if (p->cap > 0 && r->argmax[i] != best) /* logits that the cap has made equal, but for rounding */
        assert_close("argmax", &z[r->argmax[i]], &z[best], 1, bend, 0);
    else
        assert_int_equal(r->argmax[i], best);
}

static void problem_check(struct op_test *t, const struct problem *p)
{
    struct results plain = forward_run(t, p, PLAIN), r = forward_run(t, p, GRADIENT);
    struct results s = forward_run(t, p, WITH_STATISTICS);
    assert_same("untouched logits", plain.logits, p->logits, p->rows * p->stride);
    assert_same("logprob of both forms", plain.logprob, r.logprob, p->rows);
    assert_same("p of both forms", plain.p, r.p, p->rows);
    assert_same("logits left alone", s.logits, p->logits, p->rows * p->stride);
    assert_same("logprob with statistics", plain.logprob, s.logprob, p->rows);
    assert_same("q with statistics", plain.q, s.q, p->rows);
    for (int64_t row = 0; row < p->rows; row++) {
        row_check(t, p, &r, row);
        statistics_check(t, p, &s, row);
        for (int64_t v = p->cols; v < p->stride; v++) /* beyond cols */
            assert_same("padding", &r.logits[row * p->stride + v], &p->logits[row * p->stride + v], 1);
    }
}

static void test_naive(void **state)
{
    (void)state;
    /* Rows that an sm_90 keeps in registers of 256 or 512 threads, in shared memory, and in part, for both types. */
    static const int64_t sizes[][3] = {{1, 1, 1},         {2, 2, 2},         {3, 17, 20},       {9, 64, 64},
                                       {18, 33, 40},      {18, 1025, 1025},  {20, 2999, 3000},  {9, 2999, 2999},
                                       {4, 16384, 16384}, {3, 20001, 20001}, {2, 32000, 32000}, {3, 50257, 50257},
                                       {2, 50272, 50272}, {3, 114001, 114005}, {2, 151936, 151936}};
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        for (int i = 0; i < (int)(sizeof sizes / sizeof *sizes); i++) {
            struct op_test *t = op_test_open(op_test_engines[e], 2);
            struct problem p = problem_make(t, sizes[i][0], sizes[i][1], sizes[i][2]);
            problem_check(t, &p);
            op_test_close(t);
        }
}

/* Caps that bend logits a little, much, and to saturation: their differences are then below a spacing of the cap, and the
 * slopes down to 1e-30. In every place that a row can wait in. */
static void test_capped(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {{1, 1, 1}, {3, 17, 20}, {18, 33, 40}, {4, 9001, 9001}, {2, 20001, 20001},
                                       {2, 59999, 60000}, {1, 121001, 121001}};
    static const double caps[] = {30, 5, 0.5};
    for (int e = 0; e < OP_TEST_VARIANTS; e++)
        for (int i = 0; i < 3 * (int)(sizeof sizes / sizeof *sizes); i++) {
            const int64_t *size = sizes[i / 3];
            if (size[1] > 1000 && (i + e) % 3) /* long enough for one case */
                continue;
            struct op_test *t = op_test_open(op_test_engines[e], 2);
            struct problem p = problem_make(t, size[0], size[1], size[2]);
            p.cap = caps[i % 3];
            problem_check(t, &p);
            op_test_close(t);
        }
}

/* Targets so likely or unlikely that a naive 1 - p or log p is lost, equal logits, and a NaN. */
static void test_extremes(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        const double rows[][3] = {{60, 0, 0}, {-60, 0, 0}, {3, 3, 3}, {-300, 0, 1}, {300, 0, 1}, {-2000, 0, 1}};
        struct problem p = {6, 3, 3, {0}, values_new(t, 18), values_random(t, 6, 1)};
        memcpy(p.logits, rows, sizeof rows);
        struct results r = forward_run(t, &p, GRADIENT);
        const double q = 2 * exp(-60) / (1 + 2 * exp(-60)), third[] = {1. / 3, 2. / 3, -log(3)};
        assert_close("q", &r.q[0], &q, 1, 0, (4 + 60) * t->eps);
        assert_close("p", &r.p[2], &third[0], 1, 0, t->eps);
        assert_close("q", &r.q[2], &third[1], 1, 0, t->eps);
        assert_close("logprob", &r.logprob[2], &third[2], 1, 0, t->eps);
        const double logprob[] = {-60 - log1p(exp(-60) / 2) - log(2), -300 - log(1 + exp(1)), -2000 - log(1 + exp(1))};
        assert_close("logprob", &r.logprob[1], &logprob[0], 1, 0, 2 * t->eps);
        assert_close("logprob", &r.logprob[3], &logprob[1], 1, 0, 2 * t->eps);
        assert_close("logprob", &r.logprob[5], &logprob[2], 1, 0, 2 * t->eps);
        assert_true(r.p[4] == 1 && r.p[5] == 0 && r.q[5] == 1);

        p.logits[1] = NAN;
        r = forward_run(t, &p, GRADIENT);
        assert_true(isnan(r.logprob[0]) && isnan(r.p[0]) && isnan(r.q[0]) && isnan(r.logits[0]));
        assert_false(isnan(r.logprob[1]));
        op_test_close(t);
    }
}

/* Logits in steps of a quarter, so that the largest stands in several columns: single elements before and after the
 * vectors, the target and others. Some are -infinity, which count 0. Equal logits have variance 0 exactly. */
static void test_ties(void **state)
{
    (void)state;
    enum { ROWS = 32, COLS = 77 };
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        struct problem p = problem_make(t, ROWS, COLS, COLS);
        for (int64_t k = 0; k < ROWS * COLS; k++)
            p.logits[k] = k % 11 == 5 ? -INFINITY : (double)(k * 7919 % 13) / 4;
        for (int64_t v = 0; v < COLS; v++)
            p.logits[v] = -1.5;
        for (int64_t i = 0; i < ROWS; i++)
            p.targets[i] = (int32_t)(i % 2 ? i * 31 % COLS : 0);
        struct results r = forward_run(t, &p, WITH_STATISTICS);
        for (int64_t i = 0; i < ROWS; i++)
            statistics_check(t, &p, &r, i);
        assert_true(r.variance[0] == 0 && r.argmax[0] == 0);
        op_test_close(t);
    }
}

/* Every case of the golden file in double: log p, mean and variance within 1e-10, the likeliest token of its logits. */
static void check_minkpp(const cJSON *golden)
{
    op_test_cpu_only();
    struct op_test *t = op_test_open("cpu64", 1);
    const cJSON *record;
    cJSON_ArrayForEach(record, expected_list(golden, "cases"))
    {
        const cJSON *rows = expected_list(record, "logits");
        if (!rows->child)
            continue;
        size_t count, cols = (size_t)cJSON_GetArraySize(rows->child);
        double *targets = expected_numbers(record, "targets", &count);
        struct problem p = {(int64_t)count, (int64_t)cols, (int64_t)cols, {0}, values_new(t, (int64_t)(count * cols)), NULL};
        assert_true(count <= sizeof p.targets / sizeof *p.targets);
        for (size_t i = 0; i < count; i++) {
            p.targets[i] = (int32_t)targets[i];
            const cJSON *value = cJSON_GetArrayItem(rows, (int)i)->child;
            for (size_t v = 0; v < cols; v++, value = value->next)
                p.logits[i * cols + v] = expected_value(value);
        }
        struct results r = forward_run(t, &p, WITH_STATISTICS);
        const char *const key[] = {"logprob", "mu", cJSON_GetObjectItem(record, "sigma2_two_pass") ? "sigma2_two_pass" : "sigma2"};
        const double *const got[] = {r.logprob, r.mean, r.variance};
        for (int k = 0; k < 3; k++) {
            double *expected = expected_numbers(record, key[k], &count);
            assert_close(key[k], got[k], expected, p.rows, 1e-10, 0);
            free(expected);
        }
        free(targets);
    }
    op_test_close(t);
}
GOLDEN_TEST(minkpp, "minkpp.json")

static double problem_loss(void *user)
{
    struct problem *p = user;
    op_test_cpu_only();
    struct op_test *t = op_test_open("cpu64", 1);
    double loss = dot_product(forward_run(t, p, PLAIN).logprob, p->weight, p->rows);
    op_test_close(t);
    return loss;
}

/* loss = sum of weight logprob: its gradient at the logits is p - onehot times -weight. */
static void test_finite_differences(void **state)
{
    (void)state;
    op_test_cpu_only();
    struct op_test *t = op_test_open("cpu64", 1);
    for (int capped = 0; capped < 2; capped++) {
        struct problem p = problem_make(t, 9, 13, 13);
        p.cap = capped * 7;
        struct results r = forward_run(t, &p, GRADIENT);
        for (int64_t i = 0; i < 9 * 13; i++)
            r.logits[i] *= -p.weight[i / 13];
        gradient_check("logits", p.logits, r.logits, 9 * 13, problem_loss, &p, 1e-9);
    }
    op_test_close(t);
}

static void problem_fill(struct op_test *t, void *user, double *out)
{
    const int64_t *size = user;
    struct problem p = problem_make(t, size[0], size[1], size[2]);
    p.cap = size[0] == 2 ? 20 : 0;
    struct results r = forward_run(t, &p, GRADIENT);
    int64_t logits = p.rows * p.stride;
    memcpy(out, r.logits, (size_t)logits * sizeof *out);
    struct results s = forward_run(t, &p, WITH_STATISTICS);
    const double *statistics[] = {r.logprob, r.p, r.q, r.lse, s.mean, s.variance};
    for (int k = 0; k < 6; k++)
        memcpy(out + logits + k * p.rows, statistics[k], (size_t)p.rows * sizeof *out);
}

static void test_same_bits(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {{37, 2050, 2064}, {2, 30001, 30001}, {1, 121000, 121000}};
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        for (int i = 0; i < 3; i++)
            op_test_same_bits(op_test_engines[e], sizes[i][0] * sizes[i][2] + 6 * sizes[i][0], problem_fill, (void *)sizes[i]);
}

/* Counted bytes against the contract. Of a row of 151936 an sm_90 keeps 14336 vectors and reads the rest again. */
static void test_bytes(void **state)
{
    (void)state;
    static const int64_t cols[] = {4096, 16384, 20000, 32000, 50272, 151936};
    enum { ROWS = 2 };
    for (int e = OP_TEST_ENGINES; e < OP_TEST_VARIANTS; e++)
        for (int i = 0; i < 6; i++) {
            struct op_test *t = op_test_open(op_test_engines[e], 1);
            struct problem p = problem_make(t, ROWS, cols[i], cols[i]);
            p.cap = i % 2 ? 30 : 0; /* which costs no bytes */
            int64_t s = (int64_t)dtype_size(t->dtype), kept = 14336 * 16 / s;
            op_test_bytes_begin(t);
            forward_run(t, &p, PLAIN);
            op_test_bytes_check(t, "logprob_forward", OP_BYTES(logprob_forward, logprob_args, .dtype = t->dtype, .rows = ROWS,
                                .cols = cols[i]), 0.01);
            op_test_bytes_begin(t);
            forward_run(t, &p, WITH_STATISTICS);
            op_test_bytes_check(t, "logprob_forward with statistics", OP_BYTES(logprob_forward, logprob_args, .dtype = t->dtype,
                                .rows = ROWS, .cols = cols[i], .mean = t), 0.01);
            op_test_bytes_begin(t);
            forward_run(t, &p, GRADIENT);
            op_test_bytes_check(t, "logprob_forward with gradient",
                                OP_BYTES(logprob_forward, logprob_args, .dtype = t->dtype, .rows = ROWS, .cols = cols[i],
                                         .write_gradient = true) +
                                    (cols[i] > kept ? ROWS * s * (cols[i] - kept) : 0), 0.01);
            op_test_close(t);
        }
}

static void test_contract(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        void *a = device_new(t, t->dtype, 4);
        OP_REFUSES(t, logprob_forward, logprob_args, .dtype = DTYPE_F16, .rows = 1, .cols = 2, .stride = 2,
                   .logits = a, .targets = a, .logprob = a, .p = a, .q = a, .lse = a);
        OP_REFUSES(t, logprob_forward, logprob_args, .dtype = t->dtype, .rows = 1, .cols = 3, .stride = 2,
                   .logits = a, .targets = a, .logprob = a, .p = a, .q = a, .lse = a);
        OP_REFUSES(t, logprob_forward, logprob_args, .dtype = t->dtype, .rows = 1, .cols = 2, .stride = 2,
                   .logits = a, .targets = a, .logprob = a, .p = a, .lse = a);
        OP_REFUSES(t, logprob_forward, logprob_args, .dtype = t->dtype, .rows = 1, .cols = 2, .stride = 2,
                   .logits = a, .targets = a, .logprob = a, .p = a, .q = a, .lse = a, .mean = a, .argmax = a);
        OP_REFUSES(t, logprob_forward, logprob_args, .dtype = t->dtype, .rows = 1, .cols = 2, .stride = 2,
                   .logits = a, .targets = a, .logprob = a, .p = a, .q = a, .lse = a, .mean = a, .variance = a,
                   .argmax = a, .write_gradient = true);
        for (int i = 0; i < 3; i++)
            OP_REFUSES(t, logprob_forward, logprob_args, .dtype = t->dtype, .rows = 1, .cols = 2, .stride = 2, .logits = a,
                       .targets = a, .logprob = a, .p = a, .q = a, .lse = a, .cap = (double[]){-1, NAN, INFINITY}[i]);
        OP_CALL(t, logprob_forward, logprob_args, .dtype = t->dtype, .cols = 2, .stride = 2);
        op_test_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_naive),     cmocka_unit_test(test_extremes),  cmocka_unit_test(test_finite_differences),
        cmocka_unit_test(test_same_bits), cmocka_unit_test(test_bytes),     cmocka_unit_test(test_capped),
        cmocka_unit_test(test_contract),  cmocka_unit_test(test_ties),      GOLDEN_TESTS(minkpp)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
