/* attention.cu - CUDA: attention over a packed batch, forward, bf16 on tensor cores.
 *
 * A block of four warps has 64 queries of one segment and one head, each warp 16 of them. It walks over the keys that
 * they see in steps, copying one step's keys and values to shared memory while it works on the one before, and keeps
 * the running maximum and sum of every row (online softmax) and the unnormalised output in registers. The scores never
 * leave the registers: the result of the first product has the layout of the second one's operand.
 *
 * Reads q once, k and v once per 64 queries and query head (from L2 for all but the first reader), writes out and lse
 * once. Every output has one owner and its sum runs over the keys in order: the bits depend on the row alone.
 *
 * Limit: the operand reads from shared memory (256 bytes per mma with 16 rows per warp, 128 bytes per cycle: about half of
 * the tensor cores' peak); for the short segments of fine-tuning data, the latency of one tile. A query tile of a
 * decoding step has one row in 64: correct, one warp works, and speed is that of reading the cache with one block a
 * (sequence, head).
 */
#include "attention.cuh"

#include <limits.h>

namespace {

constexpr int QUERIES = 64; /* rows of a block, 16 per warp */

template <int DIM> struct forward_shape {
    static constexpr int keys = DIM <= 128 ? 64 : 32; /* of a step */
    static constexpr int pitch = row_pitch<bf16, DIM>;
    static constexpr bool query_in_registers = DIM <= 128; /* they pass through the place of stage 1 then */
    static constexpr int stage = 2 * keys * pitch;         /* keys, then values; in elements */
    static constexpr int query = query_in_registers ? stage : 2 * stage; /* where the queries begin */
    static constexpr int blocks = DIM <= 64 ? 4 : DIM <= 96 ? 3 : 2; /* that registers should leave room for */
    static constexpr size_t bytes = (2 * stage + (query_in_registers ? 0 : QUERIES * pitch)) * sizeof(bf16);
    static_assert(!query_in_registers || stage >= QUERIES * pitch, "the queries fit in stage 1");
};

/* What a lane carries from step to step: elements 0, 1 of a tile are of row lane / 4 of the warp's 16, 2, 3 of the row
 * eight below it. `most` is of the scores before scaling, sum is of this lane's columns only. */
template <int DIM> struct running {
    float out[DIM / 8][4], most[2], sum[2];
};

/* Scores -> exp(scale (score - most)), and the running values follow the new maximum. The warp's first row sees keys
 * hidden .. visible - 1 of this step. */
template <int DIM, int TILES>
DEVICE void softmax_step(float (&score)[TILES][4], running<DIM> &state, int hidden, int visible, float scale_log2)
{
    const int lane = (int)threadIdx.x % WARP_SIZE;
    if (visible < TILES * 8 || hidden > -15)
#pragma unroll
        for (int tile = 0; tile < TILES; tile++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int key = tile * 8 + lane % 4 * 2 + e % 2 - lane / 4 - e / 2 * 8;
                if (key >= visible || key < hidden)
                    score[tile][e] = -INFINITY;
            }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float most = state.most[half];
#pragma unroll
        for (int tile = 0; tile < TILES; tile++)
#pragma unroll
            for (int e = 0; e < 2; e++)
                most = fmaxf(most, score[tile][2 * half + e]);
        most = fmaxf(most, shuffle_xor(most, 1));
        most = fmaxf(most, shuffle_xor(most, 2));
        /* Without a window every query sees key 0; with one, a row may not see any key yet. */
        const float base = most == -INFINITY ? 0.0f : most;
        const float shrink = exp2_fast((state.most[half] - base) * scale_log2), offset = base * scale_log2;
        state.most[half] = most;
        float sum = 0.0f;
#pragma unroll
        for (int tile = 0; tile < TILES; tile++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                float &s = score[tile][2 * half + e];
                s = exp2_fast(fmaf(s, scale_log2, -offset));
                sum += s;
            }
        state.sum[half] = state.sum[half] * shrink + sum;
#pragma unroll
        for (int tile = 0; tile < DIM / 8; tile++) {
            state.out[tile][2 * half] *= shrink;
            state.out[tile][2 * half + 1] *= shrink;
        }
    }
}

/* Divides by the sums and writes the warp's rows and their lse. */
template <int DIM>
DEVICE void rows_finish(const attention_args &args, const query_block &block, const running<DIM> &state, bf16 *staging)
{
    const int lane = (int)threadIdx.x % WARP_SIZE, row = block.row + block.first;
    float inverse[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float sum = state.sum[half] + shuffle_xor(state.sum[half], 1);
        sum += shuffle_xor(sum, 2);
        inverse[half] = 1.0f / sum;
        const int r = lane / 4 + half * 8;
        if (args.lse && lane % 4 == 0 && r < block.count)
            store_global((float *)args.lse + block.head * args.rows + row + r,
                         fmaf(state.most[half], (float)args.scale, logf(sum)));
    }
    warp_rows_store((bf16 *)args.out + row * args.out_stride + block.column, args.out_stride, args.head_dim,
                    block.count, state.out, inverse, staging, row_pitch<bf16, DIM>);
}

