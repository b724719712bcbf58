/* test_linear.c - the matrix products against naive sums in double, over sizes that cross every border of the
 * tiling and of OpenBLAS's own blocking; finite differences; bits for 1, 2 and 3 threads.
 */
#include "op_test.h"

#include <math.h>
#include <stdio.h>

struct shape {
    int64_t rows, in, out;
};

static const struct shape shapes[] = {
    {1, 1, 1},     {1, 5, 3},     {2, 17, 66},   {3, 64, 130},   {4, 31, 7},    {5, 1, 1},    {5, 33, 2},
    {7, 8, 19},    {16, 16, 16},  {17, 40, 401}, {31, 65, 33},   {64, 64, 64},  {63, 127, 65}, {100, 3, 385},
    {257, 24, 20}, {258, 96, 400}, {33, 385, 29}, {50, 1000, 50}, {129, 257, 97}, {300, 48, 800}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

struct results {
    double *y, *dx, *dweight, *dbias;
};

/* All three products, overwriting or adding to what `start` puts there. */
static struct results products_run(struct op_test *t, const struct shape *s, bool accumulate)
{
    int64_t rows = s->rows, in = s->in, out = s->out;
    void *x = device_from(t, t->dtype, values_random(t, rows * in, 1), rows * in);
    void *weight = device_from(t, t->dtype, values_random(t, out * in, 2), out * in);
    void *bias = device_from(t, t->dtype, values_random(t, out, 3), out);
    void *dy = device_from(t, t->dtype, values_random(t, rows * out, 4), rows * out);
    void *y = device_new(t, t->dtype, rows * out), *dx = device_new(t, t->dtype, rows * in);
    void *dweight = device_new(t, t->dtype, out * in), *dbias = device_new(t, t->dtype, out);
    if (accumulate) {
        device_set(t, t->dtype, y, values_random(t, rows * out, 5), rows * out);
        device_set(t, t->dtype, dx, values_random(t, rows * in, 6), rows * in);
        device_set(t, t->dtype, dweight, values_random(t, out * in, 7), out * in);
        device_set(t, t->dtype, dbias, values_random(t, out, 8), out);
    }
    OP_CALL(t, linear_forward, linear_args, .dtype = t->dtype, .out_dtype = t->dtype, .rows = rows, .in = in,
            .out = out, .x = x, .weight = weight, .bias = bias, .y = y, .accumulate = accumulate);
    OP_CALL(t, linear_backward_input, linear_backward_input_args, .dtype = t->dtype, .rows = rows, .in = in,
            .out = out, .dy = dy, .weight = weight, .dx = dx, .accumulate = accumulate);
    OP_CALL(t, linear_backward_weight, linear_backward_weight_args, .dtype = t->dtype, .grad_dtype = t->dtype,
            .rows = rows, .in = in, .out = out, .dy = dy, .x = x, .dweight = dweight, .dbias = dbias,
            .accumulate = accumulate);
    return (struct results){values_from(t, t->dtype, y, rows * out), values_from(t, t->dtype, dx, rows * in),
                            values_from(t, t->dtype, dweight, out * in), values_from(t, t->dtype, dbias, out)};
}

/* c [m, n] against start + sum over k of a[i, k] b[k, j], with the strides of the operands given. */
static void product_check(const char *what, struct op_test *t, const struct shape *s, const double *c, int64_t m,
                          int64_t n, int64_t k, const double *a, int64_t a_row, int64_t a_k, const double *b,
                          int64_t b_k, int64_t b_col, const double *bias, const double *start)
{
    char name[96];
    snprintf(name, sizeof name, "%s %s (%lld rows, %lld in, %lld out)", t->engine->name, what, (long long)s->rows,
             (long long)s->in, (long long)s->out);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = bias ? bias[j] : 0, size = fabs(sum);
            if (start)
                sum += start[i * n + j], size += fabs(start[i * n + j]);
            for (int64_t l = 0; l < k; l++) {
                double term = a[i * a_row + l * a_k] * b[l * b_k + j * b_col];
                sum += term;
                size += fabs(term);
            }
            assert_close(name, &c[i * n + j], &sum, 1, 2 * sqrt((double)k + 1) * t->eps / 2 * size, 0);
        }
}

static void test_products(void **state)
{
    (void)state;
    for (int e = 0; e < OP_TEST_ENGINES; e++)
        for (int i = 0; i < 2 * SHAPES; i++) {
            const struct shape *s = &shapes[i / 2];
            int64_t rows = s->rows, in = s->in, out = s->out;
            bool accumulate = i % 2;
            struct op_test *t = op_test_open(op_test_engines[e], 2);
            struct results r = products_run(t, s, accumulate);
            double *x = values_random(t, rows * in, 1), *weight = values_random(t, out * in, 2);
            double *dy = values_random(t, rows * out, 4), *ones = values_new(t, rows);
            for (int64_t k = 0; k < rows; k++)
                ones[k] = 1;
            product_check("y", t, s, r.y, rows, out, in, x, in, 1, weight, 1, in, values_random(t, out, 3),
                          accumulate ? values_random(t, rows * out, 5) : NULL);
            product_check("dx", t, s, r.dx, rows, in, out, dy, out, 1, weight, in, 1, NULL,
                          accumulate ? values_random(t, rows * in, 6) : NULL);
            product_check("dweight", t, s, r.dweight, out, in, rows, dy, 1, out, x, in, 1, NULL,
                          accumulate ? values_random(t, out * in, 7) : NULL);
            product_check("dbias", t, s, r.dbias, 1, out, rows, ones, rows, 1, dy, out, 1, NULL,
                          accumulate ? values_random(t, out, 8) : NULL);
            op_test_close(t);
        }
}

