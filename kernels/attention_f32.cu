/* attention_f32.cu - CUDA: attention over a packed batch in float, forward and backward, without tensor cores.
 *
 * A block holds 16 rows (queries, or keys in the kernel for dk and dv), four per warp, and walks over the rows of the
 * other side in steps of 32. A lane first stands for one row of the step and forms its four products with the warp's
 * rows; the weights made of them pass through shared memory, and the lane then stands for columns lane, lane + 32, ..
 * of the warp's sums. Every sum has one owner and a fixed order.
 *
 * Limit: reads of shared memory (five 16-byte reads for 16 multiply-adds). Float is the type of the tests and of small
 * models; training in bf16 is what attention.cu is for.
 */
#include "attention.cuh"

namespace {

constexpr int EACH = 4, HELD = EACH * ATTENTION_WARPS, STEP = WARP_SIZE;

typedef float weight_rows[EACH][STEP]; /* of one warp */

/* Shared memory of a block: held[0], held[1] [HELD, pitch], step[0], step[1] [STEP, pitch], and weights. */
template <int DIM> struct shared_rows {
    static constexpr int pitch = row_pitch<float, DIM>;
    float held[2][HELD * pitch], step[2][STEP * pitch];
    weight_rows weights[2][ATTENTION_WARPS];
    int reader[STEP]; /* dk and dv: rows of the step's queries */
};

/* product[r] = row r of the warp's times the lane's row of the step. */
template <int DIM> DEVICE void rows_dot(float (&product)[EACH], const float *held, const float *step, int head_dim)
{
    constexpr int pitch = row_pitch<float, DIM>;
    const float *row = step + (int)threadIdx.x % WARP_SIZE * pitch;
#pragma unroll
    for (int r = 0; r < EACH; r++)
        product[r] = 0.0f;
    for (int i = 0; i < head_dim; i += 4) {
        const float4 b = *reinterpret_cast<const float4 *>(row + i);
#pragma unroll
        for (int r = 0; r < EACH; r++) {
            const float4 a = *reinterpret_cast<const float4 *>(held + r * pitch + i);
            product[r] = fmaf(a.x, b.x, fmaf(a.y, b.y, fmaf(a.z, b.z, fmaf(a.w, b.w, product[r]))));
        }
    }
}

/* sum [EACH, DIM] += weights [EACH, STEP] times the rows of the step; a lane has columns lane, lane + 32, .. */
template <int DIM>
DEVICE void rows_add(float (&sum)[EACH][DIM / WARP_SIZE], const weight_rows &weights, const float *step)
{
    const int lane = (int)threadIdx.x % WARP_SIZE;
    for (int i = 0; i < STEP; i++)
#pragma unroll
        for (int c = 0; c < DIM / WARP_SIZE; c++) {
            const float value = step[i * row_pitch<float, DIM> + lane + c * WARP_SIZE];
#pragma unroll
            for (int r = 0; r < EACH; r++)
                sum[r][c] = fmaf(weights[r][i], value, sum[r][c]);
        }
}

/* Row r of the warp's sums times scale[r] to row r of global memory, `count` rows. */
template <int DIM>
DEVICE void sums_store(float *to, int64_t stride, int head_dim, int count, const float (&sum)[EACH][DIM / WARP_SIZE],
                       const float (&scale)[EACH])
{
#pragma unroll
    for (int r = 0; r < EACH; r++)
#pragma unroll
        for (int c = 0; c < DIM / WARP_SIZE; c++) {
            const int column = (int)threadIdx.x % WARP_SIZE + c * WARP_SIZE;
            if (r < count && column < head_dim)
                store_global(to + r * stride + column, sum[r][c] * scale[r]);
        }
}

/* HELD or STEP rows of two matrices; the caller waits for them. */
template <int ROWS, int DIM, typename F>
DEVICE void pair_load(float *to_a, const float *a, int64_t a_stride, float *to_b, const float *b, int64_t b_stride,
                      int head_dim, F row)
{
    rows_load<ROWS, DIM>(to_a, a, a_stride, head_dim, rows_are_aligned(a, a_stride), row);
    rows_load<ROWS, DIM>(to_b, b, b_stride, head_dim, rows_are_aligned(b, b_stride), row);
    async_copy_commit();
}

template <int DIM>
DEVICE void keys_load(const attention_args &args, const query_block &block, shared_rows<DIM> &shared, int step)
{
    pair_load<STEP, DIM>(shared.step[0], (const float *)args.k + block.kv_column, args.kv_stride, shared.step[1],
                         (const float *)args.v + block.kv_column, args.kv_stride, args.head_dim,
                         [&](int i) { return key_row(block, step * STEP + i); });
}

/* ---- forward ---------------------------------------------------------------------------------------------------- */

/* The block owns 16 rows of one head of out and lse. */
template <int DIM>
__global__ void __launch_bounds__(ATTENTION_THREADS, 1) attention_forward_f32_kernel(const attention_args args)
{
    DYN_SHARED(shared_rows<DIM>, shared);
    query_block block;
    if (!query_block_make<EACH>(args, block))
        return;
    const float *q = (const float *)args.q + block.column;
    rows_load<HELD, DIM>(shared->held[0], q, args.q_stride, args.head_dim, rows_are_aligned(q, args.q_stride),
                         [&](int i) { return i < block.rows ? block.row + i : -1; });
    const score_cap cap = score_cap_make(args);
    const int lane = (int)threadIdx.x % WARP_SIZE;
    const float *held = shared->held[0] + block.first * shared->pitch, scale = (float)args.scale;
    weight_rows &weights = shared->weights[0][threadIdx.x / WARP_SIZE];
    float out[EACH][DIM / WARP_SIZE] = {}, most[EACH], sum[EACH] = {}; /* sum: of this lane's keys */
    for (int r = 0; r < EACH; r++)
        most[r] = -INFINITY;
    for (int step = block.start / STEP; step * STEP < block.keys; step++) {
        __syncthreads(); /* all warps are done with the step before */
        keys_load(args, block, *shared, step);
        async_copy_wait<0>();
        __syncthreads();
        const int visible = block.visible - step * STEP, hidden = block.hidden - step * STEP;
        if (block.count <= 0 || visible + block.count - 1 <= 0)
            continue;
        float score[EACH];
        rows_dot<DIM>(score, held, shared->step[0], args.head_dim);
#pragma unroll
        for (int r = 0; r < EACH; r++) {
            const float capped = cap.inner != 0.0f ? cap.outer * tanh_near(cap.inner * score[r]) : score[r];
            score[r] = lane < visible + r && lane >= hidden + r ? capped * scale : -INFINITY;
            /* Without a window every query sees key 0; with one, a row may not see any key yet. */
            const float new_most = fmaxf(most[r], warp_max(score[r])), base = new_most == -INFINITY ? 0.0f : new_most;
            const float shrink = expf(most[r] - base);
            weights[r][lane] = expf(score[r] - base);
            sum[r] = sum[r] * shrink + weights[r][lane];
            most[r] = new_most;
#pragma unroll
            for (int c = 0; c < DIM / WARP_SIZE; c++)
                out[r][c] *= shrink;
        }
        __syncwarp();
        rows_add<DIM>(out, weights, shared->step[1]);
    }
    if (block.count <= 0)
        return;
    const int row = block.row + block.first;
    float inverse[EACH];
#pragma unroll
    for (int r = 0; r < EACH; r++) {
        const float total = warp_sum(sum[r]);
        inverse[r] = 1.0f / total;
        if (args.lse && lane == 0 && r < block.count)
            store_global((float *)args.lse + block.head * args.rows + row + r, most[r] + logf(total));
    }
    sums_store<DIM>((float *)args.out + row * args.out_stride + block.column, args.out_stride, args.head_dim,
                    block.count, out, inverse);
}

/* ---- dq --------------------------------------------------------------------------------------------------------- */

struct backward_arguments {
    attention_args forward;
    const float *dout;
    float *dq, *dk, *dv;
    const float *delta; /* [heads, rows] */
};

/* The block owns 16 rows of one head of dq. */
template <int DIM>
__global__ void __launch_bounds__(ATTENTION_THREADS, 1)
attention_backward_query_f32_kernel(const backward_arguments backward)
{
    DYN_SHARED(shared_rows<DIM>, shared);
    const attention_args &args = backward.forward;
    query_block block;
    if (!query_block_make<EACH>(args, block))
        return;
    pair_load<HELD, DIM>(shared->held[0], (const float *)args.q + block.column, args.q_stride, shared->held[1],
                         backward.dout + block.column, args.out_stride, args.head_dim,
                         [&](int i) { return i < block.rows ? block.row + i : -1; });
    const int lane = (int)threadIdx.x % WARP_SIZE, row = block.row + block.first;
    const float scale = (float)args.scale;
    const score_cap cap = score_cap_make(args);
    weight_rows &weights = shared->weights[0][threadIdx.x / WARP_SIZE];
    float dq[EACH][DIM / WARP_SIZE] = {}, lse[EACH] = {}, delta[EACH] = {};
#pragma unroll
    for (int r = 0; r < EACH; r++)
        if (r < block.count) {
            lse[r] = load_global((const float *)args.lse + block.head * args.rows + row + r);
            delta[r] = load_global(backward.delta + block.head * args.rows + row + r);
        }
    for (int step = block.start / STEP; step * STEP < block.keys; step++) {
        __syncthreads(); /* all warps are done with the step before */
        keys_load(args, block, *shared, step);
        async_copy_wait<0>();
        __syncthreads();
        const int visible = block.visible - step * STEP, hidden = block.hidden - step * STEP;
        if (block.count <= 0 || visible + block.count - 1 <= 0)
            continue;
        float score[EACH], dprobability[EACH];
        rows_dot<DIM>(score, shared->held[0] + block.first * shared->pitch, shared->step[0], args.head_dim);
        rows_dot<DIM>(dprobability, shared->held[1] + block.first * shared->pitch, shared->step[1], args.head_dim);
#pragma unroll
        for (int r = 0; r < EACH; r++) {
            const float capped = cap.inner != 0.0f ? cap.outer * tanh_near(cap.inner * score[r]) : score[r];
            const float gradient = expf(capped * scale - lse[r]) * (dprobability[r] - delta[r]);
            weights[r][lane] = lane < visible + r && lane >= hidden + r ? gradient * score_cap_slope(cap, capped) : 0.0f;
        }
        __syncwarp();
        rows_add<DIM>(dq, weights, shared->step[0]);
    }
    if (block.count > 0)
        sums_store<DIM>(backward.dq + row * args.q_stride + block.column, args.q_stride, args.head_dim, block.count, dq,
                        {scale, scale, scale, scale});
}

/* ---- dk and dv -------------------------------------------------------------------------------------------------- */

/* The block owns 16 rows of one head of dk and dv; a step's queries come once for each head that shares the keys. */
template <int DIM>
__global__ void __launch_bounds__(ATTENTION_THREADS, 1)
attention_backward_key_f32_kernel(const backward_arguments backward)
{
    DYN_SHARED(shared_rows<DIM>, shared);
    const attention_args &args = backward.forward;
    const attention_tile at = tile_of_block(args, HELD);
    if (at.segment == args.segments)
        return;
    const attention_segment segment = segment_load(args, at.segment);
    const int begin = at.number * HELD, count = min(HELD, segment.query_count - begin);
    const reader_list list = reader_list_make(args, at.segment, segment, begin, count);
    const int kv_head = (int)blockIdx.y, kv_column = kv_head * args.head_dim, heads_each = args.heads / args.kv_heads;
    const int row = segment.key_begin + begin; /* of the tile */
    pair_load<HELD, DIM>(shared->held[0], (const float *)args.k + kv_column, args.kv_stride, shared->held[1],
                         (const float *)args.v + kv_column, args.kv_stride, args.head_dim,
                         [&](int i) { return i < count ? row + i : -1; });

    const int lane = (int)threadIdx.x % WARP_SIZE, warp = (int)threadIdx.x / WARP_SIZE, first = warp * EACH;
    const float scale = (float)args.scale;
    const score_cap cap = score_cap_make(args);
    weight_rows &probabilities = shared->weights[0][warp], &dscores = shared->weights[1][warp];
    float dk[EACH][DIM / WARP_SIZE] = {}, dv[EACH][DIM / WARP_SIZE] = {};
    reader position = {list.own, lane}; /* every warp's lane i follows the i-th query of a step */
    for (int done = 0; done < list.queries; done += STEP, position.offset += STEP) {
        const reader_row query = reader_resolve(args, list, position);
        for (int head = kv_head * heads_each; head < (kv_head + 1) * heads_each; head++) {
            if (warp == 0)
                shared->reader[lane] = query.row;
            __syncthreads(); /* all warps know the rows to come and are done with those before */
            pair_load<STEP, DIM>(shared->step[0], (const float *)args.q + head * args.head_dim, args.q_stride,
                                 shared->step[1], backward.dout + head * args.head_dim, args.out_stride, args.head_dim,
                                 [&](int i) { return shared->reader[i]; });
            const float lse = query.row < 0 ? 0.0f
                                            : load_global((const float *)args.lse + head * args.rows + query.row);
            const float delta = query.row < 0 ? 0.0f : load_global(backward.delta + head * args.rows + query.row);
            async_copy_wait<0>();
            __syncthreads();
            if (first >= count)
                continue;
            float score[EACH], dprobability[EACH];
            rows_dot<DIM>(score, shared->held[0] + first * shared->pitch, shared->step[0], args.head_dim);
            rows_dot<DIM>(dprobability, shared->held[1] + first * shared->pitch, shared->step[1], args.head_dim);
#pragma unroll
            for (int r = 0; r < EACH; r++) {
                const bool sees = reader_sees(query.first, query.extent, first + r);
                const float capped = cap.inner != 0.0f ? cap.outer * tanh_near(cap.inner * score[r]) : score[r];
                const float probability = sees ? expf(capped * scale - lse) : 0.0f;
                probabilities[r][lane] = probability;
                dscores[r][lane] = probability * (dprobability[r] - delta) * score_cap_slope(cap, capped);
            }
            __syncwarp();
            rows_add<DIM>(dv, probabilities, shared->step[1]);
            rows_add<DIM>(dk, dscores, shared->step[0]);
        }
    }
    const int64_t to = (row + first) * args.kv_stride + kv_column;
    const int rows = min(EACH, count - first);
    sums_store<DIM>(backward.dk + to, args.kv_stride, args.head_dim, rows, dk, {scale, scale, scale, scale});
    sums_store<DIM>(backward.dv + to, args.kv_stride, args.head_dim, rows, dv, {1.0f, 1.0f, 1.0f, 1.0f});
}

/* ---- launches --------------------------------------------------------------------------------------------------- */

/* f(attention_width<DIM>()) for the width that holds head_dim. */
template <typename F> cudaError_t dispatch(int head_dim, F f)
{
    return head_dim <= 32    ? f(attention_width<32>())
           : head_dim <= 64  ? f(attention_width<64>())
           : head_dim <= 96  ? f(attention_width<96>())
           : head_dim <= 128 ? f(attention_width<128>())
                             : f(attention_width<256>());
}

template <int DIM> cudaError_t forward_launch(struct engine_context *context, const struct attention_args *args)
{
    return ATTENTION_LAUNCH((attention_forward_f32_kernel<DIM>),
                            dim3(attention_tile_blocks(args, HELD), (unsigned)args->heads), sizeof(shared_rows<DIM>),
                            *args);
}

template <int DIM>
cudaError_t backward_launch(struct engine_context *context, const backward_arguments &backward)
{
    const attention_args &args = backward.forward;
    const unsigned tiles = attention_tile_blocks(&args, HELD);
    const cudaError_t error = ATTENTION_LAUNCH((attention_backward_query_f32_kernel<DIM>),
                                               dim3(tiles, (unsigned)args.heads), sizeof(shared_rows<DIM>), backward);
    if (error != cudaSuccess)
        return error;
    return ATTENTION_LAUNCH((attention_backward_key_f32_kernel<DIM>), dim3(tiles, (unsigned)args.kv_heads),
                            sizeof(shared_rows<DIM>), backward);
}

} // namespace

cudaError_t attention_forward_f32(struct engine_context *context, const struct attention_args *args)
{
    return dispatch(args->head_dim, [&](auto dim) { return forward_launch<decltype(dim)::value>(context, args); });
}

cudaError_t attention_backward_f32(struct engine_context *context, const struct attention_backward_args *args,
                                   const float *delta)
{
    const backward_arguments backward = {args->forward,     (const float *)args->dout, (float *)args->dq,
                                         (float *)args->dk, (float *)args->dv,         delta};
    return dispatch(args->forward.head_dim,
                    [&](auto dim) { return backward_launch<decltype(dim)::value>(context, backward); });
}
