/* test_rope.c - the rotation against the formula, partial rotations, strides and odd addresses, and its inverse, which
 * is the backward pass; bits for any order of events; counted bytes.
 */
#include "../support/op_test.h"

#include <math.h>
#include <string.h>

enum { POSITIONS = 29 };

struct problem {
    int64_t rows, stride;
    int heads, head_dim, rotary_dim;
    int64_t offset; /* elements between an aligned address and that of x */
};

static const struct problem problems[] = {
    {1, 8, 1, 8, 8, 0},   {1, 10, 1, 10, 2, 0},       {5, 70, 3, 16, 16, 0},       {6, 112, 7, 16, 16, 0},
    {6, 112, 7, 16, 16, 1}, {9, 1296, 40, 32, 32, 0}, {7, 70, 4, 16, 6, 0}, {33, 1000, 12, 64, 64, 0},
    {200, 800, 12, 64, 32, 0}};
enum { PROBLEMS = sizeof problems / sizeof *problems };

static void tables_make(const struct problem *p, double *cosine, double *sine)
{
    for (int i = 0; i < POSITIONS; i++)
        for (int j = 0; j < p->rotary_dim / 2; j++) {
            double angle = i * pow(10000, -2.0 * j / p->rotary_dim);
            cosine[i * (p->rotary_dim / 2) + j] = cos(angle);
            sine[i * (p->rotary_dim / 2) + j] = sin(angle);
        }
}

static int32_t position_of(int64_t row) { return (int32_t)(row * 7 % POSITIONS); }

static double *problem_run(struct op_test *t, const struct problem *p, const double *x, int direction)
{
    int64_t table = POSITIONS * (p->rotary_dim / 2);
    double *cosine = values_new(t, table), *sine = values_new(t, table);
    int32_t positions[256];
    for (int64_t i = 0; i < p->rows; i++)
        positions[i] = position_of(i);
    tables_make(p, cosine, sine);
    char *device = (char *)device_new(t, t->dtype, p->rows * p->stride + p->offset);
    device += p->offset * (int64_t)dtype_size(t->dtype);
    device_set(t, t->dtype, device, x, p->rows * p->stride);
    OP_CALL(t, rope, rope_args, .dtype = t->dtype, .rows = p->rows, .row_stride = p->stride, .heads = p->heads,
            .head_dim = p->head_dim, .rotary_dim = p->rotary_dim, .direction = direction,
            .positions = device_bytes(t, positions, sizeof positions), .cos = device_from(t, t->stat, cosine, table),
            .sin = device_from(t, t->stat, sine, table), .x = device);
    return values_from(t, t->dtype, device, p->rows * p->stride);
}

/* x -> R x by the formula of the contract; everything outside of the rotated part stays. */
static void problem_naive(const struct problem *p, double *x, const double *cosine, const double *sine)
{
    int half = p->rotary_dim / 2;
    for (int64_t i = 0; i < p->rows; i++)
        for (int h = 0; h < p->heads; h++)
            for (int j = 0; j < half; j++) {
                double *head = x + i * p->stride + h * p->head_dim, a = head[j], b = head[j + half];
                double c = cosine[position_of(i) * half + j], s = sine[position_of(i) * half + j];
                head[j] = a * c - b * s;
                head[j + half] = b * c + a * s;
            }
}

static void test_naive_and_inverse(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        for (int i = 0; i < PROBLEMS; i++) {
            const struct problem *p = &problems[i];
            struct op_test *t = op_test_open(op_test_engines[e], 2);
            int64_t n = p->rows * p->stride, table = POSITIONS * (p->rotary_dim / 2);
            double *x = values_random(t, n, 1), *expected = values_random(t, n, 1);
            double *cosine = values_new(t, table), *sine = values_new(t, table);
            tables_make(p, cosine, sine);
            problem_naive(p, expected, cosine, sine);
            double *y = problem_run(t, p, x, 1);
            assert_close("x", y, expected, n, 8 * t->eps, t->eps + t->rounding);
            /* The roundings of a pair turn back with it: |y| is at most 5. */
            assert_close("back again", problem_run(t, p, y, -1), x, n, 16 * t->eps + 10 * t->rounding, t->rounding);
            op_test_close(t);
        }
}

