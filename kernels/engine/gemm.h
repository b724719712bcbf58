/* gemm.h - matrix products on the CPU: a large one of linear on all threads, the same with a packed weight, and one of the many
 * small ones of attention on the thread that asks for it. */
#ifndef FLAT_KERNELS_GEMM_H
#define FLAT_KERNELS_GEMM_H
#include "cpu.h"

/* c [m, n] = scale op(a) op(b), or added to c; op(a) is m x k, op(b) k x n. All are row-major as stored, with rows
 * *_stride elements apart: a is [m, k], or [k, m] when a_transposed, b [k, n], or [n, k] when b_transposed. */
struct gemm {
    bool a_transposed, b_transposed, accumulate;
    int64_t m, n, k;
    const real *a, *b;
    real *c, scale;
    int64_t a_stride, b_stride, c_stride;
};

/* Bytes of scratch memory, aligned to 64, that gemm_compute wants. */
size_t gemm_scratch(int64_t m, int64_t n, int64_t k, int threads);

/* Computes the product on so many threads, whose number does not change the bits. k = 0 leaves c alone. */
void gemm_compute(const struct gemm *gemm, int threads, void *scratch);

/* ---- packed weights (gemm_packed.c), in float; in double, where there are none, the functions do nothing ----
 *
 * b, a weight [n, k] that is read transposed, in the order in which the inner loop wants it: whole panels of PACKED_COLS rows
 * lie [k, columns] in the place of their rows; what is left of the rows stays as it is. Where every value of the panels is a
 * bf16, elements p and p + 1 of a column share 32 bits, and half of the panel's place is read. */

#ifdef FLAT_DOUBLE
enum { gemm_packs = false };
#else
enum { gemm_packs = true };
#endif

/* Packs b in place. scratch: gemm_pack_scratch(k, threads) bytes, aligned to 64. */
size_t gemm_pack_scratch(int64_t k, int threads);
enum linear_form gemm_pack(real *b, int64_t n, int64_t k, int threads, void *scratch);
/* Row `row` of b [n, k]. */
void gemm_packed_row(const real *b, enum linear_form form, int64_t n, int64_t k, int64_t row, real *out);
/* Bytes of scratch memory, aligned to 64, and the product with a packed b: b_transposed, not a_transposed, b_stride k. Each
 * element of c has the bits that gemm_compute gives it with a scale of 1, whatever m is. */
size_t gemm_packed_scratch(int64_t m, int64_t k, int threads);
void gemm_packed_compute(const struct gemm *gemm, enum linear_form form, int threads, void *scratch);

/* The same for one of c's small parts, on the calling thread and from the operands where they lie: nothing is allocated.
 * a_transposed and b_transposed together are not supported; a scale that is not 1 takes k <= GEMM_SMALL_DEPTH.
 * An element of c is one sum in the order of k, which begins with what c holds when it is added to: cut in two along k,
 * a product has the same bits. */
enum { GEMM_SMALL_DEPTH = 256 };
void gemm_small(const struct gemm *gemm);

#endif
