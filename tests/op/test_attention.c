/* test_attention.c - attention over packed groups against softmax written out in double: shared prefixes with
 * several branches, prefix-only groups, grouped heads, strides, windows, capped scores, every width of the CUDA kernels; packed against
 * separate sequences; decoding from a cache against the whole sequence; finite differences; same bits whatever the
 * schedule; counted bytes.
 */
#include "../support/op_test.h"

#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SEGMENTS_MAX = 16 };

/* A batch: q, k, v lie in rows of one fused buffer [rows, heads + 2 kv_heads heads], gap unused columns each. */
struct problem {
    int heads, kv_heads, head_dim, gap, groups, segments;
    int32_t group_begin[SEGMENTS_MAX + 1];
    struct attention_segment segment[SEGMENTS_MAX];
    int64_t rows;
    double *qkv, *dout;
    int window;
    double cap;
};

struct results {
    double *out, *lse, *dqkv;
};

static int64_t qkv_stride(const struct problem *p) { return (p->heads + 2 * p->kv_heads) * p->head_dim + p->gap; }
static int64_t out_stride(const struct problem *p) { return p->heads * p->head_dim + p->gap; }
static double problem_scale(const struct problem *p) { return 1 / sqrt(p->head_dim); }

/* lengths: groups ended by 0, the whole by a negative number; the first of a group is the prefix. */
static struct problem problem_make(struct op_test *t, int heads, int kv_heads, int head_dim, int gap,
                                   const int *lengths)
{
    struct problem p = {.heads = heads, .kv_heads = kv_heads, .head_dim = head_dim, .gap = gap};
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
        .scale = problem_scale(p), .window = p->window, .cap = p->cap, .groups = p->groups, .segments = p->segments,
        .group_begin = device_bytes(t, p->group_begin, sizeof p->group_begin),
        .segment = device_bytes(t, p->segment, sizeof p->segment), .q = base,
        .k = base + (size_t)p->heads * head_bytes, .v = base + (size_t)(p->heads + p->kv_heads) * head_bytes,
        .q_stride = qkv_stride(p), .kv_stride = qkv_stride(p), .out_stride = out_stride(p), .out = out, .lse = lse};
}

/* The list of tiles that the host makes, in device memory. */
static void tiles_give(struct op_test *t, const struct problem *p, struct attention_args *args)
{
    const int rows = attention_tile_rows(t->dtype);
    struct attention_tile *tile = calloc((size_t)attention_tiles_most(p->rows, p->segments, rows), sizeof *tile);
    assert_non_null(tile);
    args->tiles = attention_tiles_list(p->segment, p->segments, rows, tile);
    args->tile = device_bytes(t, tile, (size_t)args->tiles * sizeof *tile);
    free(tile);
}

static struct results problem_run_with(struct op_test *t, const struct problem *p, bool listed)
{
    int64_t n = p->rows * qkv_stride(p), out_n = p->rows * out_stride(p);
    void *qkv = device_from(t, t->dtype, p->qkv, n), *dqkv = device_new(t, t->dtype, n);
    void *out = device_new(t, t->dtype, out_n), *lse = device_new(t, t->stat, p->heads * p->rows);
    struct attention_args forward = problem_args(t, p, qkv, out, lse);
    if (listed)
        tiles_give(t, p, &forward);
    op_test_status(t, "attention_forward", t->engine->attention_forward(t->context, &forward));
    char *base = dqkv;
    size_t head_bytes = (size_t)p->head_dim * dtype_size(t->dtype);
    OP_CALL(t, attention_backward, attention_backward_args, .forward = forward,
            .dout = device_from(t, t->dtype, p->dout, out_n), .dq = base,
            .dk = base + (size_t)p->heads * head_bytes, .dv = base + (size_t)(p->heads + p->kv_heads) * head_bytes);
    return (struct results){values_from(t, t->dtype, out, out_n), values_from(t, t->stat, lse, p->heads * p->rows),
                            values_from(t, t->dtype, dqkv, n)};
}

static struct results problem_run(struct op_test *t, const struct problem *p)
{
    return problem_run_with(t, p, true);
}

