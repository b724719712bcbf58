/* test_norm.c - RMS and Layer norm against naive formulas in double, with and without the fused residual additions, with
 * outputs on top of inputs where the contract allows it, and at odd addresses; finite differences; bits for any order of
 * events; counted bytes.
 */
#include "../support/op_test.h"

#include <math.h>
#include <string.h>

#define EPS 1e-5

struct problem {
    enum norm_kind kind;
    int64_t rows, cols;
    bool residual, in_place;
    bool added; /* residual_values, behind the norm; without residual */
    double *x, *residual_values, *weight, *bias, *dy, *dresidual;
    enum dtype grad_dtype;
    int64_t offset; /* elements between an aligned address and those of x and dy */
    double one; /* 1: of norms by 1 + weight */
};

struct results {
    double *sum, *y, *mean, *rstd, *dx, *dweight, *dbias;
};

static struct problem problem_make(struct op_test *t, enum norm_kind kind, int64_t rows, int64_t cols, bool residual,
                                   bool in_place)
{
    int64_t n = rows * cols;
    return (struct problem){kind, rows, cols, residual, in_place, false, values_random(t, n, 1), values_random(t, n, 2),
                            values_random(t, cols, 3), values_random(t, cols, 4), values_random(t, n, 5),
                            values_random(t, n, 6), t->dtype, 0, 0};
}

static void *array_from(struct op_test *t, const double *values, int64_t n, int64_t offset)
{
    char *array = (char *)device_new(t, t->dtype, n + offset) + offset * (int64_t)dtype_size(t->dtype);
    device_set(t, t->dtype, array, values, n);
    return array;
}

static struct results problem_run(struct op_test *t, const struct problem *p)
{
    int64_t rows = p->rows, cols = p->cols, n = rows * cols;
    bool layer = p->kind == NORM_LAYER;
    void *x = array_from(t, p->x, n, p->offset), *residual = device_from(t, t->dtype, p->residual_values, n);
    void *weight = device_from(t, t->dtype, p->weight, cols), *bias = device_from(t, t->dtype, p->bias, cols);
    void *sum = p->in_place ? residual : device_new(t, t->dtype, n), *y = device_new(t, t->dtype, n);
    void *mean = device_new(t, t->stat, rows), *rstd = device_new(t, t->stat, rows);
    OP_CALL(t, norm_forward, norm_args, .kind = p->kind, .dtype = t->dtype, .rows = rows, .cols = cols, .eps = EPS,
            .x = x, .residual = p->residual ? residual : NULL, .sum = p->residual ? sum : NULL, .weight = weight,
            .added = p->added ? residual : NULL, .bias = layer ? bias : NULL, .y = y, .mean = layer ? mean : NULL,
            .rstd = rstd, .offset = p->one);
    void *dy = array_from(t, p->dy, n, p->offset), *dresidual = device_from(t, t->dtype, p->dresidual, n);
    void *dx = p->in_place ? (p->residual ? dresidual : dy) : device_new(t, t->dtype, n);
    void *dweight = device_from(t, p->grad_dtype, p->bias, cols);
    void *dbias = device_from(t, p->grad_dtype, p->weight, cols);
    OP_CALL(t, norm_backward, norm_backward_args, .kind = p->kind, .dtype = t->dtype, .grad_dtype = p->grad_dtype,
            .rows = rows, .cols = cols, .x = p->residual ? sum : x, .weight = weight, .mean = layer ? mean : NULL,
            .rstd = rstd, .dy = dy, .dresidual = p->residual ? dresidual : NULL, .dx = dx, .dweight = dweight,
            .dbias = layer ? dbias : NULL, .offset = p->one);
    return (struct results){values_from(t, t->dtype, p->residual ? sum : x, n),
                            values_from(t, t->dtype, y, n),
                            layer ? values_from(t, t->stat, mean, rows) : NULL,
                            values_from(t, t->stat, rstd, rows),
                            values_from(t, t->dtype, dx, n),
                            values_from(t, p->grad_dtype, dweight, cols),
                            layer ? values_from(t, p->grad_dtype, dbias, cols) : NULL};
}

