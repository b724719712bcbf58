/* test_qk_norm.c - norm and rotation of queries and keys: the formulas written out, finite differences, a norm per head and a
 * wide one; same bits; counted bytes; the contract. Large sizes against the double engine: test_cases.c; that engine against
 * torch: test_parity.c.
 */
#include "../support/op_test.h"

#include <math.h>
#include <string.h>

/* A fused row holds queries, keys, and kv_heads heads that are not the op's. */
struct problem {
    int64_t rows;
    int heads, kv_heads, head_dim, rotary_dim;
    bool wide;
    double eps, offset, *x, *q_weight, *k_weight, *dy, *cos, *sin;
    int32_t positions[64];
};

static int64_t cols(const struct problem *p) { return (int64_t)(p->heads + p->kv_heads) * p->head_dim; }
static int64_t stride(const struct problem *p) { return cols(p) + (int64_t)p->kv_heads * p->head_dim; }
static int64_t q_width(const struct problem *p) { return p->wide ? p->heads * p->head_dim : p->head_dim; }
static int64_t k_width(const struct problem *p) { return p->wide ? p->kv_heads * p->head_dim : p->head_dim; }

static struct problem problem_make(struct op_test *t, int64_t rows, int head_dim, int rotary_dim, bool wide)
{
    struct problem p = {.rows = rows, .heads = 3, .kv_heads = 2, .head_dim = head_dim, .rotary_dim = rotary_dim, .wide = wide,
                        .eps = 1e-6, .offset = wide};
    p.x = values_random(t, rows * stride(&p), 1);
    p.dy = values_random(t, rows * stride(&p), 2);
    p.q_weight = values_random(t, q_width(&p), 3);
    p.k_weight = values_random(t, k_width(&p), 4);
    p.cos = values_random(t, 64 * rotary_dim / 2, 5);
    p.sin = values_random(t, 64 * rotary_dim / 2, 6);
    for (int64_t i = 0; i < rows; i++)
        p.positions[i % 64] = (int32_t)(i * 29 % 64);
    return p;
}

struct results {
    double *y, *dx, *dq_weight, *dk_weight;
};

static struct qk_norm_args problem_args(struct op_test *t, const struct problem *p)
{
    return (struct qk_norm_args){
        .dtype = t->dtype, .rows = p->rows, .row_stride = stride(p), .heads = p->heads, .kv_heads = p->kv_heads,
        .head_dim = p->head_dim, .wide = p->wide, .eps = p->eps, .offset = p->offset,
        .q_weight = device_from(t, t->dtype, p->q_weight, q_width(p)),
        .k_weight = device_from(t, t->dtype, p->k_weight, k_width(p)), .rotary_dim = p->rotary_dim,
        .positions = device_bytes(t, p->positions, sizeof p->positions),
        .cos = p->rotary_dim ? device_from(t, t->stat, p->cos, 64 * p->rotary_dim / 2) : NULL,
        .sin = p->rotary_dim ? device_from(t, t->stat, p->sin, 64 * p->rotary_dim / 2) : NULL,
        .x = device_from(t, t->dtype, p->x, p->rows * stride(p)), .raw = device_new(t, t->dtype, p->rows * cols(p)),
        .rstd = device_new(t, t->stat, p->rows * (p->heads + p->kv_heads))};
}

