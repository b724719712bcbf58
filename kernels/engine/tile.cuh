/* tile.cuh - device helpers of the .cu files: 16-byte accesses, conversions, reductions in a fixed order, and the
 * PTX that CUDA C++ has no words for (mma, ldmatrix, asynchronous copies).
 *
 * Global memory is read and written through load_* and store_*: the emulation counts the bytes that pass here, and
 * the tests compare the count with the BYTES line of the room's card. Shared memory is accessed directly.
 */
#ifndef FLAT_KERNELS_TILE_CUH
#define FLAT_KERNELS_TILE_CUH
#include "gpu.h"

#define DEVICE static __device__ __forceinline__

typedef __nv_bfloat16 bf16;

/* ---- 16-byte vectors ------------------------------------------------------------------------------------------ */

/* Sixteen bytes of consecutive elements: what one lane moves in one access, so that a warp moves 512. */
template <typename T> struct alignas(16) vector16 {
    static constexpr int count = 16 / (int)sizeof(T);
    T element[16 / sizeof(T)];
};

/* Whether the vector functions below may be used on a pointer; row starts of odd strides are not aligned. NULL is. */
static __host__ __device__ __forceinline__ bool is_vector_aligned(const void *pointer)
{
    return (reinterpret_cast<uintptr_t>(pointer) & 15) == 0;
}

template <typename T> DEVICE vector16<T> vector_from_bits(uint4 bits)
{
    vector16<T> vector;
    memcpy(&vector, &bits, sizeof vector); /* a move between registers */
    return vector;
}

template <typename T> DEVICE uint4 vector_bits(const vector16<T> &vector)
{
    uint4 bits;
    memcpy(&bits, &vector, sizeof bits);
    return bits;
}

/* Global memory; the pointer must be 16-byte aligned. */
template <typename T> DEVICE vector16<T> load_vector(const T *pointer)
{
    NOTE_READ(pointer, 16);
    return vector_from_bits<T>(*reinterpret_cast<const uint4 *>(pointer));
}

/* For data that is used once: it leaves the caches first, so that data used again stays. */
template <typename T> DEVICE vector16<T> load_vector_streaming(const T *pointer)
{
    NOTE_READ(pointer, 16);
    return vector_from_bits<T>(__ldcs(reinterpret_cast<const uint4 *>(pointer)));
}

/* One store: an assignment may come out as four, and __stwb is a store for other threads to see. */
template <typename T> DEVICE void store_vector(T *pointer, const vector16<T> &vector)
{
    NOTE_WRITE(pointer, 16);
    const uint4 bits = vector_bits(vector);
#ifdef EMU
    *reinterpret_cast<uint4 *>(pointer) = bits;
#else
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(pointer)), "r"(bits.x),
                 "r"(bits.y), "r"(bits.z), "r"(bits.w)
                 : "memory");
#endif
}

template <typename T> DEVICE void store_vector_streaming(T *pointer, const vector16<T> &vector)
{
    NOTE_WRITE(pointer, 16);
    __stcs(reinterpret_cast<uint4 *>(pointer), vector_bits(vector));
}

/* Single elements of global memory: ragged ends, per-row statistics, indices. T is any type of 1 to 16 bytes. */
template <typename T> DEVICE T load_global(const T *pointer)
{
    NOTE_READ(pointer, sizeof(T));
    return *pointer;
}

template <typename T> DEVICE void store_global(T *pointer, T value)
{
    NOTE_WRITE(pointer, sizeof(T));
    *pointer = value;
}

static constexpr int COLS_MAX = 1 << 30; /* columns of a row, so that no int of a kernel overflows */

/* A row of any length at any address: `head` single elements up to the first 16-byte boundary, `vectors` whole vectors,
 * and fewer than a vector of single elements again. Head and tail together are fewer than two vectors. */
struct row_cut {
    int head, vectors;
};

template <typename T> DEVICE row_cut row_cut_at(const T *row, int cols)
{
    constexpr int width = vector16<T>::count;
    const int misfit = (int)(reinterpret_cast<uintptr_t>(row) % 16 / sizeof(T));
    const int head = misfit ? min(width - misfit, cols) : 0;
    return {head, (cols - head) / width};
}

