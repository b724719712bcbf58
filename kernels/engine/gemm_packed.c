/* gemm_packed.c - CPU: x W^T with a weight that was put in order beforehand, for any number of rows of x; see gemm.h.
 *
 * All threads together copy x into panels of an equal number of rows, PANEL_ROWS at most; then they take strips of W's panels,
 * which are multiplied where they lie, one after the other as they lie in memory. Nothing of W is copied but a last panel that
 * is not whole, so that one row costs reading W once, and few rows hardly more. Sums are cut along the inner dimension as in gemm.c, so that an element of c has
 * the same bits by either way.
 *
 * bf16 values are widened by a shift or a mask of the pair that holds them, which is exact.
 */
#include "gemm.h"

#ifdef FLAT_DOUBLE

size_t gemm_pack_scratch(int64_t k, int threads)
{
    (void)k, (void)threads;
    return 0;
}

enum linear_form gemm_pack(real *b, int64_t n, int64_t k, int threads, void *scratch)
{
    (void)b, (void)n, (void)k, (void)threads, (void)scratch;
    return LINEAR_PLAIN;
}

void gemm_packed_row(const real *b, enum linear_form form, int64_t n, int64_t k, int64_t row, real *out)
{
    (void)form, (void)n;
    memcpy(out, b + row * k, (size_t)k * sizeof *out);
}

size_t gemm_packed_scratch(int64_t m, int64_t k, int threads)
{
    (void)m, (void)k, (void)threads;
    return 0;
}

void gemm_packed_compute(const struct gemm *gemm, enum linear_form form, int threads, void *scratch)
{
    (void)gemm, (void)form, (void)threads, (void)scratch;
}

#else

#include <omp.h>

#include "gemm_panel.h"

enum {
    BLOCK_ROWS = 12, /* panels of x, of DEPTH, that stay in the second-level cache for all of a strip's panels of W */
    STRIP_COLS = 3,  /* panels of W at a time */
    AHEAD = 1024     /* floats that W is fetched ahead of its use: with few rows it comes from memory */
};

/* Floats, or pairs in their place, of a panel of b. */
static int64_t panel_size(int64_t k, bool halves) { return (halves ? (k + 1) / 2 : k) * PANEL_COLS; }

static bool is_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return !(bits & 0xffff);
}

/* [k, PANEL_COLS] -> pairs of bf16: the lower half of a lane is the even element, the upper half the odd one. */
static void panel_halve(const float *panel, int64_t k, uint32_t *pairs)
{
    for (int64_t p = 0; p < k; p += 2)
        for (int j = 0; j < PANEL_COLS; j++) {
            uint32_t even, odd = 0;
            memcpy(&even, panel + p * PANEL_COLS + j, sizeof even);
            if (p + 1 < k)
                memcpy(&odd, panel + (p + 1) * PANEL_COLS + j, sizeof odd);
            pairs[p / 2 * PANEL_COLS + j] = even >> 16 | (odd & 0xffff0000);
        }
}

size_t gemm_pack_scratch(int64_t k, int threads)
{
    return (size_t)threads * scratch_stride((size_t)(k * PANEL_COLS + LANES) * sizeof(float));
}

enum linear_form gemm_pack(real *b, int64_t n, int64_t k, int threads, void *scratch)
{
    const int64_t panels = n / PANEL_COLS;
    const size_t stride = gemm_pack_scratch(k, 1);
    int exact = 1;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(& : exact)
    for (int64_t i = 0; i < panels * PANEL_COLS; i++)
        for (int64_t p = 0; p < k; p++)
            exact &= is_bf16(b[i * k + p]);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < panels; i++) {
        float *copy = (float *)(void *)((char *)scratch + (size_t)omp_get_thread_num() * stride), *place = b + i * PANEL_COLS * k;
        const struct lines lines = lines_of(place, k, true, PANEL_COLS, PANEL_COLS);
        for (int part = 0; part < PANEL_COLS; part += LANES)
            vectors_copy(&lines, part, 0, k, copy + part);
        if (exact)
            panel_halve(copy, k, (uint32_t *)(void *)place);
        else
            memcpy(place, copy, (size_t)(k * PANEL_COLS) * sizeof *copy);
    }
    const int64_t size = panel_size(k, true);
    for (int64_t i = 1; i < panels && exact; i++)
        memmove(b + i * size, b + i * PANEL_COLS * k, (size_t)size * sizeof *b);
    return exact ? LINEAR_PACKED_BF16 : LINEAR_PACKED;
}

