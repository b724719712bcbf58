/* cublaslt_state.h - what the opaque descriptors of cublasLt hold in the emulation. */
#ifndef FLAT_EMULATION_CUBLASLT_STATE_H
#define FLAT_EMULATION_CUBLASLT_STATE_H

#include "runtime.h"

#include <cublasLt.h>

namespace emu {

struct matrix_layout {
    cudaDataType_t type;
    int32_t order, batch_count;
    uint64_t rows, cols;
    int64_t ld, batch_stride; /* in elements */
};

struct matmul_description {
    cublasComputeType_t compute;
    cudaDataType_t scale_type;
    int32_t pointer_mode, transpose_a, transpose_b, transpose_c, bias_type;
    uint32_t epilogue;
    void *bias;
    int64_t bias_batch_stride;
};

struct matmul_preference {
    uint64_t workspace_bytes;
};

/* Algorithms differ in the order of their sums, as real ones do: callers that need the same bits must pin one. Number i adds up i + 1
 * parts of k. */
enum { ALGORITHM_WHOLE = 0, ALGORITHMS_MOST = 8 };
static inline bool algorithm_known(int32_t algorithm)
{
    return algorithm >= 0 && algorithm < ALGORITHMS_MOST && algorithm < config.matmul_algorithms;
}

struct matmul_choice {
    uint64_t mark;
    int32_t algorithm;
};
static constexpr uint64_t CHOICE_MARK = 0x656d75636c74ull;

static_assert(sizeof(matrix_layout) <= sizeof(cublasLtMatrixLayoutOpaque_t), "fits");
static_assert(sizeof(matmul_description) <= sizeof(cublasLtMatmulDescOpaque_t), "fits");
static_assert(sizeof(matmul_preference) <= sizeof(cublasLtMatmulPreferenceOpaque_t), "fits");
static_assert(sizeof(matmul_choice) <= sizeof(cublasLtMatmulAlgo_t), "fits");

template <class State, class Opaque> State *state_of(Opaque *opaque)
{
    return reinterpret_cast<State *>(opaque->data);
}

struct matmul_shape {
    uint64_t m, n, k;
    int32_t batches;
};

/* Whether the operation is one that is emulated and its matrices fit each other; fills *shape. */
cublasStatus_t matmul_check(const matmul_description *operation, const matrix_layout *a, const matrix_layout *b,
                            const matrix_layout *c, const matrix_layout *d, matmul_shape *shape);
size_t matmul_workspace(int32_t algorithm, const matmul_shape *shape);
/* Prints why, and returns the status. */
cublasStatus_t matmul_reject(cublasStatus_t status, const char *format, ...) __attribute__((format(printf, 2, 3)));

} // namespace emu

#endif
