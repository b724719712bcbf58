/* attention.c - CPU: causal attention over a packed batch in which branches share a prefix.
 *
 * A block of queries sees two ranges of keys, the shared prefix and its own branch. Their scores
 * stand side by side in one scratch matrix, so each step is at most two products and one pass over the rows.
 * Forward runs one piece of work per (segment, key/value head): the queries of all heads that read the same keys stand below
 * each other, so that a single new token brings as many rows as there are such heads. Backward runs one per
 * (group, key/value head), head by head: whatever is added to
 * a row of dk or dv is added by one thread, segment by segment, block by block, head by head. Forward gives a row
 * the same bits whether its keys are a prefix and a branch or one range. With a window both ranges lose the keys that
 * no query of the block sees, so that the work is linear in the window.
 */
#include "engine/gemm.h"

#include <omp.h>

enum { QUERY_BLOCK = 64 }; /* rows of a score matrix; in the forward pass queries times heads, and one query at the least */

/* One block of queries of a segment, and the keys it sees. */
struct block {
    int64_t query, count;        /* first row, rows */
    int64_t prefix, prefix_keys; /* first row of k and v, rows */
    int64_t own, own_keys;       /* up to the last key that the last query sees */
    int64_t keys;                /* of both ranges: the row length of the score matrix */
};

static struct block block_make(const struct attention_segment *segment, int64_t begin, int64_t most, int window)
{
    struct block block = {.query = segment->query_begin + begin,
                          .count = min_i64(most, segment->query_count - begin),
                          .prefix = segment->prefix_begin,
                          .prefix_keys = segment->prefix_count,
                          .own = segment->key_begin};
    block.own_keys = segment->key_cached + begin + block.count;
    block.keys = block.prefix_keys + block.own_keys;
    const int64_t hidden = window ? max_i64(0, block.keys - block.count + 1 - window) : 0;
    const int64_t of_prefix = min_i64(hidden, block.prefix_keys);
    block.prefix += of_prefix, block.prefix_keys -= of_prefix;
    block.own += hidden - of_prefix, block.own_keys -= hidden - of_prefix;
    block.keys -= hidden;
    return block;
}

/* Keys of the score matrix that row r of the block sees; the rest is the future. */
static int64_t block_visible(const struct block *block, int64_t r) { return block->keys - block->count + r + 1; }

/* The first of them that row r sees: those before have left its window. */
static int64_t block_first(const struct block *block, int64_t r, int window)
{
    return window ? max_i64(0, block_visible(block, r) - window) : 0;
}

static void scores_cap(real *row, int64_t first, int64_t visible, double cap)
{
    const real inner = (real)(1 / cap), outer = (real)cap;
#pragma omp simd
    for (int64_t j = first; j < visible; j++)
        row[j] = outer * tanh_real(inner * row[j]);
}

/* scores = alpha x k^T, with x [rows, head_dim]: both ranges. */
static void scores_compute(const struct block *b, int64_t rows, int64_t head_dim, real alpha, const real *x, int64_t x_stride,
                           const real *k, int64_t k_stride, real *scores)
{
    struct gemm product = {.b_transposed = true, .m = rows, .n = b->prefix_keys, .k = head_dim, .scale = alpha,
                           .a = x, .a_stride = x_stride, .b = k + b->prefix * k_stride, .b_stride = k_stride,
                           .c = scores, .c_stride = b->keys};
    if (b->prefix_keys)
        gemm_small(&product);
    product.n = b->own_keys;
    product.b = k + b->own * k_stride;
    product.c = scores + b->prefix_keys;
    gemm_small(&product);
}

/* out [rows, head_dim] = weights v over both ranges. */
static void rows_gather(const struct block *b, int64_t rows, int64_t head_dim, const real *weights, const real *v,
                        int64_t v_stride, real *out, int64_t out_stride)
{
    struct gemm product = {.m = rows, .n = head_dim, .k = b->prefix_keys, .scale = 1, .a = weights,
                           .a_stride = b->keys, .b = v + b->prefix * v_stride, .b_stride = v_stride, .c = out,
                           .c_stride = out_stride};
    if (b->prefix_keys)
        gemm_small(&product);
    product.accumulate = b->prefix_keys > 0;
    product.k = b->own_keys;
    product.a = weights + b->prefix_keys;
    product.b = v + b->own * v_stride;
    gemm_small(&product);
}

