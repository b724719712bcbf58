/* linear.cu - CUDA: the three products through cublasLt (linear_plan.cu) and the gradient of the bias.
 *
 * A row-major matrix [rows, columns] is the column-major matrix [columns, rows], so no operand is ever transposed in
 * memory:  forward y = op_T(W) x,  backward_input dx = W dy,  backward_weight dW = x op_T(dy),  each seen column-major.
 * The bias of y then runs along the rows of the column-major y, which is what cublasLt's bias epilogue adds.
 *
 * Limiter: the products' arithmetic; bias_gradient and bias_spread: memory.
 */
#include "linear_plan.cuh"

#include <limits.h>

enum { BIAS_THREADS = 256, BIAS_WARPS = BIAS_THREADS / WARP_SIZE, BIAS_ROWS = 256, SPREAD_THREADS = 256 };

/* ---- gradient of the bias --------------------------------------------------------------------------------------- */

/* Columns a block owns: one 16-byte vector per lane. */
template <typename T> static constexpr int bias_columns = WARP_SIZE * vector16<T>::count;

/* sum[j] += row[column of j] for the lane's columns. Vector path: columns lane * count + j; scalar path (rows that are
 * not aligned): lane + 32 j, which a warp reads as one piece. Columns at or beyond `columns` are left alone. */
template <typename T>
DEVICE void bias_row_add(const T *row, int columns, bool vectors, int lane, float (&sum)[vector16<T>::count])
{
    constexpr int count = vector16<T>::count;
    if (vectors) {
        if (lane * count >= columns)
            return;
        float value[count];
        vector_to_float(load_vector_streaming(row + lane * count), value);
#pragma unroll
        for (int j = 0; j < count; j++)
            sum[j] += value[j];
        return;
    }
#pragma unroll
    for (int j = 0; j < count; j++)
        if (lane + j * WARP_SIZE < columns)
            sum[j] += to_float(load_global(row + lane + j * WARP_SIZE));
}

template <typename G> DEVICE void bias_store(G *dbias, float sum, bool accumulate)
{
    store_global(dbias, from_float<G>(accumulate ? to_float(load_global(dbias)) + sum : sum));
}

/* Column sums of dy [rows, out]. Block (x, y) owns bias_columns columns of BIAS_ROWS rows; its warp w adds rows w,
 * w + 8, ... in that order, then the warps' sums are added in the order of the warps. dy is read once. With one block
 * of rows the sums go to dbias; with more, to partial [blocks of rows, out], which bias_gradient_finish adds in order:
 * the order of every sum is fixed by the shape. */
template <typename T, typename G>
__global__ void __launch_bounds__(BIAS_THREADS, 4)
    bias_gradient_kernel(const T *dy, int64_t rows, int64_t out, float *partial, G *dbias, bool accumulate)
{
    constexpr int count = vector16<T>::count, width = bias_columns<T>;
    SHARED(float, warp_sum_of, [BIAS_WARPS][width]);
    const int lane = (int)threadIdx.x % WARP_SIZE, warp = (int)threadIdx.x / WARP_SIZE;
    const int64_t first_column = (int64_t)blockIdx.x * width, first_row = (int64_t)blockIdx.y * BIAS_ROWS;
    const int columns = out - first_column < width ? (int)(out - first_column) : width;
    const int block_rows = rows - first_row < BIAS_ROWS ? (int)(rows - first_row) : (int)BIAS_ROWS;
    const bool vectors = out % count == 0 && is_vector_aligned(dy);
    const T *block = dy + first_row * out + first_column;

    float sum[count] = {};
#pragma unroll 4
    for (int row = warp; row < block_rows; row += BIAS_WARPS)
        bias_row_add(block + row * out, columns, vectors, lane, sum);
#pragma unroll
    for (int j = 0; j < count; j++)
        warp_sum_of[warp][vectors ? lane * count + j : lane + j * WARP_SIZE] = sum[j];
    __syncthreads();

    for (int column = (int)threadIdx.x; column < columns; column += BIAS_THREADS) {
        float total = 0;
#pragma unroll
        for (int w = 0; w < BIAS_WARPS; w++)
            total += warp_sum_of[w][column];
        if (gridDim.y > 1)
            store_global(partial + blockIdx.y * out + first_column + column, total);
        else
            bias_store(dbias + first_column + column, total, accumulate);
    }
}

/* dbias (+)= sum over the blocks of rows, in order; one thread per column. */
template <typename G>
__global__ void __launch_bounds__(BIAS_THREADS)
    bias_gradient_finish_kernel(const float *partial, int blocks, int64_t out, G *dbias, bool accumulate)
{
    const int64_t column = (int64_t)blockIdx.x * BIAS_THREADS + threadIdx.x;
    if (column >= out)
        return;
    float total = 0;
#pragma unroll 4
    for (int block = 0; block < blocks; block++)
        total += load_global(partial + block * out + column);
    bias_store(dbias + column, total, accumulate);
}

template <typename T, typename G>
static int bias_gradient(struct engine_context *context, const struct linear_backward_weight_args *args)
{
    const int64_t row_blocks = (args->rows + BIAS_ROWS - 1) / BIAS_ROWS, out = args->out;
    const dim3 grid((unsigned)((out + bias_columns<T> - 1) / bias_columns<T>), (unsigned)row_blocks);
    REQUIRE(row_blocks <= 65535, "more than 16 million rows");
    float *partial = NULL;
    if (row_blocks > 1) {
        partial = (float *)engine_scratch(context, (size_t)(row_blocks * out) * sizeof(float));
        if (!partial)
            return OP_MEMORY;
    }
    G *dbias = (G *)args->dbias;
    cudaError_t error = LAUNCH((bias_gradient_kernel<T, G>), grid, BIAS_THREADS, 0, context->stream,
                               (const T *)args->dy, args->rows, out, partial, dbias, args->accumulate);
    if (error == cudaSuccess && row_blocks > 1)
        error = LAUNCH((bias_gradient_finish_kernel<G>), (unsigned)((out + BIAS_THREADS - 1) / BIAS_THREADS),
                       BIAS_THREADS, 0, context->stream, partial, (int)row_blocks, out, dbias, args->accumulate);
    return engine_launched(context, "linear_backward_weight", error);
}

