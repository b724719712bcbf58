/* cpu.h - what the ops of the CPU engine share; no other engine and no host code includes it.
 *
 * One source makes two plugins: `real` is float in libflat_cpu.so and, with -DFLAT_DOUBLE, double in
 * libflat_cpu64.so, the oracle. Every op follows three rules:
 *   - work is cut at places that depend on the shapes only, and sums run in a fixed order, so that the bits
 *     do not depend on the number of threads (`omp simd reduction` is fixed when it is compiled);
 *   - arguments are checked first (REQUIRE); after that nothing fails but an allocation;
 *   - scratch comes from the context, which keeps what it once had: no allocation in the steady state.
 */
#ifndef FLAT_KERNELS_CPU_H
#define FLAT_KERNELS_CPU_H
#include "contract.h"
#include "engine.h"

#include <limits.h>
#include <math.h>
#include <string.h>

struct engine_context {
    int threads;
    void *scratch;
    size_t scratch_bytes;
    double mark[ENGINE_MARKS]; /* of the monotonic clock; 0: never marked */
    char error[256];
    char describe[160];
};

/* `pieces` pieces of scratch, one after the other, each `bytes` rounded up to whole cache lines (the distance
 * between pieces is scratch_stride(bytes)). Valid until the next call. NULL, with the error set: no memory. */
void *engine_scratch(struct engine_context *context, int64_t pieces, size_t bytes);

static inline size_t scratch_stride(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

#define REQUIRE_REAL(type)                                                                                    \
    do {                                                                                                      \
        if ((type) != DTYPE_REAL)                                                                             \
            return engine_fail(context, OP_CONTRACT, "%s: %s is not supported, this engine computes in %s",   \
                               __func__, dtype_name(type), dtype_name(DTYPE_REAL));                           \
    } while (0)

/* How many threads `work` element operations are worth; below that a fork costs more than it saves. */
static inline int engine_threads(const struct engine_context *context, int64_t work)
{
    return work < 32768 ? 1 : context->threads;
}

#ifdef FLAT_DOUBLE

typedef double real;
#define DTYPE_REAL DTYPE_F64

static inline double exp_real(double x) { return exp(x); }
static inline double tanh_real(double x) { return tanh(x); }

#else

typedef float real;
#define DTYPE_REAL DTYPE_F32

/* exp in 1 ulp, written so that the compiler vectorises it (the library's expf is scalar without -ffast-math).
 * x = n ln 2 + r, |r| <= ln 2 / 2; the Taylor polynomial of degree 7 leaves 5e-9. Adding 1.5 2^23 rounds
 * x / ln 2 to n and leaves n in the low bits. Below -87.33 (results under 2^-126) it gives 0, above 88.37
 * infinity; NaN stays NaN. */
static inline float exp_real(float x)
{
    const float shift = 0x1.8p23f, ln2_high = 0x1.62ep-1f, ln2_low = 0x1.0bfbe8p-15f;
    union {
        float value;
        uint32_t bits;
    } shifted = {.value = x * 0x1.715476p0f + shift}, power;
    float n = shifted.value - shift;
    float r = (x - n * ln2_high) - n * ln2_low;
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    power.bits = (shifted.bits + 127) << 23;
    float y = p * power.value;
    y = x > 88.37f ? INFINITY : y;
    return x < -87.33f ? 0.0f : y;
}

/* tanh within 2 ulp, vectorised like exp_real: an odd polynomial (minimax on |x| < 0.625), and beyond it
 * 1 - 2 / (exp(2 |x|) + 1). */
static inline float tanh_real(float x)
{
    const float square = x * x;
    float p = -5.70498872745e-3f;
    p = p * square + 2.06390887954e-2f;
    p = p * square - 5.37397155531e-2f;
    p = p * square + 1.33314422036e-1f;
    p = p * square - 3.33332819422e-1f;
    const float near = p * square * x + x, far = 1.0f - 2.0f / (exp_real(2.0f * (x < 0 ? -x : x)) + 1.0f);
    return square < 0.625f * 0.625f ? near : x < 0 ? -far : far;
}

#endif

/* A soft cap: outer tanh(inner z), inner = 1 / outer. */
static inline real soft_cap(real z, real inner, real outer) { return outer * tanh_real(inner * z); }

/* Its derivative 1 - tanh^2 = r (2 - r) with r = 1 - |tanh| from the exponential, which keeps its digits where the cap is
 * reached. */
static inline real soft_cap_slope(real z, real inner)
{
    const real x = inner * z, r = 2 / (exp_real(2 * (x < 0 ? -x : x)) + 1);
    return r * (2 - r);
}

static inline int64_t min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max_i64(int64_t a, int64_t b) { return a > b ? a : b; }

#endif
