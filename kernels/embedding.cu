/* embedding.cu - CUDA: gather rows of a table, and add gradients back into it.
 *
 * Limiter: memory; each row is read once and written once. The backward pass of few or short buckets is limited by
 * latency.
 */
#include "engine/cuda.cuh"

namespace {

constexpr int THREADS = 256, WARPS = THREADS / WARP_SIZE;
constexpr int LONG_BUCKET = 32; /* rows above which a whole block adds up a bucket */

/* A warp owns a row of out; its lanes own WIDTH columns at a time. The indices are read by one lane. */
template <typename T, int WIDTH>
__global__ void __launch_bounds__(THREADS)
forward_kernel(int64_t rows, int64_t cols, const T *__restrict__ table, const int32_t *__restrict__ ids,
               const T *__restrict__ position_table, const int32_t *__restrict__ positions, T *__restrict__ out)
{
    const int lane = (int)threadIdx.x % WARP_SIZE, warp = (int)threadIdx.x / WARP_SIZE;
    const int64_t row = (int64_t)blockIdx.x * WARPS + warp;
    if (row >= rows)
        return;
    const int id = __shfl_sync(FULL_WARP, lane == 0 ? load_global(ids + row) : 0, 0);
    const T *from = table + (int64_t)id * cols;
    T *to = out + row * cols;
    if (!position_table) {
#pragma unroll 4
        for (int64_t column = lane * WIDTH; column < cols; column += WARP_SIZE * WIDTH) {
            if constexpr (WIDTH == 1)
                store_global(to + column, load_global(from + column));
            else
                store_vector(to + column, load_vector(from + column));
        }
        return;
    }
    const int position = __shfl_sync(FULL_WARP, lane == 0 ? load_global(positions + row) : 0, 0);
    const T *with = position_table + (int64_t)position * cols;
#pragma unroll 4
    for (int64_t column = lane * WIDTH; column < cols; column += WARP_SIZE * WIDTH) {
        float sum[WIDTH], other[WIDTH];
        load_floats(from + column, sum);
        load_floats(with + column, other);
#pragma unroll
        for (int i = 0; i < WIDTH; i++)
            sum[i] += other[i];
        store_floats(to + column, sum);
    }
}

/* sum += rows bucket_rows[begin .. end) of dout, in that order, in the lane's columns. Each index is read by one lane;
 * `active` is false in lanes beyond the last column. */
template <int WIDTH, typename T>
DEVICE void rows_add(float (&sum)[WIDTH], const T *__restrict__ dout, int64_t cols,
                     const int32_t *__restrict__ bucket_rows, int begin, int end, bool active)
{
    const int lane = (int)threadIdx.x % WARP_SIZE;
    for (int first = begin; first < end; first += WARP_SIZE) {
        const int count = min(WARP_SIZE, end - first);
        const int mine = lane < count ? load_global(bucket_rows + first + lane) : 0;
#pragma unroll 4
        for (int k = 0; k < count; k++) {
            const int64_t row = __shfl_sync(FULL_WARP, mine, k);
            float value[WIDTH] = {};
            if (active)
                load_floats(dout + row * cols, value);
#pragma unroll
            for (int i = 0; i < WIDTH; i++)
                sum[i] += value[i];
        }
    }
}

template <int WIDTH, typename G> DEVICE void row_finish(G *to, float (&sum)[WIDTH], bool accumulate)
{
    if (accumulate) {
        float old[WIDTH];
        load_floats(to, old);
#pragma unroll
        for (int i = 0; i < WIDTH; i++)
            sum[i] += old[i];
    }
    store_floats(to, sum);
}

/* A block owns WARPS buckets in WARP_SIZE * WIDTH columns (blockIdx.y), and a table row in those columns has no other
 * writer. A warp adds up one bucket, row after row. Buckets of more than LONG_BUCKET rows are left for the end, where
 * the warps take an eighth of the rows each and warp 0 adds the eighths in order: the longest bucket does not hold up
 * the rest for long. The order of a sum depends on the bucket's length alone. Each row of dout is read once. */
template <typename T, typename G, int WIDTH>
__global__ void __launch_bounds__(THREADS, 5)
backward_kernel(const struct embedding_backward_args args)
{
    SHARED(int, begins, [WARPS + 1]);
    SHARED(int, ids, [WARPS]);
    SHARED(float, parts, [WARPS][WIDTH][WARP_SIZE]);
    const int lane = (int)threadIdx.x % WARP_SIZE, warp = (int)threadIdx.x / WARP_SIZE;
    const int64_t first = (int64_t)blockIdx.x * WARPS;
    const int buckets = (int)min((int64_t)WARPS, args.buckets - first);
    if ((int)threadIdx.x <= buckets)
        begins[threadIdx.x] = load_global(args.bucket_begin + first + threadIdx.x);
    if ((int)threadIdx.x < buckets)
        ids[threadIdx.x] = load_global(args.bucket_id + first + threadIdx.x);
    __syncthreads();

    const int64_t column = ((int64_t)blockIdx.y * WARP_SIZE + lane) * WIDTH;
    const bool active = column < args.cols;
    const T *dout = static_cast<const T *>(args.dout) + column;
    G *dtable = static_cast<G *>(args.dtable) + column;
    const int rows = warp < buckets ? begins[warp + 1] - begins[warp] : 0;
    if (rows > 0 && rows <= LONG_BUCKET) {
        float sum[WIDTH] = {};
        rows_add(sum, dout, args.cols, args.bucket_rows, begins[warp], begins[warp + 1], active);
        if (active)
            row_finish(dtable + ids[warp] * args.cols, sum, args.accumulate);
    }
    for (int bucket = 0; bucket < buckets; bucket++) {
        const int begin = begins[bucket], length = begins[bucket + 1] - begin;
        if (length <= LONG_BUCKET)
            continue;
        float sum[WIDTH] = {};
        rows_add(sum, dout, args.cols, args.bucket_rows, begin + (int)((int64_t)length * warp / WARPS),
                 begin + (int)((int64_t)length * (warp + 1) / WARPS), active);
#pragma unroll
        for (int i = 0; i < WIDTH; i++)
            parts[warp][i][lane] = sum[i];
        __syncthreads();
        if (warp == 0 && active) {
#pragma unroll
            for (int i = 0; i < WIDTH; i++)
                for (int w = 1; w < WARPS; w++)
                    sum[i] += parts[w][i][lane];
            row_finish(dtable + ids[bucket] * args.cols, sum, args.accumulate);
        }
        __syncthreads(); /* parts is free for the next long bucket */
    }
}

template <typename T, int WIDTH> cudaError_t forward_launch(cudaStream_t stream, const struct embedding_args *args)
{
    const int64_t blocks = (args->rows + WARPS - 1) / WARPS;
    return LAUNCH((forward_kernel<T, WIDTH>), (unsigned)blocks, THREADS, 0, stream, args->rows, args->cols,
                  static_cast<const T *>(args->table), args->ids, static_cast<const T *>(args->position_table),
                  args->positions, static_cast<T *>(args->out));
}

template <typename T> cudaError_t forward_launch_aligned(cudaStream_t stream, const struct embedding_args *args)
{
    constexpr int width = vector16<T>::count;
    const bool aligned = is_vector_aligned(args->table) && is_vector_aligned(args->position_table) &&
                         is_vector_aligned(args->out) && args->cols % width == 0;
    return aligned ? forward_launch<T, width>(stream, args) : forward_launch<T, 1>(stream, args);
}

template <typename T, typename G, int WIDTH>
cudaError_t backward_launch(cudaStream_t stream, const struct embedding_backward_args *args)
{
    constexpr int block_cols = WARP_SIZE * WIDTH;
    const dim3 grid((unsigned)((args->buckets + WARPS - 1) / WARPS),
                    (unsigned)((args->cols + block_cols - 1) / block_cols));
    return LAUNCH((backward_kernel<T, G, WIDTH>), grid, THREADS, 0, stream, *args);
}

template <typename T, typename G>
cudaError_t backward_launch_aligned(cudaStream_t stream, const struct embedding_backward_args *args)
{
    /* Beside a vector of float, bf16 moves 8 bytes. */
    constexpr int width = sizeof(T) + sizeof(G) == 4 ? 8 : 4;
    const bool aligned = is_vector_aligned(args->dout) && is_vector_aligned(args->dtable) && args->cols % width == 0;
    return aligned ? backward_launch<T, G, width>(stream, args) : backward_launch<T, G, 1>(stream, args);
}

} // namespace

