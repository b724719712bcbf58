/* bugs.cu - kernels with one planted bug each: what the checks of the emulation must catch (tests/op/test_emulation.c).
 *
 * The kernels are templates: <true> has the bug, <false> is the correct twin.
 */
#include "bugs.h"
#include "engine/tile.cuh"

namespace {

/* ---- bounds and addresses ------------------------------------------------------------------------------------- */

template <bool BUG> __global__ void write_past_end(const float *in, float *out, unsigned *)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < BUG_ELEMENTS + (BUG ? 1 : 0))
        store_global(out + i, load_global(in + i % BUG_ELEMENTS));
}

template <bool BUG> __global__ void write_past_shared_array(const float *in, float *out, unsigned *)
{
    SHARED(float, row, [64]);
    const int i = threadIdx.x;
    row[i + (BUG ? 1 : 0)] = load_global(in + i);
    if (BUG && i == 0)
        row[0] = 0.0f;
    __syncthreads();
    store_global(out + i, row[63 - i]);
}

template <bool BUG> __global__ void write_past_dynamic_shared(const float *in, float *out, unsigned *)
{
    DYN_SHARED(float, row);
    const int i = threadIdx.x;
    row[i] = load_global(in + i);
    if (BUG && i == 63)
        row[64] = 1.0f;
    __syncthreads();
    store_global(out + i, row[63 - i]);
}

template <bool BUG> __global__ void misaligned_vector(const float *in, float *out, unsigned *)
{
    vector16<float> v = load_vector(in + (BUG ? 1 : 4));
    store_vector(out, v);
}

/* Past the helpers: only the sanitizer knows. */
template <bool BUG> __global__ void misaligned_raw_vector(const float *in, float *out, unsigned *)
{
    const float4 v = *reinterpret_cast<const float4 *>(in + (BUG ? 1 : 4));
    store_global(out, v.x + v.w);
}

template <bool BUG> __global__ void vector_load_of_shared(const float *in, float *out, unsigned *)
{
    SHARED(float, row, [128]);
    const int i = threadIdx.x;
    row[i] = row[i + 32] = row[i + 64] = row[i + 96] = load_global(in + i);
    __syncthreads();
    if (i == 0)
        store_vector(out, BUG ? load_vector(row) : load_vector(in));
}

/* ---- missing order -------------------------------------------------------------------------------------------- */

template <bool BUG> __global__ void missing_barrier(const float *in, float *out, unsigned *)
{
    SHARED(float, sum, [256]);
    const int i = threadIdx.x;
    sum[i] = load_global(in + i);
    for (int half = 128; half > 0; half /= 2) {
        if (!BUG || half != 32)
            __syncthreads();
        if (i < half)
            sum[i] += sum[i + half];
    }
    if (i == 0)
        store_global(out, sum[0]);
}

template <bool BUG> __global__ void missing_warp_sync(const float *in, float *out, unsigned *)
{
    SHARED(float, row, [32]);
    const int i = threadIdx.x;
    row[i] = load_global(in + i);
    if (!BUG)
        __syncwarp();
    store_global(out + i, row[i ^ 1]);
}

/* A sync of half a warp orders only that half. */
template <bool BUG> __global__ void half_warp_sync(const float *in, float *out, unsigned *)
{
    SHARED(float, row, [32]);
    const int i = threadIdx.x;
    row[i] = load_global(in + i);
    if (i < 16)
        __syncwarp(0x0000ffffu);
    else
        __syncwarp(0xffff0000u);
    store_global(out + i, row[i ^ (BUG ? 16 : 1)]);
}

template <bool BUG> __global__ void missing_atomic(const float *in, float *out, unsigned *counters)
{
    if (BUG)
        store_global(counters, load_global(counters) + 1);
    else
        atomicAdd(counters, 1u);
    if (threadIdx.x == 0 && blockIdx.x == 0)
        store_global(out, load_global(in));
}

