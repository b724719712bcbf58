/* sample.cu - CUDA: pick the next token of each row of logits.
 *
 * A row is a block's; rows are few (one per sequence), so this is latency: argmax reads the row once, nucleus sampling
 * eleven times (bf16) or nineteen times (float), from L2 after the first.
 *
 * Nucleus sampling works on weights exp((z - max) / temperature) in fixed point, the largest being 2^(62 - b) for a
 * vocabulary of b bits: no sum overflows, and integer sums are exact, so that the draw does not depend on their order.
 * A weight is off by a few float roundings, so a draw differs from one in double where it falls that close to a border
 * between two tokens.
 */
#include "engine/cuda.cuh"

#include <float.h>

namespace {

constexpr int THREADS = 512, WARPS = THREADS / WARP_SIZE;

typedef unsigned long long weight_sum;

/* Calls f(z, column) for every logit of the row that is this thread's: first its single element, then its vectors in
 * order of columns. */
template <typename T, typename F> DEVICE void row_visit(const T *row, int cols, F f)
{
    constexpr int width = vector16<T>::count;
    const row_cut cut = row_cut_at(row, cols);
    const int single = row_single<T>(cut, (int)threadIdx.x);
    if (single < cols)
        f(to_float(load_global(row + single)), single);
#pragma unroll 4
    for (int index = (int)threadIdx.x; index < cut.vectors; index += THREADS) {
        float z[width];
        const int column = cut.head + index * width;
        vector_to_float(load_vector(row + column), z);
#pragma unroll
        for (int i = 0; i < width; i++)
            f(z[i], column + i);
    }
}

/* To all threads: the largest logit and the lowest column that has it; column -1 when it is not finite, which NaN
 * counts for. */
template <typename T> DEVICE candidate row_argmax(const T *row, int cols, const logit_cap &cap, candidate *scratch)
{
    const candidate none = {-INFINITY, INT32_MAX};
    candidate best = none;
    row_visit(row, cols, [&](float given, int column) {
        const float z = cap(given);
        best = better_of()(best, candidate{z == z ? z : INFINITY, column});
    });
    best = block_reduce<THREADS>(best, better_of(), none, scratch);
    return {best.logit, isfinite(best.logit) ? best.column : -1};
}

template <typename T>
__global__ void __launch_bounds__(THREADS) sample_argmax_kernel(const T *logits, int64_t stride, int cols, logit_cap cap, int32_t *ids)
{
    SHARED(candidate, scratch, [WARPS]);
    const candidate best = row_argmax(logits + blockIdx.x * stride, cols, cap, scratch);
    if (threadIdx.x == 0)
        store_global(ids + blockIdx.x, best.column);
}

/* Order-preserving bits of a logit as it was given, before a cap, which keeps the order: 32, or the upper 16 of them,
 * which hold all of a bf16. Both zeros are equal. */
template <typename T> DEVICE uint32_t logit_key(float z)
{
    const uint32_t bits = __float_as_uint(z + 0.0f);
    return ((bits >> 31) ? ~bits : bits | 0x80000000u) >> (sizeof(T) == 2 ? 16 : 0);
}

template <typename T> DEVICE float key_logit(uint32_t key)
{
    const uint32_t bits = sizeof(T) == 2 ? key << 16 : key;
    return __uint_as_float((bits >> 31) ? bits & 0x7fffffffu : ~(sizeof(T) == 2 ? bits | 0xffffu : bits));
}

struct weights {
    float most, inverse_temperature, unit; /* most: capped; unit: the weight of the most likely token */
    logit_cap cap;

