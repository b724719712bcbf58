/* attention_backward.cu - CUDA: attention over a packed batch, backward, bf16 on tensor cores.
 *
 * With P = exp(scale q k^T - lse) and dS = P (dout v^T - delta), delta = rowsum(dout * out):
 *     dv = P^T dout      dk = scale dS^T q      dq = scale dS k
 * where capped scores stand in P, and dS is then that times 1 - tanh^2.
 * Three kernels. delta: one pass over out and dout. Queries: a block owns 64 rows of dq and walks over the keys they
 * see. Keys: a block owns 64 rows of dk and dv of one key/value head and walks over the queries that see them, 32 or 64
 * at a time, each for all query heads of the group, first those of the segment itself, then those of the branches that
 * share it as their prefix. P is formed in both, 14 products where 10 would do: that is the price of sums which one
 * warp adds in a fixed order, without atomics and without a pass over partial sums.
 *
 * In the kernel over keys the products are formed transposed (keys are the rows), so that P^T and dS^T are operands as
 * they come out of the first two, and warps share nothing but the copies.
 *
 * Limit: operand reads from shared memory, as in the forward pass; for short segments the latency of a tile.
 */
#include "attention.cuh"

namespace {

constexpr int ROWS = 64; /* that a block owns, 16 per warp */

struct backward_arguments {
    attention_args forward;
    const void *dout;
    void *dq, *dk, *dv;
    const float *delta; /* [heads, rows] */
};

/* ---- delta ------------------------------------------------------------------------------------------------------ */

constexpr int DELTA_LANES = 8; /* that add up one (row, head) */

/* Eight lanes a (row, head), heads innermost: a warp reads consecutive memory. Every byte is read once. */
template <typename T>
__global__ void __launch_bounds__(ATTENTION_THREADS)
attention_delta_kernel(const attention_args args, const T *__restrict__ dout, float *__restrict__ delta)
{
    constexpr int width = vector16<T>::count;
    const int64_t pair = (int64_t)blockIdx.x * (ATTENTION_THREADS / DELTA_LANES) + (int)threadIdx.x / DELTA_LANES;
    const int lane = (int)threadIdx.x % DELTA_LANES;
    const bool valid = pair < args.rows * args.heads;
    const int64_t row = valid ? pair / args.heads : 0, head = valid ? pair % args.heads : 0;
    const int64_t begin = row * args.out_stride + head * args.head_dim;
    const T *out = (const T *)args.out + begin;
    dout += begin;
    const bool aligned = is_vector_aligned(out) && is_vector_aligned(dout);
    float sum = 0.0f;
    for (int i = lane * width; valid && i < args.head_dim; i += DELTA_LANES * width) {
        if (aligned) {
            float a[width], b[width];
            vector_to_float(load_vector(out + i), a);
            vector_to_float(load_vector(dout + i), b);
#pragma unroll
            for (int j = 0; j < width; j++)
                sum = fmaf(a[j], b[j], sum);
        } else {
            for (int j = 0; j < width; j++)
                sum = fmaf(to_float(load_global(out + i + j)), to_float(load_global(dout + i + j)), sum);
        }
    }
#pragma unroll
    for (int lanes = DELTA_LANES / 2; lanes > 0; lanes /= 2)
        sum += shuffle_xor(sum, lanes);
    if (valid && lane == 0)
        store_global(delta + head * args.rows + row, sum);
}

template <typename T>
cudaError_t delta_launch(struct engine_context *context, const struct attention_backward_args *args, float *delta)
{
    constexpr int pairs = ATTENTION_THREADS / DELTA_LANES;
    const int64_t blocks = (args->forward.rows * args->forward.heads + pairs - 1) / pairs;
    return LAUNCH((attention_delta_kernel<T>), (unsigned)blocks, ATTENTION_THREADS, 0, context->stream, args->forward,
                  (const T *)args->dout, delta);
}

/* score [16, 8 TILES] += a b^T and dprobability += c d^T over DIM columns; a and c are the warp's own 16 rows. */
template <int DIM, int TILES>
DEVICE void scores_pair(float (&score)[TILES][4], const bf16 *a, const bf16 *b, float (&dprobability)[TILES][4],
                        const bf16 *c, const bf16 *d)
{
    constexpr int pitch = row_pitch<bf16, DIM>;
#pragma unroll
    for (int i = 0; i < DIM; i += 16) {
        uint32_t fragment[4];
        fragment_load(fragment, a + i, pitch);
        multiply_transposed(score, fragment, b + i, pitch);
        fragment_load(fragment, c + i, pitch);
        multiply_transposed(dprobability, fragment, d + i, pitch);
    }
}

/* ---- dq --------------------------------------------------------------------------------------------------------- */

template <int DIM> struct query_shape {
    static constexpr int keys = DIM <= 32 ? 64 : 32; /* of a step */
    static constexpr int pitch = row_pitch<bf16, DIM>;
    static constexpr int stage = 2 * keys * pitch; /* keys, then values; in elements */
    static constexpr int blocks = DIM <= 128 ? 3 : 1;
    static constexpr size_t bytes = (2 * ROWS * pitch + 2 * stage) * sizeof(bf16); /* q, dout, two stages */
};

/* score -> dS without its factor scale. lse_log2, delta: of the lane's two rows; the warp's first row sees keys hidden ..
 * visible - 1 of this step. */
template <bool CAPPED, int TILES>
DEVICE void score_backward(float (&score)[TILES][4], const float (&dprobability)[TILES][4], const float (&lse_log2)[2],
                           const float (&delta)[2], int hidden, int visible, float scale_log2, const score_cap &cap)
{
    const int lane = (int)threadIdx.x % WARP_SIZE;
#pragma unroll
    for (int tile = 0; tile < TILES; tile++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const float probability = exp2_fast(fmaf(score[tile][e], scale_log2, -lse_log2[e / 2]));
            const int key = tile * 8 + lane % 4 * 2 + e % 2 - lane / 4 - e / 2 * 8;
            const float gradient = probability * (dprobability[tile][e] - delta[e / 2]);
            score[tile][e] = key >= hidden && key < visible
                                 ? gradient * (CAPPED ? score_cap_slope(cap, score[tile][e]) : 1.0f)
                                 : 0.0f;
        }
}

/* The block owns 64 rows of one head of dq, a warp 16 of them, summed in registers over the keys in order. q and dout
 * are read once, the keys and values that the rows see once. */
template <int DIM>
__global__ void __launch_bounds__(ATTENTION_THREADS, query_shape<DIM>::blocks)
attention_backward_query_kernel(const backward_arguments backward)
{
    typedef query_shape<DIM> shape;
    constexpr int pitch = shape::pitch, keys = shape::keys;
    DYN_SHARED(bf16, memory);
    const attention_args &args = backward.forward;
    query_block block;
    if (!query_block_make<16>(args, block))
        return;
    const bf16 *q = (const bf16 *)args.q + block.column, *dout = (const bf16 *)backward.dout + block.column;
    const bf16 *k = (const bf16 *)args.k + block.kv_column, *v = (const bf16 *)args.v + block.kv_column;
    const bool aligned = rows_are_aligned(q, args.q_stride) && rows_are_aligned(dout, args.out_stride) &&
                         rows_are_aligned(k, args.kv_stride) && rows_are_aligned(v, args.kv_stride);
    const int first_step = block.start / keys;
    const score_cap cap = score_cap_make(args);
    const auto stage_load = [&](int step) {
        bf16 *stage = memory + 2 * ROWS * pitch + step % 2 * shape::stage;
        const auto row = [&](int i) { return key_row(block, step * keys + i); };
        rows_load<keys, DIM>(stage, k, args.kv_stride, args.head_dim, aligned, row);
        rows_load<keys, DIM>(stage + keys * pitch, v, args.kv_stride, args.head_dim, aligned, row);
        async_copy_commit();
    };
    const auto query = [&](int i) { return i < block.rows ? block.row + i : -1; };
    rows_load<ROWS, DIM>(memory, q, args.q_stride, args.head_dim, aligned, query);
    rows_load<ROWS, DIM>(memory + ROWS * pitch, dout, args.out_stride, args.head_dim, aligned, query);
    stage_load(first_step);

    bf16 *const own_q = memory + block.first * pitch, *const own_dout = own_q + ROWS * pitch; /* the warp's rows */
    float lse_log2[2] = {}, delta[2] = {}, dq[DIM / 8][4] = {};
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int r = (int)threadIdx.x % WARP_SIZE / 4 + half * 8;
        if (r < block.count) {
            const int64_t at = block.head * args.rows + block.row + block.first + r;
            lse_log2[half] = load_global((const float *)args.lse + at) * LOG2_E;
            delta[half] = load_global(backward.delta + at);
        }
    }
    for (int step = first_step; step * keys < block.keys; step++) {
        async_copy_wait<0>();
        __syncthreads(); /* this step's keys are there, and all warps are done with what the next copy overwrites */
        if ((step + 1) * keys < block.keys)
            stage_load(step + 1);
        const int visible = block.visible - step * keys;
        if (block.count <= 0 || visible + block.count - 1 <= 0)
            continue;
        const bf16 *stage = memory + 2 * ROWS * pitch + step % 2 * shape::stage;
        float score[keys / 8][4] = {}, dprobability[keys / 8][4] = {};
        scores_pair<DIM>(score, own_q, stage, dprobability, own_dout, stage + keys * pitch);
        const int hidden = block.hidden - step * keys;
        const float scale_log2 = (float)args.scale * LOG2_E;
        if (cap.inner != 0.0f) {
            scores_cap(score, cap);
            score_backward<true>(score, dprobability, lse_log2, delta, hidden, visible, scale_log2, cap);
        } else {
            score_backward<false>(score, dprobability, lse_log2, delta, hidden, visible, scale_log2, cap);
        }
        multiply_weights(dq, score, stage, pitch);
    }
    if (block.count > 0) /* the warp's rows of q, which nobody else reads, are the space through which it writes */
        warp_rows_store((bf16 *)backward.dq + (block.row + block.first) * args.q_stride + block.column, args.q_stride,
                        args.head_dim, block.count, dq, {(float)args.scale, (float)args.scale}, own_q, pitch);
}

