/* qk_norm.cu - CUDA: RMS norm of queries and keys with their rotary positions, in place, forward and backward.
 *
 * A piece (a head, or all queries or keys of a row) belongs to a group of threads: a warp for a head, a block for a wide
 * norm. The group goes over it twice, for the sum and for the result; the second time it comes from L1. A thread works both
 * times on the same pairs of columns that rotate into each other, so that what it overwrites nobody else reads. The gradients of the weights
 * are summed first, from dx as it came: blocks of rows into partial sums, and these in order.
 *
 * Limiter: memory, with accesses of one element: this is a small share of a layer's traffic.
 */
#include "engine/cuda.cuh"

namespace {

constexpr int THREADS = 256;
constexpr int ROW_BLOCK = 8; /* rows of a partial sum of weight gradients */

/* One norm of one row, and what is needed to rotate it. */
template <typename T> struct piece {
    int64_t row;
    int number, column, width; /* number: of the row's pieces */
    const T *weight;
    const float *cosine, *sine; /* NULL: no rotation */
    int half, units;            /* units: pairs and single columns of a head */
};

template <typename T> DEVICE piece<T> piece_make(const qk_norm_args &args, int64_t row, int number)
{
    const bool query = args.wide ? number == 0 : number < args.heads;
    piece<T> p;
    p.row = row;
    p.number = number;
    p.column = args.wide ? number * args.heads * args.head_dim : number * args.head_dim;
    p.width = args.wide ? (query ? args.heads : args.kv_heads) * args.head_dim : args.head_dim;
    p.weight = static_cast<const T *>(query ? args.q_weight : args.k_weight);
    p.half = args.cos ? args.rotary_dim / 2 : 0;
    p.units = args.head_dim - p.half;
    const int64_t table = args.cos ? (int64_t)load_global(args.positions + row) * p.half : 0;
    p.cosine = args.cos ? static_cast<const float *>(args.cos) + table : NULL;
    p.sine = args.cos ? static_cast<const float *>(args.sin) + table : NULL;
    return p;
}

/* Columns of unit u of the piece: a pair first, first + half, or one column. */
struct unit {
    int first, pair; /* pair: within the tables; -1: a single column */
};

template <typename T> DEVICE unit unit_at(const piece<T> &p, int head_dim, int u)
{
    const int head = u / p.units, j = u % p.units;
    return j < p.half ? unit{head * head_dim + j, j} : unit{head * head_dim + j + p.half, -1};
}

/* The group's sum; all of its threads call it. GROUP: 32, or the block. */
template <int GROUP> DEVICE float group_sum(float value, float *scratch)
{
    return GROUP == WARP_SIZE ? warp_sum(value) : block_sum<THREADS>(value, scratch);
}

template <typename T, int GROUP>
__global__ void __launch_bounds__(THREADS) forward_kernel(const qk_norm_args args, int pieces)
{
    SHARED(float, scratch, [THREADS / WARP_SIZE]);
    const int64_t at = (int64_t)blockIdx.x * (THREADS / GROUP) + threadIdx.x / GROUP;
    const int lane = (int)threadIdx.x % GROUP;
    if (at >= args.rows * pieces)
        return;
    const piece<T> p = piece_make<T>(args, at / pieces, (int)(at % pieces));
    T *x = static_cast<T *>(args.x) + p.row * args.row_stride + p.column;
    T *raw = args.raw ? static_cast<T *>(args.raw) + p.row * (args.heads + args.kv_heads) * args.head_dim + p.column : NULL;
    const int units = p.width / args.head_dim * p.units;
    float square = 0.0f;
    for (int u = lane; u < units; u += GROUP) {
        const unit here = unit_at(p, args.head_dim, u);
        for (int j = here.first; j <= here.first + (here.pair >= 0 ? p.half : 0); j += max(p.half, 1)) {
            const T value = load_global(x + j);
            square = fmaf(to_float(value), to_float(value), square);
            if (raw)
                store_global(raw + j, value);
        }
    }
    const float rstd = 1 / sqrtf(group_sum<GROUP>(square, scratch) / (float)p.width + (float)args.eps);
    if (lane == 0)
        store_global(static_cast<float *>(args.rstd) + at, rstd);
    const float offset = (float)args.offset;
    for (int u = lane; u < units; u += GROUP) {
        const unit here = unit_at(p, args.head_dim, u);
        float a = to_float(load_global(x + here.first)) * rstd * (offset + to_float(load_global(p.weight + here.first)));
        if (here.pair >= 0) {
            const int second = here.first + p.half;
            const float b = to_float(load_global(x + second)) * rstd * (offset + to_float(load_global(p.weight + second)));
            const float cosine = load_global(p.cosine + here.pair), sine = load_global(p.sine + here.pair);
            store_global(x + second, from_float<T>(b * cosine + a * sine));
            a = a * cosine - b * sine;
        }
        store_global(x + here.first, from_float<T>(a));
    }
}

/* dh = R^T dx of a unit; b is of its second column. */
template <typename T> DEVICE void unit_gradient(const piece<T> &p, const T *dx, unit here, float &a, float &b)
{
    a = to_float(load_global(dx + here.first));
    b = 0.0f;
    if (here.pair < 0)
        return;
    const float first = a, second = to_float(load_global(dx + here.first + p.half));
    const float cosine = load_global(p.cosine + here.pair), sine = load_global(p.sine + here.pair);
    a = first * cosine + second * sine;
    b = second * cosine - first * sine;
}

template <typename T, int GROUP>
__global__ void __launch_bounds__(THREADS) backward_kernel(const qk_norm_args args, T *gradient, int pieces)
{
    SHARED(float, scratch, [THREADS / WARP_SIZE]);
    const int64_t at = (int64_t)blockIdx.x * (THREADS / GROUP) + threadIdx.x / GROUP;
    const int lane = (int)threadIdx.x % GROUP;
    if (at >= args.rows * pieces)
        return;
    const piece<T> p = piece_make<T>(args, at / pieces, (int)(at % pieces));
    T *dx = gradient + p.row * args.row_stride + p.column;
    const T *raw = static_cast<const T *>(args.raw) + p.row * (args.heads + args.kv_heads) * args.head_dim + p.column;
    const float rstd = load_global(static_cast<const float *>(args.rstd) + at), offset = (float)args.offset;
    const int units = p.width / args.head_dim * p.units;
    float dot = 0.0f;
    for (int u = lane; u < units; u += GROUP) {
        const unit here = unit_at(p, args.head_dim, u);
        float a, b;
        unit_gradient(p, dx, here, a, b);
        dot = fmaf(a * (offset + to_float(load_global(p.weight + here.first))), to_float(load_global(raw + here.first)), dot);
        if (here.pair >= 0) {
            const int second = here.first + p.half;
            dot = fmaf(b * (offset + to_float(load_global(p.weight + second))), to_float(load_global(raw + second)), dot);
        }
    }
    const float mean = group_sum<GROUP>(dot, scratch) * rstd / (float)p.width;
    for (int u = lane; u < units; u += GROUP) {
        const unit here = unit_at(p, args.head_dim, u);
        float a, b;
        unit_gradient(p, dx, here, a, b);
        const float n = to_float(load_global(raw + here.first)) * rstd;
        const float g = offset + to_float(load_global(p.weight + here.first));
        store_global(dx + here.first, from_float<T>(rstd * (a * g - n * mean)));
        if (here.pair >= 0) {
            const int second = here.first + p.half;
            const float n_second = to_float(load_global(raw + second)) * rstd;
            const float g_second = offset + to_float(load_global(p.weight + second));
            store_global(dx + second, from_float<T>(rstd * (b * g_second - n_second * mean)));
        }
    }
}

/* Where the weights of queries and keys lie in one array of partial sums. */
struct weight_widths {
    int q, k;
};

/* Block (b, part) sums the weight gradients of ROW_BLOCK rows for queries (part 0) or keys, a thread some columns, over the
 * rows and, where heads share their weights, the heads in order. */
template <typename T>
__global__ void __launch_bounds__(THREADS)
weight_kernel(const qk_norm_args args, const T *gradient, weight_widths widths, int pieces, float *partial)
{
    const bool query = blockIdx.y == 0;
    const int width = query ? widths.q : widths.k, first_piece = query ? 0 : args.wide ? 1 : args.heads;
    const int count = args.wide ? 1 : query ? args.heads : args.kv_heads;
    const int64_t begin = (int64_t)blockIdx.x * ROW_BLOCK, end = min(args.rows, begin + ROW_BLOCK);
    float *to = partial + (int64_t)blockIdx.x * (widths.q + widths.k) + (query ? 0 : widths.q);
    const int half = args.cos ? args.rotary_dim / 2 : 0, units = width / args.head_dim * (args.head_dim - half);
    for (int u = (int)threadIdx.x; u < units; u += THREADS) {
        float first = 0.0f, second = 0.0f;
        unit here = {};
        for (int64_t row = begin; row < end; row++)
            for (int number = first_piece; number < first_piece + count; number++) {
                const piece<T> p = piece_make<T>(args, row, number);
                const T *raw = static_cast<const T *>(args.raw) + row * (args.heads + args.kv_heads) * args.head_dim + p.column;
                const float rstd = load_global(static_cast<const float *>(args.rstd) + row * pieces + number);
                here = unit_at(p, args.head_dim, u);
                float a, b;
                unit_gradient(p, gradient + row * args.row_stride + p.column, here, a, b);
                first = fmaf(a, to_float(load_global(raw + here.first)) * rstd, first);
                if (here.pair >= 0)
                    second = fmaf(b, to_float(load_global(raw + here.first + half)) * rstd, second);
            }
        store_global(to + here.first, first);
        if (here.pair >= 0)
            store_global(to + here.first + half, second);
    }
}

/* A thread owns a weight: it adds the partial sums in order. */
template <typename G>
__global__ void __launch_bounds__(THREADS)
partials_kernel(const float *partial, int blocks, weight_widths widths, G *dq_weight, G *dk_weight)
{
    const int j = (int)blockIdx.x * THREADS + (int)threadIdx.x, all = widths.q + widths.k;
    if (j >= all)
        return;
    float sum = 0.0f;
#pragma unroll 8
    for (int b = 0; b < blocks; b++)
        sum += load_global(partial + (int64_t)b * all + j);
    G *to = j < widths.q ? dq_weight + j : dk_weight + j - widths.q;
    store_global(to, from_float<G>(to_float(load_global(to)) + sum));
}

template <typename T> cudaError_t forward_launch(struct engine_context *context, const struct qk_norm_args *args)
{
    const int pieces = qk_norm_pieces(args);
    const int64_t all = args->rows * pieces;
    constexpr int each = THREADS / WARP_SIZE;
    return args->wide ? LAUNCH((forward_kernel<T, THREADS>), (unsigned)all, THREADS, 0, context->stream, *args, pieces)
                      : LAUNCH((forward_kernel<T, WARP_SIZE>), (unsigned)((all + each - 1) / each), THREADS, 0,
                               context->stream, *args, pieces);
}

template <typename T>
cudaError_t weights_launch(struct engine_context *context, const struct qk_norm_backward_args *args, float *partial,
                           int blocks, weight_widths widths)
{
    const struct qk_norm_args &forward = args->forward;
    cudaError_t error = LAUNCH((weight_kernel<T>), dim3((unsigned)blocks, 2), THREADS, 0, context->stream, forward,
                               static_cast<const T *>(args->dx), widths, qk_norm_pieces(&forward), partial);
    if (error != cudaSuccess)
        return error;
    const unsigned grid = (unsigned)((widths.q + widths.k + THREADS - 1) / THREADS);
    if (args->grad_dtype == DTYPE_F32)
        return LAUNCH((partials_kernel<float>), grid, THREADS, 0, context->stream, partial, blocks, widths,
                      static_cast<float *>(args->dq_weight), static_cast<float *>(args->dk_weight));
    return LAUNCH((partials_kernel<bf16>), grid, THREADS, 0, context->stream, partial, blocks, widths,
                  static_cast<bf16 *>(args->dq_weight), static_cast<bf16 *>(args->dk_weight));
}

template <typename T> cudaError_t backward_launch(struct engine_context *context, const struct qk_norm_backward_args *args)
{
    const struct qk_norm_args &forward = args->forward;
    const int pieces = qk_norm_pieces(&forward);
    const int64_t all = forward.rows * pieces;
    constexpr int each = THREADS / WARP_SIZE;
    T *dx = static_cast<T *>(args->dx);
    return forward.wide ? LAUNCH((backward_kernel<T, THREADS>), (unsigned)all, THREADS, 0, context->stream, forward, dx, pieces)
                        : LAUNCH((backward_kernel<T, WARP_SIZE>), (unsigned)((all + each - 1) / each), THREADS, 0,
                                 context->stream, forward, dx, pieces);
}

} // namespace

