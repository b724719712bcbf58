/* float16.h - the two 16-bit floats and float: round to nearest, ties to even; a NaN stays a NaN. Inline and free
 * of branches, so that a loop over them is compiled to vector instructions.
 */
#ifndef FLAT_UTIL_FLOAT16_H
#define FLAT_UTIL_FLOAT16_H
#include <stdint.h>
#include <string.h>

static inline float float_from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t float_to_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* bfloat16 is the upper half of a float. */
static inline float float_from_bf16(uint16_t bits)
{
    return float_from_bits((uint32_t)bits << 16);
}

static inline uint16_t bf16_from_float(float value)
{
    uint32_t bits = float_to_bits(value);
    uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    uint32_t quiet_nan = bits >> 16 | 0x40; /* rounding could carry a NaN's payload away */
    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? quiet_nan : rounded);
}

/* IEEE half: 1 sign, 5 exponent bits of bias 15, 10 mantissa bits. */
static inline float float_from_f16(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = half & 0x7fff;
    uint32_t is_subnormal = -(uint32_t)(magnitude < 0x400), is_special = -(uint32_t)(magnitude >= 0x7c00);
    /* rebias the exponent; infinity and NaN go to exponent 255 */
    uint32_t bits = (magnitude << 13) + (112u << 23) + (is_special & 112u << 23);
    /* a subnormal has no leading one: read as if it had, which is 2^-14 too much, exactly */
    float value = float_from_bits(bits + (is_subnormal & 1u << 23)) - float_from_bits(is_subnormal & 113u << 23);
    return float_from_bits(sign | float_to_bits(value));
}

static inline uint16_t f16_from_float(float value)
{
    uint32_t bits = float_to_bits(value), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    uint32_t normal = (magnitude - (112u << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13;
    /* below 2^-14: the sum with one half has an ulp of 2^-24, a half's smallest step, and so rounds to it */
    uint32_t subnormal = float_to_bits(float_from_bits(magnitude) + 0.5f) - float_to_bits(0.5f);
    uint32_t half = magnitude < 0x38800000 ? subnormal : normal;
    half = magnitude >= 0x477ff000 ? 0x7c00 : half; /* 65520 and above: infinity */
    half = magnitude > 0x7f800000 ? 0x7e00 | (magnitude >> 13 & 0x3ff) : half;
    return (uint16_t)(sign | half);
}

#endif