/* dv += weights^T x over both ranges. */
static void rows_scatter(const struct block *b, int64_t head_dim, const real *weights, const real *x, int64_t x_stride,
                         real *dv, int64_t v_stride)
{
    struct gemm product = {.a_transposed = true, .accumulate = true, .m = b->prefix_keys, .n = head_dim, .k = b->count,
                           .scale = 1, .a = weights, .a_stride = b->keys, .b = x, .b_stride = x_stride,
                           .c = dv + b->prefix * v_stride, .c_stride = v_stride};
    if (b->prefix_keys)
        gemm_small(&product);
    product.m = b->own_keys;
    product.a = weights + b->prefix_keys;
    product.c = dv + b->own * v_stride;
    gemm_small(&product);
}

/* Row of scores -> exp(score - most), 0 for what it does not see; gives back log(sum exp) and 1 / sum. */
static double row_softmax(real *row, int64_t first, int64_t visible, int64_t keys, real *normalise)
{
    real most = -INFINITY, sum = 0;
#pragma omp simd reduction(max : most)
    for (int64_t j = first; j < visible; j++)
        most = row[j] > most ? row[j] : most;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = first; j < visible; j++) {
        real e = exp_real(row[j] - most);
        row[j] = e;
        sum += e;
    }
    memset(row, 0, (size_t)first * sizeof *row);
    memset(row + visible, 0, (size_t)(keys - visible) * sizeof *row);
    *normalise = 1 / sum;
    return (double)most + log((double)sum);
}

/* Queries of a block in the forward pass, for so many heads that read the same keys. */
static int64_t block_queries(int64_t heads) { return max_i64(1, QUERY_BLOCK / heads); }

/* Row h * count + r of q, out and the scores is query r of the block's and head h of those that read key/value head kv_head.
 * scratch: q and out [rows, head_dim], then the scores. */
static void segment_forward(const struct attention_args *args, const struct attention_segment *segment, int64_t kv_head,
                            real *scratch)
{
    const int64_t head_dim = args->head_dim, heads = args->heads / args->kv_heads, most = block_queries(heads);
    const real *k = (const real *)args->k + kv_head * head_dim, *v = (const real *)args->v + kv_head * head_dim;
    real *q = scratch, *out = q + most * heads * head_dim, *scores = out + most * heads * head_dim;
    for (int64_t begin = 0; begin < segment->query_count; begin += most) {
        const struct block block = block_make(segment, begin, most, args->window);
        const int64_t rows = heads * block.count;
        for (int64_t i = 0; i < rows; i++)
            memcpy(q + i * head_dim, (const real *)args->q + (block.query + i % block.count) * args->q_stride +
                                         (kv_head * heads + i / block.count) * head_dim, (size_t)head_dim * sizeof *q);
        scores_compute(&block, rows, head_dim, (real)args->scale, q, head_dim, k, args->kv_stride, scores);
        real *normalise = q; /* the queries are done with */
        for (int64_t i = 0; i < rows; i++) {
            const int64_t r = i % block.count, head = kv_head * heads + i / block.count;
            real *row = scores + i * block.keys;
            const int64_t first = block_first(&block, r, args->window), visible = block_visible(&block, r);
            if (args->cap > 0)
                scores_cap(row, first, visible, args->cap);
            const double lse = row_softmax(row, first, visible, block.keys, &normalise[i]);
            if (args->lse)
                ((real *)args->lse)[head * args->rows + block.query + r] = (real)lse;
        }
        rows_gather(&block, rows, head_dim, scores, v, args->kv_stride, out, head_dim);
        for (int64_t i = 0; i < rows; i++) {
            const real *from = out + i * head_dim;
            real *to = (real *)args->out + (block.query + i % block.count) * args->out_stride +
                       (kv_head * heads + i / block.count) * head_dim;
#pragma omp simd
            for (int64_t j = 0; j < head_dim; j++)
                to[j] = from[j] * normalise[i];
        }
    }
}

