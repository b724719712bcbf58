/* norm_backward.cu - CUDA: backward pass of RMS norm and Layer norm.
 *
 * Limiter: memory. Rows are on chip (norm.cuh), read once and written once. dweight and dbias are summed up in
 * registers along the way; each block leaves one row of partial sums, which a second kernel adds in order. There are
 * ROW_BLOCKS blocks at most, whatever the device, so that the order of the sums depends on the shape alone. Rows that
 * are ragged, not aligned or too wide take the plain kernels.
 */
#include "norm.cuh"

namespace {

constexpr int ROW_BLOCKS = 132; /* an H100 has as many multiprocessors */
constexpr int SLICES = 8;       /* of the partial sums, added side by side */

/* Over a row, with g = dy weight: of g, and of g times the normalised value. */
struct row_sums {
    float g, dot;
};

DEVICE row_sums operator+(const row_sums &a, const row_sums &b)
{
    return {a.g + b.g, a.dot + b.dot};
}

/* A row's statistic, read by one lane of each warp. */
DEVICE float statistic_load(const void *statistics, int64_t row, int64_t rows)
{
    const bool reads = threadIdx.x % WARP_SIZE == 0 && row < rows;
    return __shfl_sync(FULL_WARP, reads ? load_global(static_cast<const float *>(statistics) + row) : 0.0f, 0);
}

/* Adds the column sums of the block's groups, group after group, and stores them. `shared` holds a row of float. */
template <int GROUP, typename T>
DEVICE void column_sums_store(float (&part)[ELEMENTS<T>], float *shared, float *to, int cols)
{
    constexpr int groups = THREADS / GROUP, width = vector16<T>::count;
    for (int group = 0; group < groups; group++) {
        __syncthreads();
        if ((int)threadIdx.x / GROUP != group)
            continue;
#pragma unroll
        for (int k = 0; k < VECTORS; k++) {
            const int column = column_of<GROUP, T>(k);
            if (column >= cols)
                continue;
            float sum[width];
#pragma unroll
            for (int i = 0; i < width; i++) {
                sum[i] = part[k * width + i] + (group > 0 ? shared[column + i] : 0.0f);
                if (group < groups - 1)
                    shared[column + i] = sum[i];
            }
            if (group == groups - 1)
                store_floats(to + column, sum);
        }
    }
}

/* A group owns one row at a time, as in the forward pass: reads x, dy and dresidual once and writes dx once. It reads
 * all of its row before it writes (dx may lie on dy or dresidual). Block b leaves its sums in row b of `partials`,
 * those of dbias gridDim.x rows further on. */
template <typename T, int GROUP, bool LAYER>
__global__ void __launch_bounds__(THREADS)
backward_kernel(const struct norm_backward_args args, float *partials)
{
    constexpr int groups = THREADS / GROUP, width = vector16<T>::count;
    DYN_SHARED(float, shared); /* the weights while rows are worked on, then column sums */
    SHARED(row_sums, scratch, [2][WARPS]);
    group_sum<GROUP, row_sums> sum(scratch);
    const int cols = (int)args.cols;
    T *weight = reinterpret_cast<T *>(shared);
    shared_fill(weight, args.weight, cols);
    __syncthreads();

    const int64_t step = (int64_t)gridDim.x * groups, group = (int)threadIdx.x / GROUP;
    float dweight[ELEMENTS<T>] = {}, dbias[LAYER ? ELEMENTS<T> : 1] = {};
    vector16<T> next_x[VECTORS], next_dy[VECTORS];
    row_load<GROUP>(next_x, args.x, (int64_t)blockIdx.x * groups + group, args.rows, cols);
    row_load<GROUP>(next_dy, args.dy, (int64_t)blockIdx.x * groups + group, args.rows, cols);
    for (int64_t first = (int64_t)blockIdx.x * groups; first < args.rows; first += step) {
        const int64_t row = first + group;
        float normal[ELEMENTS<T>], g[ELEMENTS<T>];
        row_to_float(next_x, normal);
        row_to_float(next_dy, g);
        vector16<T> dresidual[VECTORS];
        if (args.dresidual)
            row_load<GROUP>(dresidual, args.dresidual, row, args.rows, cols);
        row_load<GROUP>(next_x, args.x, row + step, args.rows, cols);
        row_load<GROUP>(next_dy, args.dy, row + step, args.rows, cols);
        const float mean = LAYER ? statistic_load(args.mean, row, args.rows) : 0.0f;
        const float rstd = statistic_load(args.rstd, row, args.rows);

        row_sums sums = {};
#pragma unroll
        for (int k = 0; k < VECTORS; k++) {
            if (column_of<GROUP, T>(k) >= cols)
                continue;
            float of_weight[width];
            shared_to_float<GROUP>(weight, k, of_weight);
#pragma unroll
            for (int i = 0; i < width; i++) {
                const int e = k * width + i;
                normal[e] = (normal[e] - mean) * rstd;
                dweight[e] += g[e] * normal[e];
                if (LAYER)
                    dbias[e] += g[e];
                g[e] *= (float)args.offset + of_weight[i];
                sums = sums + row_sums{g[e], g[e] * normal[e]};
            }
        }
        sums = sum(sums);
        if (row >= args.rows)
            continue;
        const float mean_g = LAYER ? sums.g / (float)cols : 0.0f, mean_dot = sums.dot / (float)cols;
#pragma unroll
        for (int k = 0; k < VECTORS; k++) {
            const int column = column_of<GROUP, T>(k);
            if (column >= cols)
                continue;
            float dx[width] = {};
            if (args.dresidual)
                vector_to_float(dresidual[k], dx);
#pragma unroll
            for (int i = 0; i < width; i++)
                dx[i] += rstd * (g[k * width + i] - mean_g - normal[k * width + i] * mean_dot);
            store_floats(static_cast<T *>(args.dx) + row * cols + column, dx);
        }
    }
    if (args.dweight)
        column_sums_store<GROUP, T>(dweight, shared, partials + (int64_t)blockIdx.x * cols, cols);
    if constexpr (LAYER)
        if (args.dbias)
            column_sums_store<GROUP, T>(dbias, shared, partials + (int64_t)(gridDim.x + blockIdx.x) * cols, cols);
}

/* dweight (blockIdx.y 0) or dbias (1) += the sum of `count` rows of partial sums. A block owns WARP_SIZE columns; warp
 * s adds the rows s, s + SLICES, ..., and warp 0 adds the slices in order. */
template <typename G>
__global__ void __launch_bounds__(SLICES * WARP_SIZE)
gradient_kernel(const float *__restrict__ partials, int count, int64_t cols, G *dweight, G *dbias)
{
    SHARED(float, slices, [SLICES][WARP_SIZE]);
    const int lane = (int)threadIdx.x % WARP_SIZE, slice = (int)threadIdx.x / WARP_SIZE;
    const int64_t column = (int64_t)blockIdx.x * WARP_SIZE + lane;
    G *gradient = blockIdx.y == 0 ? dweight : dbias;
    if (!gradient)
        return;
    float sum = 0;
    if (column < cols)
#pragma unroll 8
        for (int i = slice; i < count; i += SLICES)
            sum += load_global(partials + ((int64_t)blockIdx.y * count + i) * cols + column);
    slices[slice][lane] = sum;
    __syncthreads();
    if (slice != 0 || column >= cols)
        return;
    for (int i = 1; i < SLICES; i++)
        sum += slices[i][lane];
    store_global(gradient + column, from_float<G>(to_float(load_global(gradient + column)) + sum));
}

/* A thread owns a column in the rows blockIdx.y, blockIdx.y + gridDim.y, ... Runs before the next kernel, whose dx may
 * lie on dy. */
template <typename T>
__global__ void __launch_bounds__(PLAIN_THREADS)
plain_columns_kernel(const struct norm_backward_args args, float *partials)
{
    const int64_t column = (int64_t)blockIdx.x * PLAIN_THREADS + threadIdx.x, cols = args.cols;
    if (column >= cols)
        return;
    const bool layer = args.kind == NORM_LAYER;
    float dweight = 0, dbias = 0;
    for (int64_t row = blockIdx.y; row < args.rows; row += gridDim.y) {
        const float dy = to_float(load_global(static_cast<const T *>(args.dy) + row * cols + column));
        const float x = to_float(load_global(static_cast<const T *>(args.x) + row * cols + column));
        const float mean = layer ? load_global(static_cast<const float *>(args.mean) + row) : 0.0f;
        dweight += dy * ((x - mean) * load_global(static_cast<const float *>(args.rstd) + row));
        dbias += dy;
    }
    store_global(partials + blockIdx.y * cols + column, dweight);
    if (args.dbias)
        store_global(partials + (gridDim.y + blockIdx.y) * cols + column, dbias);
}

/* A block owns a row and goes over it twice. */
template <typename T>
__global__ void __launch_bounds__(PLAIN_THREADS) plain_backward_kernel(const struct norm_backward_args args)
{
    SHARED(row_sums, scratch, [PLAIN_THREADS / WARP_SIZE]);
    const int64_t cols = args.cols, begin = blockIdx.x * cols;
    const bool layer = args.kind == NORM_LAYER;
    const T *x = static_cast<const T *>(args.x) + begin, *dy = static_cast<const T *>(args.dy) + begin;
    const T *weight = static_cast<const T *>(args.weight), *dresidual = static_cast<const T *>(args.dresidual);
    T *dx = static_cast<T *>(args.dx) + begin;
    const float mean = layer ? load_global(static_cast<const float *>(args.mean) + blockIdx.x) : 0.0f;
    const float rstd = load_global(static_cast<const float *>(args.rstd) + blockIdx.x);
    row_sums sums = {};
    for (int64_t j = threadIdx.x; j < cols; j += PLAIN_THREADS) {
        const float g = to_float(load_global(dy + j)) * ((float)args.offset + to_float(load_global(weight + j)));
        sums = sums + row_sums{g, g * ((to_float(load_global(x + j)) - mean) * rstd)};
    }
    sums = block_reduce<PLAIN_THREADS>(sums, sum_of(), row_sums(), scratch);
    const float mean_g = layer ? sums.g / (float)cols : 0.0f, mean_dot = sums.dot / (float)cols;
    for (int64_t j = threadIdx.x; j < cols; j += PLAIN_THREADS) {
        const float g = to_float(load_global(dy + j)) * ((float)args.offset + to_float(load_global(weight + j)));
        const float normal = (to_float(load_global(x + j)) - mean) * rstd;
        const float before = dresidual ? to_float(load_global(dresidual + begin + j)) : 0.0f;
        store_global(dx + j, from_float<T>(before + rstd * (g - mean_g - normal * mean_dot)));
    }
}

template <typename T, int GROUP, bool LAYER>
cudaError_t backward_launch_kind(cudaStream_t stream, const struct norm_backward_args *args, float *partials,
                                 int blocks)
{
    const size_t shared = (size_t)args->cols * sizeof(float);
    return LAUNCH((backward_kernel<T, GROUP, LAYER>), blocks, THREADS, shared, stream, *args, partials);
}

template <typename T, int GROUP>
cudaError_t backward_launch_group(cudaStream_t stream, const struct norm_backward_args *args, float *partials,
                                  int blocks)
{
    return args->kind == NORM_LAYER ? backward_launch_kind<T, GROUP, true>(stream, args, partials, blocks)
                                    : backward_launch_kind<T, GROUP, false>(stream, args, partials, blocks);
}

template <typename T>
cudaError_t plain_backward_launch(cudaStream_t stream, const struct norm_backward_args *args, float *partials,
                                  int blocks)
{
    const dim3 grid((unsigned)((args->cols + PLAIN_THREADS - 1) / PLAIN_THREADS), (unsigned)blocks);
    cudaError_t error = cudaSuccess;
    if (partials)
        error = LAUNCH((plain_columns_kernel<T>), grid, PLAIN_THREADS, 0, stream, *args, partials);
    if (error != cudaSuccess)
        return error;
    return LAUNCH((plain_backward_kernel<T>), (unsigned)args->rows, PLAIN_THREADS, 0, stream, *args);
}

/* Threads per row, 0 for the plain kernels. */
template <typename T> int backward_group(const struct norm_backward_args *args)
{
    const bool aligned = is_vector_aligned(args->x) && is_vector_aligned(args->weight) && is_vector_aligned(args->dy) &&
                         is_vector_aligned(args->dresidual) && is_vector_aligned(args->dx);
    return aligned ? row_group<T>(args->cols) : 0;
}

template <typename T>
cudaError_t backward_launch(cudaStream_t stream, const struct norm_backward_args *args, float *partials, int blocks)
{
    switch (backward_group<T>(args)) {
    case WARP_SIZE: return backward_launch_group<T, WARP_SIZE>(stream, args, partials, blocks);
    case THREADS / 4: return backward_launch_group<T, THREADS / 4>(stream, args, partials, blocks);
    case THREADS / 2: return backward_launch_group<T, THREADS / 2>(stream, args, partials, blocks);
    case THREADS: return backward_launch_group<T, THREADS>(stream, args, partials, blocks);
    }
    return plain_backward_launch<T>(stream, args, partials, blocks);
}

template <typename G>
cudaError_t gradient_launch(cudaStream_t stream, const struct norm_backward_args *args, const float *partials,
                            int blocks)
{
    const dim3 grid((unsigned)((args->cols + WARP_SIZE - 1) / WARP_SIZE), args->dbias ? 2 : 1);
    return LAUNCH((gradient_kernel<G>), grid, SLICES * WARP_SIZE, 0, stream, partials, blocks, args->cols,
                  static_cast<G *>(args->dweight), static_cast<G *>(args->dbias));
}

} // namespace

