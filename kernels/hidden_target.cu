/* hidden_target.cu - CUDA: the squared distance of hidden states from their targets, and its gradient.
 *
 * Limiter: memory, each value once. A warp has a row.
 */
#include "engine/cuda.cuh"

#include "hidden_target.h"

namespace {

constexpr int THREADS = 128;

/* A lane has WIDTH elements at a time; WIDTH divides cols. */
template <typename T, int WIDTH> __global__ void __launch_bounds__(THREADS) hidden_target_kernel(struct hidden_target_args args)
{
    const int lane = (int)threadIdx.x % WARP_SIZE, cols = (int)args.cols;
    const int64_t i = (int64_t)blockIdx.x * (THREADS / WARP_SIZE) + threadIdx.x / WARP_SIZE;
    if (i >= args.rows)
        return;
    const T *x = static_cast<const T *>(args.x) + i * cols, *residual = static_cast<const T *>(args.residual) + i * cols;
    const T *target = static_cast<const T *>(args.target) + (args.one_target ? 0 : i * cols);
    const T *more = args.target_residual ? static_cast<const T *>(args.target_residual) + i * cols : nullptr;
    T *gradient = static_cast<T *>(args.gradient) + i * cols;
    const float slope = 2.0f / (float)cols;
    float sum = 0;
    for (int v = lane * WIDTH; v < cols; v += WARP_SIZE * WIDTH) {
        float h[WIDTH], r[WIDTH], u[WIDTH], m[WIDTH];
        load_floats(x + v, h);
        load_floats(residual + v, r);
        load_floats(target + v, u);
        if (more)
            load_floats(more + v, m);
#pragma unroll
        for (int j = 0; j < WIDTH; j++) {
            const float distance = (h[j] + r[j]) - (more ? u[j] + m[j] : u[j]);
            sum += distance * distance;
            h[j] = slope * distance;
        }
        store_floats(gradient + v, h);
    }
    sum = warp_sum(sum);
    if (lane == 0)
        store_global(static_cast<float *>(args.value) + i, sum / (float)cols);
}

template <typename T, int WIDTH>
cudaError_t target_launch(const struct engine_context *context, const struct hidden_target_args *args)
{
    constexpr int block_rows = THREADS / WARP_SIZE;
    return LAUNCH((hidden_target_kernel<T, WIDTH>), (unsigned)((args->rows + block_rows - 1) / block_rows), THREADS, 0,
                  context->stream, *args);
}

template <typename T>
cudaError_t target_launch_aligned(const struct engine_context *context, const struct hidden_target_args *args)
{
    const bool aligned = args->cols % 8 == 0 && is_vector_aligned(args->x) && is_vector_aligned(args->residual) &&
                         is_vector_aligned(args->target) && is_vector_aligned(args->target_residual) &&
                         is_vector_aligned(args->gradient);
    return aligned ? target_launch<T, 8>(context, args) : target_launch<T, 1>(context, args);
}

} // namespace

int hidden_target(struct engine_context *context, const struct hidden_target_args *args)
{
    REQUIRE_CONTRACT(hidden_target, args);
    REQUIRE_DTYPE(args->dtype);
    REQUIRE(args->rows <= INT32_MAX && args->cols <= COLS_MAX, "rows above 2^31 - 1 or cols above 2^30");
    if (args->rows == 0)
        return OP_OK;
    return engine_launched(context, __func__, args->dtype == DTYPE_F32 ? target_launch_aligned<float>(context, args)
                                                                       : target_launch_aligned<bf16>(context, args));
}
