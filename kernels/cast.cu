/* cast.cu - CUDA: the same numbers in another storage type.
 *
 * Limiter: memory, each value once.
 */
#include "engine/cuda.cuh"

namespace {

constexpr int THREADS = 256;

/* A thread owns WIDTH elements, the last ones of the array one by one. */
template <typename X, typename Y, int WIDTH>
__global__ void __launch_bounds__(THREADS) cast_kernel(const X *__restrict__ x, Y *__restrict__ y, int64_t n)
{
    const int64_t first = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * WIDTH;
    if (first + WIDTH <= n) {
        float value[WIDTH];
        load_floats(x + first, value);
        store_floats(y + first, value);
        return;
    }
    for (int64_t i = first; i < n; i++)
        store_global(y + i, from_float<Y>(to_float(load_global(x + i))));
}

template <typename X, typename Y, int WIDTH> cudaError_t cast_launch(cudaStream_t stream, const struct cast_args *args)
{
    const int64_t blocks = (args->n + THREADS * WIDTH - 1) / (THREADS * WIDTH);
    return LAUNCH((cast_kernel<X, Y, WIDTH>), (unsigned)blocks, THREADS, 0, stream, static_cast<const X *>(args->x),
                  static_cast<Y *>(args->y), args->n);
}

template <typename X, typename Y> cudaError_t cast_launch_aligned(cudaStream_t stream, const struct cast_args *args)
{
    return is_vector_aligned(args->x) && is_vector_aligned(args->y) ? cast_launch<X, Y, 8>(stream, args)
                                                                    : cast_launch<X, Y, 1>(stream, args);
}

} // namespace

int cast(struct engine_context *context, const struct cast_args *args)
{
    REQUIRE_CONTRACT(cast, args);
    REQUIRE_DTYPE(args->from);
    REQUIRE_DTYPE(args->to);
    REQUIRE(args->n <= (int64_t)THREADS * INT32_MAX, "n is above 2^39");
    if (args->n == 0)
        return OP_OK;
    const bool wide = args->from == DTYPE_F32, to_wide = args->to == DTYPE_F32;
    return engine_launched(context, "cast",
                           wide ? to_wide ? cast_launch_aligned<float, float>(context->stream, args)
                                          : cast_launch_aligned<float, bf16>(context->stream, args)
                                : to_wide ? cast_launch_aligned<bf16, float>(context->stream, args)
                                          : cast_launch_aligned<bf16, bf16>(context->stream, args));
}