/* The last block to finish adds up what the others left; without the fence it may read too early. */
template <bool BUG> __global__ void missing_fence(const float *in, float *out, unsigned *counters)
{
    SHARED(unsigned, ticket, [1]);
    const float sum = warp_sum(load_global(in + blockIdx.x * 32 + threadIdx.x));
    if (threadIdx.x == 0) {
        store_global(out + 1 + blockIdx.x, sum);
        if (!BUG)
            __threadfence();
        ticket[0] = atomicAdd(counters, 1u);
    }
    __syncthreads();
    if (ticket[0] == gridDim.x - 1 && threadIdx.x == 0) {
        float total = 0.0f;
        for (unsigned block = 0; block < gridDim.x; block++)
            total += load_global(out + 1 + block);
        store_global(out, total);
    }
}

/* ---- memory that was never written ---------------------------------------------------------------------------- */

template <bool BUG> __global__ void uninitialised_shared(const float *in, float *out, unsigned *)
{
    SHARED(float, partial, [32]);
    const int i = threadIdx.x, lane = i % 32;
    const float sum = warp_sum(load_global(in + i));
    if (lane == 0)
        partial[i / 32] = sum;
    __syncthreads();
    const float total = warp_sum(lane < (BUG ? 9 : 8) ? partial[lane] : 0.0f); /* 256 threads are 8 warps */
    if (i == 0)
        store_global(out, total);
}

/* One thread copies a whole array, which compilers make a memcpy of. */
template <bool BUG> __global__ void missing_barrier_of_array(const float *in, float *out, unsigned *)
{
    SHARED(float, level, [16]);
    const int i = threadIdx.x;
    if (i == 0) {
        constexpr float levels[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#pragma unroll
        for (int j = 0; j < 16; j++)
            level[j] = levels[j];
    }
    if (!BUG)
        __syncthreads();
    store_global(out + i, level[i % 16] * load_global(in + i));
}

/* ---- asynchronous copies -------------------------------------------------------------------------------------- */

template <bool WAIT, bool COMMIT> __device__ void copy_and_reverse(const float *in, float *out)
{
    SHARED(float, row, [128]);
    const int i = threadIdx.x;
    async_copy_16(&row[i * 4], in + i * 4);
    if (COMMIT)
        async_copy_commit();
    if (WAIT)
        async_copy_wait<0>();
    else
        async_copy_wait<1>();
    __syncthreads();
    store_global(out + i, row[127 - i]);
}

template <bool BUG> __global__ void missing_copy_wait(const float *in, float *out, unsigned *)
{
    copy_and_reverse<!BUG, true>(in, out);
}

template <bool BUG> __global__ void missing_copy_commit(const float *in, float *out, unsigned *)
{
    copy_and_reverse<true, !BUG>(in, out);
}

/* Two buffers take turns; without the trailing barrier a copy lands in one that a slower warp still reads. */
template <bool BUG> __global__ void copy_over_reader(const float *in, float *out, unsigned *)
{
    SHARED(float, buffer, [2][256]);
    const int i = threadIdx.x;
    float sum = 0.0f;
    async_copy_16(&buffer[0][i * 4], in + i * 4);
    async_copy_commit();
    for (int step = 0; step < 4; step++) {
        if (step < 3) {
            async_copy_16(&buffer[(step + 1) & 1][i * 4], in + (step + 1) * 256 + i * 4);
            async_copy_commit();
            async_copy_wait<1>();
        } else {
            async_copy_wait<0>();
        }
        __syncthreads();
        sum += buffer[step & 1][255 - i];
        if (!BUG)
            __syncthreads();
    }
    store_global(out + i, sum);
}

/* ---- misuse --------------------------------------------------------------------------------------------------- */

template <bool BUG> __global__ void divergent_barrier(const float *in, float *out, unsigned *)
{
    const int i = threadIdx.x;
    if (BUG && i < 16)
        __syncthreads();
    store_global(out + i, load_global(in + i));
    if (!BUG || i >= 16)
        __syncthreads();
}

template <bool BUG> __global__ void barrier_after_return(const float *in, float *out, unsigned *)
{
    const int i = threadIdx.x;
    if (BUG && i == 40)
        return;
    store_global(out + i, load_global(in + i));
    __syncthreads();
}

template <bool BUG> __global__ void shuffle_in_half_warp(const float *in, float *out, unsigned *)
{
    const int i = threadIdx.x;
    float value = load_global(in + i);
    if (i < 16)
        value += __shfl_xor_sync(BUG ? FULL_WARP : 0xffffu, value, 1);
    store_global(out + i, value);
}

template <bool BUG> __global__ void shuffle_from_outside_mask(const float *in, float *out, unsigned *)
{
    const int i = threadIdx.x;
    float value = load_global(in + i);
    if (i < 16)
        value = __shfl_sync(0xffffu, value, i + (BUG ? 8 : 0));
    store_global(out + i, value);
}

template <bool BUG> __global__ void different_warp_functions(const float *in, float *out, unsigned *)
{
    const int i = threadIdx.x;
    float value = load_global(in + i);
    if (BUG && i < 16)
        value += (float)__ballot_sync(FULL_WARP, value > 2.0f);
    else
        value += __shfl_xor_sync(FULL_WARP, value, 1);
    store_global(out + i, value);
}

template <bool BUG> __global__ void deadlock(const float *in, float *out, unsigned *)
{
    const int i = threadIdx.x;
    store_global(out + i, load_global(in + i));
    if (!BUG || i < 16)
        __syncwarp();
    __syncthreads();
}

/* Block 0 waits for block 1, which on a busy device may never start. */
template <bool BUG> __global__ void spin(const float *in, float *out, unsigned *counters)
{
    while (BUG && atomicAdd(counters, 0u) == 0) {
    }
    if (threadIdx.x == 0)
        store_global(out, load_global(in));
}

/* ---- what the counter must see -------------------------------------------------------------------------------- */

/* An access that goes round the helpers of tile.cuh: not wrong, but missing from the count. */
template <bool BUG> __global__ void uncounted_read(const float *in, float *out, unsigned *)
{
    const int i = threadIdx.x;
    store_global(out + i, BUG ? in[i] : load_global(in + i));
}

} // namespace

