/* test_attention.c - attention over packed groups against softmax written out in double: shared prefixes with
 * several branches, prefix-only groups, grouped heads, strides; packed against separate sequences; decoding
 * from a cache against the whole sequence; finite differences; bits for 1, 2 and 3 threads.
 */
#include "op_test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SEGMENTS_MAX = 16, GAP = 8 };

/* A batch: q, k, v lie in rows of one fused buffer [rows, heads + 2 kv_heads heads], GAP unused columns each. */
struct problem {
    int heads, kv_heads, head_dim, groups, segments;
    int32_t group_begin[SEGMENTS_MAX + 1];
    struct attention_segment segment[SEGMENTS_MAX];
    int64_t rows;
    double *qkv, *dout;
};

struct results {
    double *out, *lse, *dqkv;
};

static int64_t qkv_stride(const struct problem *p) { return (p->heads + 2 * p->kv_heads) * p->head_dim + GAP; }
static int64_t out_stride(const struct problem *p) { return p->heads * p->head_dim + GAP; }
static double problem_scale(const struct problem *p) { return 1 / sqrt(p->head_dim); }

/* lengths: groups ended by 0, the whole by a negative number; the first of a group is the prefix. */
static struct problem problem_make(struct op_test *t, int heads, int kv_heads, int head_dim, const int *lengths)
{
    struct problem p = {.heads = heads, .kv_heads = kv_heads, .head_dim = head_dim};
    for (; *lengths >= 0; lengths++) {
        struct attention_segment first = p.segment[p.group_begin[p.groups]];
        bool branch = p.segments > p.group_begin[p.groups];
        if (*lengths == 0) {
            p.group_begin[++p.groups] = p.segments;
            continue;
        }
        p.segment[p.segments++] = (struct attention_segment){
            .query_begin = (int32_t)p.rows, .query_count = *lengths, .key_begin = (int32_t)p.rows,
            .prefix_begin = branch ? first.query_begin : 0, .prefix_count = branch ? first.query_count : 0};
        p.rows += *lengths;
    }
    p.qkv = values_random(t, p.rows * qkv_stride(&p), 1);
    p.dout = values_random(t, p.rows * out_stride(&p), 2);
    return p;
}

static struct attention_args problem_args(struct op_test *t, const struct problem *p, void *qkv, void *out, void *lse)
{
    char *base = qkv;
    size_t head_bytes = (size_t)p->head_dim * dtype_size(t->dtype);
    return (struct attention_args){
        .dtype = t->dtype, .rows = p->rows, .heads = p->heads, .kv_heads = p->kv_heads, .head_dim = p->head_dim,
        .scale = problem_scale(p), .groups = p->groups, .segments = p->segments,
        .group_begin = device_bytes(t, p->group_begin, sizeof p->group_begin),
        .segment = device_bytes(t, p->segment, sizeof p->segment), .q = base,
        .k = base + (size_t)p->heads * head_bytes, .v = base + (size_t)(p->heads + p->kv_heads) * head_bytes,
        .q_stride = qkv_stride(p), .kv_stride = qkv_stride(p), .out_stride = out_stride(p), .out = out, .lse = lse};
}

static struct results problem_run(struct op_test *t, const struct problem *p)
{
    int64_t n = p->rows * qkv_stride(p), out_n = p->rows * out_stride(p);
    void *qkv = device_from(t, t->dtype, p->qkv, n), *dqkv = device_new(t, t->dtype, n);
    void *out = device_new(t, t->dtype, out_n), *lse = device_new(t, t->stat, p->heads * p->rows);
    struct attention_args forward = problem_args(t, p, qkv, out, lse);
    op_test_status(t, "attention_forward", t->engine->attention_forward(t->context, &forward));
    char *base = dqkv;
    size_t head_bytes = (size_t)p->head_dim * dtype_size(t->dtype);
    OP_CALL(t, attention_backward, attention_backward_args, .forward = forward,
            .dout = device_from(t, t->dtype, p->dout, out_n), .dq = base,
            .dk = base + (size_t)p->heads * head_bytes, .dv = base + (size_t)(p->heads + p->kv_heads) * head_bytes);
    return (struct results){values_from(t, t->dtype, out, out_n), values_from(t, t->stat, lse, p->heads * p->rows),
                            values_from(t, t->dtype, dqkv, n)};
}

/* Columns that the op must not touch become what the arrays were made of: NaN. */
static void gaps_check(const struct problem *p, const struct results *r)
{
    for (int64_t i = 0; i < p->rows; i++)
        for (int j = 1; j <= GAP; j++) {
            assert_true(isnan(r->out[(i + 1) * out_stride(p) - j]));
            assert_true(isnan(r->dqkv[(i + 1) * qkv_stride(p) - j]));
        }
}

