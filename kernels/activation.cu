/* activation.cu - CUDA: the non-linearity of the feed-forward block.
 *
 * Limiter: memory, each value once; GELU in bf16 (no family here uses it) is limited by the arithmetic of erfc. With
 * u = sqrt(2/pi) (z + 0.044715 z^3), (1 + tanh u) / 2 is the logistic function of 2u, and (1 + erf(z / sqrt 2)) / 2 is
 * erfc(-z / sqrt 2) / 2: neither cancels for negative z. bf16 takes the fast exponential and division, whose errors of
 * a few 2^-23 are far below its rounding; float takes the exact ones.
 */
#include "engine/cuda.cuh"

namespace {

constexpr int THREADS = 256;
constexpr int FORWARD_VECTORS = 2; /* of a thread: bytes under way */

constexpr float SQRT_2_OVER_PI = 0.79788456080286535588f;
constexpr float SQRT_1_OVER_2 = 0.70710678118654752440f;
constexpr float SQRT_1_OVER_2PI = 0.39894228040143267794f;
constexpr float GELU_CUBIC = 0.044715f;

template <typename T> DEVICE float exponential(float x)
{
    return sizeof(T) == 2 ? __expf(x) : expf(x);
}

template <typename T> DEVICE float logistic(float z)
{
    const float denominator = 1.0f + exponential<T>(-z);
    return sizeof(T) == 2 ? __fdividef(1.0f, denominator) : 1.0f / denominator;
}

/* The same, and what it leaves of 1 without the cancellation of 1 - s. The bound keeps infinity times 0 away. */
template <typename T> DEVICE float logistic_and_rest(float z, float *rest)
{
    const float e = fminf(exponential<T>(-z), 1e38f);
    const float s = sizeof(T) == 2 ? __fdividef(1.0f, 1.0f + e) : 1.0f / (1.0f + e);
    *rest = e * s;
    return s;
}

DEVICE float gelu_tanh_argument(float z)
{
    return 2 * SQRT_2_OVER_PI * z * (1 + GELU_CUBIC * z * z);
}

/* y; `up` is the other half of a gated row and not used otherwise. */
template <activation_kind KIND, typename T> DEVICE float value_of(float z, float up)
{
    if constexpr (KIND == ACTIVATION_SWIGLU)
        return z * logistic<T>(z) * up;
    else if constexpr (KIND == ACTIVATION_GEGLU_TANH)
        return z * logistic<T>(gelu_tanh_argument(z)) * up;
    else if constexpr (KIND == ACTIVATION_GELU_TANH)
        return z * logistic<T>(gelu_tanh_argument(z));
    else if constexpr (KIND == ACTIVATION_GELU)
        return z * (erfcf(-SQRT_1_OVER_2 * z) / 2);
    else
        return z > 0 ? z : 0;
}

/* Puts dx in the place of z and, for a gated kind, dup in the place of up. */
template <activation_kind KIND, typename T> DEVICE void gradient_of(float &z, float &up, float dy)
{
    if constexpr (KIND == ACTIVATION_SWIGLU) {
        const float gate = z, s = logistic<T>(gate);
        z = dy * up * s * (1 + gate * (1 - s));
        up = dy * gate * s;
    } else if constexpr (KIND == ACTIVATION_GEGLU_TANH) {
        float rest;
        const float gate = z, s = logistic_and_rest<T>(gelu_tanh_argument(gate), &rest);
        z = dy * up * s * (1 + gate * rest * (2 * SQRT_2_OVER_PI * (1 + 3 * GELU_CUBIC * gate * gate)));
        up = dy * gate * s;
    } else if constexpr (KIND == ACTIVATION_GELU_TANH) {
        float rest;
        const float s = logistic_and_rest<T>(gelu_tanh_argument(z), &rest);
        z = dy * s * (1 + z * rest * (2 * SQRT_2_OVER_PI * (1 + 3 * GELU_CUBIC * z * z)));
    } else if constexpr (KIND == ACTIVATION_GELU) {
        z = dy * (erfcf(-SQRT_1_OVER_2 * z) / 2 + z * SQRT_1_OVER_2PI * exponential<T>(-z * z / 2));
    } else {
        z = z > 0 ? dy : 0;
    }
}

/* Where a block works: rows are cut into segments, and a block has one. The kinds with one argument have one row. */
struct place {
    int64_t row, column; /* of the first element of thread 0 */
};

template <int ELEMENTS> DEVICE struct place place_of_block(unsigned segments)
{
    return {(int64_t)(blockIdx.x / segments), (int64_t)(blockIdx.x % segments) * THREADS * ELEMENTS};
}

/* A thread owns WIDTH elements at FORWARD_VECTORS places of a row, all loaded before the first is used; each value is
 * read once and written once. The thread at a ragged end goes on one by one. */
template <activation_kind KIND, typename T, int WIDTH>
__global__ void __launch_bounds__(THREADS, 4)
forward_kernel(const T *__restrict__ x, T *__restrict__ y, int64_t cols, unsigned segments)
{
    const struct place place = place_of_block<WIDTH * FORWARD_VECTORS>(segments);
    constexpr bool gated = ACTIVATION_GATED(KIND);
    x += place.row * cols * (gated ? 2 : 1), y += place.row * cols;
    float z[FORWARD_VECTORS][WIDTH], up[FORWARD_VECTORS][WIDTH] = {};
    const int64_t begin = place.column + threadIdx.x * WIDTH;
#pragma unroll
    for (int k = 0; k < FORWARD_VECTORS; k++) {
        const int64_t column = begin + k * THREADS * WIDTH;
        if (column + WIDTH > cols)
            continue;
        load_floats(x + column, z[k]);
        if (gated)
            load_floats(x + cols + column, up[k]);
    }
#pragma unroll
    for (int k = 0; k < FORWARD_VECTORS; k++) {
        int64_t column = begin + k * THREADS * WIDTH;
        if (column + WIDTH <= cols) {
#pragma unroll
            for (int i = 0; i < WIDTH; i++)
                z[k][i] = value_of<KIND, T>(z[k][i], up[k][i]);
            store_floats(y + column, z[k]);
            continue;
        }
        for (; column < cols; column++) {
            const float factor = gated ? to_float(load_global(x + cols + column)) : 0.0f;
            store_global(y + column, from_float<T>(value_of<KIND, T>(to_float(load_global(x + column)), factor)));
        }
    }
}

/* COUNT elements: all that is read of them is read before any is written, since dx may lie on x. */
template <activation_kind KIND, int COUNT, typename T>
DEVICE void elements_backward(const T *x, const T *dy, T *dx, int64_t cols)
{
    constexpr bool gated = ACTIVATION_GATED(KIND);
    float z[COUNT], up[COUNT] = {}, d[COUNT];
    load_floats(x, z);
    if (gated)
        load_floats(x + cols, up);
    load_floats(dy, d);
#pragma unroll
    for (int i = 0; i < COUNT; i++)
        gradient_of<KIND, T>(z[i], up[i], d[i]);
    store_floats(dx, z);
    if (gated)
        store_floats(dx + cols, up);
}

/* A thread owns WIDTH elements of a row (of both halves for a gated kind): two or three vectors are under way together. */
template <activation_kind KIND, typename T, int WIDTH>
__global__ void __launch_bounds__(THREADS)
backward_kernel(const T *x, const T *dy, T *dx, int64_t cols, unsigned segments)
{
    const struct place place = place_of_block<WIDTH>(segments);
    const int64_t x_row = place.row * cols * (ACTIVATION_GATED(KIND) ? 2 : 1);
    x += x_row, dx += x_row, dy += place.row * cols;
    int64_t column = place.column + threadIdx.x * WIDTH;
    if (column + WIDTH <= cols)
        elements_backward<KIND, WIDTH>(x + column, dy + column, dx + column, cols);
    else
        for (; column < cols; column++)
            elements_backward<KIND, 1>(x + column, dy + column, dx + column, cols);
}

/* The kinds with one argument do not care for rows: all elements are one. */
template <activation_kind KIND> void rows_join(int64_t *rows, int64_t *cols)
{
    if (!ACTIVATION_GATED(KIND))
        *cols *= *rows, *rows = 1;
}

template <activation_kind KIND, typename T, int WIDTH>
cudaError_t forward_launch(cudaStream_t stream, const struct activation_args *args, int64_t rows, int64_t cols)
{
    constexpr int block_cols = THREADS * WIDTH * FORWARD_VECTORS;
    const int64_t segments = (cols + block_cols - 1) / block_cols;
    return LAUNCH((forward_kernel<KIND, T, WIDTH>), (unsigned)(rows * segments), THREADS, 0, stream,
                  static_cast<const T *>(args->x), static_cast<T *>(args->y), cols, (unsigned)segments);
}

template <activation_kind KIND, typename T, int WIDTH>
cudaError_t backward_launch(cudaStream_t stream, const struct activation_backward_args *args, int64_t rows,
                            int64_t cols)
{
    constexpr int block_cols = THREADS * WIDTH;
    const int64_t segments = (cols + block_cols - 1) / block_cols;
    return LAUNCH((backward_kernel<KIND, T, WIDTH>), (unsigned)(rows * segments), THREADS, 0, stream,
                  static_cast<const T *>(args->x), static_cast<const T *>(args->dy), static_cast<T *>(args->dx), cols,
                  (unsigned)segments);
}

/* The two halves of a gated row are aligned only if their length is a multiple of a vector. */
template <activation_kind KIND, typename T>
cudaError_t forward_launch_aligned(cudaStream_t stream, const struct activation_args *args)
{
    constexpr int width = vector16<T>::count;
    int64_t rows = args->rows, cols = args->cols;
    rows_join<KIND>(&rows, &cols);
    const bool aligned = is_vector_aligned(args->x) && is_vector_aligned(args->y) &&
                         (!ACTIVATION_GATED(KIND) || cols % width == 0);
    return aligned ? forward_launch<KIND, T, width>(stream, args, rows, cols)
                   : forward_launch<KIND, T, 1>(stream, args, rows, cols);
}

template <typename T> cudaError_t forward_launch_kind(cudaStream_t stream, const struct activation_args *args)
{
    switch (args->kind) {
    case ACTIVATION_SWIGLU: return forward_launch_aligned<ACTIVATION_SWIGLU, T>(stream, args);
    case ACTIVATION_GEGLU_TANH: return forward_launch_aligned<ACTIVATION_GEGLU_TANH, T>(stream, args);
    case ACTIVATION_GELU_TANH: return forward_launch_aligned<ACTIVATION_GELU_TANH, T>(stream, args);
    case ACTIVATION_GELU: return forward_launch_aligned<ACTIVATION_GELU, T>(stream, args);
    default: return forward_launch_aligned<ACTIVATION_RELU, T>(stream, args);
    }
}

template <activation_kind KIND, typename T>
cudaError_t backward_launch_aligned(cudaStream_t stream, const struct activation_backward_args *args)
{
    constexpr int width = vector16<T>::count;
    int64_t rows = args->rows, cols = args->cols;
    rows_join<KIND>(&rows, &cols);
    const bool aligned = is_vector_aligned(args->x) && is_vector_aligned(args->dy) && is_vector_aligned(args->dx) &&
                         (!ACTIVATION_GATED(KIND) || cols % width == 0);
    return aligned ? backward_launch<KIND, T, width>(stream, args, rows, cols)
                   : backward_launch<KIND, T, 1>(stream, args, rows, cols);
}

template <typename T> cudaError_t backward_launch_kind(cudaStream_t stream, const struct activation_backward_args *args)
{
    switch (args->kind) {
    case ACTIVATION_SWIGLU: return backward_launch_aligned<ACTIVATION_SWIGLU, T>(stream, args);
    case ACTIVATION_GEGLU_TANH: return backward_launch_aligned<ACTIVATION_GEGLU_TANH, T>(stream, args);
    case ACTIVATION_GELU_TANH: return backward_launch_aligned<ACTIVATION_GELU_TANH, T>(stream, args);
    case ACTIVATION_GELU: return backward_launch_aligned<ACTIVATION_GELU, T>(stream, args);
    default: return backward_launch_aligned<ACTIVATION_RELU, T>(stream, args);
    }
}

} // namespace

int activation_forward(struct engine_context *context, const struct activation_args *args)
{
    REQUIRE_CONTRACT(activation_forward, args);
    REQUIRE_DTYPE(args->dtype);
    if (args->rows == 0)
        return OP_OK;
    return engine_launched(context, "activation_forward",
                           args->dtype == DTYPE_F32 ? forward_launch_kind<float>(context->stream, args)
                                                    : forward_launch_kind<bf16>(context->stream, args));
}

int activation_backward(struct engine_context *context, const struct activation_backward_args *args)
{
    REQUIRE_CONTRACT(activation_backward, args);
    REQUIRE_DTYPE(args->dtype);
    if (args->rows == 0)
        return OP_OK;
    return engine_launched(context, "activation_backward",
                           args->dtype == DTYPE_F32 ? backward_launch_kind<float>(context->stream, args)
                                                    : backward_launch_kind<bf16>(context->stream, args));
}
