/* test_norm.c - RMS and Layer norm against naive formulas in double, with and without the fused residual, with
 * outputs on top of inputs where the card allows it; finite differences; bits for 1, 2 and 3 threads.
 */
#include "op_test.h"

#include <math.h>

#define EPS 1e-5

struct problem {
    enum norm_kind kind;
    int64_t rows, cols;
    bool residual, in_place;
    double *x, *residual_values, *weight, *bias, *dy, *dresidual;
};

struct results {
    double *sum, *y, *mean, *rstd, *dx, *dweight, *dbias;
};

static struct problem problem_make(struct op_test *t, enum norm_kind kind, int64_t rows, int64_t cols, bool residual,
                                   bool in_place)
{
    int64_t n = rows * cols;
    return (struct problem){kind, rows, cols, residual, in_place, values_random(t, n, 1), values_random(t, n, 2),
                            values_random(t, cols, 3), values_random(t, cols, 4), values_random(t, n, 5),
                            values_random(t, n, 6)};
}

static struct results problem_run(struct op_test *t, const struct problem *p)
{
    int64_t rows = p->rows, cols = p->cols, n = rows * cols;
    bool layer = p->kind == NORM_LAYER;
    void *x = device_from(t, t->dtype, p->x, n), *residual = device_from(t, t->dtype, p->residual_values, n);
    void *weight = device_from(t, t->dtype, p->weight, cols), *bias = device_from(t, t->dtype, p->bias, cols);
    void *sum = p->in_place ? residual : device_new(t, t->dtype, n), *y = device_new(t, t->dtype, n);
    void *mean = device_new(t, t->stat, rows), *rstd = device_new(t, t->stat, rows);
    OP_CALL(t, norm_forward, norm_args, .kind = p->kind, .dtype = t->dtype, .rows = rows, .cols = cols, .eps = EPS,
            .x = x, .residual = p->residual ? residual : NULL, .sum = p->residual ? sum : NULL, .weight = weight,
            .bias = layer ? bias : NULL, .y = y, .mean = layer ? mean : NULL, .rstd = rstd);
    void *dy = device_from(t, t->dtype, p->dy, n), *dresidual = device_from(t, t->dtype, p->dresidual, n);
    void *dx = p->in_place ? (p->residual ? dresidual : dy) : device_new(t, t->dtype, n);
    void *dweight = device_from(t, t->dtype, p->bias, cols), *dbias = device_from(t, t->dtype, p->weight, cols);
    OP_CALL(t, norm_backward, norm_backward_args, .kind = p->kind, .dtype = t->dtype, .grad_dtype = t->dtype,
            .rows = rows, .cols = cols, .x = p->residual ? sum : x, .weight = weight, .mean = layer ? mean : NULL,
            .rstd = rstd, .dy = dy, .dresidual = p->residual ? dresidual : NULL, .dx = dx, .dweight = dweight,
            .dbias = layer ? dbias : NULL);
    return (struct results){values_from(t, t->dtype, p->residual ? sum : x, n),
                            values_from(t, t->dtype, y, n),
                            layer ? values_from(t, t->stat, mean, rows) : NULL,
                            values_from(t, t->stat, rstd, rows),
                            values_from(t, t->dtype, dx, n),
                            values_from(t, t->dtype, dweight, cols),
                            layer ? values_from(t, t->dtype, dbias, cols) : NULL};
}

/* The formulas of the card, and the backward pass with the sums written out. */
static struct results problem_naive(struct op_test *t, const struct problem *p)
{
    int64_t rows = p->rows, cols = p->cols, n = rows * cols;
    struct results r = {values_new(t, n), values_new(t, n),    values_new(t, rows), values_new(t, rows),
                        values_new(t, n), values_new(t, cols), values_new(t, cols)};
    for (int64_t j = 0; j < cols; j++) /* what problem_run starts from */
        r.dweight[j] = p->bias[j], r.dbias[j] = p->weight[j];
    for (int64_t i = 0; i < rows; i++) {
        double *h = r.sum + i * cols, mean = 0, square = 0, sum_g = 0, sum_gx = 0;
        for (int64_t j = 0; j < cols; j++) {
            h[j] = p->x[i * cols + j] + (p->residual ? p->residual_values[i * cols + j] : 0);
            mean += p->kind == NORM_LAYER ? h[j] / (double)cols : 0;
        }
        for (int64_t j = 0; j < cols; j++)
            square += (h[j] - mean) * (h[j] - mean) / (double)cols;
        double rstd = 1 / sqrt(square + EPS);
        r.mean[i] = mean, r.rstd[i] = rstd;
        for (int64_t j = 0; j < cols; j++) {
            double normal = (h[j] - mean) * rstd, dy = p->dy[i * cols + j];
            r.y[i * cols + j] = normal * p->weight[j] + (p->kind == NORM_LAYER ? p->bias[j] : 0);
            r.dweight[j] += dy * normal, r.dbias[j] += dy;
            sum_g += dy * p->weight[j], sum_gx += dy * p->weight[j] * normal;
        }
        for (int64_t j = 0; j < cols; j++) {
            double centre = p->kind == NORM_LAYER ? sum_g / (double)cols : 0;
            r.dx[i * cols + j] = (p->residual ? p->dresidual[i * cols + j] : 0) +
                                 rstd * (p->dy[i * cols + j] * p->weight[j] - centre -
                                         (h[j] - mean) * rstd * sum_gx / (double)cols);
        }
    }
    return r;
}

static const int64_t sizes[][2] = {{1, 1}, {1, 7}, {3, 8}, {5, 33}, {32, 64}, {33, 129}, {70, 576}};
enum { SIZES = sizeof sizes / sizeof *sizes };

