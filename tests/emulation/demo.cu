/* demo.cu - two small kernels that exercise every part of the emulation, written the way kernels/ are: a row sum
 * (vector loads with ragged ends, block reduction, last block adds up) and a matrix product (asynchronous copies in two
 * stages, ldmatrix, mma).
 */
#include "demo.h"

namespace {

constexpr int SUM_THREADS = 128;

template <typename T>
__global__ void __launch_bounds__(SUM_THREADS)
row_sum_kernel(const T *__restrict__ x, int cols, float *sums, float *total, unsigned *counter)
{
    SHARED(float, scratch, [SUM_THREADS / WARP_SIZE]);
    SHARED(float, scratch_total, [SUM_THREADS / WARP_SIZE]);
    SHARED(unsigned, ticket, [1]);
    constexpr int width = vector16<T>::count;
    const T *row = x + (size_t)blockIdx.x * cols;
    const int tid = (int)threadIdx.x;
    /* Elements before the first and after the last whole vector go one by one. */
    const int misfit = (int)(reinterpret_cast<uintptr_t>(row) % 16 / sizeof(T));
    const int head = misfit ? min(width - misfit, cols) : 0;
    const int tail = head + (cols - head) / width * width;
    float sum = 0.0f;
    for (int i = tid; i < head; i += SUM_THREADS)
        sum += to_float(load_global(row + i));
    for (int i = head + tid * width; i < tail; i += SUM_THREADS * width) {
        float value[width];
        vector_to_float(load_vector_streaming(row + i), value);
#pragma unroll
        for (int j = 0; j < width; j++)
            sum += value[j];
    }
    for (int i = tail + tid; i < cols; i += SUM_THREADS)
        sum += to_float(load_global(row + i));
    sum = block_sum<SUM_THREADS>(sum, scratch);
    if (tid == 0) {
        store_global(sums + blockIdx.x, sum);
        __threadfence();
        ticket[0] = atomicAdd(counter, 1u);
    }
    __syncthreads();
    if (ticket[0] != gridDim.x - 1)
        return;
    float part = 0.0f;
    for (int i = tid; i < (int)gridDim.x; i += SUM_THREADS)
        part += load_global(sums + i);
    part = block_sum<SUM_THREADS>(part, scratch_total);
    if (tid == 0) {
        store_global(total, part);
        store_global(counter, 0u);
    }
}

/* A block computes 64 x 64 of c in steps of 32 along k; each of 4 warps has 32 x 32. */
constexpr int TILE = 64, STEP = 32, MATMUL_THREADS = 128;
constexpr int PITCH = STEP + 8; /* keeps ldmatrix off bank conflicts */

struct stage {
    bf16 a[TILE][PITCH], b[TILE][PITCH];
};

DEVICE void load_tile(bf16 (*tile)[PITCH], const bf16 *matrix, int first_row, int rows, int first_k, int k)
{
    for (int i = (int)threadIdx.x; i < TILE * STEP / 8; i += MATMUL_THREADS) {
        const int row = i / (STEP / 8), column = i % (STEP / 8) * 8;
        const bool valid = first_row + row < rows && first_k + column < k;
        async_copy_16(&tile[row][column], valid ? matrix + (size_t)(first_row + row) * k + first_k + column : matrix,
                      valid);
    }
}

DEVICE void load_stage(stage *to, const bf16 *a, const bf16 *b, int m, int n, int k, int first_k)
{
    load_tile(to->a, a, (int)blockIdx.y * TILE, m, first_k, k);
    load_tile(to->b, b, (int)blockIdx.x * TILE, n, first_k, k);
    async_copy_commit();
}

DEVICE void multiply_stage(float (&sum)[2][4][4], const stage *from, int warp_row, int warp_column, int lane)
{
#pragma unroll
    for (int k = 0; k < STEP; k += 16) {
        uint32_t a[2][4], b[4][2];
#pragma unroll
        for (int i = 0; i < 2; i++)
            ldmatrix_x4(a[i], &from->a[warp_row + i * 16 + lane % 16][k + lane / 16 * 8]);
#pragma unroll
        for (int j = 0; j < 4; j++)
            ldmatrix_x2(b[j], &from->b[warp_column + j * 8 + lane % 8][k + lane / 8 % 2 * 8]);
#pragma unroll
        for (int i = 0; i < 2; i++)
#pragma unroll
            for (int j = 0; j < 4; j++)
                mma_m16n8k16(sum[i][j], a[i], b[j]);
    }
}

__global__ void __launch_bounds__(MATMUL_THREADS)
matmul_kernel(const bf16 *__restrict__ a, const bf16 *__restrict__ b, float *__restrict__ c, int m, int n, int k)
{
    DYN_SHARED(stage, stages);
    const int lane = (int)threadIdx.x % WARP_SIZE, warp = (int)threadIdx.x / WARP_SIZE;
    const int warp_row = warp / 2 * 32, warp_column = warp % 2 * 32;
    const int steps = (k + STEP - 1) / STEP;
    float sum[2][4][4] = {};
    load_stage(&stages[0], a, b, m, n, k, 0);
    for (int step = 0; step < steps; step++) {
        if (step + 1 < steps) {
            load_stage(&stages[(step + 1) & 1], a, b, m, n, k, (step + 1) * STEP);
            async_copy_wait<1>();
        } else {
            async_copy_wait<0>();
        }
        __syncthreads();
        multiply_stage(sum, &stages[step & 1], warp_row, warp_column, lane);
        __syncthreads(); /* the next copy goes where this step was read */
    }
    const int first_row = (int)blockIdx.y * TILE + warp_row + lane / 4;
    const int first_column = (int)blockIdx.x * TILE + warp_column + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int row = first_row + i * 16 + e / 2 * 8, column = first_column + j * 8 + e % 2;
                if (row < m && column < n)
                    store_global(c + (size_t)row * n + column, sum[i][j][e]);
            }
}

} // namespace

template <typename T>
cudaError_t demo_row_sum(const T *x, int rows, int cols, float *sums, float *total, unsigned *counter,
                         cudaStream_t stream)
{
    return LAUNCH((row_sum_kernel<T>), rows, SUM_THREADS, 0, stream, x, cols, sums, total, counter);
}

template cudaError_t demo_row_sum<float>(const float *, int, int, float *, float *, unsigned *, cudaStream_t);
template cudaError_t demo_row_sum<bf16>(const bf16 *, int, int, float *, float *, unsigned *, cudaStream_t);

cudaError_t demo_matmul(const bf16 *a, const bf16 *b, float *c, int m, int n, int k, cudaStream_t stream)
{
    return LAUNCH(matmul_kernel, dim3((n + TILE - 1) / TILE, (m + TILE - 1) / TILE), MATMUL_THREADS, 2 * sizeof(stage),
                  stream, a, b, c, m, n, k);
}
