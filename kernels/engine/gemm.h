/* gemm.h - the matrix product of linear on the CPU; private to it. Attention's many small products on one thread each
 * stay with cpu.h's, CBLAS, which takes half the time for them. */
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

#endif
