/* cuda_bf16.h - stand-in for NVIDIA's header on machines without the CUDA toolkit: the type and its conversions. */
#ifndef FLAT_SHADOW_CUDA_BF16_H
#define FLAT_SHADOW_CUDA_BF16_H

#include "cuda_runtime.h"

#include <string.h>

struct __align__(2) __nv_bfloat16_raw {
    unsigned short x;
};

struct __align__(2) __nv_bfloat16 {
    unsigned short __x;

    __nv_bfloat16() = default;
    __nv_bfloat16(float value)
    {
        uint32_t bits;
        memcpy(&bits, &value, 4);
        __x = value != value ? (unsigned short)0x7fff : (unsigned short)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
    }
    operator float() const
    {
        const uint32_t bits = (uint32_t)__x << 16;
        float value;
        memcpy(&value, &bits, 4);
        return value;
    }
};

struct __align__(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
};

static inline float __bfloat162float(__nv_bfloat16 value) { return (float)value; }
static inline __nv_bfloat16 __float2bfloat16(float value) { return __nv_bfloat16(value); }
static inline __nv_bfloat16 __float2bfloat16_rn(float value) { return __nv_bfloat16(value); }
static inline __nv_bfloat16 __double2bfloat16(double value) { return __nv_bfloat16((float)value); }
static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 value) { return value.__x; }
static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits)
{
    __nv_bfloat16 value;
    value.__x = bits;
    return value;
}
static inline __nv_bfloat162 __floats2bfloat162_rn(float low, float high)
{
    return {__nv_bfloat16(low), __nv_bfloat16(high)};
}
static inline __nv_bfloat162 __float22bfloat162_rn(float2 pair) { return __floats2bfloat162_rn(pair.x, pair.y); }
static inline float2 __bfloat1622float2(__nv_bfloat162 pair) { return make_float2((float)pair.x, (float)pair.y); }
static inline float __low2float(__nv_bfloat162 pair) { return (float)pair.x; }
static inline float __high2float(__nv_bfloat162 pair) { return (float)pair.y; }

#endif