/* Columns that the op must not touch become what the arrays were made of: NaN. */
static void gaps_check(const struct problem *p, const struct results *r)
{
    for (int64_t i = 0; i < p->rows; i++)
        for (int j = 1; j <= p->gap; j++) {
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
                        struct results *to, double *score, double *slope)
{
    int64_t dim = p->head_dim, kv_head = head / (p->heads / p->kv_heads);
    int64_t stride = qkv_stride(p), row = s->query_begin + r, keys = s->prefix_count + r + 1;
    int64_t q_at = row * stride + head * dim, k_column = (p->heads + kv_head) * dim;
    int64_t v_column = k_column + p->kv_heads * dim;
    const double *dout = p->dout + row * out_stride(p) + head * dim;
    double *out = to->out + row * out_stride(p) + head * dim, most = -INFINITY, sum = 0, delta = 0;
    const int64_t first = p->window && keys > p->window ? keys - p->window : 0;
    for (int64_t j = first; j < keys; j++) {
        score[j] = problem_scale(p) * dot_product(p->qkv + q_at, p->qkv + key_row(s, j) * stride + k_column, dim);
        score[j] = p->cap > 0 ? p->cap * tanh(score[j] / p->cap) : score[j];
        most = fmax(most, score[j]);
    }
    for (int64_t j = first; j < keys; j++)
        sum += exp(score[j] - most);
    to->lse[head * p->rows + row] = most + log(sum);
    memset(out, 0, (size_t)dim * sizeof *out);
    for (int64_t j = first; j < keys; j++) {
        double probability = exp(score[j] - most) / sum;
        const double t = p->cap > 0 ? score[j] / p->cap : 0;
        slope[j] = 1 - t * t;
        const double *v = p->qkv + key_row(s, j) * stride + v_column;
        for (int64_t d = 0; d < dim; d++) {
            out[d] += probability * v[d];
            to->dqkv[key_row(s, j) * stride + v_column + d] += probability * dout[d];
        }
        delta += probability * dot_product(v, dout, dim);
        score[j] = probability;
    }
    for (int64_t j = first; j < keys; j++) {
        int64_t k_at = key_row(s, j) * stride + k_column, v_at = key_row(s, j) * stride + v_column;
        double d_score = problem_scale(p) * slope[j] * score[j] * (dot_product(p->qkv + v_at, dout, dim) - delta);
        for (int64_t d = 0; d < dim; d++) {
            to->dqkv[q_at + d] += d_score * p->qkv[k_at + d];
            to->dqkv[k_at + d] += d_score * p->qkv[q_at + d];
        }
    }
}

static struct results problem_naive(struct op_test *t, const struct problem *p)
{
    struct results r = {values_new(t, p->rows * out_stride(p)), values_new(t, p->heads * p->rows),
                        values_new(t, p->rows * qkv_stride(p))};
    double *score = values_new(t, p->rows), *slope = values_new(t, p->rows);
    memset(r.dqkv, 0, (size_t)(p->rows * qkv_stride(p)) * sizeof *r.dqkv);
    for (int s = 0; s < p->segments; s++)
        for (int64_t q = 0; q < p->segment[s].query_count; q++)
            for (int head = 0; head < p->heads; head++)
                query_naive(p, &p->segment[s], q, head, &r, score, slope);
    return r;
}

/* How far from the values in double, absolute and relative. In bf16 it is the rounding of out, of the probabilities
 * and of d loss / d score that shows; lse and all sums are float. */
static struct bounds {
    double out, lse, grad;
} bounds_of(const struct op_test *t)
{
    if (t->dtype == DTYPE_BF16)
        return (struct bounds){6e-3, 1e-5, 1e-2};
    if (op_test_is_cuda(t))
        return (struct bounds){1e-5, 1e-5, 1e-5};
    return (struct bounds){32 * t->eps, 32 * t->eps, 400 * t->eps};
}

/* Compares what the op owns: the gaps at the ends of rows stay out. */
static void results_compare(const struct problem *p, const struct results *got, const struct results *expected,
                            struct bounds bound)
{
    for (int64_t i = 0; i < p->rows; i++) {
        assert_close("out", got->out + i * out_stride(p), expected->out + i * out_stride(p), p->heads * p->head_dim,
                     bound.out, bound.out);
        assert_close("dqkv", got->dqkv + i * qkv_stride(p), expected->dqkv + i * qkv_stride(p),
                     qkv_stride(p) - p->gap, bound.grad, bound.grad);
    }
    assert_close("lse", got->lse, expected->lse, p->heads * p->rows, bound.lse, bound.lse);
}

static const struct {
    int heads, kv_heads, head_dim, gap, lengths[24];
} cases[] = {{1, 1, 8, 8, {1, 0, -1}},
             {2, 1, 8, 8, {2, 0, 1, 0, -1}},
             {4, 2, 16, 8, {5, 3, 4, 0, 7, 0, 1, 1, 1, 1, 0, -1}},
             {2, 1, 64, 8, {1, 1, 1, 0, 17, 16, 15, 0, -1}},
             {4, 2, 80, 3, {30, 12, 1, 0, 5, 0, -1}}, /* no row is aligned */
             {2, 1, 80, 8, {65, 12, 33, 0, -1}},
             {3, 1, 96, 8, {31, 70, 0, -1}},
             {2, 1, 128, 0, {20, 64, 1, 0, 33, 0, -1}},
             {1, 1, 136, 8, {34, 35, 0, -1}},
             {3, 3, 24, 8, {63, 2, 0, 64, 1, 65, 0, 66, 0, -1}},
             {9, 3, 64, 8, {40, 23, 37, 0, 55, 70, 12, 0, -1}},
             {2, 2, 256, 8, {20, 9, 0, -1}},
             {6, 1, 40, 8, {1, 130, 0, 129, 128, 3, 0, -1}}};
enum { CASES = sizeof cases / sizeof *cases, CASES_LARGE = 9 };

static struct problem case_make(struct op_test *t, int i)
{
    return problem_make(t, cases[i].heads, cases[i].kv_heads, cases[i].head_dim, cases[i].gap, cases[i].lengths);
}

static void naive_check(struct op_test *t, const struct problem *p)
{
    struct results got = problem_run(t, p), expected = problem_naive(t, p);
    results_compare(p, &got, &expected, bounds_of(t));
    gaps_check(p, &got);
}

/* What models add to plain attention: windows that end inside of tiles, prefixes and branches; scores that a cap bends. */
static const struct {
    int window;
    double cap;
} forms[] = {{1, 0}, {7, 0}, {33, 1.5}, {64, 0}, {65, 0.5}, {129, 0}, {0, 2}};

static void test_forms(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        for (int i = 0; i < CASES; i++)
            for (int f = i % 2; f < (int)(sizeof forms / sizeof *forms); f += 2) {
                struct op_test *t = op_test_open(op_test_engines[e], 2);
                struct problem p = case_make(t, i);
                p.window = forms[f].window, p.cap = forms[f].cap;
                naive_check(t, &p);
                op_test_close(t);
            }
}

static void test_naive(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        for (int i = 0; i < CASES; i++) {
            struct op_test *t = op_test_open(op_test_engines[e], 2);
            struct problem p = case_make(t, i);
            naive_check(t, &p);
            op_test_close(t);
        }
}

/* Prefixes that end everywhere in a tile; a branch that shares a part of the prefix, and one that shares nothing. */
static void test_prefix_lengths(void **state)
{
    (void)state;
    const int prefixes[] = {1, 2, 15, 16, 31, 33, 63, 64, 65, 127, 128, 129, 130};
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        for (int i = 0; i < (int)(sizeof prefixes / sizeof *prefixes); i++) {
            int prefix = prefixes[i];
            struct op_test *t = op_test_open(op_test_engines[e], 2);
            struct problem p = problem_make(t, 2, 1, 16, 8, (int[]){3, 1, 0, prefix, 1, 34, 5, 1, 20, 0, 2, 0, -1});
            p.segment[4].prefix_begin += prefix / 3;
            p.segment[4].prefix_count -= prefix / 3 + prefix / 4;
            p.segment[5].prefix_begin = p.segment[5].prefix_count = 0;
            naive_check(t, &p);
            p.window = prefix / 2 + 1;
            naive_check(t, &p);
            op_test_close(t);
        }
}

/* The rows of one branch with its prefix as a batch of their own. */
static struct problem branch_alone(struct op_test *t, const struct problem *p, const struct attention_segment *s)
{
    int lengths[] = {s->prefix_count + s->query_count, 0, -1};
    struct problem alone = problem_make(t, p->heads, p->kv_heads, p->head_dim, p->gap, lengths);
    alone.window = p->window, alone.cap = p->cap;
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

/* Gradients of the shared rows are the sums of those of the separate sequences. On CUDA a query's arithmetic does not
 * depend on the packing: the outputs are the same bits. */
static void packed_check(const char *engine, int window)
{
    const int lengths[] = {70, 33, 5, 64, 0, 17, 90, 1, 0, -1};
    struct op_test *t = op_test_open(engine, 2);
    struct problem p = problem_make(t, 4, 2, 32, 8, lengths);
    p.window = window;
    struct results packed = problem_run(t, &p);
    double *sum = values_new(t, p.rows * qkv_stride(&p));
    double bound = t->stat == DTYPE_F64 ? 1e-12 : t->dtype == DTYPE_BF16 ? bounds_of(t).grad : 1e-5;
    memset(sum, 0, (size_t)(p.rows * qkv_stride(&p)) * sizeof *sum);
    for (int i = 0; i < p.segments; i++) {
        const struct attention_segment *s = &p.segment[i];
        if (s->prefix_count == 0)
            continue;
        struct problem alone = branch_alone(t, &p, s);
        struct results r = problem_run(t, &alone);
        for (int64_t j = 0; j < alone.rows; j++) {
            int64_t row = key_row(s, j);
            assert_close("out", r.out + j * out_stride(&p), packed.out + row * out_stride(&p), 4 * 32,
                         op_test_is_cuda(t) ? 0 : bound, 0);
            for (int64_t c = 0; c < qkv_stride(&p) - p.gap; c++)
                sum[row * qkv_stride(&p) + c] += r.dqkv[j * qkv_stride(&p) + c];
        }
    }
    for (int64_t i = 0; i < p.rows; i++)
        assert_close("dqkv", packed.dqkv + i * qkv_stride(&p), sum + i * qkv_stride(&p),
                     qkv_stride(&p) - p.gap, bound, bound);
    op_test_close(t);
}

static void test_packed_equals_separate(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
        packed_check(op_test_engines[e], 0);
        packed_check(op_test_engines[e], 40);
    }
}

/* The last `fresh` queries of a lone sequence, with all keys before them in the cache, a part of them as a prefix, and
 * no lse kept. */
static void decoding_check(struct op_test *t, const struct problem *p, const struct results *whole, int32_t fresh,
                           int32_t prefix)
{
    struct problem d = *p;
    int64_t first = p->rows - fresh, n = fresh * out_stride(p);
    double bound = op_test_is_cuda(t) ? 0 : 16 * t->eps;
    void *out = device_new(t, t->dtype, n), *cache = device_from(t, t->dtype, p->qkv, p->rows * qkv_stride(p));
    d.segment[0] = (struct attention_segment){.query_count = fresh, .key_begin = prefix,
                                              .key_cached = (int32_t)first - prefix, .prefix_count = prefix};
    struct attention_args args = problem_args(t, &d, cache, out, NULL);
    args.rows = fresh;
    args.q = device_from(t, t->dtype, p->qkv + first * qkv_stride(p), fresh * qkv_stride(p));
    op_test_status(t, "attention_forward", t->engine->attention_forward(t->context, &args));
    double *got = values_from(t, t->dtype, out, n);
    for (int64_t r = 0; r < fresh; r++)
        assert_close("out", got + r * out_stride(p), whole->out + (first + r) * out_stride(p), p->heads * p->head_dim,
                     bound, bound);
}

static void test_decoding(void **state)
{
    (void)state;
    const int lengths[] = {150, 0, -1}, fresh[] = {1, 2, 40, 100};
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 2);
        struct problem p = problem_make(t, 6, 2, 48, 8, lengths);
        for (p.window = 0; p.window <= 100; p.window += 50) {
            struct results whole = problem_run(t, &p);
            for (int i = 0; i < 4; i++) {
                decoding_check(t, &p, &whole, fresh[i], 0);
                decoding_check(t, &p, &whole, fresh[i], 37);
            }
        }
        op_test_close(t);
    }
}

