/* adamw.cu - CUDA: gradient norm, clipping and finite check over whole arenas; the update is in adamw_step.cu.
 *
 * Limiter: memory, each value once. The norm also converts every value to double, which is within reach of its limit:
 * an H100 converts 16 values per clock and multiprocessor, and reads about 10 of bf16.
 */
#include "engine/cuda.cuh"

namespace {

constexpr int THREADS = 256;
constexpr int CHUNK = 1 << 15; /* elements per partial sum of the norm; fixed, so that the sum is */
constexpr int FINAL_THREADS = 1024;

/* Block b sums the squares of chunk b into partials[b]. Reads each gradient once. Every thread adds its own elements in
 * their order, and the block adds the threads in a fixed tree. Products and sums are double: no gradient overflows, and
 * NaN and infinity stay in the sum. */
template <typename G, int WIDTH>
__global__ void __launch_bounds__(THREADS)
norm_chunk_kernel(const G *__restrict__ grad, int64_t n, double *__restrict__ partials)
{
    SHARED(double, scratch, [THREADS / WARP_SIZE]);
    const int64_t begin = (int64_t)blockIdx.x * CHUNK;
    const int count = (int)min((int64_t)CHUNK, n - begin), vectors = count / WIDTH;
    double sum = 0;
#pragma unroll 4
    for (int i = (int)threadIdx.x; i < vectors; i += THREADS) {
        float value[WIDTH];
        load_floats(grad + begin + i * WIDTH, value);
#pragma unroll
        for (int j = 0; j < WIDTH; j++)
            sum += (double)value[j] * (double)value[j];
    }
    const int rest = vectors * WIDTH + (int)threadIdx.x;
    if (rest < count) {
        const double value = (double)to_float(load_global(grad + begin + rest));
        sum += value * value;
    }
    sum = block_sum<THREADS>(sum, scratch);
    if (threadIdx.x == 0)
        store_global(partials + blockIdx.x, sum);
}

/* One block: the partial sums in a fixed order, added to what is there or put in its place. */
__global__ void __launch_bounds__(FINAL_THREADS)
norm_final_kernel(const double *__restrict__ partials, int64_t count, bool accumulate, double *sum_squares)
{
    SHARED(double, scratch, [FINAL_THREADS / WARP_SIZE]);
    double sum = 0;
#pragma unroll 8
    for (int64_t i = threadIdx.x; i < count; i += FINAL_THREADS)
        sum += load_global(partials + i);
    sum = block_sum<FINAL_THREADS>(sum, scratch);
    if (threadIdx.x == 0)
        store_global(sum_squares, accumulate ? load_global(sum_squares) + sum : sum);
}

template <typename G, int WIDTH>
cudaError_t norm_launch(cudaStream_t stream, const struct adamw_norm_args *args, double *partials, int64_t chunks)
{
    const G *grad = static_cast<const G *>(args->grad);
    cudaError_t error = cudaSuccess;
    if (chunks)
        error = LAUNCH((norm_chunk_kernel<G, WIDTH>), (unsigned)chunks, THREADS, 0, stream, grad, args->n, partials);
    if (error != cudaSuccess)
        return error;
    return LAUNCH(norm_final_kernel, 1, FINAL_THREADS, 0, stream, partials, chunks, args->accumulate,
                  args->sum_squares);
}

template <typename G>
cudaError_t norm_launch_aligned(cudaStream_t stream, const struct adamw_norm_args *args, double *partials,
                                int64_t chunks)
{
    return is_vector_aligned(args->grad) ? norm_launch<G, vector16<G>::count>(stream, args, partials, chunks)
                                         : norm_launch<G, 1>(stream, args, partials, chunks);
}

} // namespace

int adamw_norm(struct engine_context *context, const struct adamw_norm_args *args)
{
    REQUIRE_CONTRACT(adamw_norm, args);
    REQUIRE_DTYPE(args->grad_dtype);
    const int64_t chunks = (args->n + CHUNK - 1) / CHUNK;
    double *partials = static_cast<double *>(engine_scratch(context, (size_t)chunks * sizeof *partials));
    if (!partials)
        return OP_MEMORY;
    return engine_launched(context, "adamw_norm",
                           args->grad_dtype == DTYPE_F32
                               ? norm_launch_aligned<float>(context->stream, args, partials, chunks)
                               : norm_launch_aligned<bf16>(context->stream, args, partials, chunks));
}

namespace {

/* One thread: a few numbers from *sum_squares and the state. */
__global__ void prepare_kernel(const double *sum_squares, double max_grad_norm, double beta1, double beta2,
                               struct adamw_state *state)
{
    const double sum = load_global(sum_squares);
    store_global(&state->skip, (int64_t)!isfinite(sum));
    if (!isfinite(sum))
        return;
    const double ratio = max_grad_norm / (sqrt(sum) + 1e-6);
    const int64_t updates = load_global(&state->updates) + 1;
    store_global(&state->updates, updates);
    store_global(&state->clip, max_grad_norm > 0 && ratio < 1 ? ratio : 1.0);
    store_global(&state->rate, load_global(&state->learning_rate) / (1 - pow(beta1, (double)updates)));
    store_global(&state->correction, 1 / sqrt(1 - pow(beta2, (double)updates)));
}

} // namespace

int adamw_prepare(struct engine_context *context, const struct adamw_prepare_args *args)
{
    REQUIRE_CONTRACT(adamw_prepare, args);
    return engine_launched(context, "adamw_prepare",
                           LAUNCH(prepare_kernel, 1, 1, 0, context->stream, args->sum_squares, args->max_grad_norm,
                                  args->beta1, args->beta2, args->state));
}
