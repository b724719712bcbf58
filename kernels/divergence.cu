/* divergence.cu - CUDA: a row's distribution against the reference's: value, gradient in place, the target's log-probability.
 *
 * Limiter: memory. A block has a pair of rows and reads them twice: the gradient needs both sums. They do not wait on the
 * chip, as the rows of logprob.cu do: two of a vocabulary's would leave room for one block, which alone cannot load while
 * it reduces. The second reading follows the first at once, and comes from L2 while the rows of all blocks fit there.
 *
 * A sum is made while the row arrives, relative to the maximum so far, which is adjusted once per vector, as in logprob.cu.
 * Where the rows of a pair do not begin at the same place of a 16-byte line, the second pass reads the reference's as
 * single elements.
 */
#include "engine/cuda.cuh"

#include <float.h>

namespace {

constexpr int THREADS = 256, VECTORS = 4, PAIRS = 2;

/* Calls f(column, capped logits) for what is this thread's of a row: vectors THREADS apart, and at most one single. */
template <typename T, typename F> DEVICE void row_walk(const T *row, int cols, const logit_cap &cap, F f)
{
    const row_cut cut = row_cut_at(row, cols);
    for (int first = (int)threadIdx.x; first < cut.vectors; first += THREADS * VECTORS) {
        vector16<T> batch[VECTORS];
        vectors_load<THREADS, true>(batch, row + cut.head, first, cut.vectors);
#pragma unroll
        for (int u = 0; u < VECTORS; u++)
            if (first + u * THREADS < cut.vectors) {
                float z[vector16<T>::count];
                vector_to_float(batch[u], z);
#pragma unroll
                for (int i = 0; i < vector16<T>::count; i++)
                    z[i] = cap(z[i]);
                f(cut.head + (first + u * THREADS) * vector16<T>::count, z);
            }
    }
    const int single = row_single<T>(cut, (int)threadIdx.x);
    if (single < cols) {
        float z[1] = {cap(to_float(load_global(row + single)))};
        f(single, z);
    }
}

/* A row with one column lowered: sums of exp(z - most) over all but that column, over that one, and over both. */
struct distribution {
    float most, own_logit;
    double rest, own, sum;
};

struct row_scratch {
    float most[THREADS / WARP_SIZE], logit;
    double sum[THREADS / WARP_SIZE];
};

/* All threads call it. */
template <typename T>
DEVICE distribution distribution_find(const T *row, int cols, const logit_cap &cap, int lowered, float shift,
                                      row_scratch *scratch)
{
    float most = -FLT_MAX, sum = 0.0f; /* of this thread; not -infinity: then -infinity gives 0 and never NaN */
    row_walk(row, cols, cap, [&](int column, auto &z) {
        constexpr int count = sizeof z / sizeof z[0];
        float next = most, part = 0.0f;
#pragma unroll
        for (int i = 0; i < count; i++) {
            if (column + i == lowered) {
                scratch->logit = z[i];
                z[i] = -INFINITY;
            }
            next = fmaxf(next, z[i]);
        }
#pragma unroll
        for (int i = 0; i < count; i++)
            part += exp2_fast((z[i] - next) * LOG2_E);
        sum = fmaf(sum, exp2_fast((most - next) * LOG2_E), part);
        most = next;
    });
    distribution d;
    d.most = block_max<THREADS>(most, scratch->most); /* the barrier in here shows the lowered logit, too */
    d.own_logit = scratch->logit - shift;
    d.most = fmaxf(d.most, d.own_logit);
    d.rest = block_sum<THREADS>((double)(sum * exp2_fast((most - d.most) * LOG2_E)), scratch->sum);
    d.own = exp((double)d.own_logit - (double)d.most);
    d.sum = d.rest + d.own;
    return d;
}

/* What an element of the second pass needs. apart: logarithms of the sums, the model's less the reference's. */
struct row_pair {
    float most, scale, log_sum, reference_most, reference_scale, apart, shift;
    int lowered;
    logit_cap cap;
};

/* exp(-d) - 1 + d for |d| < 1/4, within a rounding. */
DEVICE float gap_near(float d)
{
    float sum = 1.0f / 5040;
    sum = fmaf(sum, -d, 1.0f / 720);
    sum = fmaf(sum, -d, 1.0f / 120);
    sum = fmaf(sum, -d, 1.0f / 24);
    sum = fmaf(sum, -d, 1.0f / 6);
    sum = fmaf(sum, -d, 0.5f);
    return sum * d * d;
}

/* p - t of a column, times the slope of the cap; adds its part of the value. */
template <bool CROSS_ENTROPY>
DEVICE float element_compare(const row_pair &pair, int column, float given, float reference, float &value)
{
    const float z = pair.cap(given), a = pair.cap(reference);
    const float x = z - pair.most, y = (column == pair.lowered ? a - pair.shift : a) - pair.reference_most;
    const float p = exp2_fast(x * LOG2_E) * pair.scale, t = exp2_fast(y * LOG2_E) * pair.reference_scale;
    if (CROSS_ENTROPY) {
        value += t > 0.0f ? t * (pair.log_sum - x) : 0.0f;
    } else {
        const float d = y - x + pair.apart;
        value += !(t > 0.0f) ? p : fabsf(d) < 0.25f ? t * gap_near(d) : p - t + t * d;
    }
    return (p - t) * pair.cap.slope(given);
}

/* Replaces this thread's part of a row by its gradient; gives its part of the value. */
template <bool CROSS_ENTROPY, typename T>
DEVICE double gradient_write(T *row, const T *reference, int cols, const row_pair &pair)
{
    constexpr int width = vector16<T>::count;
    const row_cut cut = row_cut_at(row, cols);
    const bool aligned = row_cut_at(reference, cols).head == cut.head;
    double value = 0;
    for (int first = (int)threadIdx.x; first < cut.vectors; first += THREADS * PAIRS) {
        vector16<T> own[PAIRS], other[PAIRS];
        vectors_load<THREADS, false>(own, (const T *)row + cut.head, first, cut.vectors);
        if (aligned)
            vectors_load<THREADS, false>(other, reference + cut.head, first, cut.vectors);
#pragma unroll
        for (int u = 0; u < PAIRS; u++)
            if (first + u * THREADS < cut.vectors) {
                const int column = cut.head + (first + u * THREADS) * width;
                float z[width], a[width], part = 0.0f;
                vector_to_float(own[u], z);
                if (aligned) {
                    vector_to_float(other[u], a);
                } else {
#pragma unroll
                    for (int i = 0; i < width; i++)
                        a[i] = to_float(load_global(reference + column + i));
                }
#pragma unroll
                for (int i = 0; i < width; i++)
                    z[i] = element_compare<CROSS_ENTROPY>(pair, column + i, z[i], a[i], part);
                vector_from_float(own[u], z);
                store_vector_streaming(row + column, own[u]);
                value += (double)part;
            }
    }
    const int single = row_single<T>(cut, (int)threadIdx.x);
    if (single < cols) {
        float part = 0.0f;
        const float z = to_float(load_global((const T *)row + single)), a = to_float(load_global(reference + single));
        store_global(row + single, from_float<T>(element_compare<CROSS_ENTROPY>(pair, single, z, a, part)));
        value += (double)part;
    }
    return value;
}

/* What is known of the target, by one thread, as in logprob.cu. */
DEVICE void target_write(const struct divergence_args &args, const distribution &own)
{
    const unsigned i = blockIdx.x;
    const double lse = (double)own.most + log(own.sum);
    store_global(static_cast<float *>(args.logprob) + i,
                 (float)(own.own > 0 ? -log1p(own.rest / own.own) : (double)own.own_logit - lse));
    store_global(static_cast<float *>(args.p) + i, (float)(own.own / own.sum));
    store_global(static_cast<float *>(args.q) + i, (float)(own.rest / own.sum));
    store_global(static_cast<float *>(args.lse) + i, (float)lse);
}

template <typename T, bool CROSS_ENTROPY>
__global__ void __launch_bounds__(THREADS, 3) divergence_kernel(struct divergence_args args, logit_cap cap)
{
    SHARED(row_scratch, scratch, [2]);
    SHARED(double, scratch_value, [THREADS / WARP_SIZE]);
    T *row = static_cast<T *>(args.logits) + (int64_t)blockIdx.x * args.stride;
    const T *reference_row = static_cast<const T *>(args.reference) + (int64_t)blockIdx.x * args.reference_stride;
    const int cols = (int)args.cols, target = load_broadcast(args.targets + blockIdx.x);
    const int asked = args.lowered ? load_broadcast(args.lowered + blockIdx.x) : -1;
    /* Without a lowered column, the target's by nothing: equal rows have equal sums then. */
    const int lowered = asked >= 0 ? asked : target;
    const float shift = asked >= 0 ? (float)args.penalty : 0.0f;
    const distribution own = distribution_find((const T *)row, cols, cap, target, 0.0f, &scratch[0]);
    const distribution reference = distribution_find(reference_row, cols, cap, lowered, shift, &scratch[1]);
    const double log_sum = log(own.sum);
    const row_pair pair = {own.most, (float)(1 / own.sum), (float)log_sum, reference.most, (float)(1 / reference.sum),
                           (float)(log_sum - log(reference.sum)), shift, lowered, cap};
    const double value = block_sum<THREADS>(gradient_write<CROSS_ENTROPY>(row, reference_row, cols, pair), scratch_value);
    if (threadIdx.x != 0)
        return;
    target_write(args, own);
    store_global(static_cast<float *>(args.value) + blockIdx.x, (float)value);
}

template <typename T> cudaError_t divergence_launch(const struct engine_context *context, const struct divergence_args *args)
{
    const auto kernel = args->cross_entropy ? divergence_kernel<T, true> : divergence_kernel<T, false>;
    return LAUNCH(kernel, (unsigned)args->rows, THREADS, 0, context->stream, *args,
                  logit_cap_make(args->cap));
}

} // namespace

int divergence_forward(struct engine_context *context, const struct divergence_args *args)
{
    REQUIRE_CONTRACT(divergence_forward, args);
    REQUIRE_DTYPE(args->dtype);
    REQUIRE(args->rows <= INT32_MAX && args->cols <= COLS_MAX, "rows above 2^31 - 1 or cols above 2^30");
    if (args->rows == 0)
        return OP_OK;
    return engine_launched(context, __func__, args->dtype == DTYPE_F32 ? divergence_launch<float>(context, args)
                                                                       : divergence_launch<bf16>(context, args));
}
