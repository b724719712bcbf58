/* gemm_panel.h - vectors of the processor's width, and copies of rows or columns into panels that an inner loop reads front to
 * back. Shared by gemm.c and gemm_small.c, in float only.
 */
#ifndef FLAT_KERNELS_GEMM_PANEL_H
#define FLAT_KERNELS_GEMM_PANEL_H
#include "gemm.h"

#if defined __AVX512F__
enum { LANES = 16 };
#elif defined __AVX__
enum { LANES = 8 };
#else
enum { LANES = 4 };
#endif

/* Rows and vectors of the sums, which with a row of b and an element of a fill the registers. */
#if defined __AVX512F__
enum { PANEL_ROWS = 14, VECTORS = 2 };
#elif defined __AVX__
enum { PANEL_ROWS = 6, VECTORS = 2 };
#else
enum { PANEL_ROWS = 4, VECTORS = 3 };
#endif
enum { PANEL_COLS = VECTORS * LANES };

/* A pair of panels of so many elements of the inner dimension, 115 KB, and the strips at work fit the second-level cache. */
enum { DEPTH = 640 };

/* Elements of the inner dimension that are summed up at a time: even pieces of at most DEPTH. The sums' bits hang on them. */
static inline int64_t piece_depth(int64_t k)
{
    const int64_t pieces = (k + DEPTH - 1) / DEPTH;
    return pieces ? (((k + pieces - 1) / pieces) + 1) & ~(int64_t)1 : 0;
}

typedef float vector __attribute__((vector_size(4 * LANES)));
typedef float vector_unaligned __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t vector_index __attribute__((vector_size(4 * LANES)));

static inline vector vector_load(const float *from) { return *(const vector_unaligned *)from; }
static inline void vector_store(float *to, vector value) { *(vector_unaligned *)to = value; }

/* Rows (of op(a)) or columns (of op(b)) as they are stored. */
struct lines {
    const float *at; /* element p of line l is at[l * line_stride + p * inner_stride]; one of the strides is 1 */
    int64_t line_stride, inner_stride, count;
    int width;       /* lines of a panel */
};

/* `stored`: a line is a stored row, otherwise a stored column. */
static inline struct lines lines_of(const float *at, int64_t stride, bool stored, int64_t count, int width)
{
    return (struct lines){at, stored ? stride : 1, stored ? 1 : stride, count, width};
}

/* v[i][j] <-> v[j][i]: every stage interleaves the first half of the vectors with the second. */
static inline void vectors_transpose(vector v[LANES])
{
    vector_index low = {0}, high = {0};
    for (int i = 0; i < LANES / 2; i++) {
        low[2 * i] = i, low[2 * i + 1] = i + LANES;
        high[2 * i] = i + LANES / 2, high[2 * i + 1] = i + LANES / 2 + LANES;
    }
#pragma GCC unroll 4
    for (int stage = 1; stage < LANES; stage *= 2) {
        vector mixed[LANES];
#pragma GCC unroll 16
        for (int i = 0; i < LANES / 2; i++) {
            mixed[2 * i] = __builtin_shuffle(v[i], v[i + LANES / 2], low);
            mixed[2 * i + 1] = __builtin_shuffle(v[i], v[i + LANES / 2], high);
        }
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            v[i] = mixed[i];
    }
}

/* panel[p * width + l] = element begin + p of line first + l, 0 for lines that are not there, for up to LANES lines.
 * A vector that is longer than the panel is wide reaches into the place of the next p, whose turn comes later, or
 * behind the panel by less than LANES. */
static inline void vectors_copy(const struct lines *lines, int64_t first, int64_t begin, int64_t depth, float *panel)
{
    const float *from = lines->at + first * lines->line_stride + begin * lines->inner_stride;
    int64_t line_stride = lines->line_stride, inner_stride = lines->inner_stride, count = lines->count - first, p = 0;
    int width = lines->width;
    if (line_stride == 1 && count >= LANES)
        for (; p < depth; p++)
            vector_store(panel + p * width, vector_load(from + p * inner_stride));
    for (; inner_stride == 1 && p + LANES <= depth; p += LANES) {
        vector v[LANES];
#pragma GCC unroll 16
        for (int l = 0; l < LANES; l++)
            v[l] = l < count ? vector_load(from + l * line_stride + p) : (vector){0};
        vectors_transpose(v);
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            vector_store(panel + (p + i) * width, v[i]);
    }
    for (; p < depth; p++)
        for (int l = 0; l < min_i64(width, LANES); l++)
            panel[p * width + l] = l < count ? from[l * line_stride + p * inner_stride] : 0;
}

#endif
