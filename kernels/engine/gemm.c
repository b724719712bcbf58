/* gemm.c - CPU: the matrix product.
 *
 * In float it is written out here, in vectors of the processor's width. The inner dimension is cut into even pieces of
 * at most DEPTH. Of each, all threads together copy the smaller operand into panels that the inner loop reads front to
 * back; then they take strips of the larger one, copy them likewise and multiply them with all of the smaller. The
 * inner loop keeps the sums of a pair of panels in registers: an element of the inner dimension brings PANEL_COLS
 * elements of b and PANEL_ROWS of a, and PANEL_COLS x PANEL_ROWS multiply-adds. An operand is copied once, so that from
 * a few hundred rows on the copies take a few percent of the time.
 *
 * An element of c is the sum of its pieces in order, each summed in order, whatever m, n, the strips and the threads.
 *
 * In double, the oracle, it is CBLAS's: another implementation altogether.
 */
#include "gemm.h"

#include <omp.h>

#ifdef FLAT_DOUBLE

#include <cblas.h>

/* Even pieces of at most `most`. */
static int64_t tile_size(int64_t total, int64_t most)
{
    int64_t pieces = (total + most - 1) / most;
    return (total + pieces - 1) / pieces;
}

size_t gemm_scratch(int64_t m, int64_t n, int64_t k, int threads)
{
    (void)m, (void)n, (void)k, (void)threads;
    return 0;
}

void gemm_compute(const struct gemm *g, int threads, void *scratch)
{
    (void)scratch;
    int64_t rows = tile_size(g->m, 256), cols = tile_size(g->n, 384), row_tiles = (g->m + rows - 1) / rows;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t tile = 0; tile < row_tiles * ((g->n + cols - 1) / cols); tile++) {
        int64_t row = tile % row_tiles * rows, col = tile / row_tiles * cols;
        cblas_dgemm(CblasRowMajor, g->a_transposed ? CblasTrans : CblasNoTrans,
                    g->b_transposed ? CblasTrans : CblasNoTrans, (blasint)min_i64(rows, g->m - row),
                    (blasint)min_i64(cols, g->n - col), (blasint)g->k, g->scale,
                    g->a + row * (g->a_transposed ? 1 : g->a_stride), (blasint)g->a_stride,
                    g->b + col * (g->b_transposed ? g->b_stride : 1), (blasint)g->b_stride, g->accumulate,
                    g->c + row * g->c_stride + col, (blasint)g->c_stride);
    }
}

#else

#include "gemm_panel.h"

enum {
    BLOCK_ROWS = 12,   /* panels of a that stay there for all of a strip's panels of b */
    STRIP_ROWS = 8,    /* panels of the larger operand at a time, when it is a, */
    STRIP_COLS = 3     /* or b */
};

/* Elements from one panel to the next, which threads copy at the same time: none reaches into another's. */
static int64_t panel_stride(int64_t depth, int width) { return depth * width + LANES; }

/* Copies panels first .. first + count - 1 of one piece, one after the other. */
static void panels_copy(const struct lines *lines, int64_t first, int64_t count, int64_t begin, int64_t depth,
                        float *to)
{
    for (int64_t i = first; i < first + count; i++, to += panel_stride(depth, lines->width))
        for (int part = 0; part < lines->width; part += LANES)
            vectors_copy(lines, i * lines->width + part, begin, depth, to + part);
}

/* The product of a panel of a and one of b, into rows x cols of c. */
static inline void panels_multiply(const struct gemm *g, int64_t depth, const float *a, const float *b, float *c,
                                   int64_t rows, int64_t cols, bool add)
{
    vector sum[PANEL_ROWS][VECTORS] = {0};
    for (int64_t i = 0; i < rows; i++) { /* c may be far away; waiting for it at the end costs 3 to 9 % */
        __builtin_prefetch(c + i * g->c_stride, 1);
        __builtin_prefetch(c + i * g->c_stride + cols - 1, 1);
    }
    for (int64_t p = 0; p < depth; p++, a += PANEL_ROWS, b += PANEL_COLS) {
        vector row[VECTORS];
#pragma GCC unroll 4
        for (int j = 0; j < VECTORS; j++)
            row[j] = *(const vector *)(b + j * LANES);
#pragma GCC unroll 16
        for (int i = 0; i < PANEL_ROWS; i++)
#pragma GCC unroll 4
            for (int j = 0; j < VECTORS; j++)
                sum[i][j] += a[i] * row[j];
    }
    bool whole = rows == PANEL_ROWS && cols == PANEL_COLS;
    int64_t stride = whole ? g->c_stride : PANEL_COLS;
    float edge[PANEL_ROWS * PANEL_COLS] = {0}, *to = whole ? c : edge; /* sums that c ends in the middle of */
    for (int64_t i = 0; i < rows && add && !whole; i++)
        memcpy(edge + i * PANEL_COLS, c + i * g->c_stride, (size_t)cols * sizeof *c);
#pragma GCC unroll 16
    for (int i = 0; i < PANEL_ROWS; i++)
#pragma GCC unroll 4
        for (int j = 0; j < VECTORS; j++) {
            float *at = to + i * stride + j * LANES;
            vector_store(at, add ? vector_load(at) + g->scale * sum[i][j] : g->scale * sum[i][j]);
        }
    for (int64_t i = 0; i < rows && !whole; i++)
        memcpy(c + i * g->c_stride, edge + i * PANEL_COLS, (size_t)cols * sizeof *c);
}