/* ---- dk and dv -------------------------------------------------------------------------------------------------- */

template <int DIM> struct key_shape {
    static constexpr int queries = DIM <= 64 ? 64 : 32;         /* of a step */
    static constexpr int columns = DIM <= 128 ? DIM : DIM / 2;  /* of dk and dv a block sums: what registers hold */
    static constexpr int pitch = row_pitch<bf16, DIM>;
    static constexpr int stage = 2 * queries * pitch; /* q, then dout; in elements */
    static constexpr int blocks = DIM <= 128 ? 2 : 1;
    static constexpr size_t stages_at = 2 * ROWS * pitch * sizeof(bf16); /* after k and v */
    static constexpr size_t readers_at = stages_at + 2 * stage * sizeof(bf16);
};

/* What shared memory holds of the queries of one step, beside their rows. */
template <int QUERIES> struct alignas(16) reader_step {
    int row[QUERIES], first[QUERIES], extent[QUERIES]; /* see reader_row */
    float lse_log2[QUERIES], delta[QUERIES];
};

/* The readers of a tile in steps: each group of `queries` of them once for every query head that shares the keys.
 * Thread i follows the i-th query of every step, two steps ahead of the products. */
struct reader_feed {
    reader_list list;
    int queries, head, heads, steps; /* head: the first of `heads` */
    reader position;
    reader_row what;
};

