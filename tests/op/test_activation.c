/* test_activation.c - the four non-linearities against the C library in double, over ordinary and extreme
 * arguments; finite differences; dx on top of x; odd addresses; bits for any order of events; counted bytes.
 */
#include "../support/op_test.h"

#include <math.h>
#include <string.h>

enum { KINDS = 5 };

struct problem {
    enum activation_kind kind;
    int64_t rows, cols, x_cols;
    bool in_place;
    double *x, *dy;
    int64_t offset; /* elements between an aligned address and that of x */
};

struct results {
    double *y, *dx;
};

static struct problem problem_make(struct op_test *t, enum activation_kind kind, int64_t rows, int64_t cols)
{
    int64_t x_cols = ACTIVATION_GATED(kind) ? 2 * cols : cols;
    return (struct problem){kind, rows, cols, x_cols, false, values_random(t, rows * x_cols, 1),
                            values_random(t, rows * cols, 2), 0};
}

static struct results problem_run(struct op_test *t, const struct problem *p)
{
    int64_t n = p->rows * p->cols, x_n = p->rows * p->x_cols;
    char *x = (char *)device_new(t, t->dtype, x_n + p->offset) + p->offset * (int64_t)dtype_size(t->dtype);
    device_set(t, t->dtype, x, p->x, x_n);
    void *y = device_new(t, t->dtype, n);
    void *dx = p->in_place ? x : device_new(t, t->dtype, x_n);
    OP_CALL(t, activation_forward, activation_args, .kind = p->kind, .dtype = t->dtype, .rows = p->rows,
            .cols = p->cols, .x = x, .y = y);
    OP_CALL(t, activation_backward, activation_backward_args, .kind = p->kind, .dtype = t->dtype, .rows = p->rows,
            .cols = p->cols, .x = x, .dy = device_from(t, t->dtype, p->dy, n), .dx = dx);
    return (struct results){values_from(t, t->dtype, y, n), values_from(t, t->dtype, dx, x_n)};
}

/* Value and slope in z of what is 1 in the other argument. */
static void curve(enum activation_kind kind, double z, double *value, double *slope)
{
    const double c = sqrt(2 / M_PI);
    double s = 1 / (1 + exp(-z)), u = c * (z + 0.044715 * z * z * z), half = erfc(-z / sqrt(2)) / 2;
    switch (kind) {
    case ACTIVATION_SWIGLU: *value = z * s, *slope = s + z * s / (1 + exp(z)); break;
    case ACTIVATION_GEGLU_TANH:
    case ACTIVATION_GELU_TANH:
        *value = z / (1 + exp(-2 * u));
        *slope = 1 / (1 + exp(-2 * u)) + z / (2 + exp(2 * u) + exp(-2 * u)) * 2 * c * (1 + 3 * 0.044715 * z * z);
        break;
    case ACTIVATION_GELU: *value = z * half, *slope = half + z * exp(-z * z / 2) / sqrt(2 * M_PI); break;
    case ACTIVATION_RELU: *value = fmax(z, 0), *slope = z > 0; break;
    }
}

static void problem_check(struct op_test *t, const struct problem *p)
{
    struct results r = problem_run(t, p);
    for (int64_t i = 0; i < p->rows; i++)
        for (int64_t j = 0; j < p->cols; j++) {
            double value = 0, slope = 0, z = p->x[i * p->x_cols + j], dy = p->dy[i * p->cols + j];
            curve(p->kind, z, &value, &slope);
            double up = ACTIVATION_GATED(p->kind) ? p->x[i * p->x_cols + p->cols + j] : 1;
            /* Far out on the negative side only the absolute error counts. */
            double bound = 4 * t->eps * fmax(1, fabs(z)), expected[2] = {value * up, dy * slope * up};
            double relative = 4 * t->eps + t->rounding;
            assert_close("y", &r.y[i * p->cols + j], &expected[0], 1, bound * fabs(up), relative);
            assert_close("dx", &r.dx[i * p->x_cols + j], &expected[1], 1, bound * fabs(up * dy), relative);
            double dup = dy * value;
            if (ACTIVATION_GATED(p->kind))
                assert_close("dup", &r.dx[i * p->x_cols + p->cols + j], &dup, 1, bound * fabs(dy), relative);
        }
}

static void test_naive(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{1, 1}, {1, 17}, {3, 8}, {9, 33}, {40, 1001}, {2, 4104}};
    enum { SIZES = sizeof sizes / sizeof *sizes };
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        for (int kind = 0; kind < KINDS; kind++)
            for (int i = 0; i < SIZES * 3; i++) {
                struct op_test *t = op_test_open(op_test_engines[e], 2);
                struct problem p = problem_make(t, kind, sizes[i / 3][0], sizes[i / 3][1]);
                p.in_place = i % 3 > 0;
                p.offset = i % 3 > 1;
                problem_check(t, &p);
                op_test_close(t);
            }
}