/* The formulas of the contract, and the backward pass with the sums written out. */
static struct results problem_naive(struct op_test *t, const struct problem *p)
{
    int64_t rows = p->rows, cols = p->cols, n = rows * cols;
    struct results r = {values_new(t, n), values_new(t, n),    values_new(t, rows), values_new(t, rows),
                        values_new(t, n), values_new(t, cols), values_new(t, cols)};
    for (int64_t j = 0; j < cols; j++) /* what problem_run starts from */
        r.dweight[j] = p->bias[j], r.dbias[j] = p->weight[j];
    for (int64_t k = 0; k < n; k++)
        r.sum[k] = p->x[k] + (p->residual ? p->residual_values[k] : 0);
    values_round(t->dtype, r.sum, n); /* what is normalised is what was stored */
    for (int64_t i = 0; i < rows; i++) {
        const double *h = r.sum + i * cols;
        long double mean = 0, square = 0, sum_g = 0, sum_gx = 0;
        for (int64_t j = 0; j < cols; j++)
            mean += p->kind == NORM_LAYER ? h[j] / (long double)cols : 0;
        for (int64_t j = 0; j < cols; j++)
            square += (h[j] - mean) * (h[j] - mean) / (long double)cols;
        double rstd = 1 / sqrt((double)square + EPS);
        r.mean[i] = (double)mean, r.rstd[i] = rstd;
        for (int64_t j = 0; j < cols; j++) {
            double normal = (double)(h[j] - mean) * rstd, dy = p->dy[i * cols + j], weight = p->one + p->weight[j];
            r.y[i * cols + j] = normal * weight + (p->kind == NORM_LAYER ? p->bias[j] : 0) +
                                (p->added ? p->residual_values[i * cols + j] : 0);
            r.dweight[j] += dy * normal, r.dbias[j] += dy;
            sum_g += dy * weight, sum_gx += dy * weight * normal;
        }
        for (int64_t j = 0; j < cols; j++) {
            double centre = p->kind == NORM_LAYER ? (double)sum_g / (double)cols : 0;
            r.dx[i * cols + j] = (p->residual ? p->dresidual[i * cols + j] : 0) +
                                 rstd * (p->dy[i * cols + j] * (p->one + p->weight[j]) - centre -
                                         (double)(h[j] - mean) * rstd * (double)sum_gx / (double)cols);
        }
    }
    return r;
}

/* The last ones are wide, which the CUDA kernels hold on chip in other ways, or not any more, and long. */
static const int64_t sizes[][2] = {{1, 1}, {1, 7}, {3, 8}, {5, 33}, {32, 64}, {33, 129}, {70, 576},
                                   {3, 1544}, {5, 2560}, {3, 4104}, {2, 8200}, {2300, 24}, {600, 576}};
enum { SIZES = sizeof sizes / sizeof *sizes };

static void test_naive(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        for (int i = 0; i < SIZES * 8; i++) {
            if (sizes[i / 8][0] > 100 && i % 8 != 2 && i % 8 != 5)
                continue; /* long enough for two cases */
            struct op_test *t = op_test_open(op_test_engines[e], 2);
            enum norm_kind kind = i & 1 ? NORM_LAYER : NORM_RMS;
            struct problem p = problem_make(t, kind, sizes[i / 8][0], sizes[i / 8][1], i & 2, i & 4);
            p.added = !(i & 2) && (i / 8 + i / 4) % 2;
            p.one = kind == NORM_RMS && i / 8 % 2;
            p.grad_dtype = i & 4 ? t->stat : t->dtype;
            struct results got = problem_run(t, &p), expected = problem_naive(t, &p);
            double narrowing = i & 4 ? t->eps / 2 : t->rounding; /* of the gradients of the weights */
            int64_t n = p.rows * p.cols;
            /* One column: the centred value is exactly 0 and rstd is 1 / sqrt(eps), which magnifies roundings. */
            double scale = p.cols == 1 ? 1 / sqrt(EPS) : 16;
            /* double has no wider type to sum in: `cols` roundings of u relative to the sum, half of it after the root */
            double row_sum = t->stat == DTYPE_F64 ? sqrt((double)p.cols) * t->eps / 4 : 0;
            double bound = scale * (t->eps + row_sum), column_bound = 2 * bound * sqrt((double)p.rows);
            assert_close("sum", got.sum, expected.sum, n, 0, t->eps / 2);
            assert_close("y", got.y, expected.y, n, bound, 8 * t->eps + t->rounding);
            assert_close("rstd", got.rstd, expected.rstd, p.rows, 0, 8 * t->eps + row_sum);
            assert_close("dx", got.dx, expected.dx, n, bound * 8, 8 * t->eps + t->rounding);
            assert_close("dweight", got.dweight, expected.dweight, p.cols, column_bound,
                         8 * t->eps + narrowing);
            if (kind == NORM_LAYER) {
                assert_close("mean", got.mean, expected.mean, p.rows, 4 * t->eps, 0);
                assert_close("dbias", got.dbias, expected.dbias, p.cols, column_bound,
                             8 * t->eps + narrowing);
            }
            op_test_close(t);
        }
}

