/* cache.cu - CUDA: new keys and values into a cache.
 *
 * Limiter: memory, each value once; with few rows the launch.
 */
#include "engine/cuda.cuh"

namespace {

constexpr int THREADS = 256, WARPS = THREADS / WARP_SIZE;

/* A warp owns a row; its lanes own WIDTH columns at a time. The place is read by one lane. */
template <typename T, int WIDTH>
__global__ void __launch_bounds__(THREADS)
cache_kernel(int64_t rows, int64_t cols, int64_t in_stride, int64_t out_stride, const int32_t *__restrict__ row_of,
             const T *__restrict__ in, T *__restrict__ out)
{
    const int lane = (int)threadIdx.x % WARP_SIZE, warp = (int)threadIdx.x / WARP_SIZE;
    const int64_t row = (int64_t)blockIdx.x * WARPS + warp;
    if (row >= rows)
        return;
    const int place = __shfl_sync(FULL_WARP, lane == 0 ? load_global(row_of + row) : 0, 0);
    if (place < 0)
        return;
    const T *from = in + row * in_stride;
    T *to = out + place * out_stride;
#pragma unroll 4
    for (int64_t column = lane * WIDTH; column < cols; column += WARP_SIZE * WIDTH) {
        if constexpr (WIDTH == 1)
            store_global(to + column, load_global(from + column));
        else
            store_vector(to + column, load_vector(from + column));
    }
}

template <typename T, int WIDTH> cudaError_t cache_launch(cudaStream_t stream, const struct cache_args *args)
{
    const int64_t blocks = (args->rows + WARPS - 1) / WARPS;
    return LAUNCH((cache_kernel<T, WIDTH>), (unsigned)blocks, THREADS, 0, stream, args->rows, args->cols, args->in_stride,
                  args->out_stride, args->row_of, static_cast<const T *>(args->in), static_cast<T *>(args->out));
}

template <typename T> cudaError_t cache_launch_aligned(cudaStream_t stream, const struct cache_args *args)
{
    constexpr int WIDTH = 16 / (int)sizeof(T);
    const bool whole = args->cols % WIDTH == 0 && args->in_stride % WIDTH == 0 && args->out_stride % WIDTH == 0;
    return whole && is_vector_aligned(args->in) && is_vector_aligned(args->out) ? cache_launch<T, WIDTH>(stream, args)
                                                                                : cache_launch<T, 1>(stream, args);
}

} // namespace

int cache_write(struct engine_context *context, const struct cache_args *args)
{
    REQUIRE_CONTRACT(cache_write, args);
    REQUIRE_DTYPE(args->dtype);
    REQUIRE(args->rows <= (int64_t)WARPS * INT32_MAX, "rows is above 2^34");
    if (args->rows == 0)
        return OP_OK;
    return engine_launched(context, "cache_write",
                           args->dtype == DTYPE_F32 ? cache_launch_aligned<float>(context->stream, args)
                                                    : cache_launch_aligned<bf16>(context->stream, args));
}
