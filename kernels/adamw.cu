/* adamw.cu - CUDA: gradient norm, clipping, finite check and the AdamW update over whole arenas.
 *
 * Limiter: memory, each value once. The norm also converts every value to double, which is within reach of its limit:
 * an H100 converts 16 values per clock and multiprocessor, and reads about 10 of bf16.
 */
#include "engine/cuda.cuh"

namespace {

constexpr int THREADS = 256;
constexpr int CHUNK = 1 << 15; /* elements per partial sum of the norm; fixed, so that the sum is */
constexpr int FINAL_THREADS = 1024;
constexpr int BLOCKS_A_PROCESSOR = 5; /* of the update; all of them are resident */

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

/* What the update needs besides its arrays, from the host; and what it takes from the state. */
struct update {
    const struct adamw_state *state;
    double weight_decay;
    float beta1, beta1_rest, beta2, beta2_rest, eps;
};

struct factors {
    float clip, keep, rate, correction; /* clip -1: the update is left out */
};

/* To all threads; one thread of the block reads them. */
DEVICE struct factors factors_read(const struct update &update, float *shared)
{
    if (threadIdx.x == 0) {
        const struct adamw_state *state = update.state;
        shared[0] = load_global(&state->skip) ? -1.0f : (float)load_global(&state->clip);
        shared[1] = (float)(1 - load_global(&state->learning_rate) * update.weight_decay);
        shared[2] = (float)load_global(&state->rate);
        shared[3] = (float)load_global(&state->correction);
    }
    __syncthreads();
    return {shared[0], shared[1], shared[2], shared[3]};
}

/* COUNT consecutive 16-bit values, four of them at an address that is a multiple of 8. */
template <int COUNT> DEVICE void load_halves(const void *pointer, uint32_t (&half)[COUNT])
{
    if constexpr (COUNT == 4) {
        const uint2 bits = load_global(static_cast<const uint2 *>(pointer));
        half[0] = bits.x & 0xffff, half[1] = bits.x >> 16, half[2] = bits.y & 0xffff, half[3] = bits.y >> 16;
    } else {
        static_assert(COUNT == 1, "four, or one");
        half[0] = load_global(static_cast<const uint16_t *>(pointer));
    }
}

template <int COUNT> DEVICE void store_halves(void *pointer, const uint32_t (&half)[COUNT])
{
    if constexpr (COUNT == 4)
        store_global(static_cast<uint2 *>(pointer), make_uint2(half[0] | half[1] << 16, half[2] | half[3] << 16));
    else
        store_global(static_cast<uint16_t *>(pointer), (uint16_t)half[0]);
}

template <int COUNT, typename P> DEVICE void weights_load(const P *param, const uint16_t *low, float (&weight)[COUNT])
{
    if (sizeof(P) == sizeof(float) || !low) {
        load_floats(param, weight);
        return;
    }
    uint32_t upper[COUNT], lower[COUNT];
    load_halves(param, upper);
    load_halves(low, lower);
#pragma unroll
    for (int i = 0; i < COUNT; i++)
        weight[i] = __uint_as_float(split_join(upper[i], lower[i]));
}

template <int COUNT, typename P> DEVICE void weights_store(P *param, uint16_t *low, const float (&weight)[COUNT])
{
    if (sizeof(P) == sizeof(float) || !low) {
        store_floats(param, weight);
        return;
    }
    uint32_t upper[COUNT], lower[COUNT];
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
        upper[i] = split_high(__float_as_uint(weight[i]));
        lower[i] = __float_as_uint(weight[i]) & 0xffff;
    }
    store_halves(param, upper);
    store_halves(low, lower);
}

/* COUNT consecutive elements: all that is read of them is read before any of it is written. */
template <int COUNT, typename P, typename G>
DEVICE void elements_update(const struct update &u, const struct factors &f, P *param, const G *grad, float *m, float *v,
                            uint16_t *low)
{
    float weight[COUNT], g[COUNT], first[COUNT], second[COUNT];
    load_floats(grad, g);
    load_floats(m, first);
    load_floats(v, second);
    weights_load(param, low, weight);
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
        g[i] *= f.clip;
        first[i] = u.beta1 * first[i] + u.beta1_rest * g[i];
        second[i] = u.beta2 * second[i] + u.beta2_rest * g[i] * g[i];
        weight[i] = f.keep * weight[i] - f.rate * first[i] / (sqrtf(second[i]) * f.correction + u.eps);
    }
    store_floats(m, first);
    store_floats(v, second);
    weights_store(param, low, weight);
}