static double problem_loss(void *user)
{
    struct problem *p = user;
    op_test_cpu_only();
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
    for (int i = 0; i < 4; i++) {
        op_test_cpu_only();
        struct op_test *t = op_test_open("cpu64", 1);
        struct problem p = problem_make(t, 4, 2, 8, 8, i % 2 ? long_prefix : small);
        p.window = i >= 2 ? 4 : 0, p.cap = i >= 2 ? 0.7 : 0;
        struct results r = problem_run(t, &p);
        for (int64_t row = 0; row < p.rows; row++) /* unused columns do not reach the loss */
            for (int j = 1; j <= p.gap; j++)
                r.dqkv[(row + 1) * qkv_stride(&p) - j] = 0;
        gradient_check("qkv", p.qkv, r.dqkv, p.rows * qkv_stride(&p), problem_loss, &p, 1e-8);
        op_test_close(t);
    }
}

/* All results of a case one after the other. */
static void same_bits_run(struct op_test *t, void *user, double *out)
{
    struct problem p = case_make(t, *(const int *)user);
    struct results r = problem_run(t, &p);
    int64_t n = p.rows * out_stride(&p), lse_n = p.heads * p.rows;
    memcpy(out, r.out, (size_t)n * sizeof *out);
    memcpy(out + n, r.lse, (size_t)lse_n * sizeof *out);
    memcpy(out + n + lse_n, r.dqkv, (size_t)(p.rows * qkv_stride(&p)) * sizeof *out);
}

