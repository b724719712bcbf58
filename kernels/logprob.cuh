/* logprob.cuh - what the CUDA files of logprob share: where a row's target is, loads of several vectors, the gradient.
 * Rows are cut as by row_cut_at; vectors are counted from the first one.
 */
#ifndef FLAT_KERNELS_LOGPROB_CUH
#define FLAT_KERNELS_LOGPROB_CUH
#include "engine/cuda.cuh"

static constexpr int COLS_MAX = 1 << 30; /* so that no int of a kernel overflows */

/* The target within its row: in vector `vector` at `slot`, or a single element (then vector is -1). */
struct target_place {
    int column, vector, slot;
};

template <typename T> DEVICE target_place target_find(row_cut cut, int column)
{
    constexpr int width = vector16<T>::count;
    const int offset = column - cut.head;
    const bool single = offset < 0 || offset >= cut.vectors * width;
    return {column, single ? -1 : offset / width, offset % width};
}

/* The same value to all lanes from one access. */
template <typename T> DEVICE T load_broadcast(const T *pointer)
{
    T value = T(0);
    if (threadIdx.x % WARP_SIZE == 0)
        value = load_global(pointer);
    return __shfl_sync(FULL_WARP, value, 0);
}

/* COUNT vectors of a thread, THREADS apart, of which those below `end` exist. CACHED: they will be read again. */
template <int THREADS, bool CACHED, int COUNT, typename T>
DEVICE void vectors_load(vector16<T> (&batch)[COUNT], const T *first_vector, int first, int end)
{
#pragma unroll
    for (int u = 0; u < COUNT; u++)
        if (first + u * THREADS < end) {
            const T *vector = first_vector + (int64_t)(first + u * THREADS) * vector16<T>::count;
            batch[u] = CACHED ? load_vector(vector) : load_vector_streaming(vector);
        }
}

/* What the gradient of a row needs: p_v = exp(z - most) scale, and -q for the target. */
struct row_gradient {
    float most, scale, target_value;
};

/* Replaces a logit by p_v, for all but the target. */
DEVICE float gradient_value(const row_gradient &row, float z)
{
    return exp2_fast((z - row.most) * LOG2_E) * row.scale;
}

/* Stores the gradient of the vectors that vectors_load loaded. */
template <int THREADS, int COUNT, typename T>
DEVICE void vectors_write(T *first_vector, const vector16<T> (&batch)[COUNT], int first, int end, target_place target,
                          const row_gradient &row)
{
    constexpr int width = vector16<T>::count;
#pragma unroll
    for (int u = 0; u < COUNT; u++)
        if (first + u * THREADS < end) {
            float z[width];
            vector_to_float(batch[u], z);
#pragma unroll
            for (int i = 0; i < width; i++)
                z[i] = gradient_value(row, z[i]);
            if (first + u * THREADS == target.vector) {
#pragma unroll
                for (int i = 0; i < width; i++)
                    z[i] = i == target.slot ? row.target_value : z[i];
            }
            vector16<T> vector;
            vector_from_float(vector, z);
            store_vector_streaming(first_vector + (int64_t)(first + u * THREADS) * width, vector);
        }
}

#endif