/* scores -> probabilities, and dscores = d loss / d probability -> d loss / d (q k^T), row by row. */
static void block_softmax_backward(const struct attention_args *args, const struct block *block, const real *lse,
                                   const real *out, const real *dout, real *scores, real *dscores)
{
    for (int64_t r = 0; r < block->count; r++) {
        int64_t first = block_first(block, r, args->window), visible = block_visible(block, r), keys = block->keys;
        const real *out_row = out + r * args->out_stride, *dout_row = dout + r * args->out_stride;
        real *p = scores + r * keys, *d = dscores + r * keys, row_lse = lse[r], scale = (real)args->scale, delta = 0;
#pragma omp simd reduction(+ : delta)
        for (int64_t j = 0; j < args->head_dim; j++)
            delta += out_row[j] * dout_row[j];
        if (args->cap > 0) {
            scores_cap(p, first, visible, args->cap);
            const real inner = (real)(1 / args->cap);
#pragma omp simd
            for (int64_t j = first; j < visible; j++) {
                real e = exp_real(p[j] - row_lse), t = inner * p[j];
                p[j] = e;
                d[j] = scale * (1 - t * t) * e * (d[j] - delta);
            }
        } else {
#pragma omp simd
            for (int64_t j = first; j < visible; j++) {
                real e = exp_real(p[j] - row_lse);
                p[j] = e;
                d[j] = scale * e * (d[j] - delta);
            }
        }
        memset(p, 0, (size_t)first * sizeof *p);
        memset(d, 0, (size_t)first * sizeof *d);
        memset(p + visible, 0, (size_t)(keys - visible) * sizeof *p);
        memset(d + visible, 0, (size_t)(keys - visible) * sizeof *d);
    }
}

static void segment_backward(const struct attention_backward_args *args, const struct attention_segment *segment,
                             int head, real *scores, real *dscores)
{
    const struct attention_args *forward = &args->forward;
    int64_t head_dim = forward->head_dim, kv_stride = forward->kv_stride, q_stride = forward->q_stride;
    int64_t kv_column = head / (forward->heads / forward->kv_heads) * head_dim;
    const real *k = (const real *)forward->k + kv_column, *v = (const real *)forward->v + kv_column;
    real *dk = (real *)args->dk + kv_column, *dv = (real *)args->dv + kv_column;
    for (int64_t begin = 0; begin < segment->query_count; begin += QUERY_BLOCK) {
        struct block block = block_make(segment, begin, QUERY_BLOCK, forward->window);
        int64_t q_offset = block.query * q_stride + head * head_dim;
        int64_t out_offset = block.query * forward->out_stride + head * head_dim;
        const real *q = (const real *)forward->q + q_offset, *dout = (const real *)args->dout + out_offset;
        const real *lse = (const real *)forward->lse + head * forward->rows + block.query;
        scores_compute(&block, block.count, head_dim, (real)forward->scale, q, q_stride, k, kv_stride, scores);
        scores_compute(&block, block.count, head_dim, 1, dout, forward->out_stride, v, kv_stride, dscores);
        block_softmax_backward(forward, &block, lse, (const real *)forward->out + out_offset, dout, scores, dscores);
        rows_scatter(&block, head_dim, scores, dout, forward->out_stride, dv, kv_stride);
        rows_scatter(&block, head_dim, dscores, q, q_stride, dk, kv_stride);
        rows_gather(&block, block.count, head_dim, dscores, k, kv_stride, (real *)args->dq + q_offset, q_stride);
    }
}

static void group_backward(const struct attention_backward_args *args, int group, int kv_head, real *scores,
                           real *dscores)
{
    const struct attention_args *forward = &args->forward;
    const struct attention_segment *segment = forward->segment;
    int begin = forward->group_begin[group], end = forward->group_begin[group + 1];
    int heads_each = forward->heads / forward->kv_heads;
    size_t bytes = (size_t)forward->head_dim * sizeof(real);
    for (int s = begin; s < end; s++)
        for (int64_t i = segment[s].query_begin; i < segment[s].query_begin + segment[s].query_count; i++) {
            memset((real *)args->dk + i * forward->kv_stride + kv_head * forward->head_dim, 0, bytes);
            memset((real *)args->dv + i * forward->kv_stride + kv_head * forward->head_dim, 0, bytes);
        }
    for (int s = begin; s < end; s++)
        for (int head = kv_head * heads_each; head < (kv_head + 1) * heads_each; head++)
            segment_backward(args, &segment[s], head, scores, dscores);
}