static void test_same_bits(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        for (int i = CASES_LARGE; i < CASES; i++) {
            struct op_test *t = op_test_open(op_test_engines[e], 1);
            struct problem p = case_make(t, i);
            op_test_close(t);
            op_test_same_bits(op_test_engines[e], p.rows * (out_stride(&p) + p.heads + qkv_stride(&p)), same_bits_run,
                              &i);
        }
}

enum { BREACHES = 13, BREACHES_ON_CPU = 4, BREACHES_OF_BACKWARD = 2 };

/* Breach i of the card. The first ones are in device memory, where only a CPU engine can look for them. */
/* Blocks of a kernel since the counters were reset; 0 outside the emulation. */
static uint64_t blocks_of(struct op_test *t, const char *kernel)
{
    uint64_t (*blocks)(const char *name);
    *(void **)&blocks = dlsym(t->library, "emu_counter_blocks");
    return blocks ? blocks(kernel) : 0;
}

/* A list of tiles changes no bit, and every block that it launches has rows. */
static void test_tiles(void **state)
{
    (void)state;
    static const char *const kernels[2][3] = {
        {"attention_forward_f32_kernel", "attention_backward_query_f32_kernel", "attention_backward_key_f32_kernel"},
        {"attention_forward_kernel", "attention_backward_query_kernel", "attention_backward_key_kernel"}};
    for (int e = OP_TEST_ENGINES; e < OP_TEST_VARIANTS; e++)
        for (int i = CASES_LARGE; i < CASES; i++) {
            struct op_test *t = op_test_open(op_test_engines[e], 2);
            struct problem p = case_make(t, i);
            struct attention_tile tile[200];
            const int rows = attention_tile_rows(t->dtype);
            const int tiles = attention_tiles_list(p.segment, p.segments, rows, tile);
            int expected = 0;
            for (int s = 0; s < p.segments; s++)
                for (int n = 0; n < (p.segment[s].query_count + rows - 1) / rows; n++, expected++) {
                    int found = 0;
                    for (int k = 0; k < tiles; k++)
                        found += tile[k].segment == s && tile[k].number == n;
                    assert_int_equal(found, 1);
                }
            assert_int_equal(tiles, expected);
            op_test_bytes_begin(t);
            const struct results listed = problem_run_with(t, &p, true);
            for (int k = 0; k < 3; k++) {
                const uint64_t blocks = blocks_of(t, kernels[e - OP_TEST_ENGINES][k]);
                assert_true(!blocks || blocks % (uint64_t)(tiles * (k == 2 ? p.kv_heads : p.heads)) == 0);
                if (blocks && k < 2)
                    assert_int_equal(blocks, tiles * p.heads);
            }
            const struct results found = problem_run_with(t, &p, false);
            for (int64_t j = 0; j < p.rows; j++) {
                assert_same("out", listed.out + j * out_stride(&p), found.out + j * out_stride(&p), p.heads * p.head_dim);
                assert_same("dqkv", listed.dqkv + j * qkv_stride(&p), found.dqkv + j * qkv_stride(&p), qkv_stride(&p) - p.gap);
            }
            assert_same("lse", listed.lse, found.lse, p.heads * p.rows);
            op_test_close(t);
        }
}