/* The column of the index-th single element; cols or more when there are not that many. */
template <typename T> DEVICE int row_single(row_cut cut, int index)
{
    return index < cut.head ? index : index + cut.vectors * vector16<T>::count;
}

/* ---- conversions ---------------------------------------------------------------------------------------------- */

DEVICE float to_float(float value)
{
    return value;
}

DEVICE float to_float(bf16 value)
{
    return __bfloat162float(value);
}

/* Rounds to nearest even. */
template <typename T> DEVICE T from_float(float value);

template <> __device__ __forceinline__ float from_float<float>(float value)
{
    return value;
}

#ifdef EMU
/* The toolkit's host version of this conversion is several times slower than the bits themselves. */
template <> inline bf16 from_float<bf16>(float value)
{
    return __ushort_as_bfloat16(emu::bf16_round(value));
}
#else
template <> __device__ __forceinline__ bf16 from_float<bf16>(float value)
{
    return __float2bfloat16_rn(value);
}
#endif

/* Two bf16 in the register form that mma takes: low is the element with the lower index. */
DEVICE uint32_t pack_bf16(float low, float high)
{
#ifdef EMU
    return emu::bf16_round(low) | (uint32_t)emu::bf16_round(high) << 16;
#else
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    uint32_t bits;
    memcpy(&bits, &pair, sizeof bits);
    return bits;
#endif
}

DEVICE void vector_to_float(const vector16<float> &vector, float (&value)[4])
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        value[i] = vector.element[i];
}

DEVICE void vector_to_float(const vector16<bf16> &vector, float (&value)[8])
{
    uint4 bits = vector_bits(vector);
    const uint32_t word[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
    for (int i = 0; i < 4; i++) { /* a bf16 is the upper half of the float it stands for */
        value[2 * i] = __uint_as_float(word[i] << 16);
        value[2 * i + 1] = __uint_as_float(word[i] & 0xffff0000u);
    }
}

DEVICE void vector_from_float(vector16<float> &vector, const float (&value)[4])
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        vector.element[i] = value[i];
}

DEVICE void vector_from_float(vector16<bf16> &vector, const float (&value)[8])
{
    vector = vector_from_bits<bf16>(make_uint4(pack_bf16(value[0], value[1]), pack_bf16(value[2], value[3]),
                                               pack_bf16(value[4], value[5]), pack_bf16(value[6], value[7])));
}

/* COUNT consecutive elements of global memory as floats: whole vectors, or half a vector of bf16 (beside a vector of
 * float elsewhere), both of which must be aligned to their size; or one element, for ragged ends and odd rows. */
template <typename T, int COUNT> DEVICE void load_floats(const T *pointer, float (&value)[COUNT])
{
    constexpr int width = vector16<T>::count;
    if constexpr (COUNT % width == 0) {
#pragma unroll
        for (int first = 0; first < COUNT; first += width) {
            float part[width];
            vector_to_float(load_vector(pointer + first), part);
#pragma unroll
            for (int i = 0; i < width; i++)
                value[first + i] = part[i];
        }
    } else if constexpr (sizeof(T) == 2 && COUNT == 4) {
        const uint2 bits = load_global(reinterpret_cast<const uint2 *>(pointer));
        value[0] = __uint_as_float(bits.x << 16), value[1] = __uint_as_float(bits.x & 0xffff0000u);
        value[2] = __uint_as_float(bits.y << 16), value[3] = __uint_as_float(bits.y & 0xffff0000u);
    } else {
        static_assert(COUNT == 1, "whole vectors, half a vector of bf16, or one element");
        value[0] = to_float(load_global(pointer));
    }
}