static struct results problem_run(struct op_test *t, const struct problem *p)
{
    const struct qk_norm_args args = problem_args(t, p);
    double *zeros = values_new(t, q_width(p) + k_width(p));
    memset(zeros, 0, (size_t)(q_width(p) + k_width(p)) * sizeof *zeros);
    op_test_bytes_begin(t);
    op_test_status(t, "qk_norm_forward", t->engine->qk_norm_forward(t->context, &args));
    if (p->rows >= 64)
        op_test_bytes_check(t, "qk_norm_forward", qk_norm_forward_moved(&args), 0.02);
    struct qk_norm_backward_args backward = {
        .forward = args, .grad_dtype = t->dtype, .dx = device_from(t, t->dtype, p->dy, p->rows * stride(p)),
        .dq_weight = device_from(t, t->dtype, zeros, q_width(p)), .dk_weight = device_from(t, t->dtype, zeros, k_width(p))};
    op_test_bytes_begin(t);
    op_test_status(t, "qk_norm_backward", t->engine->qk_norm_backward(t->context, &backward));
    if (p->rows >= 64)
        op_test_bytes_check(t, "qk_norm_backward", qk_norm_backward_moved(&backward), 0.02);
    return (struct results){values_from(t, t->dtype, args.x, p->rows * stride(p)),
                            values_from(t, t->dtype, backward.dx, p->rows * stride(p)),
                            values_from(t, t->dtype, backward.dq_weight, q_width(p)),
                            values_from(t, t->dtype, backward.dk_weight, k_width(p))};
}

/* Loss = y dy over the op's columns; the rest of a row must stay as it is. */
static double problem_loss(void *user)
{
    const struct problem *p = user;
    op_test_cpu_only();
    struct op_test *t = op_test_open("cpu64", 1);
    const struct qk_norm_args args = problem_args(t, p);
    op_test_status(t, "qk_norm_forward", t->engine->qk_norm_forward(t->context, &args));
    double *y = values_from(t, t->dtype, args.x, p->rows * stride(p)), loss = 0;
    for (int64_t i = 0; i < p->rows; i++)
        loss += dot_product(y + i * stride(p), p->dy + i * stride(p), cols(p));
    op_test_close(t);
    return loss;
}

/* Some, no and all columns of a head turn; odd cases have a wide norm by 1 + weight. */
static struct problem case_make(struct op_test *t, int i)
{
    return problem_make(t, 5, 10, i < 2 ? 6 : i == 2 ? 0 : 10, i % 2);
}

/* y of a row: the contract's formula. */
static void row_naive(const struct problem *p, int64_t row, double *y)
{
    const double *x = p->x + row * stride(p);
    const int half = p->rotary_dim / 2;
    memcpy(y, x, (size_t)stride(p) * sizeof *y);
    for (int64_t head = 0; head < p->heads + p->kv_heads; head++) {
        const bool query = head < p->heads;
        const int64_t first = p->wide ? (query ? 0 : p->heads * p->head_dim) : head * p->head_dim;
        const int64_t width = query ? q_width(p) : k_width(p), begin = head * p->head_dim;
        double square = 0;
        for (int64_t j = first; j < first + width; j++)
            square += x[j] * x[j];
        const double rstd = 1 / sqrt(square / (double)width + p->eps), *weight = query ? p->q_weight : p->k_weight;
        for (int64_t j = begin; j < begin + p->head_dim; j++)
            y[j] = x[j] * rstd * (p->offset + weight[j - first]);
        for (int64_t j = 0; j < half; j++) {
            const int64_t at = p->positions[row] * half + j;
            const double a = y[begin + j], b = y[begin + half + j];
            y[begin + j] = a * p->cos[at] - b * p->sin[at];
            y[begin + half + j] = b * p->cos[at] + a * p->sin[at];
        }
    }
}

static void test_naive(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        for (int i = 0; i < 4; i++) {
            struct op_test *t = op_test_open(op_test_engines[e], 1);
            struct problem p = case_make(t, i);
            p.eps = 0.3; /* to be seen */
            struct results r = problem_run(t, &p);
            double *expected = values_new(t, p.rows * stride(&p));
            for (int64_t row = 0; row < p.rows; row++)
                row_naive(&p, row, expected + row * stride(&p));
            assert_close("y", r.y, expected, p.rows * stride(&p), 16 * t->eps, 8 * t->eps + t->rounding);
            struct op_test *exact = op_test_open("cpu64", 1); /* whose gradients finite differences are held against */
            const struct results want = problem_run(exact, &p);
            assert_close("dx", r.dx, want.dx, p.rows * stride(&p), 32 * t->eps, 8 * t->eps + t->rounding);
            assert_close("dq_weight", r.dq_weight, want.dq_weight, q_width(&p), 64 * t->eps, 8 * t->eps + t->rounding);
            assert_close("dk_weight", r.dk_weight, want.dk_weight, k_width(&p), 64 * t->eps, 8 * t->eps + t->rounding);
            op_test_close(exact);
            op_test_close(t);
        }
}

