/* rounding.h - bits of floats that the CPU's ops, the CUDA kernels and the host must agree on.
 *
 * A split float is a float in two halves of 16 bits: `high`, the bf16 nearest to it, and `low`, its lower 16 bits. Nothing is
 * lost, and high can be used as a bf16 by who does not need the rest. Ties are rounded away from zero: with ties to even, two
 * floats would have the same two halves.
 */
#ifndef FLAT_KERNELS_ROUNDING_H
#define FLAT_KERNELS_ROUNDING_H
#include <stdint.h>

#ifdef __CUDACC__
#define ROUNDING_INLINE static __host__ __device__ inline
#else
#define ROUNDING_INLINE static inline
#endif

/* The upper half of a float's bits, as above. A NaN stays one, and so does infinity. */
ROUNDING_INLINE uint32_t split_high(uint32_t bits)
{
    const uint32_t quiet_nan = bits >> 16 | 0x40; /* rounding could carry a NaN's payload away */
    return (bits & 0x7fffffff) > 0x7f800000 ? quiet_nan : (bits + 0x8000) >> 16;
}

/* The float's bits again; of a NaN those of some NaN. */
ROUNDING_INLINE uint32_t split_join(uint32_t high, uint32_t low)
{
    return (high - (low >> 15)) << 16 | low;
}

#endif