static void test_same_bits(void **state)
{
    (void)state;
    for (int e = 0; e < OP_TEST_ENGINES; e++)
        for (int i = 0; i < SHAPES; i++) {
            const struct shape *s = &shapes[i];
            struct op_test *one = op_test_open(op_test_engines[e], 1);
            struct results first = products_run(one, s, true);
            for (int threads = 1; threads <= 3; threads++) {
                struct op_test *t = op_test_open(op_test_engines[e], threads);
                struct results r = products_run(t, s, true);
                assert_same("y", r.y, first.y, s->rows * s->out);
                assert_same("dx", r.dx, first.dx, s->rows * s->in);
                assert_same("dweight", r.dweight, first.dweight, s->out * s->in);
                assert_same("dbias", r.dbias, first.dbias, s->out);
                op_test_close(t);
            }
            op_test_close(one);
        }
}

struct problem {
    struct op_test *t;
    struct shape s;
    double *x, *weight, *bias, *dy;
};

static double problem_loss(void *user)
{
    struct problem *p = user;
    struct op_test *t = op_test_open("cpu64", 1);
    int64_t rows = p->s.rows, in = p->s.in, out = p->s.out;
    void *y = device_new(t, t->dtype, rows * out);
    OP_CALL(t, linear_forward, linear_args, .dtype = t->dtype, .out_dtype = t->dtype, .rows = rows, .in = in,
            .out = out, .x = device_from(t, t->dtype, p->x, rows * in),
            .weight = device_from(t, t->dtype, p->weight, out * in), .bias = device_from(t, t->dtype, p->bias, out),
            .y = y);
    double loss = dot_product(values_from(t, t->dtype, y, rows * out), p->dy, rows * out);
    op_test_close(t);
    return loss;
}

static void test_finite_differences(void **state)
{
    (void)state;
    const struct shape sizes[] = {{3, 10, 9}, {9, 12, 20}};
    for (int i = 0; i < 2; i++) {
        struct op_test *t = op_test_open("cpu64", 1);
        struct shape s = sizes[i];
        struct problem p = {.t = t, .s = s, .x = values_random(t, s.rows * s.in, 1),
                            .weight = values_random(t, s.out * s.in, 2), .bias = values_random(t, s.out, 3),
                            .dy = values_random(t, s.rows * s.out, 4)};
        struct results r = products_run(t, &s, false);
        gradient_check("x", p.x, r.dx, s.rows * s.in, problem_loss, &p, 1e-9);
        gradient_check("weight", p.weight, r.dweight, s.out * s.in, problem_loss, &p, 1e-9);
        gradient_check("bias", p.bias, r.dbias, s.out, problem_loss, &p, 1e-9);
        op_test_close(t);
    }
}

static void test_contract(void **state)
{
    (void)state;
    for (int e = 0; e < OP_TEST_ENGINES; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        void *a = device_new(t, t->dtype, 4), *zero = device_new(t, t->dtype, 4);
        const double zeros[4] = {0};
        OP_REFUSES(t, linear_forward, linear_args, .dtype = DTYPE_BF16, .out_dtype = t->dtype, .rows = 1, .in = 1,
                   .out = 1, .x = a, .weight = a, .y = a);
        OP_REFUSES(t, linear_forward, linear_args, .dtype = t->dtype, .out_dtype = t->dtype, .rows = -1, .in = 1,
                   .out = 1, .x = a, .weight = a, .y = a);
        OP_REFUSES(t, linear_forward, linear_args, .dtype = t->dtype, .out_dtype = t->dtype, .rows = 1, .in = 1,
                   .out = 1, .x = a, .y = a);
        OP_REFUSES(t, linear_backward_input, linear_backward_input_args, .dtype = t->dtype, .rows = 1, .in = 0,
                   .out = 1, .dy = a, .weight = a, .dx = a);
        OP_REFUSES(t, linear_backward_weight, linear_backward_weight_args, .dtype = t->dtype, .grad_dtype = t->dtype,
                   .rows = 1, .in = 1, .out = 1, .dy = a, .x = a);
        op_test_refused(t, "linear_forward", t->engine->linear_forward(t->context, NULL));
        OP_CALL(t, linear_forward, linear_args, .dtype = t->dtype, .out_dtype = t->dtype, .rows = 0, .in = 1, .out = 1);
        OP_CALL(t, linear_backward_weight, linear_backward_weight_args, .dtype = t->dtype, .grad_dtype = t->dtype,
                .rows = 0, .in = 2, .out = 2, .dweight = zero);
        assert_same("dweight of no rows", values_from(t, t->dtype, zero, 4), zeros, 4);
        op_test_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_products), cmocka_unit_test(test_same_bits),
                                       cmocka_unit_test(test_finite_differences), cmocka_unit_test(test_contract)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