/* Row number of the j-th key that query r of a segment sees. */
static int64_t key_row(const struct attention_segment *s, int64_t j)
{
    return j < s->prefix_count ? s->prefix_begin + j : s->key_begin + j - s->prefix_count;
}

/* One query of one head: softmax and its gradient with every sum written out; dqkv is added to. */
static void query_naive(const struct problem *p, const struct attention_segment *s, int64_t r, int head,
                        struct results *to, double *score)
{
    int dim = p->head_dim, kv_head = head / (p->heads / p->kv_heads);
    int64_t stride = qkv_stride(p), row = s->query_begin + r, keys = s->prefix_count + r + 1;
    int64_t q_at = row * stride + head * dim, k_column = (p->heads + kv_head) * dim;
    int64_t v_column = k_column + p->kv_heads * dim;
    const double *dout = p->dout + row * out_stride(p) + head * dim;
    double *out = to->out + row * out_stride(p) + head * dim, most = -INFINITY, sum = 0, delta = 0;
    for (int64_t j = 0; j < keys; j++) {
        score[j] = problem_scale(p) * dot_product(p->qkv + q_at, p->qkv + key_row(s, j) * stride + k_column, dim);
        most = fmax(most, score[j]);
    }
    for (int64_t j = 0; j < keys; j++)
        sum += exp(score[j] - most);
    to->lse[head * p->rows + row] = most + log(sum);
    memset(out, 0, (size_t)dim * sizeof *out);
    for (int64_t j = 0; j < keys; j++) {
        double probability = exp(score[j] - most) / sum;
        const double *v = p->qkv + key_row(s, j) * stride + v_column;
        for (int d = 0; d < dim; d++) {
            out[d] += probability * v[d];
            to->dqkv[key_row(s, j) * stride + v_column + d] += probability * dout[d];
        }
        delta += probability * dot_product(v, dout, dim);
        score[j] = probability;
    }
    for (int64_t j = 0; j < keys; j++) {
        int64_t k_at = key_row(s, j) * stride + k_column, v_at = key_row(s, j) * stride + v_column;
        double d_score = problem_scale(p) * score[j] * (dot_product(p->qkv + v_at, dout, dim) - delta);
        for (int d = 0; d < dim; d++) {
            to->dqkv[q_at + d] += d_score * p->qkv[k_at + d];
            to->dqkv[k_at + d] += d_score * p->qkv[q_at + d];
        }
    }
}

static struct results problem_naive(struct op_test *t, const struct problem *p)
{
    struct results r = {values_new(t, p->rows * out_stride(p)), values_new(t, p->heads * p->rows),
                        values_new(t, p->rows * qkv_stride(p))};
    double *score = values_new(t, p->rows);
    memset(r.dqkv, 0, (size_t)(p->rows * qkv_stride(p)) * sizeof *r.dqkv);
    for (int s = 0; s < p->segments; s++)
        for (int64_t q = 0; q < p->segment[s].query_count; q++)
            for (int head = 0; head < p->heads; head++)
                query_naive(p, &p->segment[s], q, head, &r, score);
    return r;
}

/* Compares what the op owns: the gaps at the ends of rows stay out. */
static void results_compare(const struct problem *p, const struct results *got, const struct results *expected,
                            double bound, double grad_bound)
{
    for (int64_t i = 0; i < p->rows; i++) {
        assert_close("out", got->out + i * out_stride(p), expected->out + i * out_stride(p), p->heads * p->head_dim,
                     bound, bound);
        assert_close("dqkv", got->dqkv + i * qkv_stride(p), expected->dqkv + i * qkv_stride(p), qkv_stride(p) - GAP,
                     grad_bound, grad_bound);
    }
    assert_close("lse", got->lse, expected->lse, p->heads * p->rows, bound, bound);
}

static const struct {
    int heads, kv_heads, head_dim, lengths[24];
} cases[] = {{1, 1, 8, {1, 0, -1}},
             {2, 1, 8, {2, 0, 1, 0, -1}},
             {4, 2, 16, {5, 3, 4, 0, 7, 0, 1, 1, 1, 1, 0, -1}},
             {3, 3, 24, {63, 2, 0, 64, 1, 65, 0, 66, 0, -1}},
             {9, 3, 64, {40, 23, 37, 0, 55, 70, 12, 0, -1}},
             {2, 2, 256, {20, 9, 0, -1}},
             {6, 1, 40, {1, 130, 0, 129, 128, 3, 0, -1}}};
