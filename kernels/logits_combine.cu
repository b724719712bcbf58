/* logits_combine.cu - CUDA: logits, less alpha times what a reinforced model raises them by.
 *
 * Limiter: memory, each value once.
 */
#include "engine/cuda.cuh"

#include "logits_combine.h"

namespace {

constexpr int THREADS = 256;

DEVICE float combined(float z, float r, float alpha) { return z - alpha * (r > z ? r - z : 0.0f); }

/* A thread owns WIDTH elements, the last ones of the array one by one. */
template <typename T, int WIDTH>
__global__ void __launch_bounds__(THREADS)
    logits_combine_kernel(T *__restrict__ z, const T *__restrict__ r, float alpha, int64_t n)
{
    const int64_t first = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * WIDTH;
    if (first + WIDTH <= n) {
        float value[WIDTH], raised[WIDTH];
        load_floats(z + first, value);
        load_floats(r + first, raised);
#pragma unroll
        for (int j = 0; j < WIDTH; j++)
            value[j] = combined(value[j], raised[j], alpha);
        store_floats(z + first, value);
        return;
    }
    for (int64_t i = first; i < n; i++)
        store_global(z + i, from_float<T>(combined(to_float(load_global(z + i)), to_float(load_global(r + i)), alpha)));
}

template <typename T, int WIDTH> cudaError_t combine_launch(cudaStream_t stream, const struct logits_combine_args *args)
{
    const int64_t blocks = (args->count + THREADS * WIDTH - 1) / (THREADS * WIDTH);
    return LAUNCH((logits_combine_kernel<T, WIDTH>), (unsigned)blocks, THREADS, 0, stream, static_cast<T *>(args->z),
                  static_cast<const T *>(args->r), (float)args->alpha, args->count);
}

template <typename T> cudaError_t combine_launch_aligned(cudaStream_t stream, const struct logits_combine_args *args)
{
    return is_vector_aligned(args->z) && is_vector_aligned(args->r) ? combine_launch<T, 8>(stream, args)
                                                                    : combine_launch<T, 1>(stream, args);
}

} // namespace

int logits_combine(struct engine_context *context, const struct logits_combine_args *args)
{
    REQUIRE_CONTRACT(logits_combine, args);
    REQUIRE_DTYPE(args->dtype);
    REQUIRE(args->count <= (int64_t)THREADS * INT32_MAX, "count is above 2^39");
    if (args->count == 0)
        return OP_OK;
    return engine_launched(context, __func__, args->dtype == DTYPE_F32 ? combine_launch_aligned<float>(context->stream, args)
                                                                       : combine_launch_aligned<bf16>(context->stream, args));
}