/* Long segments and wide heads: what a block reads to find its rows is counted too and must be small beside them (less so
 * beside a window). The last
 * group has a prefix with two branches. head_dim 128 holds a whole tile in registers, so nothing is read twice. */
static void test_bytes(void **state)
{
    (void)state;
    const int lengths[] = {300, 0, 129, 150, 170, 0, -1};
    for (int i = 0; i < 2 * (OP_TEST_VARIANTS - OP_TEST_ENGINES); i++) {
        struct op_test *t = op_test_open(op_test_engines[OP_TEST_ENGINES + i / 2], 1);
        struct problem p = problem_make(t, 4, 2, 128, 0, lengths);
        p.window = i % 2 ? 50 : 0, p.cap = i % 2 ? 2 : 0; /* a cap costs no bytes */
        int64_t n = p.rows * qkv_stride(&p), out_n = p.rows * out_stride(&p);
        void *qkv = device_from(t, t->dtype, p.qkv, n), *dqkv = device_new(t, t->dtype, n);
        void *out = device_new(t, t->dtype, out_n), *lse = device_new(t, t->stat, p.heads * p.rows);
        void *dout = device_from(t, t->dtype, p.dout, out_n);
        struct attention_args forward = problem_args(t, &p, qkv, out, lse);
        char *base = dqkv;
        size_t head_bytes = (size_t)p.head_dim * dtype_size(t->dtype);
        struct attention_args counted = forward;
        counted.segment = p.segment;
        tiles_give(t, &p, &forward);
        op_test_bytes_begin(t);
        op_test_status(t, "attention_forward", t->engine->attention_forward(t->context, &forward));
        op_test_bytes_check(t, "attention_forward",
                            attention_forward_moved(&counted), 0.05);
        op_test_bytes_begin(t);
        OP_CALL(t, attention_backward, attention_backward_args, .forward = forward, .dout = dout, .dq = base,
                .dk = base + (size_t)p.heads * head_bytes, .dv = base + (size_t)(p.heads + p.kv_heads) * head_bytes);
        op_test_bytes_check(t, "attention_backward",
                            attention_backward_moved(&counted), p.window ? 0.08 : 0.05);
        op_test_close(t);
    }
}

