/* intrinsics.h - the device functions of CUDA that NVIDIA's headers leave out of a host compile: cached loads,
 * fences, integer atomics, arithmetic. Part of emulation.h.
 *
 * Float atomics, __activemask and device printf are left out on purpose: sums of this project have a fixed order.
 */
#ifndef FLAT_EMULATION_INTRINSICS_H
#define FLAT_EMULATION_INTRINSICS_H

static constexpr int warpSize = 32;

/* ---- memory --------------------------------------------------------------------------------------------------- */

#define EMU_LOAD(name)                                          \
    template <class T> EMU_INLINE T name(const T *pointer)      \
    {                                                           \
        return *pointer;                                        \
    }
EMU_LOAD(__ldg)
EMU_LOAD(__ldca)
EMU_LOAD(__ldcg)
EMU_LOAD(__ldcs)
EMU_LOAD(__ldlu)
#undef EMU_LOAD

#define EMU_STORE(name)                                             \
    template <class T> EMU_INLINE void name(T *pointer, T value)    \
    {                                                               \
        *pointer = value;                                           \
    }
EMU_STORE(__stcg)
EMU_STORE(__stcs)
EMU_STORE(__stwt)
#undef EMU_STORE

void __threadfence();
void __threadfence_block();

/* Out of line, in atomic.cpp: they are neither plain accesses to the checker nor ones to the compiler. */
int atomicAdd(int *address, int value);
unsigned atomicAdd(unsigned *address, unsigned value);
unsigned long long atomicAdd(unsigned long long *address, unsigned long long value);
int atomicMax(int *address, int value);
unsigned atomicMax(unsigned *address, unsigned value);
int atomicMin(int *address, int value);
unsigned atomicMin(unsigned *address, unsigned value);
int atomicOr(int *address, int value);
unsigned atomicOr(unsigned *address, unsigned value);
unsigned atomicAnd(unsigned *address, unsigned value);
int atomicExch(int *address, int value);
unsigned atomicExch(unsigned *address, unsigned value);
unsigned atomicInc(unsigned *address, unsigned limit);
int atomicCAS(int *address, int compare, int value);
unsigned atomicCAS(unsigned *address, unsigned compare, unsigned value);
unsigned long long atomicCAS(unsigned long long *address, unsigned long long compare, unsigned long long value);

/* ---- bits ----------------------------------------------------------------------------------------------------- */

#define EMU_BITS(name, to, from)                \
    EMU_INLINE to name(from value)              \
    {                                           \
        static_assert(sizeof(to) == sizeof(from), "same size"); \
        to result;                              \
        memcpy(&result, &value, sizeof result); \
        return result;                          \
    }
EMU_BITS(__float_as_int, int, float)
EMU_BITS(__float_as_uint, unsigned, float)
EMU_BITS(__int_as_float, float, int)
EMU_BITS(__uint_as_float, float, unsigned)
EMU_BITS(__double_as_longlong, long long, double)
EMU_BITS(__longlong_as_double, double, long long)
#undef EMU_BITS

EMU_INLINE int __popc(unsigned x) { return __builtin_popcount(x); }
EMU_INLINE int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
EMU_INLINE int __ffs(int x) { return __builtin_ffs(x); }
EMU_INLINE int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
EMU_INLINE int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
EMU_INLINE unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
EMU_INLINE unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
EMU_INLINE unsigned __brev(unsigned x)
{
    unsigned result = 0;
    for (int i = 0; i < 32; i++)
        result |= (x >> i & 1u) << (31 - i);
    return result;
}

namespace emu {
/* bf16 nearest to a float, ties to even; any NaN becomes 0x7fff as on the device. */
EMU_INLINE uint16_t bf16_round(float value)
{
    const unsigned bits = __float_as_uint(value);
    return value != value ? (uint16_t)0x7fff : (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
} // namespace emu

/* ---- arithmetic: the fast device versions are less exact than these, so tests keep a margin for them ---------- */

#define EMU_MIN_MAX(type)                                             \
    EMU_INLINE type max(type a, type b) { return a > b ? a : b; } \
    EMU_INLINE type min(type a, type b) { return a < b ? a : b; }
EMU_MIN_MAX(int)
EMU_MIN_MAX(unsigned)
EMU_MIN_MAX(long)
EMU_MIN_MAX(unsigned long)
EMU_MIN_MAX(long long)
EMU_MIN_MAX(unsigned long long)
#undef EMU_MIN_MAX
EMU_INLINE float max(float a, float b) { return fmaxf(a, b); }
EMU_INLINE float min(float a, float b) { return fminf(a, b); }
EMU_INLINE double max(double a, double b) { return fmax(a, b); }
EMU_INLINE double min(double a, double b) { return fmin(a, b); }

/* Macros, because the C library declares functions of these names. */
#define __expf(x) expf(x)
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __sincosf(x, sine, cosine) sincosf(x, sine, cosine)
#define __powf(x, y) powf(x, y)

EMU_INLINE float __fdividef(float a, float b) { return a / b; }
EMU_INLINE float __fdiv_rn(float a, float b) { return a / b; }
EMU_INLINE float __frcp_rn(float x) { return 1.0f / x; }
EMU_INLINE float __fsqrt_rn(float x) { return sqrtf(x); }
EMU_INLINE float __frsqrt_rn(float x) { return 1.0f / sqrtf(x); }
EMU_INLINE float rsqrtf(float x) { return 1.0f / sqrtf(x); }
EMU_INLINE double rsqrt(double x) { return 1.0 / sqrt(x); }
EMU_INLINE float __fadd_rn(float a, float b) { return a + b; }
EMU_INLINE float __fsub_rn(float a, float b) { return a - b; }
EMU_INLINE float __fmul_rn(float a, float b) { return a * b; }
EMU_INLINE float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
EMU_INLINE float __saturatef(float x) { return x > 1.0f ? 1.0f : x > 0.0f ? x : 0.0f; }

#endif
