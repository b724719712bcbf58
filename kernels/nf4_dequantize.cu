/* nf4_dequantize.cu - CUDA: weights out of NF4.
 *
 * A thread turns four bytes into eight values at a time, so that a warp reads 128 bytes of codes in a row and writes whole lines;
 * eight lanes share a block, whose scale one of them reads. The levels lie in shared memory, in 16 banks: lanes that ask for
 * different ones do not wait for each other.
 * Limiter: memory, the values that are written.
 */
#include "engine/cuda.cuh"

namespace {

constexpr int THREADS = 256, WIDTH = 8, WORDS = 4; /* values of a word; words of a thread */

template <typename T>
__global__ void __launch_bounds__(THREADS)
    nf4_dequantize_kernel(const uint32_t *__restrict__ code, const float *__restrict__ scale, T *__restrict__ y, int64_t words)
{
    SHARED(float, level, [NF4_LEVELS]);
    if (threadIdx.x == 0) {
        constexpr float levels[NF4_LEVELS] = {NF4_LEVEL_LIST};
#pragma unroll
        for (int i = 0; i < NF4_LEVELS; i++)
            level[i] = levels[i];
    }
    __syncthreads();
    const int lane = threadIdx.x % WARP_SIZE, first_lane = lane & ~(NF4_BLOCK / WIDTH - 1);
#pragma unroll
    for (int k = 0; k < WORDS; k++) {
        const int64_t word = ((int64_t)blockIdx.x * WORDS + k) * THREADS + threadIdx.x;
        if (word >= words) /* of eight lanes all or none: a block is eight words */
            return;
        const uint32_t bits = load_global(code + word);
        float own = lane == first_lane ? load_global(scale + word / (NF4_BLOCK / WIDTH)) : 0;
        own = __shfl_sync(0xffu << first_lane, own, first_lane);
        float value[WIDTH];
#pragma unroll
        for (int i = 0; i < WIDTH; i++) /* the upper half of a byte comes first */
            value[i] = level[bits >> (4 * (i ^ 1)) & 15] * own;
        store_floats(y + word * WIDTH, value);
    }
}

template <typename T> cudaError_t nf4_dequantize_launch(cudaStream_t stream, const struct nf4_dequantize_args *args)
{
    const int64_t words = args->n / WIDTH, blocks = (words + THREADS * WORDS - 1) / (THREADS * WORDS);
    return LAUNCH(nf4_dequantize_kernel<T>, (unsigned)blocks, THREADS, 0, stream,
                  reinterpret_cast<const uint32_t *>(args->code), args->scale, static_cast<T *>(args->y), words);
}

} // namespace

int nf4_dequantize(struct engine_context *context, const struct nf4_dequantize_args *args)
{
    REQUIRE_CONTRACT(nf4_dequantize, args);
    REQUIRE_DTYPE(args->dtype);
    REQUIRE(args->n <= (int64_t)THREADS * WORDS * WIDTH * INT32_MAX, "n is above 2^44");
    if (args->n == 0)
        return OP_OK;
    return engine_launched(context, "nf4_dequantize", args->dtype == DTYPE_F32
                                                          ? nf4_dequantize_launch<float>(context->stream, args)
                                                          : nf4_dequantize_launch<bf16>(context->stream, args));
}