void gemm_packed_row(const real *b, enum linear_form form, int64_t n, int64_t k, int64_t row, real *out)
{
    const int64_t panel = row / PANEL_COLS, column = row % PANEL_COLS;
    const float *at = b + panel * panel_size(k, form == LINEAR_PACKED_BF16) + column;
    if (panel >= n / PANEL_COLS) {
        memcpy(out, b + row * k, (size_t)k * sizeof *out);
        return;
    }
    for (int64_t p = 0; p < k; p++) {
        if (form == LINEAR_PACKED) {
            out[p] = at[p * PANEL_COLS];
            continue;
        }
        uint32_t pair;
        memcpy(&pair, at + p / 2 * PANEL_COLS, sizeof pair);
        pair = p % 2 ? pair & 0xffff0000 : pair << 16;
        memcpy(out + p, &pair, sizeof pair);
    }
}

/* One panel of x against one of W, or a piece of both. */
struct pair {
    const float *a, *b; /* b: floats, or pairs of bf16 */
    float *c, scale;
    int64_t depth, c_stride, cols;
    bool add;
};

static inline __attribute__((always_inline)) void row_add(vector (*sum)[VECTORS], const int rows, const float *a,
                                                          const vector row[VECTORS])
{
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < VECTORS; j++)
            sum[i][j] += a[i] * row[j];
}

static inline __attribute__((always_inline)) void pair_multiply(const struct pair *t, const int rows, const bool halves)
{
    vector sum[PANEL_ROWS][VECTORS] = {0};
    const float *a = t->a, *b = t->b;
    for (int i = 0; i < rows; i++) { /* c may be far away; waiting for it at the end costs several percent */
        __builtin_prefetch(t->c + i * t->c_stride, 1);
        __builtin_prefetch(t->c + i * t->c_stride + t->cols - 1, 1);
    }
    for (int64_t p = 0; p < t->depth; p += halves ? 2 : 1, a += rows, b += PANEL_COLS) {
        vector row[VECTORS];
        if (halves) {
            vector_index both[VECTORS];
#pragma GCC unroll 4
            for (int j = 0; j < VECTORS; j++) {
                both[j] = (vector_index)vector_load(b + j * LANES);
                __builtin_prefetch(b + j * LANES + AHEAD);
                row[j] = (vector)(both[j] << 16);
            }
            row_add(sum, rows, a, row);
            if (p + 1 == t->depth)
                break;
            a += rows;
#pragma GCC unroll 4
            for (int j = 0; j < VECTORS; j++)
                row[j] = (vector)(both[j] & (int32_t)0xffff0000);
        } else {
#pragma GCC unroll 4
            for (int j = 0; j < VECTORS; j++)
            {
                row[j] = vector_load(b + j * LANES);
                __builtin_prefetch(b + j * LANES + AHEAD);
            }
        }
        row_add(sum, rows, a, row);
    }
    const bool whole = t->cols == PANEL_COLS;
    float edge[PANEL_ROWS * PANEL_COLS], *to = whole ? t->c : edge; /* c ends within the panel */
    const int64_t stride = whole ? t->c_stride : PANEL_COLS;
    for (int i = 0; i < rows && t->add && !whole; i++)
        memcpy(edge + i * PANEL_COLS, t->c + i * t->c_stride, (size_t)t->cols * sizeof *edge);
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < VECTORS; j++) {
            float *at = to + i * stride + j * LANES;
            vector_store(at, t->add ? vector_load(at) + t->scale * sum[i][j] : t->scale * sum[i][j]);
        }
    for (int i = 0; i < rows && !whole; i++)
        memcpy(t->c + i * t->c_stride, edge + i * PANEL_COLS, (size_t)t->cols * sizeof *edge);
}

#define ROWS(n, halves)                                                                                       \
    case n: pair_multiply(t, n, halves); break;
#if defined __AVX512F__
#define MORE_ROWS(halves)                                                                                     \
    ROWS(5, halves) ROWS(6, halves) ROWS(7, halves) ROWS(8, halves) ROWS(9, halves) ROWS(10, halves)          \
    ROWS(11, halves) ROWS(12, halves) ROWS(13, halves) ROWS(14, halves)
#elif defined __AVX__
#define MORE_ROWS(halves) ROWS(5, halves) ROWS(6, halves)
#else
#define MORE_ROWS(halves)
#endif

static void floats_multiply(const struct pair *t, int rows)
{
    switch (rows) {
        ROWS(1, false) ROWS(2, false) ROWS(3, false) ROWS(4, false) MORE_ROWS(false)
    }
}

static void halves_multiply(const struct pair *t, int rows)
{
    switch (rows) {
        ROWS(1, true) ROWS(2, true) ROWS(3, true) ROWS(4, true) MORE_ROWS(true)
    }
}

/* How x is cut: `larger` panels of one row more than `rows`, then the others. */
struct rows_cut {
    int64_t panels, larger, rows;
};

