/* logit_margin.cu - CUDA: the squared distance of a row's largest logit from its mean, and the gradient.
 *
 * Limiter: memory, s bytes per logit to write. A block has a row; whoever has the largest logit's column writes its entry.
 */
#include "engine/cuda.cuh"

#include "logit_margin.h"

namespace {

constexpr int THREADS = 256;

template <typename T> __global__ void __launch_bounds__(THREADS) logit_margin_kernel(struct logit_margin_args args)
{
    constexpr int width = vector16<T>::count;
    const int cols = (int)args.cols, i = (int)blockIdx.x, tid = (int)threadIdx.x;
    T *row = static_cast<T *>(args.logits) + (int64_t)i * args.stride;
    const float margin = load_broadcast(static_cast<const float *>(args.most) + i) -
                         load_broadcast(static_cast<const float *>(args.mean) + i);
    const int argmax = load_broadcast(args.argmax + i);
    const float others = -2.0f * margin / (float)cols, own = 2.0f * margin + others;
    const row_cut cut = row_cut_at(row, cols);
    for (int vector = tid; vector < cut.vectors; vector += THREADS) {
        const int first = cut.head + vector * width;
        float value[width];
#pragma unroll
        for (int j = 0; j < width; j++)
            value[j] = first + j == argmax ? own : others;
        vector16<T> out;
        vector_from_float(out, value);
        store_vector(row + first, out);
    }
    const int single = row_single<T>(cut, tid);
    if (single < cols)
        store_global(row + single, from_float<T>(single == argmax ? own : others));
    if (tid == 0)
        store_global(static_cast<float *>(args.value) + i, margin * margin);
}

template <typename T> cudaError_t margin_launch(const struct engine_context *context, const struct logit_margin_args *args)
{
    return LAUNCH(logit_margin_kernel<T>, (unsigned)args->rows, THREADS, 0, context->stream, *args);
}

} // namespace

int logit_margin(struct engine_context *context, const struct logit_margin_args *args)
{
    REQUIRE_CONTRACT(logit_margin, args);
    REQUIRE_DTYPE(args->dtype);
    REQUIRE(args->rows <= INT32_MAX && args->cols <= COLS_MAX, "rows above 2^31 - 1 or cols above 2^30");
    if (args->rows == 0)
        return OP_OK;
    return engine_launched(context, __func__, args->dtype == DTYPE_F32 ? margin_launch<float>(context, args)
                                                                       : margin_launch<bf16>(context, args));
}