/* Addresses that are not those of a vector lead to the same numbers, up to the order of the sums. */
static void test_odd_addresses(void **state)
{
    (void)state;
    for (int e = OP_TEST_ENGINES; e < OP_TEST_VARIANTS; e++)
        for (int kind = NORM_RMS; kind <= NORM_LAYER; kind++) {
            struct op_test *t = op_test_open(op_test_engines[e], 1);
            struct problem p = problem_make(t, kind, 140, 64, false, true);
            p.added = kind == NORM_RMS;
            struct results even = problem_run(t, &p);
            p.offset = 1;
            struct results odd = problem_run(t, &p);
            double relative = 8 * t->eps + 2 * t->rounding;
            assert_close("y", odd.y, even.y, p.rows * p.cols, 32 * t->eps, relative);
            assert_close("dx", odd.dx, even.dx, p.rows * p.cols, 128 * t->eps, relative);
            assert_close("dweight", odd.dweight, even.dweight, p.cols, 400 * t->eps, relative);
            if (kind == NORM_LAYER)
                assert_close("dbias", odd.dbias, even.dbias, p.cols, 400 * t->eps, relative);
            op_test_close(t);
        }
}

/* Frozen weights: dx is the same without gradients of the weights. */
static void test_frozen(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        for (int i = 0; i < 4; i++) {
            struct op_test *t = op_test_open(op_test_engines[e], 1);
            enum norm_kind kind = i & 1 ? NORM_LAYER : NORM_RMS;
            int64_t rows = 9, cols = i & 2 ? 64 : 33, n = rows * cols;
            struct problem p = problem_make(t, kind, rows, cols, false, false);
            void *dx = device_new(t, t->dtype, n), *mean = device_new(t, t->stat, rows);
            void *rstd = device_new(t, t->stat, rows), *weight = device_from(t, t->dtype, p.weight, cols);
            void *x = device_from(t, t->dtype, p.x, n);
            OP_CALL(t, norm_forward, norm_args, .kind = kind, .dtype = t->dtype, .rows = rows, .cols = cols, .eps = EPS,
                    .x = x, .weight = weight, .y = dx, .mean = mean, .rstd = rstd);
            OP_CALL(t, norm_backward, norm_backward_args, .kind = kind, .dtype = t->dtype, .grad_dtype = t->dtype,
                    .rows = rows, .cols = cols, .x = x, .weight = weight, .mean = mean, .rstd = rstd,
                    .dy = device_from(t, t->dtype, p.dy, n), .dx = dx);
            assert_same("dx", values_from(t, t->dtype, dx, n), problem_run(t, &p).dx, n);
            op_test_close(t);
        }
}

static void bits_run(struct op_test *t, void *user, double *out)
{
    const int64_t *shape = user, n = shape[1] * shape[2];
    struct problem p = problem_make(t, (enum norm_kind)shape[0], shape[1], shape[2], true, false);
    struct results r = problem_run(t, &p);
    memcpy(out, r.y, (size_t)n * sizeof *out);
    memcpy(out + n, r.dx, (size_t)n * sizeof *out);
    memcpy(out + 2 * n, r.dweight, (size_t)p.cols * sizeof *out);
    memcpy(out + 2 * n + p.cols, r.dbias ? r.dbias : r.dweight, (size_t)p.cols * sizeof *out);
}

static void test_same_bits(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        for (int i = 0; i < 6; i++) {
            int64_t shape[] = {i & 1 ? NORM_LAYER : NORM_RMS, 67, (int64_t[]){577, 576, 64}[i / 2]};
            op_test_same_bits(op_test_engines[e], 2 * shape[1] * shape[2] + 2 * shape[2], bits_run, shape);
        }
}

