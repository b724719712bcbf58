/* rope.cu - CUDA: rotary position embedding, in place.
 *
 * Limiter: memory. The rotated part is read and written once; a row's part of the tables is read once for at most
 * HEADS heads, and kept in registers for them.
 */
#include "engine/cuda.cuh"

namespace {

constexpr int THREADS = 128;
constexpr int HEADS = 32; /* most heads of a thread: beside them the tables are a small part of what is read */
constexpr int BATCH = 4;  /* heads whose loads are under way together */

/* A thread owns WIDTH neighbouring pairs of one row in `heads` heads from blockIdx.y * heads on: it alone reads and
 * writes them. Neighbouring threads have neighbouring pairs, then the next row. */
template <typename T, int WIDTH>
__global__ void __launch_bounds__(THREADS)
rope_kernel(const struct rope_args args, int heads)
{
    const int half = args.rotary_dim / 2, chunks = half / WIDTH;
    const int64_t thread = (int64_t)blockIdx.x * THREADS + threadIdx.x, row = thread / chunks;
    if (row >= args.rows)
        return;
    const int pair = (int)(thread - row * chunks) * WIDTH;
    const int64_t at = (int64_t)load_global(args.positions + row) * half + pair;
    float cosine[WIDTH], sine[WIDTH];
    load_floats(static_cast<const float *>(args.cos) + at, cosine);
    load_floats(static_cast<const float *>(args.sin) + at, sine);
#pragma unroll
    for (int i = 0; i < WIDTH; i++)
        sine[i] *= (float)args.direction;

    const int first_head = (int)blockIdx.y * heads;
    heads = min(heads, args.heads - first_head);
    T *x = static_cast<T *>(args.x) + row * args.row_stride + (int64_t)first_head * args.head_dim + pair;
    for (int head = 0; head < heads; head += BATCH) {
        float a[BATCH][WIDTH], b[BATCH][WIDTH];
#pragma unroll
        for (int k = 0; k < BATCH; k++)
            if (head + k < heads) {
                load_floats(x + (head + k) * args.head_dim, a[k]);
                load_floats(x + (head + k) * args.head_dim + half, b[k]);
            }
#pragma unroll
        for (int k = 0; k < BATCH; k++)
            if (head + k < heads) {
                float first[WIDTH], second[WIDTH];
#pragma unroll
                for (int i = 0; i < WIDTH; i++) {
                    first[i] = a[k][i] * cosine[i] - b[k][i] * sine[i];
                    second[i] = b[k][i] * cosine[i] + a[k][i] * sine[i];
                }
                store_floats(x + (head + k) * args.head_dim, first);
                store_floats(x + (head + k) * args.head_dim + half, second);
            }
    }
}

template <typename T, int WIDTH> cudaError_t rope_launch(cudaStream_t stream, const struct rope_args *args)
{
    const int64_t threads = args->rows * (args->rotary_dim / 2 / WIDTH);
    const int parts = (args->heads + HEADS - 1) / HEADS, heads = (args->heads + parts - 1) / parts;
    const dim3 grid((unsigned)((threads + THREADS - 1) / THREADS), (unsigned)parts);
    return LAUNCH((rope_kernel<T, WIDTH>), grid, THREADS, 0, stream, *args, heads);
}

template <typename T> cudaError_t rope_launch_aligned(cudaStream_t stream, const struct rope_args *args)
{
    constexpr int width = vector16<T>::count;
    const bool aligned = is_vector_aligned(args->x) && is_vector_aligned(args->cos) && is_vector_aligned(args->sin) &&
                         args->row_stride % width == 0 && args->head_dim % width == 0 &&
                         args->rotary_dim / 2 % width == 0;
    return aligned ? rope_launch<T, width>(stream, args) : rope_launch<T, 1>(stream, args);
}

} // namespace

int rope(struct engine_context *context, const struct rope_args *args)
{
    REQUIRE_CONTRACT(rope, args);
    REQUIRE_DTYPE(args->dtype);
    if (args->rows == 0)
        return OP_OK;
    return engine_launched(context, "rope",
                           args->dtype == DTYPE_F32 ? rope_launch_aligned<float>(context->stream, args)
                                                    : rope_launch_aligned<bf16>(context->stream, args));
}