/* ---- the bias, where the product cannot add it ------------------------------------------------------------------- */

/* y [rows, out] = bias, or += bias; the product is then added to y. Block (x, y) owns 256 columns and goes through the
 * rows y, y + gridDim.y, ...: the bias is read once a block, y written (and read) once. */
template <typename B, typename Y>
__global__ void __launch_bounds__(SPREAD_THREADS)
    bias_spread_kernel(const B *bias, Y *y, int64_t rows, int64_t out, bool accumulate)
{
    const int64_t column = (int64_t)blockIdx.x * SPREAD_THREADS + threadIdx.x;
    if (column >= out)
        return;
    const float value = to_float(load_global(bias + column));
#pragma unroll 4
    for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
        Y *to = y + row * out + column;
        store_global(to, from_float<Y>(accumulate ? to_float(load_global(to)) + value : value));
    }
}

template <typename B, typename Y> static int bias_spread(struct engine_context *context, const struct linear_args *args)
{
    const int64_t column_blocks = (args->out + SPREAD_THREADS - 1) / SPREAD_THREADS;
    const int64_t most = 16 * (int64_t)context->processors / column_blocks + 1;
    const dim3 grid((unsigned)column_blocks, (unsigned)(args->rows < most ? args->rows : most));
    return engine_launched(context, "linear_forward",
                           LAUNCH((bias_spread_kernel<B, Y>), grid, SPREAD_THREADS, 0, context->stream,
                                  (const B *)args->bias, (Y *)args->y, args->rows, args->out, args->accumulate));
}

/* ---- the ops ----------------------------------------------------------------------------------------------------- */

int linear_forward(struct engine_context *context, const struct linear_args *args)
{
    REQUIRE_CONTRACT(linear_forward, args);
    REQUIRE_DTYPE(args->dtype);
    REQUIRE(args->form == LINEAR_PLAIN, "this engine knows plain weights only");
    const int64_t stride = linear_stride(args->y_stride, args->out);
    if (args->rows == 0)
        return OP_OK;
    struct linear_product product = {args->dtype, args->out_dtype, true, false, args->out, args->rows, args->in,
                                     args->weight, args->x, args->bias, args->y, args->accumulate, args->in, stride,
                                     (float)args->scale, false};
    bool queued;
    int status = linear_product_run(context, "linear_forward", &product, &queued);
    if (status != OP_OK || queued)
        return status;
    status = args->dtype == DTYPE_F32       ? bias_spread<float, float>(context, args)
             : args->out_dtype == DTYPE_F32 ? bias_spread<bf16, float>(context, args)
                                            : bias_spread<bf16, bf16>(context, args);
    if (status != OP_OK)
        return status;
    product.bias = NULL;
    product.accumulate = true;
    return linear_product_run(context, "linear_forward", &product, &queued);
}

int linear_backward_input(struct engine_context *context, const struct linear_backward_input_args *args)
{
    REQUIRE_CONTRACT(linear_backward_input, args);
    REQUIRE_DTYPE(args->dtype);
    const int64_t stride = linear_stride(args->dy_stride, args->out);
    if (args->rows == 0)
        return OP_OK;
    const struct linear_product product = {args->dtype, args->dtype, false, false, args->in, args->rows, args->out,
                                           args->weight, args->dy, NULL, args->dx, args->accumulate, stride,
                                           args->in, (float)args->scale, false};
    bool queued;
    return linear_product_run(context, "linear_backward_input", &product, &queued);
}

/* No rows: the gradients of nothing. */
static int gradients_clear(struct engine_context *context, const struct linear_backward_weight_args *args)
{
    if (args->accumulate)
        return OP_OK;
    const size_t size = dtype_size(args->grad_dtype);
    cudaError_t error = cudaMemsetAsync(args->dweight, 0, (size_t)(args->out * args->in) * size, context->stream);
    if (error == cudaSuccess && args->dbias)
        error = cudaMemsetAsync(args->dbias, 0, (size_t)args->out * size, context->stream);
    return engine_launched(context, "linear_backward_weight", error);
}

int linear_backward_weight(struct engine_context *context, const struct linear_backward_weight_args *args)
{
    REQUIRE_CONTRACT(linear_backward_weight, args);
    REQUIRE_DTYPE(args->dtype);
    const int64_t stride = linear_stride(args->dy_stride, args->out);
    if (args->rows == 0)
        return gradients_clear(context, args);
    const struct linear_product product = {args->dtype, args->grad_dtype, false, true, args->in, args->out, args->rows,
                                           args->x, args->dy, NULL, args->dweight, args->accumulate, stride,
                                           args->in, 1, true};
    bool queued;
    int status = linear_product_run(context, "linear_backward_weight", &product, &queued);
    if (status != OP_OK || !args->dbias)
        return status;
    return args->dtype == DTYPE_F32         ? bias_gradient<float, float>(context, args)
           : args->grad_dtype == DTYPE_F32 ? bias_gradient<bf16, float>(context, args)
                                            : bias_gradient<bf16, bf16>(context, args);
}
