/* logprob_backward.cu - CUDA: the gradient at the logits from saved statistics, and the scaling of rows.
 *
 * Limiter: memory, 2 s bytes an element in both. Elements are independent: small blocks with all their loads in flight.
 */
#include "logprob.cuh"

namespace {

constexpr int BACKWARD_THREADS = 256, BACKWARD_VECTORS = 4; /* a block's piece of a row: 16 KB */
constexpr int BLOCK_ROWS_MAX = 65535;                       /* rows of a grid */

/* A block has a piece of BACKWARD_THREADS BACKWARD_VECTORS vectors of a row (and piece 0 the single elements): all are
 * in flight together, read once and written once in place. Every element is computed alone. */
template <typename T>
__global__ void __launch_bounds__(BACKWARD_THREADS) logprob_backward_kernel(struct logprob_backward_args args)
{
    const int tid = (int)threadIdx.x, cols = (int)args.cols;
    const int first = (int)blockIdx.x * BACKWARD_THREADS * BACKWARD_VECTORS + tid;
    for (int64_t i = blockIdx.y; i < args.rows; i += gridDim.y) {
        T *row = static_cast<T *>(args.logits) + i * args.stride;
        const row_cut cut = row_cut_at(row, cols);
        T *first_vector = row + cut.head;
        vector16<T> batch[BACKWARD_VECTORS];
        vectors_load<BACKWARD_THREADS, false>(batch, first_vector, first, cut.vectors);
        const float weight = load_broadcast(static_cast<const float *>(args.weight) + i);
        const float lse = load_broadcast(static_cast<const float *>(args.lse) + i);
        const target_place target = target_find<T>(cut, load_broadcast(args.targets + i));
        row_gradient gradient = {lse, -weight, 0.0f};
        const int single = blockIdx.x == 0 ? row_single<T>(cut, tid) : cols;
        if (single == target.column || (target.vector >= first && (target.vector - first) % BACKWARD_THREADS == 0))
            gradient.target_value = weight * load_global(static_cast<const float *>(args.q) + i);
        vectors_write<BACKWARD_THREADS>(first_vector, batch, first, cut.vectors, target, gradient);
        if (single < cols) {
            const float z = to_float(load_global(row + single));
            const float value = single == target.column ? gradient.target_value : gradient_value(gradient, z);
            store_global(row + single, from_float<T>(value));
        }
    }
}

template <typename T>
cudaError_t backward_launch(const struct engine_context *context, const struct logprob_backward_args *args)
{
    constexpr int64_t piece = (int64_t)BACKWARD_THREADS * BACKWARD_VECTORS * vector16<T>::count;
    const dim3 grid((unsigned)((args->cols + piece - 1) / piece), (unsigned)min(args->rows, (int64_t)BLOCK_ROWS_MAX));
    return LAUNCH(logprob_backward_kernel<T>, grid, BACKWARD_THREADS, 0, context->stream, *args);
}

} // namespace

int logprob_backward(struct engine_context *context, const struct logprob_backward_args *args)
{
    REQUIRE_ARGS(args);
    REQUIRE_DTYPE(args->dtype);
    REQUIRE(args->rows >= 0 && args->cols > 0 && args->stride >= args->cols,
            "rows is negative, cols not positive or stride below cols");
    REQUIRE(args->cols <= COLS_MAX, "cols above 2^30");
    if (args->rows == 0)
        return OP_OK;
    REQUIRE(args->logits && args->targets && args->lse && args->q && args->weight,
            "logits, targets, lse, q or weight is NULL");
    return engine_launched(context, __func__, args->dtype == DTYPE_F32 ? backward_launch<float>(context, args)
                                                                       : backward_launch<bf16>(context, args));
}

namespace {

constexpr int SCALE_THREADS = 128, SCALE_VECTORS = 4;

/* A warp has a row: it reads every element once and writes it once, perhaps in place. */
template <typename T> __global__ void __launch_bounds__(SCALE_THREADS) row_scale_kernel(struct row_scale_args args)
{
    constexpr int width = vector16<T>::count;
    const int lane = (int)threadIdx.x % WARP_SIZE, cols = (int)args.cols;
    const int64_t i = (int64_t)blockIdx.x * (SCALE_THREADS / WARP_SIZE) + threadIdx.x / WARP_SIZE;
    if (i >= args.rows)
        return;
    const T *x = static_cast<const T *>(args.x) + i * cols;
    T *y = static_cast<T *>(args.y) + i * cols;
    const bool alike = is_vector_aligned(y + row_cut_at(x, cols).head);
    const row_cut cut = alike ? row_cut_at(x, cols) : row_cut{cols, 0};
    const float scale = load_broadcast(static_cast<const float *>(args.scale) + i);
    for (int first = lane; first < cut.vectors; first += WARP_SIZE * SCALE_VECTORS) {
        vector16<T> batch[SCALE_VECTORS];
        vectors_load<WARP_SIZE, true>(batch, x + cut.head, first, cut.vectors);
#pragma unroll
        for (int u = 0; u < SCALE_VECTORS; u++)
            if (first + u * WARP_SIZE < cut.vectors) {
                float value[width];
                vector_to_float(batch[u], value);
#pragma unroll
                for (int j = 0; j < width; j++)
                    value[j] *= scale;
                vector_from_float(batch[u], value);
                store_vector(y + cut.head + (int64_t)(first + u * WARP_SIZE) * width, batch[u]);
            }
    }
    for (int index = lane; row_single<T>(cut, index) < cols; index += WARP_SIZE) {
        const int column = row_single<T>(cut, index);
        store_global(y + column, from_float<T>(scale * to_float(load_global(x + column))));
    }
}

template <typename T> cudaError_t scale_launch(const struct engine_context *context, const struct row_scale_args *args)
{
    constexpr int rows_a_block = SCALE_THREADS / WARP_SIZE;
    return LAUNCH(row_scale_kernel<T>, (unsigned)((args->rows + rows_a_block - 1) / rows_a_block), SCALE_THREADS, 0,
                  context->stream, *args);
}

} // namespace

int row_scale(struct engine_context *context, const struct row_scale_args *args)
{
    REQUIRE_ARGS(args);
    REQUIRE_DTYPE(args->dtype);
    REQUIRE(args->rows >= 0 && args->cols > 0, "rows is negative or cols not positive");
    REQUIRE(args->rows <= INT32_MAX && args->cols <= COLS_MAX, "rows above 2^31 - 1 or cols above 2^30");
    if (args->rows == 0)
        return OP_OK;
    REQUIRE(args->x && args->scale && args->y, "x, scale or y is NULL");
    return engine_launched(context, __func__, args->dtype == DTYPE_F32 ? scale_launch<float>(context, args)
                                                                       : scale_launch<bf16>(context, args));
}
