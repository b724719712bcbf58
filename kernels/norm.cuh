/* norm.cuh - how norm.cu and norm_backward.cu hold rows on chip.
 *
 * GROUP threads (a warp, or a quarter, a half or all of a block) share a row and hold VECTORS vectors each in
 * registers, so that the row is read once; the sums over it are fixed trees. A block's groups have neighbouring rows,
 * and blocks stay and walk over the rows, so that weights are read once a block, into shared memory.
 */
#ifndef FLAT_KERNELS_NORM_CUH
#define FLAT_KERNELS_NORM_CUH
#include "engine/cuda.cuh"

namespace {

constexpr int THREADS = 512, WARPS = THREADS / WARP_SIZE;
constexpr int VECTORS = 2;         /* of a row, in one thread */
constexpr int PLAIN_THREADS = 256; /* of the kernels for rows that do not fit this scheme */

template <typename T> constexpr int ELEMENTS = VECTORS * vector16<T>::count; /* the same in elements */

/* First column of vector k of this thread. Neighbouring threads have neighbouring vectors. */
template <int GROUP, typename T> DEVICE int column_of(int k)
{
    return (k * GROUP + (int)threadIdx.x % GROUP) * vector16<T>::count;
}

/* This thread's part of a row; zeros beyond its end, and everywhere if there is no such row. */
template <int GROUP, typename T>
DEVICE void row_load(vector16<T> (&part)[VECTORS], const void *matrix, int64_t row, int64_t rows, int cols)
{
#pragma unroll
    for (int k = 0; k < VECTORS; k++) {
        const int column = column_of<GROUP, T>(k);
        part[k] = row < rows && column < cols ? load_vector(static_cast<const T *>(matrix) + row * cols + column)
                                              : vector_from_bits<T>(make_uint4(0, 0, 0, 0));
    }
}

template <typename T> DEVICE void row_to_float(const vector16<T> (&part)[VECTORS], float (&value)[ELEMENTS<T>])
{
    constexpr int width = vector16<T>::count;
#pragma unroll
    for (int k = 0; k < VECTORS; k++) {
        float of_vector[width];
        vector_to_float(part[k], of_vector);
#pragma unroll
        for (int i = 0; i < width; i++)
            value[k * width + i] = of_vector[i];
    }
}

/* The thread's part of vector k from an array of shared memory that holds a row. */
template <int GROUP, typename T> DEVICE void shared_to_float(const T *array, int k, float (&value)[vector16<T>::count])
{
    vector_to_float(*reinterpret_cast<const vector16<T> *>(array + column_of<GROUP, T>(k)), value);
}

/* Weights or biases into shared memory, by the whole block. A barrier must follow. */
template <typename T> DEVICE void shared_fill(T *array, const void *from, int cols)
{
    constexpr int width = vector16<T>::count;
    for (int i = (int)threadIdx.x; i < cols / width; i += THREADS)
        reinterpret_cast<vector16<T> *>(array)[i] = load_vector(static_cast<const T *>(from) + i * width);
}

/* Sums over the groups of a block, each group its own. All threads of the block call it, and all of a group get the
 * same bits. One barrier for a group of several warps, none for a warp; the two halves of scratch take turns, so that a
 * call needs no barrier against the one before it. */
template <int GROUP, typename S> struct group_sum {
    S (*scratch)[WARPS];
    int turn = 0;

    __device__ explicit group_sum(S (*scratch)[WARPS]) : scratch(scratch) {}

    __device__ __forceinline__ S operator()(S value)
    {
        constexpr int warps = GROUP / WARP_SIZE;
        value = warp_sum(value);
        if (warps == 1)
            return value;
        const int lane = (int)threadIdx.x % WARP_SIZE, warp = (int)threadIdx.x / WARP_SIZE;
        S *half = scratch[turn];
        turn ^= 1;
        if (lane == 0)
            half[warp] = value;
        __syncthreads();
        return warp_sum(lane < warps ? half[warp / warps * warps + lane] : S());
    }
};

/* Threads per row of `cols` elements: 0 where rows are ragged or do not fit into the registers of a block. */
template <typename T> int row_group(int64_t cols)
{
    if (cols % vector16<T>::count != 0)
        return 0;
    for (int group : {(int)WARP_SIZE, THREADS / 4, THREADS / 2, THREADS})
        if (cols <= group * ELEMENTS<T>)
            return group;
    return 0;
}

} // namespace

#endif
