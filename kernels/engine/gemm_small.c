/* gemm_small.c - CPU: a matrix product on the calling thread, for attention's many small ones.
 *
 * In float, the inner loop keeps the sums of TILE_ROWS rows and up to TILE_VECTORS vectors of columns in registers: an element
 * of the inner dimension brings one element of each row of a and the vectors of a row of b. a is read where it lies; b too,
 * unless it is transposed or its columns end within a vector: then a strip of it is first copied to the stack, for all rows.
 *
 * In double, the oracle, it is CBLAS's.
 */
#include "gemm.h"

#ifdef FLAT_DOUBLE

#include <cblas.h>

void gemm_small(const struct gemm *g)
{
    cblas_dgemm(CblasRowMajor, g->a_transposed ? CblasTrans : CblasNoTrans, g->b_transposed ? CblasTrans : CblasNoTrans,
                (blasint)g->m, (blasint)g->n, (blasint)g->k, g->scale, g->a, (blasint)g->a_stride, g->b,
                (blasint)g->b_stride, g->accumulate, g->c, (blasint)g->c_stride);
}

#else

#include "gemm_panel.h"

/* Sums, a row of b and an element of a fill the registers; a row of a takes a pointer. */
#if defined __AVX512F__
enum { TILE_ROWS = 6, TILE_VECTORS = 4 };
#elif defined __AVX__
enum { TILE_ROWS = 6, TILE_VECTORS = 2 };
#else
enum { TILE_ROWS = 4, TILE_VECTORS = 2 };
#endif
enum { STRIP_COLS = TILE_VECTORS * LANES };

/* Where a tile's operands are: element p of row i of a, row p of b, row i of c. */
struct tile {
    const float *a, *b;
    float *c, scale;
    int64_t depth, a_row, a_inner, b_stride, c_stride;
    bool add;
};

static inline __attribute__((always_inline)) void tile_sum(const struct tile *t, const int rows, const int vectors)
{
    vector sum[TILE_ROWS][TILE_VECTORS];
    const float *a = t->a, *b = t->b;
    const int64_t a_row = t->a_row, a_inner = t->a_inner, b_stride = t->b_stride;
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++)
            sum[i][j] = t->add ? vector_load(t->c + i * t->c_stride + j * LANES) : (vector){0};
    for (int64_t p = 0; p < t->depth; p++, a += a_inner, b += b_stride) {
        vector row[TILE_VECTORS];
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++)
            row[j] = vector_load(b + j * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
            for (int j = 0; j < vectors; j++)
                sum[i][j] += a[i * a_row] * row[j];
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++)
            vector_store(t->c + i * t->c_stride + j * LANES, t->scale * sum[i][j]);
}

static inline __attribute__((always_inline)) void tile_rows(const struct tile *t, int rows, const int vectors)
{
    switch (rows) {
    case 1: tile_sum(t, 1, vectors); break;
    case 2: tile_sum(t, 2, vectors); break;
    case 3: tile_sum(t, 3, vectors); break;
    case 4: tile_sum(t, 4, vectors); break;
#if defined __AVX__
    case 5: tile_sum(t, 5, vectors); break;
    case 6: tile_sum(t, 6, vectors); break;
#endif
    }
}

static void tile_compute(const struct tile *t, int rows, int vectors)
{
    switch (vectors) {
    case 1: tile_rows(t, rows, 1); break;
    case 2: tile_rows(t, rows, 2); break;
#if defined __AVX512F__
    case 3: tile_rows(t, rows, 3); break;
    case 4: tile_rows(t, rows, 4); break;
#endif
    }
}

/* A tile whose columns end within a vector: by way of a copy of c. */
static void tile_compute_edge(const struct tile *t, int rows, int64_t cols, int vectors)
{
    float edge[TILE_ROWS * STRIP_COLS] = {0};
    struct tile inner = *t;
    inner.c = edge;
    inner.c_stride = STRIP_COLS;
    for (int i = 0; i < rows && t->add; i++)
        memcpy(edge + i * STRIP_COLS, t->c + i * t->c_stride, (size_t)cols * sizeof *edge);
    tile_compute(&inner, rows, vectors);
    for (int i = 0; i < rows; i++)
        memcpy(t->c + i * t->c_stride, edge + i * STRIP_COLS, (size_t)cols * sizeof *edge);
}

/* Columns col .. col + cols - 1 of c, with elements begin .. begin + depth - 1 of the inner dimension. */
static void strip_compute(const struct gemm *g, int64_t begin, int64_t depth, int64_t col, int64_t cols)
{
    float copy[GEMM_SMALL_DEPTH * STRIP_COLS] __attribute__((aligned(64)));
    const int vectors = (int)((cols + LANES - 1) / LANES);
    const bool edge = cols % LANES != 0;
    struct tile t = {.scale = g->scale, .depth = depth, .add = g->accumulate || begin > 0, .c_stride = g->c_stride,
                     .a_row = g->a_transposed ? 1 : g->a_stride, .a_inner = g->a_transposed ? g->a_stride : 1,
                     .b = g->b + begin * g->b_stride + col, .b_stride = g->b_stride};
    if (g->b_transposed || edge) {
        const struct lines lines = {g->b + (g->b_transposed ? col * g->b_stride : col), g->b_transposed ? g->b_stride : 1,
                                    g->b_transposed ? 1 : g->b_stride, cols, vectors * LANES};
        for (int part = 0; part < vectors; part++)
            vectors_copy(&lines, part * LANES, begin, depth, copy + part * LANES);
        t.b = copy;
        t.b_stride = vectors * LANES;
    }
    for (int64_t row = 0; row < g->m; row += TILE_ROWS) {
        const int rows = (int)min_i64(TILE_ROWS, g->m - row);
        t.a = g->a + row * t.a_row + begin * t.a_inner;
        t.c = g->c + row * g->c_stride + col;
        if (edge)
            tile_compute_edge(&t, rows, cols, vectors);
        else
            tile_compute(&t, rows, vectors);
    }
}

void gemm_small(const struct gemm *g)
{
    for (int64_t begin = 0; begin < g->k; begin += GEMM_SMALL_DEPTH)
        for (int64_t col = 0; col < g->n; col += STRIP_COLS)
            strip_compute(g, begin, min_i64(GEMM_SMALL_DEPTH, g->k - begin), col, min_i64(STRIP_COLS, g->n - col));
}

#endif
