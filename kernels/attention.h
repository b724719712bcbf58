/* attention.h - causal attention over a packed batch in which branches share a prefix.
 *
 * WHAT      A packed batch is rows without padding. It consists of groups; a group is a prefix segment
 *           followed by the branch segments that continue it (a lone sequence is a group of one segment).
 *           Query r (0-based) of a segment sees
 *             keys prefix_begin .. prefix_begin + prefix_count - 1                  (the shared prefix)
 *             keys key_begin .. key_begin + key_cached + r                          (its own branch, causal)
 *           out = softmax(scale q k^T) v per head; query head h uses key/value head h / (heads / kv_heads).
 *           window: of these keys, in the order above, a query sees the last `window`, its own included.
 *           cap: scores s = scale q k^T become cap tanh(s / cap), and their gradient is that times 1 - tanh^2.
 *           In training keys are rows of the same buffer: key_begin == query_begin and key_cached == 0.
 *           In decoding k and v point at a cache and key_cached counts the keys before this call's queries.
 * SHAPES    q, out [rows, *]: heads * head_dim columns at q_stride, out_stride.   k, v [*, *]: kv_heads *
 *           head_dim columns at kv_stride.   lse [heads, rows]
 * DTYPES    q, k, v, out and gradients: dtype.  lse: stat (natural log of the sum of exp(scale q k))
 * BYTES     least: every operand once
 *           moved by a GPU engine, which holds a tile of rows and walks over the other side:
 *           attention_forward_moved, attention_backward_moved; what exceeds the least are rows that neighbouring blocks
 *           read too, at the same time: L2 serves them
 * FLOPS     forward 4 head_dim a (query, visible key, head), backward 10 (14 on a GPU, which forms P twice)
 * HOW       online or blocked softmax; backward recomputes probabilities from lse and forms
 *           delta = rowsum(dout * out) itself
 * NUMERICS  softmax in stat; bf16 probabilities feed the second product on the GPU
 * SAME BITS yes: dk and dv of a key are summed over queries, segments and query heads in a fixed order
 * NEEDS     scale > 0; segments lie inside their arrays (only a CPU engine, which can read them, checks that)
 *           backward: segments of training form only; each row of q, k, v in exactly one segment;
 *           dq, dk, dv are overwritten on those rows; head_dim % 8 == 0 and <= 256
 * SEEN IN   every family
 */