static void test_extremes(void **state)
{
    (void)state;
    const double extremes[] = {0,   -0.0, 1e-30, -1e-30, 1e-4, -1e-4, 5,    -5,   12,   -12,   20,
                               -20, 80,   -80,   87.5,   -87.5, 89,   -89,  100,  -100, 1000,  -1000};
    enum { EXTREMES = sizeof extremes / sizeof *extremes };
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        for (int kind = 0; kind < KINDS; kind++) {
            struct op_test *t = op_test_open(op_test_engines[e], 1);
            struct problem p = problem_make(t, kind, 1, EXTREMES);
            memcpy(p.x, extremes, sizeof extremes);
            values_round(t->dtype, p.x, EXTREMES);
            problem_check(t, &p);
            op_test_close(t);
        }
}

static void bits_run(struct op_test *t, void *user, double *out)
{
    struct problem p = problem_make(t, *(int *)user, 101, 501);
    struct results r = problem_run(t, &p);
    memcpy(out, r.y, (size_t)(p.rows * p.cols) * sizeof *out);
    memcpy(out + p.rows * p.cols, r.dx, (size_t)(p.rows * p.x_cols) * sizeof *out);
}

static void test_same_bits(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        for (int kind = 0; kind < KINDS; kind++)
            op_test_same_bits(op_test_engines[e], 101 * 501 * (ACTIVATION_GATED(kind) ? 3 : 2), bits_run, &kind);
}

static void test_bytes(void **state)
{
    (void)state;
    const int64_t rows = 31, cols = 1376;
    for (int e = OP_TEST_ENGINES; e < OP_TEST_VARIANTS; e++)
        for (int kind = 0; kind < KINDS; kind++) {
            struct op_test *t = op_test_open(op_test_engines[e], 1);
            struct problem p = problem_make(t, kind, rows, cols);
            op_test_bytes_begin(t);
            problem_run(t, &p);
            op_test_bytes_check(t, "activation_forward and _backward",
                                OP_BYTES(activation_forward, activation_args, .kind = kind, .dtype = t->dtype, .rows = rows,
                                         .cols = cols) +
                                    OP_BYTES(activation_backward, activation_backward_args, .kind = kind,
                                             .dtype = t->dtype, .rows = rows, .cols = cols), 0.05);
            op_test_close(t);
        }
}

static double problem_loss(void *user)
{
    struct problem *p = user;
    op_test_cpu_only();
    struct op_test *t = op_test_open("cpu64", 1);
    double loss = dot_product(problem_run(t, p).y, p->dy, p->rows * p->cols);
    op_test_close(t);
    return loss;
}

static void test_finite_differences(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        op_test_cpu_only();
        struct op_test *t = op_test_open("cpu64", 1);
        struct problem p = problem_make(t, kind, 5, 12);
        for (int64_t i = 0; kind == ACTIVATION_RELU && i < 5 * 12; i++)
            p.x[i] += p.x[i] > 0 ? 0.1 : -0.1; /* away from the corner */
        gradient_check("x", p.x, problem_run(t, &p).dx, p.rows * p.x_cols, problem_loss, &p, 1e-9);
        op_test_close(t);
    }
}

static void test_contract(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        void *a = device_new(t, t->dtype, 4);
        OP_REFUSES(t, activation_forward, activation_args, .dtype = DTYPE_F16, .rows = 1, .cols = 2, .x = a, .y = a);
        OP_REFUSES(t, activation_forward, activation_args, .kind = 5, .dtype = t->dtype, .rows = 1, .cols = 2,
                   .x = a, .y = a);
        OP_REFUSES(t, activation_forward, activation_args, .dtype = t->dtype, .rows = 1, .cols = 2, .x = a);
        OP_REFUSES(t, activation_backward, activation_backward_args, .dtype = t->dtype, .rows = 1, .cols = 0, .x = a,
                   .dy = a, .dx = a);
        OP_REFUSES(t, activation_backward, activation_backward_args, .dtype = t->dtype, .rows = 1, .cols = 2, .x = a,
                   .dx = a);
        op_test_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_naive), cmocka_unit_test(test_extremes),
                                       cmocka_unit_test(test_same_bits), cmocka_unit_test(test_finite_differences),
                                       cmocka_unit_test(test_bytes), cmocka_unit_test(test_contract)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
