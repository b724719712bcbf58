/* row_statistics.cu - CUDA: maximum, mean and the cross-entropy without the target of rows of logits.
 *
 * Limiter: memory. A block has a row and reads it twice: the exponentials need the maximum. No row waits on the chip, as in
 * logprob.cu: these are wanted by few methods, and rows of a vocabulary stay in L2 between the passes of their block.
 */
#include "engine/cuda.cuh"

#include "row_statistics.h"

namespace {

constexpr int THREADS = 256, VECTORS = 4;

struct least_of {
    template <typename T> __device__ __forceinline__ T operator()(T a, T b) const { return a < b ? a : b; }
};

/* Calls f(column, logit) for the logits of a row that are this thread's: vectors THREADS apart, and at most one single. */
template <typename T, typename F> DEVICE void row_walk(const T *row, int cols, F f)
{
    constexpr int width = vector16<T>::count;
    const int tid = (int)threadIdx.x;
    const row_cut cut = row_cut_at(row, cols);
    const T *first_vector = row + cut.head;
    for (int first = tid; first < cut.vectors; first += THREADS * VECTORS) {
        vector16<T> batch[VECTORS];
        vectors_load<THREADS, true>(batch, first_vector, first, cut.vectors);
#pragma unroll
        for (int u = 0; u < VECTORS; u++)
            if (first + u * THREADS < cut.vectors) {
                float z[width];
                vector_to_float(batch[u], z);
#pragma unroll
                for (int i = 0; i < width; i++)
                    f(cut.head + (first + u * THREADS) * width + i, z[i]);
            }
    }
    const int single = row_single<T>(cut, tid);
    if (single < cols)
        f(single, to_float(load_global(row + single)));
}

/* All threads call it. Before each reduction a barrier frees the scratch of the last one. */
template <typename T> __global__ void __launch_bounds__(THREADS) row_statistics_kernel(struct row_statistics_args args, logit_cap cap)
{
    SHARED(float, scratch_most, [THREADS / WARP_SIZE]);
    SHARED(double, scratch_sum, [3][THREADS / WARP_SIZE]);
    SHARED(int, scratch_index, [THREADS / WARP_SIZE]);
    SHARED(float, target_logit, [1]);
    const int cols = (int)args.cols, i = (int)blockIdx.x;
    const T *row = static_cast<const T *>(args.logits) + (int64_t)i * args.stride;
    const int target = args.rest ? load_broadcast(args.targets + i) : -1;
    float most = -INFINITY;
    double total = 0;
    row_walk(row, cols, [&](int column, float given) {
        const float z = cap(given);
        most = fmaxf(most, z);
        total += (double)z;
        if (column == target)
            target_logit[0] = z;
    });
    most = block_max<THREADS>(most, scratch_most);
    total = block_sum<THREADS>(total, scratch_sum[0]);
    int index = INT_MAX;
    double sum = 0, weighted = 0;
    row_walk(row, cols, [&](int column, float given) {
        const float z = cap(given);
        const float distance = z - most, e = column == target ? 0.0f : exp2_fast(distance * LOG2_E);
        index = z == most ? min(index, column) : index;
        sum += (double)e;
        weighted += (double)e * (double)distance;
    });
    index = block_reduce<THREADS>(index, least_of(), INT_MAX, scratch_index);
    sum = block_sum<THREADS>(sum, scratch_sum[1]);
    weighted = block_sum<THREADS>(weighted, scratch_sum[2]);
    if (threadIdx.x != 0)
        return;
    if (args.most)
        store_global(static_cast<float *>(args.most) + i, most);
    if (args.argmax)
        store_global(args.argmax + i, index < cols ? index : 0); /* none is equal to a NaN */
    if (args.mean)
        store_global(static_cast<float *>(args.mean) + i, (float)(total / cols));
    if (args.rest)
        store_global(static_cast<float *>(args.rest) + i,
                     (float)(log(sum + exp((double)target_logit[0] - (double)most)) - weighted / sum));
}

template <typename T>
cudaError_t statistics_launch(const struct engine_context *context, const struct row_statistics_args *args)
{
    return LAUNCH(row_statistics_kernel<T>, (unsigned)args->rows, THREADS, 0, context->stream, *args,
                  logit_cap_make(args->cap));
}

} // namespace

int row_statistics(struct engine_context *context, const struct row_statistics_args *args)
{
    REQUIRE_CONTRACT(row_statistics, args);
    REQUIRE_DTYPE(args->dtype);
    REQUIRE(args->rows <= INT32_MAX && args->cols <= COLS_MAX, "rows above 2^31 - 1 or cols above 2^30");
    if (args->rows == 0)
        return OP_OK;
    return engine_launched(context, __func__, args->dtype == DTYPE_F32 ? statistics_launch<float>(context, args)
                                                                       : statistics_launch<bf16>(context, args));
}
