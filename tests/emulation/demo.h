/* demo.h - two small kernels that exercise every part of the emulation; see demo.cu. */
#ifndef FLAT_EMULATION_DEMO_H
#define FLAT_EMULATION_DEMO_H
#include "engine/gpu.h"
#include "engine/tile.cuh"

/* sums[row] = sum over the columns of x [rows, cols], total[0] = sum of sums. counter: one zero, zero again after.
 * x is contiguous; rows need not start on 16 bytes. Bytes: rows cols sizeof(T) + what grows with rows alone. */
template <typename T>
cudaError_t demo_row_sum(const T *x, int rows, int cols, float *sums, float *total, unsigned *counter,
                         cudaStream_t stream);

/* c [m, n] = a [m, k] b [n, k]^T in bf16 with float sums; k a multiple of 8. */
cudaError_t demo_matmul(const bf16 *a, const bf16 *b, float *c, int m, int n, int k, cudaStream_t stream);

#endif