/* One query of a step, on its way from global to shared memory. */
struct reader_entry {
    reader_row what;
    float lse_log2, delta;
};

DEVICE int reader_head(const reader_feed &feed, int step)
{
    return feed.head + step % feed.heads;
}

DEVICE reader_feed reader_feed_make(const attention_args &args, const reader_list &list, int queries, int kv_head)
{
    const int heads = args.heads / args.kv_heads, steps = (list.queries + queries - 1) / queries * heads;
    return {list, queries, kv_head * heads, heads, steps, {list.own, (int)threadIdx.x}, {-1, 0, 0}};
}

/* Called for step 0, 1, 2 .. in turn. */
DEVICE reader_entry reader_fetch(const backward_arguments &backward, reader_feed &feed, int step)
{
    const attention_args &args = backward.forward;
    reader_entry entry = {{-1, 0, 0}, 0.0f, 0.0f};
    if ((int)threadIdx.x >= feed.queries || step >= feed.steps)
        return entry;
    if (step % feed.heads == 0) {
        feed.position.offset += step ? feed.queries : 0;
        feed.what = reader_resolve(args, feed.list, feed.position);
    }
    entry.what = feed.what;
    if (entry.what.row >= 0) {
        const int64_t at = reader_head(feed, step) * args.rows + entry.what.row;
        entry.lse_log2 = load_global((const float *)args.lse + at) * LOG2_E;
        entry.delta = load_global(backward.delta + at);
    }
    return entry;
}