    __device__ __forceinline__ weight_sum operator()(float z) const
    {
        const float weight = expf((cap(z) - most) * inverse_temperature) * unit;
        return weight > 0.0f ? (weight_sum)weight : 0; /* 0 for NaN */
    }
};

/* The tokens that may be drawn: all above `key`, and the first `equals`, in order of columns, that have this key. */
struct nucleus {
    uint32_t key, equals;
    weight_sum equal_weight, total; /* of one token with this key; of the nucleus */
};

struct three_sums {
    weight_sum sum[3];
};

struct three_sums_of {
    __device__ __forceinline__ three_sums operator()(three_sums a, three_sums b) const
    {
        return {{a.sum[0] + b.sum[0], a.sum[1] + b.sum[1], a.sum[2] + b.sum[2]}};
    }
};

/* The smallest set of most likely tokens that weighs `need`: its least key is the largest whose tokens, with all above,
 * weigh that much, found two bits per pass. */
template <typename T>
DEVICE nucleus nucleus_find(const T *row, int cols, const weights &weigh, weight_sum need, three_sums (*scratch)[WARPS])
{
    uint32_t low = 0;
    weight_sum above = 0; /* weight of the keys beyond the range that is left */
    for (int shift = (sizeof(T) == 2 ? 16 : 32) - 2; shift >= 0; shift -= 2) {
        three_sums sums = {};
        row_visit(row, cols, [&](float z, int) {
            const uint32_t key = logit_key<T>(z);
            if (key < low + (1u << shift))
                return;
            const weight_sum weight = weigh(z);
#pragma unroll
            for (uint32_t i = 0; i < 3; i++)
                sums.sum[i] += key >= low + ((i + 1) << shift) ? weight : 0;
        });
        sums = block_reduce<THREADS>(sums, three_sums_of(), three_sums{}, scratch[shift / 2 % 2]);
        const uint32_t digit = (sums.sum[0] >= need) + (sums.sum[1] >= need) + (sums.sum[2] >= need);
        above = digit == 0 ? sums.sum[0] : digit == 1 ? sums.sum[1] : digit == 2 ? sums.sum[2] : above;
        low += digit << shift;
    }
    const weight_sum equal_weight = weigh(key_logit<T>(low));
    const weight_sum equals = (need - above + equal_weight - 1) / equal_weight;
    return {low, (uint32_t)equals, equal_weight, above + equals * equal_weight};
}

/* Part of a row: weight of the tokens above the nucleus's least key, number of those that have it. */
struct piece {
    weight_sum weight, equals;
};

struct piece_sum_of {
    __device__ __forceinline__ piece operator()(piece a, piece b) const
    {
        return {a.weight + b.weight, a.equals + b.equals};
    }
};

template <typename T> DEVICE piece piece_of(const T *logit, const weights &weigh, const nucleus &nucleus)
{
    const float z = to_float(load_global(logit));
    const uint32_t key = logit_key<T>(z);
    return {key > nucleus.key ? weigh(z) : 0, key == nucleus.key};
}

/* Takes what the piece weighs within the nucleus off the position, and its tokens of the least key off nucleus.equals;
 * returns false, with both as they were, when the position lies within the piece. */
DEVICE bool piece_pass(piece piece, nucleus &nucleus, weight_sum &position)
{
    const uint32_t equals = (uint32_t)min(piece.equals, (weight_sum)nucleus.equals);
    const weight_sum weight = piece.weight + equals * nucleus.equal_weight;
    if (position < weight)
        return false;
    position -= weight;
    nucleus.equals -= equals;
    return true;
}

/* The token at `position` when the nucleus is walked in order of columns: the row is cut into one piece per warp, then
 * the piece that holds the position again, until thread 0 can walk it. The result is thread 0's. */
template <typename T>
DEVICE int nucleus_walk(const T *row, int cols, const weights &weigh, nucleus nucleus, weight_sum position,
                        piece (*scratch)[WARPS])
{
    const int warp = (int)threadIdx.x / WARP_SIZE, lane = (int)threadIdx.x % WARP_SIZE;
    int begin = 0, end = cols;
    for (int round = 0; end - begin > WARPS; round++) {
        const int size = (end - begin + WARPS - 1) / WARPS, last = min(begin + (warp + 1) * size, end);
        piece sum = {0, 0};
        for (int column = begin + warp * size + lane; column < last; column += WARP_SIZE)
            sum = piece_sum_of()(sum, piece_of(row + column, weigh, nucleus));
        sum = warp_reduce(sum, piece_sum_of());
        if (lane == 0)
            scratch[round % 2][warp] = sum;
        __syncthreads();
        int chosen = 0;
        while (chosen < WARPS - 1 && piece_pass(scratch[round % 2][chosen], nucleus, position))
            chosen++;
        begin = min(begin + chosen * size, end);
        end = min(begin + size, end);
    }
    if (threadIdx.x == 0)
        while (begin < end - 1 && piece_pass(piece_of(row + begin, weigh, nucleus), nucleus, position))
            begin++;
    return begin;
}

struct draw {
    float inverse_temperature, unit;
    double top_p;
    uint64_t seed;
    const int64_t *counters;
    logit_cap cap;
};

template <typename T>
__global__ void __launch_bounds__(THREADS)
sample_nucleus_kernel(const T *logits, int64_t stride, int cols, draw draw, int32_t *ids)
{
    SHARED(candidate, scratch_best, [WARPS]);
    SHARED(weight_sum, scratch_sum, [WARPS]);
    SHARED(three_sums, scratch_find, [2][WARPS]);
    SHARED(piece, scratch_walk, [2][WARPS]);
    const T *row = logits + blockIdx.x * stride;
    const candidate best = row_argmax(row, cols, draw.cap, scratch_best);
    const weights weigh = {best.logit, draw.inverse_temperature, draw.unit, draw.cap};
    weight_sum total = 0;
    row_visit(row, cols, [&](float z, int) { total += weigh(z); });
    total = block_sum<THREADS>(total, scratch_sum);
    int id = best.column;
    if (total > 0 && id >= 0) {
        nucleus nucleus = {0, 0, 0, total}; /* the whole row */
        if (draw.top_p < 1) {
            const weight_sum need = (weight_sum)ceil(draw.top_p * (double)total);
            nucleus = nucleus_find(row, cols, weigh, max(need, (weight_sum)1), scratch_find);
        }
        const double uniform = sample_uniform(draw.seed, (uint64_t)load_global(draw.counters + blockIdx.x));
        const weight_sum position = min((weight_sum)(uniform * (double)nucleus.total), nucleus.total - 1);
        id = nucleus_walk(row, cols, weigh, nucleus, position, scratch_walk);
    }
    if (threadIdx.x == 0)
        store_global(ids + blockIdx.x, id);
}

template <typename T> cudaError_t sample_launch(const struct engine_context *context, const struct sample_args *args)
{
    const T *logits = static_cast<const T *>(args->logits);
    const unsigned blocks = (unsigned)args->rows;
    const int cols = (int)args->cols;
    if (args->temperature == 0)
        return LAUNCH(sample_argmax_kernel<T>, blocks, THREADS, 0, context->stream, logits, args->stride, cols,
                      logit_cap_make(args->cap), args->ids);
    int unit_bits = 62;
    for (int rest = cols; rest > 0; rest /= 2)
        unit_bits--;
    const double inverse_temperature = 1 / args->temperature;
    const draw draw = {inverse_temperature < FLT_MAX ? (float)inverse_temperature : FLT_MAX, ldexpf(1.0f, unit_bits),
                       args->top_p, args->seed, args->counters, logit_cap_make(args->cap)};
    return LAUNCH(sample_nucleus_kernel<T>, blocks, THREADS, 0, context->stream, logits, args->stride, cols, draw,
                  args->ids);
}

} // namespace

int sample(struct engine_context *context, const struct sample_args *args)
{
    REQUIRE_CONTRACT(sample, args);
    REQUIRE_DTYPE(args->dtype);
    REQUIRE(args->cols <= COLS_MAX, "cols above 2^30");
    if (args->rows == 0)
        return OP_OK;
    return engine_launched(context, __func__, args->dtype == DTYPE_F32 ? sample_launch<float>(context, args)
                                                                       : sample_launch<bf16>(context, args));
}