int norm_backward(struct engine_context *context, const struct norm_backward_args *args)
{
    REQUIRE_CONTRACT(norm_backward, args);
    REQUIRE_DTYPE(args->dtype);
    REQUIRE_DTYPE(args->grad_dtype);
    if (args->rows == 0)
        return OP_OK;

    const bool wide = args->dtype == DTYPE_F32;
    const int group = wide ? backward_group<float>(args) : backward_group<bf16>(args);
    const int groups = group ? THREADS / group : 1;
    const int blocks = (int)min((int64_t)ROW_BLOCKS, (args->rows + groups - 1) / groups);
    float *partials = NULL;
    if (args->dweight || args->dbias) {
        const size_t bytes = 2 * (size_t)blocks * (size_t)args->cols * sizeof *partials;
        partials = static_cast<float *>(engine_scratch(context, bytes));
        if (!partials)
            return OP_MEMORY;
    }
    cudaError_t error = wide ? backward_launch<float>(context->stream, args, partials, blocks)
                             : backward_launch<bf16>(context->stream, args, partials, blocks);
    if (error == cudaSuccess && partials)
        error = args->grad_dtype == DTYPE_F32 ? gradient_launch<float>(context->stream, args, partials, blocks)
                                              : gradient_launch<bf16>(context->stream, args, partials, blocks);
    return engine_launched(context, "norm_backward", error);
}