template <int QUERIES> DEVICE void reader_place(reader_step<QUERIES> &to, const reader_entry &entry)
{
    const int i = (int)threadIdx.x;
    if (i >= QUERIES)
        return;
    to.row[i] = entry.what.row;
    to.first[i] = entry.what.first;
    to.extent[i] = entry.what.extent;
    to.lse_log2[i] = entry.lse_log2;
    to.delta[i] = entry.delta;
}

template <int DIM> constexpr size_t key_bytes()
{
    return key_shape<DIM>::readers_at + 3 * sizeof(reader_step<key_shape<DIM>::queries>);
}

/* score -> P^T and dprobability -> dS^T without its factor scale; the rows are keys, key: the lane's first one. */
template <bool CAPPED, int TILES>
DEVICE void score_backward_transposed(float (&score)[TILES][4], float (&dprobability)[TILES][4],
                                      const reader_step<TILES * 8> &readers, int key, float scale_log2,
                                      const score_cap &cap)
{
    const int column = (int)threadIdx.x % 4 * 2;
#pragma unroll
    for (int tile = 0; tile < TILES; tile++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int query = tile * 8 + column + e % 2;
            const bool sees = reader_sees(readers.first[query], readers.extent[query], key + e / 2 * 8);
            const float probability = exp2_fast(fmaf(score[tile][e], scale_log2, -readers.lse_log2[query]));
            const float gradient = probability * (dprobability[tile][e] - readers.delta[query]);
            dprobability[tile][e] = sees ? gradient * (CAPPED ? score_cap_slope(cap, score[tile][e]) : 1.0f) : 0.0f;
            score[tile][e] = sees ? probability : 0.0f;
        }
}

/* The block owns 64 rows of one head of dk and dv (of half their columns where DIM is above 128), a warp 16 of them,
 * summed in registers over steps of queries in the order of the list. k and v are read once, and q, dout, lse and delta
 * of every query that sees the keys. */
template <int DIM>
__global__ void __launch_bounds__(ATTENTION_THREADS, key_shape<DIM>::blocks)
attention_backward_key_kernel(const backward_arguments backward)
{
    typedef key_shape<DIM> shape;
    constexpr int pitch = shape::pitch, queries = shape::queries, columns = shape::columns;
    DYN_SHARED(unsigned char, memory);
    const attention_args &args = backward.forward;
    const attention_tile at = tile_of_block(args, ROWS);
    if (at.segment == args.segments)
        return;
    const attention_segment segment = segment_load(args, at.segment);
    const int begin = at.number * ROWS, count = min(ROWS, segment.query_count - begin);
    const reader_list list = reader_list_make(args, at.segment, segment, begin, count);
    const int row = segment.key_begin + begin, kv_head = (int)blockIdx.y; /* row: the tile's first in k and v */
    const bf16 *q = (const bf16 *)args.q, *dout = (const bf16 *)backward.dout;
    const bf16 *k = (const bf16 *)args.k + kv_head * args.head_dim, *v = (const bf16 *)args.v + kv_head * args.head_dim;
    const bool aligned = rows_are_aligned(q, args.q_stride) && rows_are_aligned(dout, args.out_stride) &&
                         rows_are_aligned(k, args.kv_stride) && rows_are_aligned(v, args.kv_stride);
    bf16 *const tiles = reinterpret_cast<bf16 *>(memory), *const stages = tiles + 2 * ROWS * pitch;
    reader_step<queries> *const readers = reinterpret_cast<reader_step<queries> *>(memory + shape::readers_at);
    reader_feed feed = reader_feed_make(args, list, queries, kv_head);
    const score_cap cap = score_cap_make(args);
    const auto stage_load = [&](int step) {
        const int column = reader_head(feed, step) * args.head_dim;
        bf16 *stage = stages + step % 2 * shape::stage;
        const auto reader = [&](int i) { return readers[step % 3].row[i]; };
        rows_load<queries, DIM>(stage, q + column, args.q_stride, args.head_dim, aligned, reader);
        rows_load<queries, DIM>(stage + queries * pitch, dout + column, args.out_stride, args.head_dim, aligned,
                                reader);
        async_copy_commit();
    };
    const auto key = [&](int i) { return i < count ? row + i : -1; };
    rows_load<ROWS, DIM>(tiles, k, args.kv_stride, args.head_dim, aligned, key);
    rows_load<ROWS, DIM>(tiles + ROWS * pitch, v, args.kv_stride, args.head_dim, aligned, key);
    reader_place(readers[0], reader_fetch(backward, feed, 0));
    reader_place(readers[1], reader_fetch(backward, feed, 1));
    __syncthreads();
    stage_load(0);

    const int lane = (int)threadIdx.x % WARP_SIZE, first = (int)threadIdx.x / WARP_SIZE * 16; /* row of the warp */
    const int part = (int)blockIdx.z * columns; /* first column of dk and dv that the block sums */
    bf16 *const own_k = tiles + first * pitch, *const own_v = own_k + ROWS * pitch;
    float dk[columns / 8][4] = {}, dv[columns / 8][4] = {};
    for (int step = 0; step < feed.steps; step++) {
        async_copy_wait<0>();
        __syncthreads(); /* this step's rows are there, and all warps are done with what is overwritten from here on */
        if (step + 1 < feed.steps)
            stage_load(step + 1);
        const reader_entry ahead = reader_fetch(backward, feed, step + 2);
        if (first < count) {
            const bf16 *stage = stages + step % 2 * shape::stage;
            float score[queries / 8][4] = {}, dprobability[queries / 8][4] = {};
            scores_pair<DIM>(score, own_k, stage, dprobability, own_v, stage + queries * pitch);
            const float scale_log2 = (float)args.scale * LOG2_E;
            if (cap.inner != 0.0f) {
                scores_cap(score, cap);
                score_backward_transposed<true>(score, dprobability, readers[step % 3], first + lane / 4, scale_log2, cap);
            } else {
                score_backward_transposed<false>(score, dprobability, readers[step % 3], first + lane / 4, scale_log2,
                                                 cap);
            }
            multiply_weights(dv, score, stage + queries * pitch + part, pitch);
            multiply_weights(dk, dprobability, stage + part, pitch);
        }
        reader_place(readers[(step + 2) % 3], ahead);
    }
    if (first < count) { /* the warp's rows of k and v, which nobody else reads, are the space through which it writes */
        const int64_t to = (row + first) * args.kv_stride + kv_head * args.head_dim + part;
        const int width = args.head_dim - part, rows = min(16, count - first);
        warp_rows_store((bf16 *)backward.dk + to, args.kv_stride, width, rows, dk,
                        {(float)args.scale, (float)args.scale}, own_k, pitch);
        warp_rows_store((bf16 *)backward.dv + to, args.kv_stride, width, rows, dv, {1.0f, 1.0f}, own_v, pitch);
    }
}