int embedding_forward(struct engine_context *context, const struct embedding_args *args)
{
    REQUIRE_CONTRACT(embedding_forward, args);
    REQUIRE(args->form == LINEAR_PLAIN, "this engine knows plain tables only");
    REQUIRE_DTYPE(args->dtype);
    if (args->rows == 0)
        return OP_OK;
    return engine_launched(context, "embedding_forward",
                           args->dtype == DTYPE_F32 ? forward_launch_aligned<float>(context->stream, args)
                                                    : forward_launch_aligned<bf16>(context->stream, args));
}

int embedding_backward(struct engine_context *context, const struct embedding_backward_args *args)
{
    REQUIRE_CONTRACT(embedding_backward, args);
    REQUIRE_DTYPE(args->dtype);
    REQUIRE_DTYPE(args->grad_dtype);
    if (args->buckets == 0)
        return OP_OK;
    const bool wide = args->dtype == DTYPE_F32, wide_grad = args->grad_dtype == DTYPE_F32;
    const cudaError_t error = wide ? wide_grad ? backward_launch_aligned<float, float>(context->stream, args)
                                               : backward_launch_aligned<float, bf16>(context->stream, args)
                                   : wide_grad ? backward_launch_aligned<bf16, float>(context->stream, args)
                                               : backward_launch_aligned<bf16, bf16>(context->stream, args);
    return engine_launched(context, "embedding_backward", error);
}