#ifndef FLAT_KERNELS_ATTENTION_H
#define FLAT_KERNELS_ATTENTION_H
#include "engine/op.h"
#ifdef __cplusplus
extern "C" {
#endif

/* Row numbers are absolute: queries in q and out, keys in k and v. */
struct attention_segment {
    int32_t query_begin, query_count;
    int32_t key_begin, key_cached;
    int32_t prefix_begin, prefix_count; /* 0, 0: none */
};

/* Rows that a block of a GPU engine works on: attention_tile_rows(dtype) of a segment, counted from its end where the block holds
 * queries and from its beginning where it holds keys, so that number 0 has the most of the other side. */
struct attention_tile {
    int32_t segment, number; /* segment == segments: none */
};

struct attention_args {
    enum dtype dtype;
    int64_t rows; /* rows of q, out and lse */
    int heads, kv_heads, head_dim;
    double scale;
    double cap; /* 0: scores are taken as they are */
    int window; /* 0: a query sees all keys before it */
    int64_t visible_keys; /* sum over queries of the keys they see, for the cost alone */
    int groups, segments;
    const int32_t *group_begin; /* [groups + 1]: segments of group g are group_begin[g] .. group_begin[g+1]-1 */
    const struct attention_segment *segment; /* [segments] */
    int tiles;
    const struct attention_tile *tile; /* [tiles] of attention_tiles_list; NULL: a GPU engine looks for them, with blocks to spare */
    const void *q, *k, *v;
    int64_t q_stride, kv_stride, out_stride; /* in elements */
    void *out;
    void *lse; /* NULL: not kept (decoding) */
};

struct attention_backward_args {
    struct attention_args forward; /* as in the forward call; out and lse are read */
    const void *dout;              /* at out_stride */
    void *dq;                      /* at q_stride */
    void *dk, *dv;                 /* at kv_stride */
};

/* What can be told without reading device memory. */
static inline const char *attention_forward_check(const struct attention_args *args)
{
    const int64_t columns = (int64_t)args->heads * args->head_dim, kv_columns = (int64_t)args->kv_heads * args->head_dim;
    if (args->rows < 0 || args->groups < 0 || args->segments < 0 || args->rows > INT32_MAX)
        return "rows, groups or segments is negative, or rows above 2^31 - 1";
    if (args->kv_heads <= 0 || args->heads <= 0 || args->heads % args->kv_heads)
        return "heads is not a multiple of kv_heads";
    if (args->head_dim <= 0 || args->head_dim % 8 || args->head_dim > 256)
        return "head_dim is not a multiple of 8 up to 256";
    if (!(args->scale > 0) || !(args->cap >= 0) || args->window < 0)
        return "scale is not above 0, or cap or window below it";
    if (args->q_stride < columns || args->out_stride < columns || args->q_stride > INT32_MAX || args->out_stride > INT32_MAX)
        return "q_stride or out_stride is below heads * head_dim";
    if (args->kv_stride < kv_columns || args->kv_stride > INT32_MAX)
        return "kv_stride is below kv_heads * head_dim";
    if (args->tile && (args->tiles < 1 || args->tiles > INT32_MAX / 2))
        return "a list of no tiles, or of more than 2^30";
    return args->segments &&
                   !(args->segment && args->group_begin && args->q && args->k && args->v && args->out)
               ? "segment, group_begin, q, k, v or out is NULL"
               : NULL;
}

static inline const char *attention_backward_check(const struct attention_backward_args *args)
{
    const char *broken = attention_forward_check(&args->forward);
    if (broken)
        return broken;
    return args->forward.segments && !(args->forward.lse && args->dout && args->dq && args->dk && args->dv)
               ? "lse, dout, dq, dk or dv is NULL"
               : NULL;
}

/* Every operand once; multiply-adds count as two. */
static inline struct op_cost attention_forward_cost(const struct attention_args *args)
{
    const double s = (double)dtype_size(args->dtype), stat = (double)dtype_size(dtype_stat(args->dtype));
    return (struct op_cost){
        (double)args->rows * (args->head_dim * s * 2 * (args->heads + args->kv_heads) + args->heads * stat),
        4 * (double)args->visible_keys * args->heads * args->head_dim};
}

static inline struct op_cost attention_backward_cost(const struct attention_backward_args *args)
{
    const struct attention_args *forward = &args->forward;
    const double s = (double)dtype_size(forward->dtype), stat = (double)dtype_size(dtype_stat(forward->dtype));
    return (struct op_cost){
        (double)forward->rows * (forward->head_dim * s * 4 * (forward->heads + forward->kv_heads) + forward->heads * stat),
        10 * (double)forward->visible_keys * forward->heads * forward->head_dim};
}

/* Rows that a block of the CUDA kernels holds. */
static inline int attention_tile_rows(enum dtype dtype) { return dtype == DTYPE_BF16 ? 64 : 16; }

/* At most so many tiles do `segments` segments with `rows` rows together have. */
static inline int64_t attention_tiles_most(int64_t rows, int64_t segments, int tile_rows)
{
    return (rows + tile_rows - 1) / tile_rows + segments;
}

/* The tiles of all segments (host memory), those with the most keys first, so that no block begins a long tile when the others are
 * done. Returns how many there are. Cost: segments times the tiles of the longest. */
static inline int attention_tiles_list(const struct attention_segment *segment, int segments, int tile_rows,
                                       struct attention_tile *tile)
{
    int most = 0, tiles = 0;
    for (int s = 0; s < segments; s++) {
        const int level = (segment[s].prefix_count + segment[s].key_cached) / tile_rows + (segment[s].query_count + tile_rows - 1) / tile_rows;
        most = level > most ? level : most;
    }
    for (int level = most; level >= 0; level--)
        for (int s = 0; s < segments; s++) {
            const int own = (segment[s].query_count + tile_rows - 1) / tile_rows;
            const int number = (segment[s].prefix_count + segment[s].key_cached) / tile_rows + own - level;
            if (number >= 0 && number < own)
                tile[tiles++] = (struct attention_tile){s, number};
        }
    return tiles;
}

/* Keys that a CUDA kernel takes at a time: the first of a windowed tile is a multiple. */
static inline int attention_step_keys(enum dtype dtype, int head_dim, bool backward)
{
    return dtype != DTYPE_BF16 ? 32 : head_dim <= (backward ? 32 : 128) ? 64 : 32;
}

/* Keys that the tiles of all queries walk over, for one head: (query tile, visible key) pairs. segment: host memory. */
static inline int64_t attention_key_reads(const struct attention_segment *segment, int segments, int tile, int window,
                                          int step)
{
    int64_t reads = 0;
    for (int s = 0; s < segments; s++)
        for (int end = segment[s].query_count; end > 0; end -= end % tile ? end % tile : tile) {
            const int before = segment[s].prefix_count + segment[s].key_cached;
            const int first = before + (end - 1) / tile * tile - window + 1;
            reads += before + end - (window && first > 0 ? first / step * step : 0);
        }
    return reads;
}

/* Queries that the tiles of all keys walk over, for one head, in training form: those of a key's own segment from the
 * tile on, and all of the segments whose prefix the tile is part of. */
static inline int64_t attention_query_reads(const struct attention_segment *segment, int segments, int tile, int window)
{
    int64_t reads = 0;
    for (int s = 0; s < segments; s++) {
        const int count = segment[s].query_count, prefix = segment[s].prefix_count;
        for (int begin = 0; begin < count; begin += tile) {
            const int keys = count - begin < tile ? count - begin : tile, reach = keys + window - 1;
            reads += window && reach < count - begin ? reach : count - begin;
        }
        for (int begin = 0; begin < prefix; begin += tile) {
            const int end = begin + tile < prefix ? begin + tile : prefix, reach = end - 1 - prefix + window;
            reads += !window || reach > count ? count : reach > 0 ? reach : 0;
        }
    }
    return reads;
}

/* q once, out and lse once; k and v once a tile of queries and head. args: as in the call, but segment in host memory. */
static inline int64_t attention_forward_moved(const struct attention_args *args)
{
    const int64_t row = args->head_dim * (int64_t)dtype_size(args->dtype);
    const int step = attention_step_keys(args->dtype, args->head_dim, false);
    return args->heads * (args->rows * (2 * row + 4) +
                          2 * row * attention_key_reads(args->segment, args->segments, attention_tile_rows(args->dtype),
                                                        args->window, step));
}

/* Three passes. delta = rowsum(dout out): both once, delta written. dq: q, dout, lse, delta once, dq written, k and v once
 * a tile of queries and head. dk, dv: k and v once, both written; q, dout, lse and delta of every query that sees a tile
 * of keys once a tile and head. */
static inline int64_t attention_backward_moved(const struct attention_args *args)
{
    const int64_t row = args->head_dim * (int64_t)dtype_size(args->dtype), rows = args->rows;
    const int tile = attention_tile_rows(args->dtype), step = attention_step_keys(args->dtype, args->head_dim, true);
    const int64_t delta = rows * (2 * row + 4);
    const int64_t queries = rows * (3 * row + 8) +
                            2 * row * attention_key_reads(args->segment, args->segments, tile, args->window, step);
    const int64_t keys = (2 * row + 8) * attention_query_reads(args->segment, args->segments, tile, args->window);
    return args->heads * (delta + queries + keys) + args->kv_heads * rows * 4 * row;
}

int attention_forward(struct engine_context *context, const struct attention_args *args);
int attention_backward(struct engine_context *context, const struct attention_backward_args *args);

#ifdef __cplusplus
}
#endif
#endif