/* The block owns 64 rows of one head of out and lse, a warp 16 of them. q is read once, the keys and values that the
 * rows see once; shared memory is written by copies only, until the rows leave through it. */
template <int DIM>
__global__ void __launch_bounds__(ATTENTION_THREADS, forward_shape<DIM>::blocks)
attention_forward_kernel(const attention_args args)
{
    typedef forward_shape<DIM> shape;
    constexpr int pitch = shape::pitch, keys = shape::keys;
    DYN_SHARED(bf16, memory);
    query_block block;
    if (!query_block_make<16>(args, block))
        return;
    const bf16 *q = (const bf16 *)args.q + block.column;
    const bf16 *k = (const bf16 *)args.k + block.kv_column, *v = (const bf16 *)args.v + block.kv_column;
    const bool aligned = rows_are_aligned(q, args.q_stride) && rows_are_aligned(k, args.kv_stride) &&
                         rows_are_aligned(v, args.kv_stride);
    const int first_step = block.start / keys;
    const score_cap cap = score_cap_make(args);
    const auto stage_load = [&](int step) {
        bf16 *stage = memory + (step - first_step) % 2 * shape::stage;
        const auto row = [&](int i) { return key_row(block, step * keys + i); };
        rows_load<keys, DIM>(stage, k, args.kv_stride, args.head_dim, aligned, row);
        rows_load<keys, DIM>(stage + keys * pitch, v, args.kv_stride, args.head_dim, aligned, row);
        async_copy_commit();
    };
    rows_load<QUERIES, DIM>(memory + shape::query, q, args.q_stride, args.head_dim, aligned,
                            [&](int i) { return i < block.rows ? block.row + i : -1; });
    async_copy_commit();
    stage_load(first_step);
    async_copy_wait<1>();
    __syncthreads();

    const bf16 *query = memory + shape::query + block.first * pitch;
    uint32_t query_held[DIM / 16][4];
    if (shape::query_in_registers)
#pragma unroll
        for (int i = 0; i < DIM / 16; i++)
            fragment_load(query_held[i], query + i * 16, pitch);

    running<DIM> state = {{}, {-INFINITY, -INFINITY}, {0.0f, 0.0f}};
    for (int step = first_step; step * keys < block.keys; step++) {
        async_copy_wait<0>();
        __syncthreads(); /* this step's keys are there, and all warps are done with what the next copy overwrites */
        if ((step + 1) * keys < block.keys)
            stage_load(step + 1);
        const int visible = block.visible - step * keys;
        if (block.count <= 0 || visible + block.count - 1 <= 0)
            continue;
        const bf16 *stage = memory + (step - first_step) % 2 * shape::stage;
        float score[keys / 8][4] = {};
#pragma unroll
        for (int i = 0; i < DIM / 16; i++) {
            if (!shape::query_in_registers)
                fragment_load(query_held[i], query + i * 16, pitch);
            multiply_transposed(score, query_held[i], stage + i * 16, pitch);
        }
        scores_cap(score, cap);
        softmax_step<DIM>(score, state, block.hidden - step * keys, visible, (float)args.scale * LOG2_E);
        multiply_weights(state.out, score, stage + keys * pitch, pitch);
    }
    __syncthreads(); /* the stages become the space through which rows are written */
    if (block.count > 0)
        rows_finish<DIM>(args, block, state, memory + block.first * pitch);
}

template <int DIM> cudaError_t forward_launch(struct engine_context *context, const struct attention_args *args)
{
    return ATTENTION_LAUNCH((attention_forward_kernel<DIM>),
                            dim3(attention_tile_blocks(args, QUERIES), (unsigned)args->heads), forward_shape<DIM>::bytes,
                            *args);
}

cudaError_t forward_bf16(struct engine_context *context, const struct attention_args *args)
{
    return attention_dispatch(args->head_dim,
                              [&](auto dim) { return forward_launch<decltype(dim)::value>(context, args); });
}

} // namespace

int attention_forward(struct engine_context *context, const struct attention_args *args)
{
    REQUIRE_CONTRACT(attention_forward, args);
    REQUIRE_DTYPE(args->dtype);
    REQUIRE_GRID(args);
    if (args->rows == 0 || args->segments == 0)
        return OP_OK;
    return engine_launched(context, __func__, args->dtype == DTYPE_BF16 ? forward_bf16(context, args)
                                                                        : attention_forward_f32(context, args));
}