static void test_finite_differences(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        op_test_cpu_only();
        struct op_test *t = op_test_open("cpu64", 1);
        struct problem p = case_make(t, i);
        struct results r = problem_run(t, &p);
        for (int64_t row = 0; row < p.rows; row++)
            for (int64_t j = cols(&p); j < stride(&p); j++) { /* values: not touched, and not in the loss */
                assert_true(r.y[row * stride(&p) + j] == p.x[row * stride(&p) + j]);
                assert_true(r.dx[row * stride(&p) + j] == p.dy[row * stride(&p) + j]);
                r.dx[row * stride(&p) + j] = 0;
            }
        gradient_check("x", p.x, r.dx, p.rows * stride(&p), problem_loss, &p, 1e-8);
        gradient_check("q_weight", p.q_weight, r.dq_weight, q_width(&p), problem_loss, &p, 1e-8);
        gradient_check("k_weight", p.k_weight, r.dk_weight, k_width(&p), problem_loss, &p, 1e-8);
        op_test_close(t);
    }
}

static void same_bits_run(struct op_test *t, void *user, double *out)
{
    struct problem p = problem_make(t, 45, 40, 16, *(const bool *)user);
    struct results r = problem_run(t, &p);
    const int64_t n = p.rows * stride(&p);
    memcpy(out, r.y, (size_t)n * sizeof *out);
    memcpy(out + n, r.dx, (size_t)n * sizeof *out);
    memcpy(out + 2 * n, r.dq_weight, (size_t)q_width(&p) * sizeof *out);
    memcpy(out + 2 * n + q_width(&p), r.dk_weight, (size_t)k_width(&p) * sizeof *out);
}

static void test_same_bits(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        for (int wide = 0; wide < 2; wide++) {
            bool is_wide = wide;
            op_test_same_bits(op_test_engines[e], 2 * 45 * 7 * 40 + (wide ? 5 : 2) * 40, same_bits_run, &is_wide);
        }
}

static void test_bytes(void **state)
{
    (void)state;
    for (int e = OP_TEST_ENGINES; e < OP_TEST_VARIANTS; e++)
        for (int wide = 0; wide < 2; wide++) {
            struct op_test *t = op_test_open(op_test_engines[e], 1);
            struct problem p = problem_make(t, 64, 128, 128, wide);
            problem_run(t, &p);
            op_test_close(t);
        }
}

static void test_contract(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        struct problem p = problem_make(t, 3, 16, 8, false);
        for (int i = 0; i < 7; i++) {
            struct qk_norm_args args = problem_args(t, &p);
            struct qk_norm_backward_args backward = {.forward = args, .grad_dtype = t->dtype, .dx = args.x,
                                                     .dq_weight = args.x};
            switch (i) {
            case 0: args.dtype = DTYPE_F16; break;
            case 1: args.row_stride = 79; break;
            case 2: args.offset = 2; break;
            case 3: args.rotary_dim = 7; break;
            case 4: args.sin = NULL; break;
            case 5: args.rstd = NULL; break;
            case 6: args.kv_heads = 0; break;
            }
            op_test_refused(t, "qk_norm_forward", t->engine->qk_norm_forward(t->context, &args));
            op_test_refused(t, "qk_norm_backward", t->engine->qk_norm_backward(t->context, &backward));
        }
        struct qk_norm_args none = problem_args(t, &p);
        none.rows = 0;
        op_test_status(t, "qk_norm_forward", t->engine->qk_norm_forward(t->context, &none));
        op_test_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_naive), cmocka_unit_test(test_finite_differences),
                                       cmocka_unit_test(test_same_bits), cmocka_unit_test(test_bytes),
                                       cmocka_unit_test(test_contract)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
