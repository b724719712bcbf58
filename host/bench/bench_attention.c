/* bench_attention.c - attention over packed batches: pairs that share a prompt, and whole chunks (kernels/attention.h). */
#include <math.h>
#include <stdlib.h>

#include "../util/memory.h"
#include "bench.h"

/* PAIRS: prompts of 20 to 36 tokens with two branches of 6 to 14 and 30 to 54, as TOFU's. CHUNKS: lone sequences. */
enum { PAIRS, CHUNKS };
enum { CHUNK = 2048 };

/* cols: head_dim, depth: heads, extra: key/value heads. */
static const struct bench_shape shapes[] = {
    {"smollm2-135m pairs", 64, 9, PAIRS, 3},   {"smollm2-135m chunks", 64, 9, CHUNKS, 3},
    {"llama-3.2-1b pairs", 64, 32, PAIRS, 8},  {"llama-3.2-1b chunks", 64, 32, CHUNKS, 8},
    {"opt-2.7b pairs", 80, 32, PAIRS, 32},     {"opt-2.7b chunks", 80, 32, CHUNKS, 32},
    {"qwen2-1.5b pairs", 128, 12, PAIRS, 2},   {"llama-2-7b pairs", 128, 32, PAIRS, 32},
    {"llama-2-7b chunks", 128, 32, CHUNKS, 32},
};
static const int64_t rows[] = {256, 3840, 16384, 0};

enum { QKV, OUT, LSE, GROUP_BEGIN, SEGMENT, DOUT, DQKV };

/* The batch of a case, rebuilt where it is needed: segments, and where groups begin. */
struct packing {
    struct attention_segment *segment;
    int32_t *group_begin;
    int segments, groups;
    int64_t visible; /* sum over rows of the keys they see */
};

static void segment_add(struct packing *p, int64_t *row, int64_t count, int64_t prefix, int64_t prefix_count)
{
    p->segment[p->segments++] = (struct attention_segment){.query_begin = (int32_t)*row, .query_count = (int32_t)count,
                                                           .key_begin = (int32_t)*row, .prefix_begin = (int32_t)prefix,
                                                           .prefix_count = (int32_t)prefix_count};
    p->visible += count * (count + 1) / 2 + count * prefix_count;
    *row += count;
}

static int packing_make(struct packing *p, const struct bench_case *c, struct error *error)
{
    *p = (struct packing){.segment = memory_array((size_t)c->rows + 3, sizeof *p->segment, error),
                          .group_begin = memory_array((size_t)c->rows + 2, sizeof *p->group_begin, error)};
    if (!p->segment || !p->group_begin)
        return STATUS_MEMORY;
    for (int64_t row = 0; row < c->rows; p->group_begin[++p->groups] = p->segments) {
        int64_t left = c->rows - row, begin = row, prefix = 20 + p->groups * 5 % 17;
        int64_t first = 6 + p->groups * 2 % 9, second = 30 + p->groups * 7 % 25;
        if (c->shape->variant == CHUNKS || left < prefix + first + second) {
            segment_add(p, &row, left < CHUNK ? left : CHUNK, 0, 0);
            continue;
        }
        segment_add(p, &row, prefix, 0, 0);
        segment_add(p, &row, first, begin, prefix);
        segment_add(p, &row, second, begin, prefix);
    }
    return STATUS_OK;
}

static int64_t width(const struct bench_case *c) { return (c->shape->depth + 2 * c->shape->extra) * c->shape->cols; }
static int64_t out_width(const struct bench_case *c) { return c->shape->depth * c->shape->cols; }

/* Both cases have the tensors of the forward pass; out and lse are given values that fit in the backward case. */
static int plan(struct bench_case *c, bool backward, struct error *error)
{
    struct packing packing;
    int status = packing_make(&packing, c, error);
    bench_values(c, c->dtype, c->rows * width(c), 0, 1);
    bench_values(c, c->dtype, c->rows * out_width(c), 0, 0.2);
    bench_values(c, c->stat, c->rows * c->shape->depth, 4.5, 0.2);
    bench_bytes(c, packing.group_begin, ((size_t)packing.groups + 1) * sizeof *packing.group_begin);
    bench_bytes(c, packing.segment, (size_t)packing.segments * sizeof *packing.segment);
    const int heads = (int)c->shape->depth, dim = (int)c->shape->cols;
    c->bytes = (double)(backward ? attention_backward_bytes(c->rows, heads, c->shape->extra, dim, c->dtype)
                                 : attention_forward_bytes(c->rows, heads, c->shape->extra, dim, c->dtype));
    c->flops = (double)(backward ? attention_backward_flops(packing.visible, heads, dim)
                                 : attention_forward_flops(packing.visible, heads, dim));
    if (backward) {
        bench_values(c, c->dtype, c->rows * out_width(c), 0, 1);
        bench_values(c, c->dtype, c->rows * width(c), 0, 0);
    }
    return status;
}

