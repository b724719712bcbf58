/* rounding.h - bits of floats that the CPU's ops, the CUDA kernels and the host must agree on.
 *
 * A split float is a float in two halves of 16 bits: `high`, the bf16 nearest to it, and `low`, its lower 16 bits. Nothing is
 * lost, and high can be used as a bf16 by who does not need the rest. Ties are rounded away from zero: with ties to even, two
 * floats would have the same two halves.
 *
 * Random rounding to bf16 takes the neighbour above with a probability of the distance to the one below, in spacings: the
 * expected value is the float, so that a sum of many changes below the spacing is not lost. The draws are Philox4x32-10
 * (Salmon et al., SC 2011) of a key and a counter: no state, the same in every engine and for any number of threads or ranks.
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

/* Four independent uniform words of a counter under a key. */
ROUNDING_INLINE void philox4x32(uint64_t key, uint64_t counter_low, uint64_t counter_high, uint32_t out[4])
{
    uint32_t a = (uint32_t)counter_low, b = (uint32_t)(counter_low >> 32);
    uint32_t c = (uint32_t)counter_high, d = (uint32_t)(counter_high >> 32);
    uint32_t key_a = (uint32_t)key, key_b = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t first = (uint64_t)0xD2511F53 * a, second = (uint64_t)0xCD9E8D57 * c;
        a = (uint32_t)(second >> 32) ^ b ^ key_a;
        b = (uint32_t)second;
        c = (uint32_t)(first >> 32) ^ d ^ key_b;
        d = (uint32_t)first;
        key_a += 0x9E3779B9;
        key_b += 0xBB67AE85;
    }
    out[0] = a, out[1] = b, out[2] = c, out[3] = d;
}

/* The bf16 of a float's bits by a draw of 16 bits. A finite value stays finite, a NaN a NaN. */
ROUNDING_INLINE uint32_t round_random(uint32_t bits, uint32_t draw)
{
    const uint32_t magnitude = bits & 0x7fffffff, rounded = (bits + draw) >> 16;
    const uint32_t special = bits >> 16 | (magnitude > 0x7f800000 ? 0x40 : 0);
    return magnitude >= 0x7f800000 ? special : (rounded & 0x7fff) == 0x7f80 ? rounded - 1 : rounded;
}

#endif