enum { CASES = sizeof cases / sizeof *cases };

static void test_naive(void **state)
{
    (void)state;
    for (int e = 0; e < OP_TEST_ENGINES; e++)
        for (int i = 0; i < CASES; i++) {
            struct op_test *t = op_test_open(op_test_engines[e], 2);
            struct problem p = problem_make(t, cases[i].heads, cases[i].kv_heads, cases[i].head_dim, cases[i].lengths);
            struct results got = problem_run(t, &p), expected = problem_naive(t, &p);
            results_compare(&p, &got, &expected, 32 * t->eps, 400 * t->eps);
            gaps_check(&p, &got);
            op_test_close(t);
        }
}

/* The rows of one branch with its prefix as a batch of their own. */
static struct problem branch_alone(struct op_test *t, const struct problem *p, const struct attention_segment *s)
{
    int lengths[] = {s->prefix_count + s->query_count, 0, -1};
    struct problem alone = problem_make(t, p->heads, p->kv_heads, p->head_dim, lengths);
    for (int64_t j = 0; j < alone.rows; j++) {
        int64_t row = key_row(s, j);
        memcpy(alone.qkv + j * qkv_stride(p), p->qkv + row * qkv_stride(p), (size_t)qkv_stride(p) * sizeof *p->qkv);
        memcpy(alone.dout + j * out_stride(p), p->dout + row * out_stride(p), (size_t)out_stride(p) * sizeof *p->dout);
        /* A prefix is one sequence's own in the packed batch: its loss counts once, with the first branch. */
        if (j < s->prefix_count && s->query_begin != s->prefix_begin + s->prefix_count)
            memset(alone.dout + j * out_stride(p), 0, (size_t)out_stride(p) * sizeof *p->dout);
    }
    return alone;
}

/* Gradients of the shared rows are the sums of those of the separate sequences. */
static void test_packed_equals_separate(void **state)
{
    (void)state;
    const int lengths[] = {70, 33, 5, 64, 0, 17, 90, 1, 0, -1};
    for (int e = 0; e < OP_TEST_ENGINES; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 2);
        struct problem p = problem_make(t, 4, 2, 32, lengths);
        struct results packed = problem_run(t, &p);
        double *sum = values_new(t, p.rows * qkv_stride(&p)), bound = t->stat == DTYPE_F64 ? 1e-12 : 1e-5;
        memset(sum, 0, (size_t)(p.rows * qkv_stride(&p)) * sizeof *sum);
        for (int i = 0; i < p.segments; i++) {
            const struct attention_segment *s = &p.segment[i];
            if (s->prefix_count == 0)
                continue;
            struct problem alone = branch_alone(t, &p, s);
            struct results r = problem_run(t, &alone);
            for (int64_t j = 0; j < alone.rows; j++) {
                int64_t row = key_row(s, j);
                assert_close("out", r.out + j * out_stride(&p), packed.out + row * out_stride(&p), 4 * 32, bound, 0);
                for (int64_t c = 0; c < qkv_stride(&p) - GAP; c++)
                    sum[row * qkv_stride(&p) + c] += r.dqkv[j * qkv_stride(&p) + c];
            }
        }
        for (int64_t i = 0; i < p.rows; i++)
            assert_close("dqkv", packed.dqkv + i * qkv_stride(&p), sum + i * qkv_stride(&p), qkv_stride(&p) - GAP,
                         bound, bound);
        op_test_close(t);
    }
}

/* The last `fresh` queries of a lone sequence, with all keys before them in the cache and no lse kept. */
static void test_decoding(void **state)
{
    (void)state;
    const int lengths[] = {150, 0, -1}, fresh[] = {1, 2, 40, 100};
    for (int e = 0; e < OP_TEST_ENGINES; e++)
        for (int i = 0; i < 4; i++) {
            struct op_test *t = op_test_open(op_test_engines[e], 2);
            struct problem p = problem_make(t, 6, 2, 48, lengths);
            struct results whole = problem_run(t, &p);
            int64_t count = fresh[i], first = p.rows - count, n = count * out_stride(&p);
            void *out = device_new(t, t->dtype, n);
            void *q = device_from(t, t->dtype, p.qkv + first * qkv_stride(&p), count * qkv_stride(&p));
            p.segment[0] = (struct attention_segment){.query_count = (int32_t)count, .key_cached = (int32_t)first};
            void *cache = device_from(t, t->dtype, p.qkv, p.rows * qkv_stride(&p));
            struct attention_args args = problem_args(t, &p, cache, out, NULL);
            args.rows = count;
            args.q = q;
            op_test_status(t, "attention_forward", t->engine->attention_forward(t->context, &args));
            double *got = values_from(t, t->dtype, out, n);
            for (int64_t r = 0; r < count; r++)
                assert_close("out", got + r * out_stride(&p), whole.out + (first + r) * out_stride(&p), 6 * 48,
                             16 * t->eps, 16 * t->eps);
            op_test_close(t);
        }
}