template <typename T, int COUNT> DEVICE void store_floats(T *pointer, const float (&value)[COUNT])
{
    constexpr int width = vector16<T>::count;
    if constexpr (COUNT % width == 0) {
#pragma unroll
        for (int first = 0; first < COUNT; first += width) {
            float part[width];
#pragma unroll
            for (int i = 0; i < width; i++)
                part[i] = value[first + i];
            vector16<T> vector;
            vector_from_float(vector, part);
            store_vector(pointer + first, vector);
        }
    } else if constexpr (sizeof(T) == 2 && COUNT == 4) {
        store_global(reinterpret_cast<uint2 *>(pointer),
                     make_uint2(pack_bf16(value[0], value[1]), pack_bf16(value[2], value[3])));
    } else {
        static_assert(COUNT == 1, "whole vectors, half a vector of bf16, or one element");
        store_global(pointer, from_float<T>(value[0]));
    }
}

/* ---- exponentials --------------------------------------------------------------------------------------------- */

static constexpr float LOG2_E = 1.44269504f;

/* 2^x within 2^-22 of its value, one instruction; a result below 2^-126 is 0. exp2f takes three more to keep those. */
DEVICE float exp2_fast(float x)
{
#ifdef EMU
    return x < -126.0f ? 0.0f : exp2f(x);
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

/* tanh within a few ulp: an odd polynomial (minimax on |x| < 0.625), and beyond it 1 - 2 / (exp(2 |x|) + 1). */
DEVICE float tanh_near(float x)
{
    const float square = x * x;
    float p = fmaf(-5.70498872745e-3f, square, 2.06390887954e-2f);
    p = fmaf(p, square, -5.37397155531e-2f);
    p = fmaf(p, square, 1.33314422036e-1f);
    p = fmaf(p, square, -3.33332819422e-1f);
    const float far = 1.0f - __fdividef(2.0f, exp2_fast(fabsf(x) * (2.0f * LOG2_E)) + 1.0f);
    return square < 0.625f * 0.625f ? fmaf(p * square, x, x) : copysignf(far, x);
}

/* A soft cap of logits: z becomes y = outer tanh(inner z), and its gradient is that times slope(z) = 1 - tanh^2, which is
 * formed from the exponential, so that it keeps its digits where the cap is reached. inner 0: no cap. */
struct logit_cap {
    float inner, outer; /* 1 / cap, cap */

    __device__ __forceinline__ float operator()(float z) const
    {
        return inner == 0.0f ? z : outer * tanh_near(inner * z);
    }

    __device__ __forceinline__ float slope(float z) const
    {
        const float rest = __fdividef(2.0f, exp2_fast(fabsf(inner * z) * (2.0f * LOG2_E)) + 1.0f); /* 1 - |tanh| */
        return inner == 0.0f ? 1.0f : rest * (2.0f - rest);
    }
};

static inline logit_cap logit_cap_make(double cap)
{
    return cap > 0 ? logit_cap{(float)(1 / cap), (float)cap} : logit_cap{0.0f, 0.0f};
}

/* ---- reductions ----------------------------------------------------------------------------------------------- */

/* What `combine` may be: associative in real arithmetic, and commutative bit for bit, so that all lanes get the
 * same bits. The trees are fixed, so the result depends on nothing but the inputs. */
struct sum_of {
    template <typename T> __device__ __forceinline__ T operator()(T a, T b) const { return a + b; }
};

struct max_of {
    template <typename T> __device__ __forceinline__ T operator()(T a, T b) const { return a > b ? a : b; }
};

/* __shfl_xor_sync over the full warp for any type made of 4-byte words. */
template <typename T> DEVICE T shuffle_xor(T value, int lane_mask)
{
    static_assert(sizeof(T) % 4 == 0, "shuffles move 4-byte words");
    uint32_t word[sizeof(T) / 4];
    memcpy(word, &value, sizeof(T));
#pragma unroll
    for (int i = 0; i < (int)(sizeof(T) / 4); i++)
        word[i] = __shfl_xor_sync(FULL_WARP, word[i], lane_mask);
    memcpy(&value, word, sizeof(T));
    return value;
}

/* All lanes of the warp call it and all get the result. */
template <typename T, typename F> DEVICE T warp_reduce(T value, F combine)
{
#pragma unroll
    for (int lanes = WARP_SIZE / 2; lanes > 0; lanes /= 2)
        value = combine(value, shuffle_xor(value, lanes));
    return value;
}

template <typename T> DEVICE T warp_sum(T value)
{
    return warp_reduce(value, sum_of());
}

template <typename T> DEVICE T warp_max(T value)
{
    return warp_reduce(value, max_of());
}

/* All THREADS threads of a one-dimensional block call it and all get the result. It holds one barrier. `scratch` is
 * THREADS / 32 elements of shared memory; between two uses of the same scratch there must be another barrier. */
template <int THREADS, typename T, typename F> DEVICE T block_reduce(T value, F combine, T identity, T *scratch)
{
    constexpr int warps = THREADS / WARP_SIZE;
    static_assert(THREADS % WARP_SIZE == 0 && warps >= 1 && warps <= WARP_SIZE, "whole warps, 1024 threads at most");
    value = warp_reduce(value, combine);
    if (warps == 1)
        return value;
    const int lane = (int)threadIdx.x % WARP_SIZE;
    if (lane == 0)
        scratch[threadIdx.x / WARP_SIZE] = value;
    __syncthreads();
    return warp_reduce(lane < warps ? scratch[lane] : identity, combine);
}

template <int THREADS, typename T> DEVICE T block_sum(T value, T *scratch)
{
    return block_reduce<THREADS>(value, sum_of(), T(0), scratch);
}

template <int THREADS> DEVICE float block_max(float value, float *scratch)
{
    return block_reduce<THREADS>(value, max_of(), -INFINITY, scratch);
}

/* An element of a row, to find the largest. */
struct candidate {
    float logit;
    int column;
};

/* The larger logit, the lower column among equals. */
struct better_of {
    __device__ __forceinline__ candidate operator()(candidate a, candidate b) const
    {
        return b.logit > a.logit || (b.logit == a.logit && b.column < a.column) ? b : a;
    }
};

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

/* ---- tensor cores and asynchronous copies ---------------------------------------------------------------------
 *
 * mma_m16n8k16   d += a b for a 16x16 tile a (row major), a 16x8 tile b (column major) and a 16x8 float tile d, by
 *                a whole warp. With group = lane / 4 and pair = lane % 4 * 2, a lane holds
 *                  a[0] row group, columns pair, pair + 1     a[1] row group + 8     a[2], a[3] the same, columns + 8
 *                  b[0] column group, rows pair, pair + 1     b[1] rows + 8
 *                  d[0], d[1] row group, columns pair, pair + 1                      d[2], d[3] row group + 8
 * ldmatrix_x2/4  2 or 4 8x8 tiles of bf16 from shared memory; lane i gives the (16-byte aligned) address of row
 *                i % 8 of tile i / 8, and gets elements pair, pair + 1 of row group of each tile; of column group
 *                with _trans.
 * async_copy_16  16 bytes from global to shared memory, both aligned; zeros when valid is false (the source is not
 *                read then). The copies since the last async_copy_commit form a group; async_copy_wait<N> waits until
 *                at most the N newest groups are under way. Copies are seen by other threads after a barrier.
 */
#ifdef EMU
#include "tile_twin.h"
#else

DEVICE unsigned shared_address(const void *pointer)
{
    return (unsigned)__cvta_generic_to_shared(pointer);
}

DEVICE void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

DEVICE void ldmatrix_x2(uint32_t (&r)[2], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");
}

DEVICE void ldmatrix_x2_trans(uint32_t (&r)[2], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");
}

DEVICE void ldmatrix_x4(uint32_t (&r)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}

DEVICE void ldmatrix_x4_trans(uint32_t (&r)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
}

DEVICE void async_copy_16(void *shared, const void *global, bool valid = true)
{
    const int bytes = valid ? 16 : 0; /* the rest of the 16 is filled with zeros */
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"(shared_address(shared)), "l"(global), "r"(bytes) : "memory");
}

DEVICE void async_copy_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int NEWEST> DEVICE void async_copy_wait()
{
    asm volatile("cp.async.wait_group %0;" :: "n"(NEWEST) : "memory");
}
#endif

#endif