/* What only an engine can check that reads device memory. */
static int segments_check(struct engine_context *context, const struct attention_args *args)
{
    REQUIRE(args->group_begin[0] == 0 && args->group_begin[args->groups] == args->segments,
            "group_begin does not run from 0 to segments");
    for (int g = 0; g < args->groups; g++)
        REQUIRE(args->group_begin[g] <= args->group_begin[g + 1], "group_begin decreases");
    for (int s = 0; s < args->segments; s++) {
        const struct attention_segment *segment = &args->segment[s];
        REQUIRE(segment->query_begin >= 0 && segment->query_count >= 0 &&
                    (int64_t)segment->query_begin + segment->query_count <= args->rows,
                "a segment's queries lie outside of rows");
        REQUIRE(segment->key_begin >= 0 && segment->key_cached >= 0 && segment->prefix_begin >= 0 &&
                    segment->prefix_count >= 0,
                "a segment's keys begin or count below 0");
    }
    return OP_OK;
}

/* Elements of the largest score matrix with so many queries of a head. */
static int64_t scores_size(const struct attention_args *args, int64_t queries)
{
    int64_t most = 0;
    for (int s = 0; s < args->segments; s++) {
        const struct attention_segment *segment = &args->segment[s];
        const int64_t count = min_i64(queries, segment->query_count);
        int64_t keys = (int64_t)segment->prefix_count + segment->key_cached + segment->query_count;
        if (args->window)
            keys = min_i64(keys, (int64_t)args->window - 1 + count);
        most = max_i64(most, count * keys);
    }
    return most;
}

int attention_forward(struct engine_context *context, const struct attention_args *args)
{
    REQUIRE_CONTRACT(attention_forward, args);
    REQUIRE_REAL(args->dtype);
    int status = args->segments ? segments_check(context, args) : OP_OK;
    if (status || args->segments == 0)
        return status;
    const int64_t heads = args->heads / args->kv_heads, queries = block_queries(heads);
    int64_t size = heads * (scores_size(args, queries) + 2 * queries * args->head_dim), tasks = (int64_t)args->segments * args->kv_heads;
    int threads = engine_threads(context, size * tasks * args->head_dim);
    size_t bytes = (size_t)size * sizeof(real), stride = scratch_stride(bytes);
    char *scratch = engine_scratch(context, threads, bytes);
    if (!scratch)
        return OP_MEMORY;

#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t task = 0; task < tasks; task++)
        segment_forward(args, &args->segment[task / args->kv_heads], task % args->kv_heads,
                        (real *)(scratch + (size_t)omp_get_thread_num() * stride));
    return OP_OK;
}

/* Training form, and a prefix that the group's own first segment holds: what makes groups independent. */
static int groups_check(struct engine_context *context, const struct attention_args *args)
{
    for (int g = 0; g < args->groups; g++) {
        const struct attention_segment *first = &args->segment[args->group_begin[g]];
        for (int s = args->group_begin[g]; s < args->group_begin[g + 1]; s++) {
            const struct attention_segment *segment = &args->segment[s];
            REQUIRE(segment->key_begin == segment->query_begin && segment->key_cached == 0,
                    "a segment is not of the training form");
            REQUIRE(segment->prefix_count == 0 ||
                        (segment != first && segment->prefix_begin >= first->query_begin &&
                         (int64_t)segment->prefix_begin + segment->prefix_count <=
                             (int64_t)first->query_begin + first->query_count),
                    "a prefix lies outside of its group's first segment");
        }
    }
    return OP_OK;
}

int attention_backward(struct engine_context *context, const struct attention_backward_args *args)
{
    REQUIRE_CONTRACT(attention_backward, args);
    const struct attention_args *forward = &args->forward;
    REQUIRE_REAL(forward->dtype);
    if (forward->segments == 0)
        return OP_OK;
    int status = segments_check(context, forward);
    if (!status)
        status = groups_check(context, forward);
    if (status)
        return status;
    int64_t size = scores_size(forward, QUERY_BLOCK), tasks = (int64_t)forward->groups * forward->kv_heads;
    int threads = engine_threads(context, size * tasks * forward->head_dim);
    size_t bytes = (size_t)size * sizeof(real), stride = scratch_stride(bytes);
    char *scratch = engine_scratch(context, 2 * (int64_t)threads, bytes);
    if (!scratch)
        return OP_MEMORY;

#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t task = 0; task < tasks; task++) {
        char *scores = scratch + 2 * (size_t)omp_get_thread_num() * stride;
        group_backward(args, (int)(task / forward->kv_heads), (int)(task % forward->kv_heads), (real *)scores,
                       (real *)(scores + stride));
    }
    return OP_OK;
}