/* A thread owns WIDTH elements at a time, the grid walks over the arena. Reads and writes m, v, param and low once and reads
 * grad once; no two threads share an element. */
template <typename P, typename G, int WIDTH>
__global__ void __launch_bounds__(THREADS, BLOCKS_A_PROCESSOR)
step_kernel(struct update update, int64_t n, P *param, const G *grad, float *m, float *v, uint16_t *low)
{
    SHARED(float, shared, [4]);
    const struct factors factors = factors_read(update, shared);
    if (factors.clip < 0)
        return;
    const int64_t threads = (int64_t)gridDim.x * THREADS, vectors = n / WIDTH;
    const int64_t thread = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    for (int64_t i = thread; i < vectors; i += threads) {
        const int64_t at = i * WIDTH;
        elements_update<WIDTH>(update, factors, param + at, grad + at, m + at, v + at, low ? low + at : NULL);
    }
    const int64_t at = vectors * WIDTH + thread;
    if (at < n)
        elements_update<1>(update, factors, param + at, grad + at, m + at, v + at, low ? low + at : NULL);
}

template <typename P, typename G, int WIDTH>
cudaError_t step_launch(struct engine_context *context, const struct adamw_args *args, const struct update &update)
{
    const int64_t blocks = (args->n + THREADS * WIDTH - 1) / (THREADS * WIDTH);
    const int64_t most = (int64_t)context->processors * BLOCKS_A_PROCESSOR;
    return LAUNCH((step_kernel<P, G, WIDTH>), (unsigned)min(blocks, most), THREADS, 0, context->stream, update, args->n,
                  static_cast<P *>(args->param), static_cast<const G *>(args->grad), static_cast<float *>(args->m),
                  static_cast<float *>(args->v), args->low);
}

template <typename P, typename G>
cudaError_t step_launch_aligned(struct engine_context *context, const struct adamw_args *args,
                                const struct update &update)
{
    const bool aligned = is_vector_aligned(args->param) && is_vector_aligned(args->grad) &&
                         is_vector_aligned(args->m) && is_vector_aligned(args->v) && is_vector_aligned(args->low);
    /* Four elements are a vector of float; arrays of bf16 move 8 bytes beside it. */
    return aligned ? step_launch<P, G, 4>(context, args, update) : step_launch<P, G, 1>(context, args, update);
}

} // namespace

int adamw_prepare(struct engine_context *context, const struct adamw_prepare_args *args)
{
    REQUIRE_CONTRACT(adamw_prepare, args);
    return engine_launched(context, "adamw_prepare",
                           LAUNCH(prepare_kernel, 1, 1, 0, context->stream, args->sum_squares, args->max_grad_norm,
                                  args->beta1, args->beta2, args->state));
}

int adamw_step(struct engine_context *context, const struct adamw_args *args)
{
    REQUIRE_CONTRACT(adamw_step, args);
    REQUIRE_DTYPE(args->dtype);
    REQUIRE_DTYPE(args->grad_dtype);
    if (args->n == 0)
        return OP_OK;

    struct update update;
    update.state = args->state;
    update.weight_decay = args->weight_decay;
    update.beta1 = (float)args->beta1, update.beta1_rest = (float)(1 - args->beta1);
    update.beta2 = (float)args->beta2, update.beta2_rest = (float)(1 - args->beta2);
    update.eps = (float)args->eps;
    const bool wide = args->dtype == DTYPE_F32, wide_grad = args->grad_dtype == DTYPE_F32;
    const cudaError_t error = wide ? wide_grad ? step_launch_aligned<float, float>(context, args, update)
                                               : step_launch_aligned<float, bf16>(context, args, update)
                                   : wide_grad ? step_launch_aligned<bf16, float>(context, args, update)
                                               : step_launch_aligned<bf16, bf16>(context, args, update);
    return engine_launched(context, "adamw_step", error);
}