int qk_norm_forward(struct engine_context *context, const struct qk_norm_args *args)
{
    REQUIRE_CONTRACT(qk_norm_forward, args);
    REQUIRE_DTYPE(args->dtype);
    if (args->rows == 0)
        return OP_OK;
    return engine_launched(context, __func__, args->dtype == DTYPE_F32 ? forward_launch<float>(context, args)
                                                                       : forward_launch<bf16>(context, args));
}

int qk_norm_backward(struct engine_context *context, const struct qk_norm_backward_args *args)
{
    REQUIRE_CONTRACT(qk_norm_backward, args);
    const struct qk_norm_args *forward = &args->forward;
    REQUIRE_DTYPE(forward->dtype);
    REQUIRE_DTYPE(args->grad_dtype);
    if (forward->rows == 0)
        return OP_OK;
    const bool bf16_stored = forward->dtype == DTYPE_BF16;
    if (args->dq_weight) {
        const int q = forward->wide ? forward->heads * forward->head_dim : forward->head_dim;
        const weight_widths widths = {q, forward->wide ? forward->kv_heads * forward->head_dim : forward->head_dim};
        const int blocks = (int)((forward->rows + ROW_BLOCK - 1) / ROW_BLOCK);
        float *partial = (float *)engine_scratch(context, (size_t)blocks * (size_t)(widths.q + widths.k) * sizeof *partial);
        if (!partial)
            return OP_MEMORY;
        const cudaError_t error = bf16_stored ? weights_launch<bf16>(context, args, partial, blocks, widths)
                                              : weights_launch<float>(context, args, partial, blocks, widths);
        if (error != cudaSuccess)
            return engine_launched(context, __func__, error);
    }
    return engine_launched(context, __func__, bf16_stored ? backward_launch<bf16>(context, args)
                                                          : backward_launch<float>(context, args));
}
