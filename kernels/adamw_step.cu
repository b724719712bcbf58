/* adamw_step.cu - CUDA: the AdamW update over whole arenas, with moments as numbers, as bf16 or as 8-bit codes.
 *
 * Limiter: memory, each value once.
 */
#include "engine/cuda.cuh"

#include <float.h>

namespace {

constexpr int THREADS = 256;
constexpr int BLOCKS_A_PROCESSOR = 5; /* all of them are resident */
constexpr int BLOCKS_OF_CODES = 3;    /* the same where moments are codes, which takes more registers */

/* What the update needs besides its arrays, from the host; and what it takes from the state. */
struct update {
    const struct adamw_state *state;
    uint64_t seed;
    int64_t first;
    double weight_decay;
    float beta1, beta1_rest, beta2, beta2_rest, eps;
};

struct factors {
    float clip, keep, rate, correction; /* clip -1: the update is left out */
    uint64_t updates;
};

/* To all threads; one thread of the block reads them. */
DEVICE struct factors factors_read(const struct update &update, struct factors *shared)
{
    if (threadIdx.x == 0) {
        const struct adamw_state *state = update.state;
        shared->clip = load_global(&state->skip) ? -1.0f : (float)load_global(&state->clip);
        shared->keep = (float)(1 - load_global(&state->learning_rate) * update.weight_decay);
        shared->rate = (float)load_global(&state->rate);
        shared->correction = (float)load_global(&state->correction);
        shared->updates = (uint64_t)load_global(&state->updates);
    }
    __syncthreads();
    return *shared;
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
    if (!low) {
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
    if (!low) {
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

/* Moments as bf16, rounded at random; `place` is that of the first of COUNT elements, a multiple of 4 where COUNT is 4. */
template <int COUNT>
DEVICE void moments_store(const struct update &u, const struct factors &f, int64_t place, bf16 *m, bf16 *v,
                          const float (&first)[COUNT], const float (&second)[COUNT])
{
    uint32_t draw[4], upper_m[COUNT], upper_v[COUNT];
    philox4x32(u.seed, (uint64_t)place / 4, f.updates, draw);
    if (COUNT == 1) {
        const int word = (int)(place % 4);
        draw[0] = word == 0 ? draw[0] : word == 1 ? draw[1] : word == 2 ? draw[2] : draw[3];
    }
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
        upper_m[i] = round_random(__float_as_uint(first[i]), draw[i] & 0xffff);
        upper_v[i] = round_random(__float_as_uint(second[i]), draw[i] >> 16);
    }
    store_halves(m, upper_m);
    store_halves(v, upper_v);
}

template <int COUNT>
DEVICE void moments_store(const struct update &, const struct factors &, int64_t, float *m, float *v,
                          const float (&first)[COUNT], const float (&second)[COUNT])
{
    store_floats(m, first);
    store_floats(v, second);
}

template <int COUNT>
DEVICE void numbers_update(const struct update &u, const struct factors &f, const float (&grad)[COUNT],
                           float (&first)[COUNT], float (&second)[COUNT], float (&weight)[COUNT])
{
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
        const float g = grad[i] * f.clip;
        first[i] = u.beta1 * first[i] + u.beta1_rest * g;
        second[i] = u.beta2 * second[i] + u.beta2_rest * g * g;
        weight[i] = f.keep * weight[i] - f.rate * first[i] / (sqrtf(second[i]) * f.correction + u.eps);
    }
}

/* Where the arrays of an update begin. */
template <typename P, typename G, typename M> struct arrays {
    P *param;
    const G *grad;
    M *m, *v;
    uint16_t *low; /* NULL: none */
};

/* COUNT consecutive elements: all that is read of them is read before any of it is written. */
template <int COUNT, typename P, typename G, typename M>
DEVICE void elements_update(const struct update &u, const struct factors &f, const struct arrays<P, G, M> &a, int64_t at)
{
    float weight[COUNT], grad[COUNT], first[COUNT], second[COUNT];
    uint16_t *low = a.low ? a.low + at : NULL;
    load_floats(a.grad + at, grad);
    load_floats(a.m + at, first);
    load_floats(a.v + at, second);
    weights_load(a.param + at, low, weight);
    numbers_update(u, f, grad, first, second, weight);
    moments_store(u, f, u.first + at, a.m + at, a.v + at, first, second);
    weights_store(a.param + at, low, weight);
}

/* A thread owns WIDTH elements at a time, the grid walks over the arena. Reads and writes m, v, param and low once and reads
 * grad once; no two threads share an element. */
template <typename P, typename G, typename M, int WIDTH>
__global__ void __launch_bounds__(THREADS, BLOCKS_A_PROCESSOR)
step_kernel(struct update update, int64_t n, struct arrays<P, G, M> arrays)
{
    SHARED(struct factors, shared, [1]);
    const struct factors factors = factors_read(update, shared);
    if (factors.clip < 0)
        return;
    const int64_t threads = (int64_t)gridDim.x * THREADS, vectors = n / WIDTH;
    const int64_t thread = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    for (int64_t i = thread; i < vectors; i += threads)
        elements_update<WIDTH>(update, factors, arrays, i * WIDTH);
    const int64_t at = vectors * WIDTH + thread;
    if (at < n)
        elements_update<1>(update, factors, arrays, at);
}

template <typename P, typename G, typename M, int WIDTH>
cudaError_t step_launch(struct engine_context *context, const struct adamw_args *args, const struct update &update)
{
    const int64_t blocks = (args->n + THREADS * WIDTH - 1) / (THREADS * WIDTH);
    const int64_t most = (int64_t)context->processors * BLOCKS_A_PROCESSOR;
    const struct arrays<P, G, M> arrays = {static_cast<P *>(args->param), static_cast<const G *>(args->grad),
                                           static_cast<M *>(args->m), static_cast<M *>(args->v), args->low};
    return LAUNCH((step_kernel<P, G, M, WIDTH>), (unsigned)min(blocks, most), THREADS, 0, context->stream, update, args->n,
                  arrays);
}

template <typename P, typename G, typename M>
cudaError_t step_launch_aligned(struct engine_context *context, const struct adamw_args *args,
                                const struct update &update)
{
    const bool aligned = is_vector_aligned(args->param) && is_vector_aligned(args->grad) &&
                         is_vector_aligned(args->m) && is_vector_aligned(args->v) && is_vector_aligned(args->low) &&
                         args->first % 4 == 0;
    /* Four elements are a vector of float; arrays of bf16 move 8 bytes beside it. */
    return aligned ? step_launch<P, G, M, 4>(context, args, update) : step_launch<P, G, M, 1>(context, args, update);
}

/* Up to 8 consecutive elements of a lane, all of them but at the end of the arena. */
enum { LANE = DYNAMIC_BLOCK / WARP_SIZE };

template <typename T> DEVICE void lane_load(const T *from, int count, float (&value)[LANE])
{
    if (count == LANE) {
        load_floats(from, value);
        return;
    }
#pragma unroll
    for (int i = 0; i < LANE; i++)
        value[i] = i < count ? to_float(load_global(from + i)) : 0.0f;
}

/* So many of the 8 bytes of two words. */
DEVICE uint2 lane_load_bytes(const uint8_t *from, int count)
{
    if (count == LANE)
        return load_global(reinterpret_cast<const uint2 *>(from));
    uint32_t word[2] = {0, 0};
#pragma unroll
    for (int i = 0; i < LANE; i++)
        if (i < count)
            word[i / 4] |= (uint32_t)load_global(from + i) << i % 4 * 8;
    return make_uint2(word[0], word[1]);
}

DEVICE void lane_store_bytes(uint8_t *to, int count, const unsigned (&code)[LANE])
{
    if (count == LANE) {
        store_global(reinterpret_cast<uint2 *>(to),
                     make_uint2(code[0] | code[1] << 8 | code[2] << 16 | code[3] << 24,
                                code[4] | code[5] << 8 | code[6] << 16 | code[7] << 24));
        return;
    }
#pragma unroll
    for (int i = 0; i < LANE; i++)
        if (i < count)
            store_global(to + i, (uint8_t)code[i]);
}

template <typename P> DEVICE void lane_load_weights(const P *param, const uint16_t *low, int count, float (&weight)[LANE])
{
    if (count == LANE) {
        float half[LANE / 2];
#pragma unroll
        for (int first = 0; first < LANE; first += LANE / 2) {
            weights_load(param + first, low ? low + first : NULL, half);
#pragma unroll
            for (int i = 0; i < LANE / 2; i++)
                weight[first + i] = half[i];
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < LANE; i++) {
        float one[1] = {0};
        if (i < count)
            weights_load(param + i, low ? low + i : NULL, one);
        weight[i] = one[0];
    }
}

template <typename P> DEVICE void lane_store_weights(P *param, uint16_t *low, int count, const float (&weight)[LANE])
{
#pragma unroll
    for (int first = 0; first < LANE; first += LANE / 2)
        if (count == LANE)
            weights_store(param + first, low ? low + first : NULL,
                          {weight[first], weight[first + 1], weight[first + 2], weight[first + 3]});
#pragma unroll
    for (int i = 0; i < LANE; i++)
        if (count < LANE && i < count)
            weights_store(param + i, low ? low + i : NULL, {weight[i]});
}

/* A moment's codes of a warp's block, and the block's scale. */
template <bool SIGN>
DEVICE void lane_store_moment(uint8_t *to, float *scale, int lane, int count, const float *level, const float (&value)[LANE])
{
    float most = 0;
#pragma unroll
    for (int i = 0; i < LANE; i++)
        most = fmaxf(most, fminf(fabsf(value[i]), FLT_MAX));
    most = warp_max(most);
    unsigned code[LANE];
#pragma unroll
    for (int i = 0; i < LANE; i++) {
        const float x = most > 0 ? value[i] / most : 0.0f;
        code[i] = SIGN ? dynamic_code_with_sign(level, x) : dynamic_code_without_sign(level, x);
    }
    lane_store_bytes(to, count, code);
    if (lane == 0)
        store_global(scale, most);
}

DEVICE void lane_decode(uint2 bytes, const float *level, float scale, float (&value)[LANE])
{
#pragma unroll
    for (int i = 0; i < LANE; i++)
        value[i] = level[(i < 4 ? bytes.x : bytes.y) >> i % 4 * 8 & 0xff] * scale;
}

/* A warp owns a block of 256 elements at a time, a lane 8 of them. Reads and writes codes, scales, param and low once and reads
 * grad once. The levels lie in shared memory. */
template <typename P, typename G>
__global__ void __launch_bounds__(THREADS, BLOCKS_OF_CODES)
step_blocks_kernel(struct update update, int64_t n, struct arrays<P, G, uint8_t> a, float *m_scale, float *v_scale,
                   struct dynamic_map map)
{
    SHARED(struct factors, shared, [1]);
    SHARED(float, with_sign, [256]);
    SHARED(float, without_sign, [256]);
    static_assert(THREADS == 256, "a thread a level");
    with_sign[threadIdx.x] = map.with_sign[threadIdx.x];
    without_sign[threadIdx.x] = map.without_sign[threadIdx.x];
    const struct factors factors = factors_read(update, shared);
    if (factors.clip < 0)
        return;
    const int lane = (int)threadIdx.x % WARP_SIZE;
    const int64_t blocks = (n + DYNAMIC_BLOCK - 1) / DYNAMIC_BLOCK, warps = (int64_t)gridDim.x * (THREADS / WARP_SIZE);
    for (int64_t block = ((int64_t)blockIdx.x * THREADS + threadIdx.x) / WARP_SIZE; block < blocks; block += warps) {
        const int64_t at = block * DYNAMIC_BLOCK + lane * LANE;
        const int count = (int)max((int64_t)0, min((int64_t)LANE, n - at));
        uint16_t *low = a.low ? a.low + at : NULL;
        float weight[LANE], grad[LANE], first[LANE], second[LANE];
        lane_load(a.grad + at, count, grad);
        lane_decode(lane_load_bytes(a.m + at, count), with_sign, load_broadcast(m_scale + block), first);
        lane_decode(lane_load_bytes(a.v + at, count), without_sign, load_broadcast(v_scale + block), second);
        lane_load_weights(a.param + at, low, count, weight);
        numbers_update(update, factors, grad, first, second, weight);
#pragma unroll
        for (int i = 0; i < LANE; i++) /* what lies behind the end is no part of the block */
            if (i >= count)
                first[i] = second[i] = 0;
        lane_store_moment<true>(a.m + at, m_scale + block, lane, count, with_sign, first);
        lane_store_moment<false>(a.v + at, v_scale + block, lane, count, without_sign, second);
        lane_store_weights(a.param + at, low, count, weight);
    }
}

template <typename P, typename G>
cudaError_t step_blocks_launch(struct engine_context *context, const struct adamw_args *args, const struct update &update)
{
    const int64_t blocks = (args->n + THREADS * LANE - 1) / (THREADS * LANE);
    const int64_t most = (int64_t)context->processors * BLOCKS_OF_CODES;
    const struct arrays<P, G, uint8_t> arrays = {static_cast<P *>(args->param), static_cast<const G *>(args->grad),
                                                 static_cast<uint8_t *>(args->m), static_cast<uint8_t *>(args->v),
                                                 args->low};
    struct dynamic_map map;
    dynamic_map_fill(&map);
    return LAUNCH((step_blocks_kernel<P, G>), (unsigned)min(blocks, most), THREADS, 0, context->stream, update, args->n, arrays, args->m_scale, args->v_scale, map);
}

template <typename P, typename G>
cudaError_t step_by_moments(struct engine_context *context, const struct adamw_args *args, const struct update &update)
{
    return args->moments == ADAMW_FLOAT  ? step_launch_aligned<P, G, float>(context, args, update)
           : args->moments == ADAMW_BF16 ? step_launch_aligned<P, G, bf16>(context, args, update)
                                         : step_blocks_launch<P, G>(context, args, update);
}

} // namespace

int adamw_step(struct engine_context *context, const struct adamw_args *args)
{
    REQUIRE_CONTRACT(adamw_step, args);
    REQUIRE_DTYPE(args->dtype);
    REQUIRE_DTYPE(args->grad_dtype);
    if (args->n == 0)
        return OP_OK;
    if (args->moments == ADAMW_8BIT && !(is_vector_aligned(args->param) && is_vector_aligned(args->grad) &&
                                         is_vector_aligned(args->m) && is_vector_aligned(args->v) &&
                                         is_vector_aligned(args->low)))
        return engine_fail(context, OP_CONTRACT, "adamw_step: arrays of 8-bit moments begin at multiples of 16 bytes");

    struct update update;
    update.state = args->state;
    update.seed = args->seed, update.first = args->first;
    update.weight_decay = args->weight_decay;
    update.beta1 = (float)args->beta1, update.beta1_rest = (float)(1 - args->beta1);
    update.beta2 = (float)args->beta2, update.beta2_rest = (float)(1 - args->beta2);
    update.eps = (float)args->eps;
    const bool wide = args->dtype == DTYPE_F32, wide_grad = args->grad_dtype == DTYPE_F32;
    const cudaError_t error = wide ? wide_grad ? step_by_moments<float, float>(context, args, update)
                                               : step_by_moments<float, bf16>(context, args, update)
                                   : wide_grad ? step_by_moments<bf16, float>(context, args, update)
                                               : step_by_moments<bf16, bf16>(context, args, update);
    return engine_launched(context, "adamw_step", error);
}