/* Panels of a from a_first on against panels of b from b_first on. */
static void strips_multiply(const struct gemm *g, int64_t depth, const float *a, int64_t a_first, int64_t a_count,
                            const float *b, int64_t b_first, int64_t b_count, bool add)
{
    int64_t a_stride = panel_stride(depth, PANEL_ROWS), b_stride = panel_stride(depth, PANEL_COLS);
    for (int64_t block = 0; block < a_count; block += BLOCK_ROWS)
        for (int64_t j = 0; j < b_count; j++)
            for (int64_t i = block; i < min_i64(a_count, block + BLOCK_ROWS); i++) {
                int64_t row = (a_first + i) * PANEL_ROWS, col = (b_first + j) * PANEL_COLS;
                panels_multiply(g, depth, a + i * a_stride, b + j * b_stride, g->c + row * g->c_stride + col,
                                min_i64(PANEL_ROWS, g->m - row), min_i64(PANEL_COLS, g->n - col), add);
            }
}

/* How a product is cut: elements of the inner dimension a piece, and panels. */
struct cut {
    bool a_smaller;
    int64_t depth, smaller, larger, strip;
};

static struct cut cut_make(int64_t m, int64_t n, int64_t k, int threads)
{
    int64_t rows = (m + PANEL_ROWS - 1) / PANEL_ROWS, cols = (n + PANEL_COLS - 1) / PANEL_COLS;
    struct cut cut = {.a_smaller = m <= n, .depth = piece_depth(k)};
    cut.smaller = cut.a_smaller ? rows : cols;
    cut.larger = cut.a_smaller ? cols : rows;
    /* Every thread gets a few strips. */
    cut.strip = max_i64(1, min_i64(cut.a_smaller ? STRIP_COLS : STRIP_ROWS, cut.larger / (3 * threads)));
    return cut;
}

static size_t copy_bytes(int64_t panels, int64_t depth)
{
    return scratch_stride((size_t)(panels * panel_stride(depth, (int)max_i64(PANEL_ROWS, PANEL_COLS))) * sizeof(float));
}

size_t gemm_scratch(int64_t m, int64_t n, int64_t k, int threads)
{
    const struct cut cut = cut_make(m, n, k, threads);
    return copy_bytes(cut.smaller, cut.depth) + (size_t)threads * copy_bytes(cut.strip, cut.depth);
}

void gemm_compute(const struct gemm *g, int threads, void *scratch)
{
    const struct cut cut = cut_make(g->m, g->n, g->k, threads);
    const struct lines a = lines_of(g->a, g->a_stride, !g->a_transposed, g->m, PANEL_ROWS);
    const struct lines b = lines_of(g->b, g->b_stride, g->b_transposed, g->n, PANEL_COLS);
    const struct lines *smaller = cut.a_smaller ? &a : &b, *larger = cut.a_smaller ? &b : &a;
    float *copy = scratch;
    char *strips = (char *)scratch + copy_bytes(cut.smaller, cut.depth);
#pragma omp parallel num_threads(threads)
    for (int64_t begin = 0; begin < g->k; begin += cut.depth) {
        int64_t depth = min_i64(cut.depth, g->k - begin);
        bool add = g->accumulate || begin > 0;
        float *strip = (float *)(strips + (size_t)omp_get_thread_num() * copy_bytes(cut.strip, cut.depth));
#pragma omp for schedule(static)
        for (int64_t i = 0; i < cut.smaller; i++)
            panels_copy(smaller, i, 1, begin, depth, copy + i * panel_stride(depth, smaller->width));
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < cut.larger; i += cut.strip) {
            int64_t count = min_i64(cut.strip, cut.larger - i);
            panels_copy(larger, i, count, begin, depth, strip);
            if (cut.a_smaller)
                strips_multiply(g, depth, copy, 0, cut.smaller, strip, i, count, add);
            else
                strips_multiply(g, depth, strip, i, count, copy, 0, cut.smaller, add);
        }
    }
}

#endif