static void contract_break(struct problem *p, struct attention_args *args, int i)
{
    switch (i) {
    case 0: p->segment[1].prefix_begin = 7; break; /* another group's rows */
    case 1: p->segment[1].key_cached = 1; break;
    case 2: p->segment[2].query_count = 3; break; /* beyond rows */
    case 3: p->group_begin[2] = 2; break;
    case 4: args->head_dim = 12; break;
    case 5: args->kv_heads = 3; break;
    case 6: args->dtype = DTYPE_F16; break;
    case 7: args->q_stride = 15; break;
    case 8: args->k = NULL; break;
    case 9: args->scale = 0; break;
    case 10: args->cap = NAN; break;
    case 11: args->window = -1; break;
    case 12: args->tile = (void *)args, args->tiles = 0; break;
    }
}

static void test_contract(void **state)
{
    (void)state;
    const int lengths[] = {4, 3, 0, 2, 0, -1};
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        struct problem p = problem_make(t, 2, 1, 8, 8, lengths);
        void *a = device_new(t, t->dtype, p.rows * qkv_stride(&p));
        for (int i = op_test_is_cuda(t) ? BREACHES_ON_CPU : 0; i < BREACHES; i++) {
            struct problem broken = p;
            contract_break(&broken, &(struct attention_args){0}, i); /* before the problem is copied to the device */
            struct attention_backward_args args = {problem_args(t, &broken, a, a, a), a, a, a, a};
            contract_break(&broken, &args.forward, i);
            op_test_refused(t, "attention_backward", t->engine->attention_backward(t->context, &args));
            if (i >= BREACHES_OF_BACKWARD)
                op_test_refused(t, "attention_forward", t->engine->attention_forward(t->context, &args.forward));
        }
        struct attention_backward_args empty = {problem_args(t, &p, a, a, a), a, a, a, a};
        empty.forward.rows = empty.forward.groups = empty.forward.segments = 0;
        op_test_status(t, "attention_forward", t->engine->attention_forward(t->context, &empty.forward));
        op_test_status(t, "attention_backward", t->engine->attention_backward(t->context, &empty));
        op_test_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_naive),    cmocka_unit_test(test_tiles),    cmocka_unit_test(test_prefix_lengths), cmocka_unit_test(test_forms),
        cmocka_unit_test(test_packed_equals_separate), cmocka_unit_test(test_decoding),
        cmocka_unit_test(test_finite_differences), cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_contract)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