/* The weights are read once a block, and the partial sums of dweight are most of the 5 %: there must be many rows. */
static void test_bytes(void **state)
{
    (void)state;
    for (int e = OP_TEST_ENGINES; e < OP_TEST_VARIANTS; e++)
        for (int i = 0; i < 12; i++) {
            struct op_test *t = op_test_open(op_test_engines[e], 1);
            enum norm_kind kind = i & 1 ? NORM_LAYER : NORM_RMS;
            bool residual = i & 2, wide = i & 4, added = i >= 8 && !residual;
            int64_t rows = wide ? 200 : 8000, cols = wide ? 2560 : 16, n = rows * cols;
            void *x = device_from(t, t->dtype, values_random(t, n, 1), n), *y = device_new(t, t->dtype, n);
            void *weight = device_from(t, t->dtype, values_random(t, cols, 2), cols);
            void *mean = device_new(t, t->stat, rows), *rstd = device_new(t, t->stat, rows);
            op_test_bytes_begin(t);
            OP_CALL(t, norm_forward, norm_args, .kind = kind, .dtype = t->dtype, .rows = rows, .cols = cols, .eps = EPS,
                    .x = x, .residual = residual ? x : NULL, .sum = residual ? x : NULL, .weight = weight,
                    .added = added ? x : NULL, .bias = kind == NORM_LAYER ? weight : NULL, .y = y, .mean = mean, .rstd = rstd);
            op_test_bytes_check(t, "norm_forward", OP_BYTES(norm_forward, norm_args, .kind = kind, .dtype = t->dtype,
                                .rows = rows, .cols = cols, .residual = residual ? x : NULL, .added = added ? x : NULL), 0.05);
            if (wide || added) {
                op_test_close(t);
                continue;
            }
            op_test_bytes_begin(t);
            OP_CALL(t, norm_backward, norm_backward_args, .kind = kind, .dtype = t->dtype, .grad_dtype = t->stat,
                    .rows = rows, .cols = cols, .x = x, .weight = weight, .mean = mean, .rstd = rstd, .dy = y,
                    .dresidual = residual ? x : NULL, .dx = y, .dweight = device_new(t, t->stat, cols),
                    .dbias = kind == NORM_RMS ? NULL : device_new(t, t->stat, cols));
            op_test_bytes_check(t, "norm_backward",
                                OP_BYTES(norm_backward, norm_backward_args, .kind = kind, .dtype = t->dtype,
                                         .grad_dtype = t->stat, .rows = rows, .cols = cols,
                                         .dresidual = residual ? x : NULL), 0.05);
            op_test_close(t);
        }
}

/* sum . dresidual + y . dy: the residual stream and the normalised row both reach the loss. */
static double problem_loss(void *user)
{
    struct problem *p = user;
    op_test_cpu_only();
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
    static const enum norm_kind kinds[] = {NORM_RMS, NORM_LAYER, NORM_RMS, NORM_LAYER, NORM_RMS, NORM_RMS};
    for (int i = 0; i < 6; i++) { /* the last two by 1 + weight */
        op_test_cpu_only();
        struct op_test *t = op_test_open("cpu64", 1);
        struct problem p = problem_make(t, kinds[i], 4, 11, i == 2 || i == 3 || i == 5, false);
        p.added = !p.residual;
        p.one = i >= 4;
        struct results r = problem_run(t, &p);
        for (int64_t j = 0; j < p.cols; j++) { /* take away what the gradients were added to */
            r.dweight[j] -= p.bias[j];
            if (r.dbias)
                r.dbias[j] -= p.weight[j];
        }
        gradient_check("x", p.x, r.dx, p.rows * p.cols, problem_loss, &p, 1e-8);
        if (p.residual)
            gradient_check("residual", p.residual_values, r.dx, p.rows * p.cols, problem_loss, &p, 1e-8);
        if (p.added)
            gradient_check("added", p.residual_values, p.dy, p.rows * p.cols, problem_loss, &p, 1e-8);
        gradient_check("weight", p.weight, r.dweight, p.cols, problem_loss, &p, 1e-8);
        if (r.dbias)
            gradient_check("bias", p.bias, r.dbias, p.cols, problem_loss, &p, 1e-8);
        op_test_close(t);
    }
}

static void test_contract(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        void *a = device_new(t, t->dtype, 4);
        OP_REFUSES(t, norm_forward, norm_args, .dtype = DTYPE_F16, .rows = 1, .cols = 4, .x = a, .weight = a, .y = a,
                   .rstd = a);
        OP_REFUSES(t, norm_forward, norm_args, .dtype = t->dtype, .rows = 1, .cols = 4, .x = a, .residual = a,
                   .weight = a, .y = a, .rstd = a);
        OP_REFUSES(t, norm_forward, norm_args, .dtype = t->dtype, .rows = 1, .cols = 4, .x = a, .residual = a, .sum = a,
                   .added = a, .weight = a, .y = a, .rstd = a);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_naive), cmocka_unit_test(test_odd_addresses),
                                       cmocka_unit_test(test_frozen), cmocka_unit_test(test_same_bits),
                                       cmocka_unit_test(test_bytes), cmocka_unit_test(test_finite_differences),
                                       cmocka_unit_test(test_contract)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