static int forward_plan(struct bench_case *c, struct error *error) { return plan(c, false, error); }
static int backward_plan(struct bench_case *c, struct error *error) { return plan(c, true, error); }

/* Column of the first key, and of the first value, in a qkv row. */
static int64_t key_column(const struct bench_case *c) { return out_width(c); }
static int64_t value_column(const struct bench_case *c) { return out_width(c) + c->shape->extra * c->shape->cols; }

static void *column(const struct bench_case *c, void *rows_, int64_t first)
{
    return (char *)rows_ + (size_t)first * dtype_size(c->dtype);
}

static struct attention_args forward_args(const struct bench_case *c, void *const *t)
{
    const int segments = (int)(c->tensor[SEGMENT].bytes / sizeof(struct attention_segment));
    const int groups = (int)(c->tensor[GROUP_BEGIN].bytes / sizeof(int32_t)) - 1;
    return (struct attention_args){.dtype = c->dtype, .rows = c->rows, .heads = (int)c->shape->depth,
                                   .kv_heads = c->shape->extra, .head_dim = (int)c->shape->cols,
                                   .scale = 1 / sqrt((double)c->shape->cols), .groups = groups, .segments = segments,
                                   .group_begin = t[GROUP_BEGIN], .segment = t[SEGMENT], .q = t[QKV],
                                   .k = column(c, t[QKV], key_column(c)), .v = column(c, t[QKV], value_column(c)),
                                   .q_stride = width(c), .kv_stride = width(c), .out_stride = out_width(c),
                                   .out = t[OUT], .lse = t[LSE]};
}

static int forward_call(const struct bench_case *c, struct device *device, void *const *t)
{
    const struct attention_args args = forward_args(c, t);
    return device->engine->attention_forward(device->context, &args);
}

static int backward_call(const struct bench_case *c, struct device *device, void *const *t)
{
    const struct attention_backward_args args = {.forward = forward_args(c, t), .dout = t[DOUT], .dq = t[DQKV],
                                                 .dk = column(c, t[DQKV], key_column(c)),
                                                 .dv = column(c, t[DQKV], value_column(c))};
    return device->engine->attention_backward(device->context, &args);
}

/* Whether row i sees row j. */
static bool sees(const struct bench_case *c, int64_t i, int64_t j)
{
    const struct attention_segment *s = c->tensor[SEGMENT].data;
    while (i >= s->query_begin + s->query_count)
        s++;
    return (j >= s->prefix_begin && j < s->prefix_begin + s->prefix_count) || (j >= s->key_begin && j <= i);
}

/* a dot b over the columns of a head: of tensor a from column a_first of row i, of b from b_first of row j. */
static double head_dot(const struct bench_case *c, int a, int64_t i, int64_t a_first, int b, int64_t j, int64_t b_first)
{
    const int64_t a_width = a == QKV ? width(c) : out_width(c), b_width = b == QKV ? width(c) : out_width(c);
    double sum = 0;
    for (int64_t d = 0; d < c->shape->cols; d++)
        sum += bench_input(c, a, i * a_width + a_first + d) * bench_input(c, b, j * b_width + b_first + d);
    return sum;
}

/* Row, head and column of the k-th entry that a check looks at. */
enum { ENTRIES = 12 };
static void entry_of(const struct bench_case *c, int k, int64_t *row, int64_t *head, int64_t *d)
{
    *row = k * (c->rows - 1) / (ENTRIES - 1);
    *head = k * 5 % c->shape->depth;
    *d = k * 11 % c->shape->cols;
}