static void test_naive(void **state)
{
    (void)state;
    for (int e = 0; e < OP_TEST_ENGINES; e++)
        for (int i = 0; i < SIZES * 8; i++) {
            struct op_test *t = op_test_open(op_test_engines[e], 2);
            enum norm_kind kind = i & 1 ? NORM_LAYER : NORM_RMS;
            struct problem p = problem_make(t, kind, sizes[i / 8][0], sizes[i / 8][1], i & 2, i & 4);
            struct results got = problem_run(t, &p), expected = problem_naive(t, &p);
            int64_t n = p.rows * p.cols;
            /* One column: the centred value is exactly 0 and rstd is 1 / sqrt(eps), which magnifies roundings. */
            double scale = p.cols == 1 ? 1 / sqrt(EPS) : 16, bound = scale * t->eps;
            assert_close("sum", got.sum, expected.sum, n, 0, t->eps / 2);
            assert_close("y", got.y, expected.y, n, bound, 8 * t->eps);
            assert_close("rstd", got.rstd, expected.rstd, p.rows, 0, 8 * t->eps);
            assert_close("dx", got.dx, expected.dx, n, bound * 8, 8 * t->eps);
            assert_close("dweight", got.dweight, expected.dweight, p.cols, bound * sqrt((double)p.rows), 8 * t->eps);
            if (kind == NORM_LAYER) {
                assert_close("mean", got.mean, expected.mean, p.rows, 4 * t->eps, 0);
                assert_close("dbias", got.dbias, expected.dbias, p.cols, bound * sqrt((double)p.rows), 8 * t->eps);
            }
            op_test_close(t);
        }
}

static void test_same_bits(void **state)
{
    (void)state;
    for (int e = 0; e < OP_TEST_ENGINES; e++)
        for (int kind = NORM_RMS; kind <= NORM_LAYER; kind++) {
            struct op_test *one = op_test_open(op_test_engines[e], 1);
            struct problem p = problem_make(one, kind, 203, 577, true, false);
            struct results first = problem_run(one, &p);
            for (int threads = 1; threads <= 3; threads++) {
                struct op_test *t = op_test_open(op_test_engines[e], threads);
                struct results r = problem_run(t, &p);
                assert_same("y", r.y, first.y, p.rows * p.cols);
                assert_same("dx", r.dx, first.dx, p.rows * p.cols);
                assert_same("dweight", r.dweight, first.dweight, p.cols);
                if (kind == NORM_LAYER)
                    assert_same("dbias", r.dbias, first.dbias, p.cols);
                op_test_close(t);
            }
            op_test_close(one);
        }
}

/* sum . dresidual + y . dy: the residual stream and the normalised row both reach the loss. */
static double problem_loss(void *user)
{
    struct problem *p = user;
    struct op_test *t = op_test_open("cpu64", 1);
    struct results r = problem_run(t, p);
    int64_t n = p->rows * p->cols;
    double loss = dot_product(r.y, p->dy, n) + (p->residual ? dot_product(r.sum, p->dresidual, n) : 0);
    op_test_close(t);
    return loss;
}

static void test_finite_differences(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct op_test *t = op_test_open("cpu64", 1);
        struct problem p = problem_make(t, i & 1 ? NORM_LAYER : NORM_RMS, 4, 11, i & 2, false);
        struct results r = problem_run(t, &p);
        for (int64_t j = 0; j < p.cols; j++) { /* take away what the gradients were added to */
            r.dweight[j] -= p.bias[j];
            if (r.dbias)
                r.dbias[j] -= p.weight[j];
        }
        gradient_check("x", p.x, r.dx, p.rows * p.cols, problem_loss, &p, 1e-8);
        if (p.residual)
            gradient_check("residual", p.residual_values, r.dx, p.rows * p.cols, problem_loss, &p, 1e-8);
        gradient_check("weight", p.weight, r.dweight, p.cols, problem_loss, &p, 1e-8);
        if (r.dbias)
            gradient_check("bias", p.bias, r.dbias, p.cols, problem_loss, &p, 1e-8);
        op_test_close(t);
    }
}

static void test_contract(void **state)
{
    (void)state;
    for (int e = 0; e < OP_TEST_ENGINES; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        void *a = device_new(t, t->dtype, 4);
        OP_REFUSES(t, norm_forward, norm_args, .dtype = DTYPE_BF16, .rows = 1, .cols = 4, .x = a, .weight = a, .y = a,
                   .rstd = a);
        OP_REFUSES(t, norm_forward, norm_args, .dtype = t->dtype, .rows = 1, .cols = 4, .x = a, .residual = a,
                   .weight = a, .y = a, .rstd = a);
        OP_REFUSES(t, norm_forward, norm_args, .kind = NORM_LAYER, .dtype = t->dtype, .rows = 1, .cols = 4, .x = a,
                   .weight = a, .y = a, .rstd = a);
        OP_REFUSES(t, norm_forward, norm_args, .kind = 7, .dtype = t->dtype, .rows = 1, .cols = 4);
        OP_REFUSES(t, norm_backward, norm_backward_args, .dtype = t->dtype, .grad_dtype = t->dtype, .rows = 1,
                   .cols = 4, .x = a, .weight = a, .rstd = a, .dy = a);
        OP_REFUSES(t, norm_backward, norm_backward_args, .dtype = t->dtype, .grad_dtype = t->dtype, .rows = -1,
                   .cols = 4);
        OP_CALL(t, norm_forward, norm_args, .dtype = t->dtype, .rows = 0, .cols = 4);
        op_test_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_naive), cmocka_unit_test(test_same_bits),
                                       cmocka_unit_test(test_finite_differences), cmocka_unit_test(test_contract)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