/* The rotation is linear: <R x, g> = <x, R^-1 g> for all x and g says that direction -1 is its gradient. */
static void test_transpose(void **state)
{
    (void)state;
    for (int i = 0; i < PROBLEMS; i++) {
        const struct problem *p = &problems[i];
        op_test_cpu_only();
        struct op_test *t = op_test_open("cpu64", 1);
        int64_t n = p->rows * p->stride;
        double *x = values_random(t, n, 1), *g = values_random(t, n, 2);
        double left = dot_product(problem_run(t, p, x, 1), g, n), right = dot_product(x, problem_run(t, p, g, -1), n);
        assert_close("<R x, g>", &left, &right, 1, 1e-14 * (double)n, 1e-12);
        op_test_close(t);
    }
}

struct difference {
    const struct problem *p;
    double *x, *g;
};

static double difference_loss(void *user)
{
    struct difference *d = user;
    op_test_cpu_only();
    struct op_test *t = op_test_open("cpu64", 1);
    double loss = dot_product(problem_run(t, d->p, d->x, 1), d->g, d->p->rows * d->p->stride);
    op_test_close(t);
    return loss;
}

static void test_finite_differences(void **state)
{
    (void)state;
    op_test_cpu_only();
    struct op_test *t = op_test_open("cpu64", 1);
    const struct problem *p = &problems[3];
    int64_t n = p->rows * p->stride;
    struct difference d = {p, values_random(t, n, 1), values_random(t, n, 2)};
    gradient_check("x", d.x, problem_run(t, p, d.g, -1), n, difference_loss, &d, 1e-9);
    op_test_close(t);
}

static void bits_run(struct op_test *t, void *user, double *out)
{
    const struct problem *p = user;
    int64_t n = p->rows * p->stride;
    memcpy(out, problem_run(t, p, values_random(t, n, 1), 1), (size_t)n * sizeof *out);
}

static void test_same_bits(void **state)
{
    (void)state;
    struct problem p = problems[PROBLEMS - 1];
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        op_test_same_bits(op_test_engines[e], p.rows * p.stride, bits_run, &p);
}

static void test_bytes(void **state)
{
    (void)state;
    static const struct problem shapes[] = {
        {50, 6144, 40, 128, 128, 0}, {50, 4096, 32, 128, 128, 0}, {50, 7680, 64, 80, 32, 0}};
    for (int e = OP_TEST_ENGINES; e < OP_TEST_VARIANTS; e++)
        for (int i = 0; i < 3; i++) {
            const struct problem *p = &shapes[i];
            struct op_test *t = op_test_open(op_test_engines[e], 1);
            double *x = values_random(t, p->rows * p->stride, 1);
            op_test_bytes_begin(t);
            problem_run(t, p, x, 1);
            op_test_bytes_check(t, "rope", OP_BYTES(rope, rope_args, .dtype = t->dtype, .rows = p->rows, .heads = p->heads,
                                .rotary_dim = p->rotary_dim), 0.05);
            op_test_close(t);
        }
}

static void test_contract(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        void *a = device_new(t, t->dtype, 64);
        struct rope_args good = {.dtype = t->dtype, .rows = 1, .row_stride = 16, .heads = 2, .head_dim = 8,
                                 .rotary_dim = 8, .direction = 1, .positions = a, .cos = a, .sin = a, .x = a};
        struct rope_args bad[6];
        for (int i = 0; i < 6; i++)
            bad[i] = good;
        bad[0].dtype = DTYPE_F16;
        bad[1].rotary_dim = 7;
        bad[2].rotary_dim = 10;
        bad[3].row_stride = 15;
        bad[4].direction = 0;
        bad[5].sin = NULL;
        for (int i = 0; i < 6; i++)
            op_test_refused(t, "rope", t->engine->rope(t->context, &bad[i]));
        op_test_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_naive_and_inverse), cmocka_unit_test(test_transpose),
                                       cmocka_unit_test(test_finite_differences), cmocka_unit_test(test_same_bits),
                                       cmocka_unit_test(test_bytes), cmocka_unit_test(test_contract)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