/* ---- launches --------------------------------------------------------------------------------------------------- */

template <int DIM>
cudaError_t backward_launch(struct engine_context *context, const backward_arguments &backward)
{
    const attention_args &args = backward.forward;
    const unsigned tiles = attention_tile_blocks(&args, ROWS);
    const cudaError_t error = ATTENTION_LAUNCH((attention_backward_query_kernel<DIM>),
                                               dim3(tiles, (unsigned)args.heads), query_shape<DIM>::bytes, backward);
    if (error != cudaSuccess)
        return error;
    return ATTENTION_LAUNCH((attention_backward_key_kernel<DIM>),
                            dim3(tiles, (unsigned)args.kv_heads, DIM / key_shape<DIM>::columns), key_bytes<DIM>(),
                            backward);
}

cudaError_t backward_bf16(struct engine_context *context, const struct attention_backward_args *args,
                          const float *delta)
{
    const backward_arguments backward = {args->forward, args->dout, args->dq, args->dk, args->dv, delta};
    return attention_dispatch(args->forward.head_dim, [&](auto dim) {
        return backward_launch<decltype(dim)::value>(context, backward);
    });
}

} // namespace

int attention_backward(struct engine_context *context, const struct attention_backward_args *args)
{
    REQUIRE_CONTRACT(attention_backward, args);
    const struct attention_args *forward = &args->forward;
    REQUIRE_DTYPE(forward->dtype);
    REQUIRE_GRID(forward);
    if (forward->rows == 0 || forward->segments == 0)
        return OP_OK;
    float *delta = (float *)engine_scratch(context, (size_t)forward->rows * (size_t)forward->heads * sizeof *delta);
    if (!delta)
        return OP_MEMORY;
    const bool bf16_stored = forward->dtype == DTYPE_BF16;
    cudaError_t error = bf16_stored ? delta_launch<bf16>(context, args, delta)
                                    : delta_launch<float>(context, args, delta);
    if (error == cudaSuccess)
        error = bf16_stored ? backward_bf16(context, args, delta) : attention_backward_f32(context, args, delta);
    return engine_launched(context, __func__, error);
}