#define BUG(kernel, grid, block, dynamic_bytes)                                                        \
    {                                                                                                  \
        #kernel, [](const float *in, float *out, unsigned *counters, bool planted) {                   \
            return planted ? LAUNCH(kernel<true>, grid, block, dynamic_bytes, 0, in, out, counters)    \
                           : LAUNCH(kernel<false>, grid, block, dynamic_bytes, 0, in, out, counters);  \
        }                                                                                              \
    }

const struct bug bugs[] = {
    BUG(write_past_end, 5, 256, 0),
    BUG(write_past_shared_array, 1, 64, 0),
    BUG(write_past_dynamic_shared, 1, 64, 256),
    BUG(misaligned_vector, 1, 1, 0),
    BUG(misaligned_raw_vector, 1, 1, 0),
    BUG(vector_load_of_shared, 1, 32, 0),
    BUG(missing_barrier, 1, 256, 0),
    BUG(missing_warp_sync, 1, 32, 0),
    BUG(half_warp_sync, 1, 32, 0),
    BUG(missing_atomic, 4, 32, 0),
    BUG(missing_fence, 8, 32, 0),
    BUG(uninitialised_shared, 1, 256, 0),
    BUG(missing_barrier_of_array, 1, 64, 0),
    BUG(missing_copy_wait, 1, 32, 0),
    BUG(missing_copy_commit, 1, 32, 0),
    BUG(copy_over_reader, 1, 64, 0),
    BUG(divergent_barrier, 1, 32, 0),
    BUG(barrier_after_return, 1, 64, 0),
    BUG(shuffle_in_half_warp, 1, 32, 0),
    BUG(shuffle_from_outside_mask, 1, 32, 0),
    BUG(different_warp_functions, 1, 32, 0),
    BUG(deadlock, 1, 64, 0),
    BUG(spin, 1, 32, 0),
    BUG(uncounted_read, 1, 32, 0),
};
const int bugs_count = (int)(sizeof bugs / sizeof *bugs);
