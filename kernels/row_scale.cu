/* row_scale.cu - CUDA: rows times numbers of their own.
 *
 * Limiter: memory, 2 s bytes per element. A warp has a row, with all its loads in flight.
 */
#include "engine/cuda.cuh"

namespace {

constexpr int THREADS = 128, VECTORS = 4;

/* A warp has a row: it reads every element once and writes it once, perhaps in place. */
template <typename T> __global__ void __launch_bounds__(THREADS) row_scale_kernel(struct row_scale_args args)
{
    constexpr int width = vector16<T>::count;
    const int lane = (int)threadIdx.x % WARP_SIZE, cols = (int)args.cols;
    const int64_t i = (int64_t)blockIdx.x * (THREADS / WARP_SIZE) + threadIdx.x / WARP_SIZE;
    if (i >= args.rows)
        return;
    const T *x = static_cast<const T *>(args.x) + i * cols;
    T *y = static_cast<T *>(args.y) + i * cols;
    const bool alike = is_vector_aligned(y + row_cut_at(x, cols).head);
    const row_cut cut = alike ? row_cut_at(x, cols) : row_cut{cols, 0};
    const float scale = load_broadcast(static_cast<const float *>(args.scale) + i);
    for (int first = lane; first < cut.vectors; first += WARP_SIZE * VECTORS) {
        vector16<T> batch[VECTORS];
        vectors_load<WARP_SIZE, true>(batch, x + cut.head, first, cut.vectors);
#pragma unroll
        for (int u = 0; u < VECTORS; u++)
            if (first + u * WARP_SIZE < cut.vectors) {
                float value[width];
                vector_to_float(batch[u], value);
#pragma unroll
                for (int j = 0; j < width; j++)
                    value[j] *= scale;
                vector_from_float(batch[u], value);
                store_vector(y + cut.head + (int64_t)(first + u * WARP_SIZE) * width, batch[u]);
            }
    }
    for (int index = lane; row_single<T>(cut, index) < cols; index += WARP_SIZE) {
        const int column = row_single<T>(cut, index);
        store_global(y + column, from_float<T>(scale * to_float(load_global(x + column))));
    }
}

template <typename T> cudaError_t scale_launch(const struct engine_context *context, const struct row_scale_args *args)
{
    constexpr int block_rows = THREADS / WARP_SIZE;
    return LAUNCH(row_scale_kernel<T>, (unsigned)((args->rows + block_rows - 1) / block_rows), THREADS, 0,
                  context->stream, *args);
}

} // namespace

int row_scale(struct engine_context *context, const struct row_scale_args *args)
{
    REQUIRE_CONTRACT(row_scale, args);
    REQUIRE_DTYPE(args->dtype);
    REQUIRE(args->rows <= INT32_MAX && args->cols <= COLS_MAX, "rows above 2^31 - 1 or cols above 2^30");
    if (args->rows == 0)
        return OP_OK;
    return engine_launched(context, __func__, args->dtype == DTYPE_F32 ? scale_launch<float>(context, args)
                                                                       : scale_launch<bf16>(context, args));
}
