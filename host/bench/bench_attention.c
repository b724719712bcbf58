/* bench_attention.c - attention over packed batches: pairs that share a prompt, and whole chunks (kernels/attention.h). */
#include <math.h>
#include <stdlib.h>

#include "../util/memory.h"
#include "bench.h"

/* PAIRS: prompts of 20 to 36 tokens with two branches of 6 to 14 and 30 to 54, as TOFU's. CHUNKS: lone sequences. */
enum { PAIRS, CHUNKS };
enum { CHUNK = 2048 };
#define BACKWARD_SIZE 4.0 /* of the sums that gradients are */

/* cols: head_dim, depth: heads, extra: key/value heads. */
static const struct bench_shape shapes[] = {
    {"smollm2-135m pairs", 64, 9, PAIRS, 3},   {"smollm2-135m chunks", 64, 9, CHUNKS, 3},
    {"llama-3.2-1b pairs", 64, 32, PAIRS, 8},  {"llama-3.2-1b chunks", 64, 32, CHUNKS, 8},
    {"opt-2.7b pairs", 80, 32, PAIRS, 32},     {"opt-2.7b chunks", 80, 32, CHUNKS, 32},
    {"qwen2-1.5b pairs", 128, 12, PAIRS, 2},   {"llama-2-7b pairs", 128, 32, PAIRS, 32},
    {"llama-2-7b chunks", 128, 32, CHUNKS, 32},
    {"one", 8, 1, CHUNKS, 1, .rows = 1},     {"pairs", 16, 4, PAIRS, 2, .rows = 130},
    {"pairs", 80, 3, PAIRS, 1, .rows = 200}, {"chunks", 64, 6, CHUNKS, 2, .rows = 97},
    {"chunks", 24, 2, CHUNKS, 2, .rows = 70},
};
static const int64_t rows[] = {256, 3840, 16384, 0};

enum { QKV, OUT, LSE, GROUP_BEGIN, SEGMENT, TILE, DOUT, DQKV };

/* The batch of a case, rebuilt where it is needed: segments, and where groups begin. */
struct packing {
    struct attention_segment *segment;
    int32_t *group_begin;
    int segments, groups;
};

static void segment_add(struct packing *p, int64_t *row, int64_t count, int64_t prefix, int64_t prefix_count)
{
    p->segment[p->segments++] = (struct attention_segment){.query_begin = (int32_t)*row, .query_count = (int32_t)count,
                                                           .key_begin = (int32_t)*row, .prefix_begin = (int32_t)prefix,
                                                           .prefix_count = (int32_t)prefix_count};
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
    const int tile_rows = attention_tile_rows(c->dtype);
    struct attention_tile *tile = status ? NULL : memory_array((size_t)attention_tiles_most(c->rows, packing.segments, tile_rows), sizeof *tile, error);
    if (!status && !tile)
        status = STATUS_MEMORY;
    bench_bytes(c, tile, tile ? (size_t)attention_tiles_list(packing.segment, packing.segments, tile_rows, tile) * sizeof *tile : 0);
    /* sums of probabilities times normal values: a bf16 engine rounds the probabilities before the second product */
    const double rounded = 4 * bench_rounding(c->dtype) / bench_epsilon(c);
    if (backward) {
        bench_values(c, c->dtype, c->rows * out_width(c), 0, 1);
        bench_values(c, c->dtype, c->rows * width(c), 0, 0);
        bench_output(c, DQKV, BACKWARD_SIZE * (256 + rounded), 0);
    } else {
        bench_output(c, OUT, 4 * (64 + rounded), 0);
        bench_output(c, LSE, 64, 4);
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

/* Sum over rows of the keys that they see. */
static int64_t visible_keys(const struct bench_case *c)
{
    const struct attention_segment *segment = c->tensor[SEGMENT].data;
    int64_t visible = 0;
    for (size_t i = 0; i < c->tensor[SEGMENT].bytes / sizeof *segment; i++) {
        const int64_t count = segment[i].query_count;
        visible += count * (count + 1) / 2 + count * segment[i].prefix_count;
    }
    return visible;
}

static struct attention_args args_of(const struct bench_case *c, void *const *t)
{
    const int segments = (int)(c->tensor[SEGMENT].bytes / sizeof(struct attention_segment));
    const int groups = (int)(c->tensor[GROUP_BEGIN].bytes / sizeof(int32_t)) - 1;
    return (struct attention_args){.dtype = c->dtype, .rows = c->rows, .heads = (int)c->shape->depth,
                                   .kv_heads = c->shape->extra, .head_dim = (int)c->shape->cols,
                                   .scale = 1 / sqrt((double)c->shape->cols), .visible_keys = visible_keys(c),
                                   .groups = groups, .segments = segments,
                                   .group_begin = t[GROUP_BEGIN], .segment = t[SEGMENT],
                                   .tiles = (int)(c->tensor[TILE].bytes / sizeof(struct attention_tile)), .tile = t[TILE],
                                   .q = t[QKV],
                                   .k = column(c, t[QKV], key_column(c)), .v = column(c, t[QKV], value_column(c)),
                                   .q_stride = width(c), .kv_stride = width(c), .out_stride = out_width(c),
                                   .out = t[OUT], .lse = t[LSE]};
}

static void forward_args(const struct bench_case *c, void *const *t, union bench_args *args)
{
    args->attention_forward = args_of(c, t);
}

static void backward_args(const struct bench_case *c, void *const *t, union bench_args *args)
{
    args->attention_backward = (struct attention_backward_args){.forward = args_of(c, t), .dout = t[DOUT], .dq = t[DQKV],
                                                                .dk = column(c, t[DQKV], key_column(c)),
                                                                .dv = column(c, t[DQKV], value_column(c))};
}

BENCH_OP(attention_forward, rows, shapes, forward_plan, forward_args);
BENCH_OP(attention_backward, rows, shapes, backward_plan, backward_args);