static double problem_loss(void *user)
{
    struct problem *p = user;
    struct op_test *t = op_test_open("cpu64", 1);
    int64_t n = p->rows * out_stride(p);
    void *out = device_new(t, t->dtype, n);
    struct attention_args args = problem_args(t, p, device_from(t, t->dtype, p->qkv, p->rows * qkv_stride(p)), out,
                                              NULL);
    op_test_status(t, "attention_forward", t->engine->attention_forward(t->context, &args));
    double *values = values_from(t, t->dtype, out, n), loss = 0;
    for (int64_t i = 0; i < p->rows; i++)
        loss += dot_product(values + i * out_stride(p), p->dout + i * out_stride(p), p->heads * p->head_dim);
    op_test_close(t);
    return loss;
}

static void test_finite_differences(void **state)
{
    (void)state;
    const int small[] = {4, 3, 2, 5, 0, 3, 0, 1, 2, 0, -1}, long_prefix[] = {65, 2, 66, 0, -1};
    for (int i = 0; i < 2; i++) {
        struct op_test *t = op_test_open("cpu64", 1);
        struct problem p = problem_make(t, 4, 2, 8, i ? long_prefix : small);
        struct results r = problem_run(t, &p);
        for (int64_t row = 0; row < p.rows; row++) /* unused columns do not reach the loss */
            for (int j = 1; j <= GAP; j++)
                r.dqkv[(row + 1) * qkv_stride(&p) - j] = 0;
        gradient_check("qkv", p.qkv, r.dqkv, p.rows * qkv_stride(&p), problem_loss, &p, 1e-8);
        op_test_close(t);
    }
}

static void test_same_bits(void **state)
{
    (void)state;
    for (int e = 0; e < OP_TEST_ENGINES; e++)
        for (int i = 3; i < CASES; i++) {
            struct op_test *one = op_test_open(op_test_engines[e], 1);
            struct problem p = problem_make(one, cases[i].heads, cases[i].kv_heads, cases[i].head_dim,
                                            cases[i].lengths);
            struct results first = problem_run(one, &p);
            for (int threads = 1; threads <= 3; threads++) {
                struct op_test *t = op_test_open(op_test_engines[e], threads);
                struct results r = problem_run(t, &p);
                assert_same("out", r.out, first.out, p.rows * out_stride(&p));
                assert_same("lse", r.lse, first.lse, p.heads * p.rows);
                assert_same("dqkv", r.dqkv, first.dqkv, p.rows * qkv_stride(&p));
                op_test_close(t);
            }
            op_test_close(one);
        }
}

static void test_contract(void **state)
{
    (void)state;
    const int lengths[] = {4, 3, 0, 2, 0, -1};
    for (int e = 0; e < OP_TEST_ENGINES; e++)
        for (int i = 0; i < 8; i++) {
            struct op_test *t = op_test_open(op_test_engines[e], 1);
            struct problem p = problem_make(t, 2, 1, 8, lengths);
            void *a = device_new(t, t->dtype, p.rows * qkv_stride(&p));
            if (i == 0)
                p.segment[1].prefix_begin = 7; /* another group's rows */
            if (i == 1)
                p.segment[1].key_cached = 1;
            if (i == 2)
                p.segment[2].query_count = 3; /* beyond rows */
            if (i == 3)
                p.group_begin[2] = 2;
            struct attention_backward_args args = {problem_args(t, &p, a, a, a), a, a, a, a};
            if (i == 4)
                args.forward.head_dim = 12;
            if (i == 5)
                args.forward.kv_heads = 3;
            if (i == 6)
                args.forward.dtype = DTYPE_BF16;
            if (i == 7)
                args.forward.q_stride = 15;
            op_test_refused(t, "attention_backward", t->engine->attention_backward(t->context, &args));
            if (i >= 2)
                op_test_refused(t, "attention_forward", t->engine->attention_forward(t->context, &args.forward));
            op_test_close(t);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_naive),     cmocka_unit_test(test_packed_equals_separate),
        cmocka_unit_test(test_decoding),  cmocka_unit_test(test_finite_differences),
        cmocka_unit_test(test_same_bits), cmocka_unit_test(test_contract)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
