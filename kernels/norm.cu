/* norm.cu - CUDA: forward pass of RMS norm and Layer norm over the last axis, with the residual additions fused in.
 *
 * Limiter: memory. A row is on chip (norm.cuh), so it is read once though the variance is of centred values, and the
 * loads of a group's next row are under way while this one is reduced. RMS is the case in which the mean is taken to be
 * 0. Rows that are ragged, not aligned or too wide take the plain kernel.
 */
#include "norm.cuh"

namespace {

constexpr int FORWARD_BLOCKS_A_PROCESSOR = 2;

/* x + residual, rounded to T, which is then what is normalised; stored to sum unless the row does not exist. */
template <int GROUP, typename T>
DEVICE void residual_add(vector16<T> (&x)[VECTORS], const vector16<T> (&residual)[VECTORS], void *sum, int64_t row,
                         int64_t rows, int cols)
{
    constexpr int width = vector16<T>::count;
#pragma unroll
    for (int k = 0; k < VECTORS; k++) {
        float a[width], b[width];
        vector_to_float(x[k], a);
        vector_to_float(residual[k], b);
#pragma unroll
        for (int i = 0; i < width; i++)
            a[i] += b[i];
        vector_from_float(x[k], a);
        const int column = column_of<GROUP, T>(k);
        if (row < rows && column < cols)
            store_vector(static_cast<T *>(sum) + row * cols + column, x[k]);
    }
}

/* A group owns one row at a time; a block's groups have neighbouring rows. x and residual are read once, sum and y are
 * written once. All reductions are fixed trees over a row. */
template <typename T, int GROUP>
__global__ void __launch_bounds__(THREADS, FORWARD_BLOCKS_A_PROCESSOR)
forward_kernel(const struct norm_args args, float eps)
{
    constexpr int groups = THREADS / GROUP, width = vector16<T>::count;
    DYN_SHARED(T, weight); /* then bias */
    SHARED(float, scratch, [2][WARPS]);
    group_sum<GROUP, float> sum(scratch);
    const int cols = (int)args.cols;
    const bool layer = args.kind == NORM_LAYER;
    const float offset = (float)args.offset;
    T *bias = weight + cols;
    shared_fill(weight, args.weight, cols);
    if (args.bias)
        shared_fill(bias, args.bias, cols);
    __syncthreads();

    const int step = (int)gridDim.x * groups, group = (int)threadIdx.x / GROUP;
    vector16<T> x[VECTORS], residual[VECTORS];
    row_load<GROUP>(x, args.x, (int64_t)blockIdx.x * groups + group, args.rows, cols);
    if (args.residual)
        row_load<GROUP>(residual, args.residual, (int64_t)blockIdx.x * groups + group, args.rows, cols);
    for (int64_t first = (int64_t)blockIdx.x * groups; first < args.rows; first += step) {
        const int64_t row = first + group;
        float value[ELEMENTS<T>];
        if (args.residual)
            residual_add<GROUP>(x, residual, args.sum, row, args.rows, cols);
        row_to_float(x, value);
        row_load<GROUP>(x, args.x, row + step, args.rows, cols);
        if (args.residual)
            row_load<GROUP>(residual, args.residual, row + step, args.rows, cols);
        else if (args.added) /* of this row, in the same registers; the sums give it time to arrive */
            row_load<GROUP>(residual, args.added, row, args.rows, cols);

        float mean = 0, square = 0;
        if (layer) {
#pragma unroll
            for (int i = 0; i < ELEMENTS<T>; i++)
                mean += value[i];
            mean = sum(mean) / (float)cols;
        }
#pragma unroll
        for (int k = 0; k < VECTORS; k++)
            if (column_of<GROUP, T>(k) < cols)
#pragma unroll
                for (int i = k * width; i < (k + 1) * width; i++)
                    square += (value[i] - mean) * (value[i] - mean);
        const float rstd = 1 / sqrtf(sum(square) / (float)cols + eps);
        if (row >= args.rows)
            continue;
        if (threadIdx.x % GROUP == 0) {
            store_global(static_cast<float *>(args.rstd) + row, rstd);
            if (layer)
                store_global(static_cast<float *>(args.mean) + row, mean);
        }
#pragma unroll
        for (int k = 0; k < VECTORS; k++) {
            const int column = column_of<GROUP, T>(k);
            if (column >= cols)
                continue;
            float y[width], of_bias[width] = {};
            shared_to_float<GROUP>(weight, k, y);
            if (args.bias)
                shared_to_float<GROUP>(bias, k, of_bias);
#pragma unroll
            for (int i = 0; i < width; i++)
                y[i] = (value[k * width + i] - mean) * rstd * (offset + y[i]) + of_bias[i];
            if (args.added) {
                float of_added[width];
                vector_to_float(residual[k], of_added);
#pragma unroll
                for (int i = 0; i < width; i++)
                    y[i] += of_added[i];
            }
            store_floats(static_cast<T *>(args.y) + row * cols + column, y);
        }
    }
}

/* A block owns a row and goes over it three times, element by element; it rereads its own stores. */
template <typename T>
__global__ void __launch_bounds__(PLAIN_THREADS) plain_forward_kernel(const struct norm_args args, float eps)
{
    SHARED(float, scratch_mean, [PLAIN_THREADS / WARP_SIZE]);
    SHARED(float, scratch_square, [PLAIN_THREADS / WARP_SIZE]);
    const int64_t cols = args.cols, begin = blockIdx.x * cols;
    const bool layer = args.kind == NORM_LAYER;
    const T *h = static_cast<const T *>(args.x) + begin;
    const T *weight = static_cast<const T *>(args.weight), *bias = static_cast<const T *>(args.bias);
    const T *added = args.added ? static_cast<const T *>(args.added) + begin : NULL;
    T *y = static_cast<T *>(args.y) + begin;
    float mean = 0, square = 0;
    if (args.residual) {
        const T *residual = static_cast<const T *>(args.residual) + begin;
        T *sum = static_cast<T *>(args.sum) + begin;
        for (int64_t j = threadIdx.x; j < cols; j += PLAIN_THREADS)
            store_global(sum + j, from_float<T>(to_float(load_global(h + j)) + to_float(load_global(residual + j))));
        h = sum;
    }
    if (layer) {
        for (int64_t j = threadIdx.x; j < cols; j += PLAIN_THREADS)
            mean += to_float(load_global(h + j));
        mean = block_sum<PLAIN_THREADS>(mean, scratch_mean) / (float)cols;
    }
    for (int64_t j = threadIdx.x; j < cols; j += PLAIN_THREADS) {
        const float centred = to_float(load_global(h + j)) - mean;
        square += centred * centred;
    }
    const float rstd = 1 / sqrtf(block_sum<PLAIN_THREADS>(square, scratch_square) / (float)cols + eps);
    if (threadIdx.x == 0) {
        store_global(static_cast<float *>(args.rstd) + blockIdx.x, rstd);
        if (layer)
            store_global(static_cast<float *>(args.mean) + blockIdx.x, mean);
    }
    for (int64_t j = threadIdx.x; j < cols; j += PLAIN_THREADS) {
        const float normal = (to_float(load_global(h + j)) - mean) * rstd;
        store_global(y + j, from_float<T>(normal * ((float)args.offset + to_float(load_global(weight + j))) +
                                          (bias ? to_float(load_global(bias + j)) : 0.0f) +
                                          (added ? to_float(load_global(added + j)) : 0.0f)));
    }
}

template <typename T, int GROUP>
cudaError_t forward_launch_group(struct engine_context *context, const struct norm_args *args)
{
    constexpr int groups = THREADS / GROUP;
    const int64_t blocks = (args->rows + groups - 1) / groups;
    const int64_t most = (int64_t)context->processors * FORWARD_BLOCKS_A_PROCESSOR;
    const size_t shared = (size_t)args->cols * sizeof(T) * (args->bias ? 2 : 1);
    return LAUNCH((forward_kernel<T, GROUP>), (unsigned)min(blocks, most), THREADS, shared, context->stream, *args,
                  (float)args->eps);
}

template <typename T> cudaError_t forward_launch(struct engine_context *context, const struct norm_args *args)
{
    const bool aligned = is_vector_aligned(args->x) && is_vector_aligned(args->residual) &&
                         is_vector_aligned(args->sum) && is_vector_aligned(args->added) &&
                         is_vector_aligned(args->weight) && is_vector_aligned(args->bias) && is_vector_aligned(args->y);
    switch (aligned ? row_group<T>(args->cols) : 0) {
    case WARP_SIZE: return forward_launch_group<T, WARP_SIZE>(context, args);
    case THREADS / 4: return forward_launch_group<T, THREADS / 4>(context, args);
    case THREADS / 2: return forward_launch_group<T, THREADS / 2>(context, args);
    case THREADS: return forward_launch_group<T, THREADS>(context, args);
    }
    return LAUNCH((plain_forward_kernel<T>), (unsigned)args->rows, PLAIN_THREADS, 0, context->stream, *args,
                  (float)args->eps);
}

} // namespace

int norm_forward(struct engine_context *context, const struct norm_args *args)
{
    REQUIRE_CONTRACT(norm_forward, args);
    REQUIRE_DTYPE(args->dtype);
    if (args->rows == 0)
        return OP_OK;
    return engine_launched(context, "norm_forward", args->dtype == DTYPE_F32 ? forward_launch<float>(context, args)
                                                                             : forward_launch<bf16>(context, args));
}