static int forward_check(const struct bench_result *r, struct bench_error *worst, struct error *error)
{
    const struct bench_case *c = r->bench_case;
    const double scale = 1 / sqrt((double)c->shape->cols);
    int status = STATUS_OK;
    for (int k = 0; k < ENTRIES && !status; k++) {
        int64_t i, head, d, dim = c->shape->cols;
        entry_of(c, k, &i, &head, &d);
        const int64_t kv = head / (c->shape->depth / c->shape->extra);
        double sum = 0, out = 0, size = 0, got = 0;
        for (int64_t j = 0; j <= i; j++) {
            if (!sees(c, i, j))
                continue;
            double p = exp(scale * head_dot(c, QKV, i, head * dim, QKV, j, key_column(c) + kv * dim));
            double v = bench_input(c, QKV, j * width(c) + value_column(c) + kv * dim + d);
            sum += p, out += p * v, size += p * fabs(v);
        }
        status = bench_read(r, OUT, i * out_width(c) + head * dim + d, 1, &got, error);
        bench_compare(worst, got, out / sum,
                      (64 * bench_epsilon(c) + 2 * bench_rounding(c->dtype)) * size / sum +
                          bench_rounding(c->dtype) * fabs(out / sum));
    }
    return status;
}

/* p and dS of query i and key j of a query head, from the given lse and out. */
static void backward_terms(const struct bench_case *c, int64_t i, int64_t j, int64_t head, double *p, double *ds)
{
    const int64_t dim = c->shape->cols, kv = head / (c->shape->depth / c->shape->extra);
    const double scale = 1 / sqrt((double)dim);
    *p = exp(scale * head_dot(c, QKV, i, head * dim, QKV, j, key_column(c) + kv * dim) -
             bench_input(c, LSE, head * c->rows + i));
    *ds = *p * (head_dot(c, DOUT, i, head * dim, QKV, j, value_column(c) + kv * dim) -
                head_dot(c, DOUT, i, head * dim, OUT, i, head * dim));
}

/* dq of one entry, and dv of another: sums over keys, and over queries and heads. */
static int backward_check(const struct bench_result *r, struct bench_error *worst, struct error *error)
{
    const struct bench_case *c = r->bench_case;
    const int64_t dim = c->shape->cols, ratio = c->shape->depth / c->shape->extra;
    const double scale = 1 / sqrt((double)dim), share = 256 * bench_epsilon(c) + 4 * bench_rounding(c->dtype);
    int status = STATUS_OK;
    for (int k = 0; k < ENTRIES && !status; k++) {
        int64_t row, head, d;
        entry_of(c, k, &row, &head, &d);
        const int64_t kv = head / ratio;
        double dq = 0, dq_size = 0, dv = 0, dv_size = 0, p, ds, got = 0;
        for (int64_t j = 0; j <= row; j++)
            if (sees(c, row, j)) {
                backward_terms(c, row, j, head, &p, &ds);
                double term = scale * ds * bench_input(c, QKV, j * width(c) + key_column(c) + kv * dim + d);
                dq += term, dq_size += fabs(term);
            }
        for (int64_t i = row; i < c->rows && i < row + CHUNK; i++)
            for (int64_t h = kv * ratio; h < (kv + 1) * ratio && sees(c, i, row); h++) {
                backward_terms(c, i, row, h, &p, &ds);
                double term = p * bench_input(c, DOUT, i * out_width(c) + h * dim + d);
                dv += term, dv_size += fabs(term);
            }
        status = bench_read(r, DQKV, row * width(c) + head * dim + d, 1, &got, error);
        bench_compare(worst, got, dq, share * dq_size + bench_rounding(c->dtype) * fabs(dq));
        if (!status)
            status = bench_read(r, DQKV, row * width(c) + value_column(c) + kv * dim + d, 1, &got, error);
        bench_compare(worst, got, dv, share * dv_size + bench_rounding(c->dtype) * fabs(dv));
    }
    return status;
}

#define SHAPES (int)(sizeof shapes / sizeof *shapes)
const struct bench_op bench_attention_forward = {"attention_forward", rows, shapes, SHAPES, forward_plan, forward_call,
                                                 forward_check};
const struct bench_op bench_attention_backward = {"attention_backward", rows, shapes, SHAPES, backward_plan, backward_call,
                                                  backward_check};