static struct rows_cut rows_cut(int64_t m)
{
    const int64_t panels = (m + PANEL_ROWS - 1) / PANEL_ROWS;
    return (struct rows_cut){panels, m % panels, m / panels};
}

static int64_t cut_rows(const struct rows_cut *cut, int64_t panel) { return cut->rows + (panel < cut->larger); }

static int64_t cut_first(const struct rows_cut *cut, int64_t panel)
{
    return panel * cut->rows + min_i64(panel, cut->larger);
}

/* Elements from one panel of x to the next: none reaches into another's. */
static int64_t a_stride(int64_t depth) { return depth * PANEL_ROWS + LANES; }

static size_t a_bytes(int64_t m, int64_t k)
{
    return scratch_stride((size_t)(rows_cut(m).panels * a_stride(k)) * sizeof(float));
}

static size_t rest_bytes(int64_t k) { return scratch_stride((size_t)(k * PANEL_COLS + LANES) * sizeof(float)); }

size_t gemm_packed_scratch(int64_t m, int64_t k, int threads)
{
    return a_bytes(m, k) + (size_t)threads * rest_bytes(k);
}

/* A product at work. */
struct packed {
    const struct gemm *g;
    struct rows_cut cut;
    float *a; /* its panels */
    bool halves;
};

static void panel_copy(const struct packed *w, int64_t panel)
{
    const struct gemm *g = w->g;
    const int64_t first = cut_first(&w->cut, panel), rows = cut_rows(&w->cut, panel);
    const struct lines lines = lines_of(g->a + first * g->a_stride, g->a_stride, true, rows, (int)rows);
    vectors_copy(&lines, 0, 0, g->k, w->a + panel * a_stride(g->k));
}

/* Where panel `col` of W is; one that is not whole is copied to `rest`. */
static const float *column_find(const struct packed *w, int64_t col, float *rest)
{
    const struct gemm *g = w->g;
    const int64_t cols = g->n - col * PANEL_COLS;
    if (cols >= PANEL_COLS)
        return g->b + col * panel_size(g->k, w->halves);
    const struct lines lines = lines_of(g->b + col * PANEL_COLS * g->k, g->k, true, cols, PANEL_COLS);
    for (int part = 0; part < PANEL_COLS; part += LANES)
        vectors_copy(&lines, part, 0, g->k, rest + part);
    return rest;
}

/* Panels [a_first, a_end) of x against panel `col` of W, which is b. */
static void column_multiply(const struct packed *w, int64_t a_first, int64_t a_end, int64_t col, const float *b)
{
    const struct gemm *g = w->g;
    const int64_t depth = piece_depth(g->k), cols = min_i64(PANEL_COLS, g->n - col * PANEL_COLS);
    const bool halves = w->halves && cols == PANEL_COLS;
    struct pair t = {.scale = g->scale, .c_stride = g->c_stride, .cols = cols};
    for (int64_t begin = 0; begin < g->k; begin += depth) {
        t.b = b + begin * PANEL_COLS / (halves ? 2 : 1);
        t.depth = min_i64(depth, g->k - begin);
        t.add = g->accumulate || begin > 0;
        for (int64_t i = a_first; i < a_end; i++) {
            const int rows = (int)cut_rows(&w->cut, i);
            t.a = w->a + i * a_stride(g->k) + begin * rows;
            t.c = g->c + cut_first(&w->cut, i) * g->c_stride + col * PANEL_COLS;
            if (halves)
                halves_multiply(&t, rows);
            else
                floats_multiply(&t, rows);
        }
    }
}

void gemm_packed_compute(const struct gemm *g, enum linear_form form, int threads, void *scratch)
{
    const struct packed w = {g, rows_cut(g->m), scratch, form == LINEAR_PACKED_BF16};
    const int64_t panels = (g->n + PANEL_COLS - 1) / PANEL_COLS, strip = max_i64(1, min_i64(STRIP_COLS, panels / (3 * threads)));
    const int64_t block = max_i64(1, BLOCK_ROWS * DEPTH / max_i64(DEPTH, g->k));
    char *rests = (char *)scratch + a_bytes(g->m, g->k);
#pragma omp parallel num_threads(threads)
    {
        float *rest = (float *)(void *)(rests + (size_t)omp_get_thread_num() * rest_bytes(g->k));
#pragma omp for schedule(static)
        for (int64_t i = 0; i < w.cut.panels; i++)
            panel_copy(&w, i);
#pragma omp for schedule(dynamic)
        for (int64_t first = 0; first < panels; first += strip)
            for (int64_t row = 0; row < w.cut.panels; row += block)
                for (int64_t col = first; col < min_i64(panels, first + strip); col++)
                    column_multiply(&w, row, min_i64(w.cut.panels, row + block), col, column_find(&w, col, rest));
    }
}

#endif
