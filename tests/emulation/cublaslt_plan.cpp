/* cublaslt_plan.cpp - handles, descriptors, preferences and algorithm choice of cublasLt. */
#include "cublaslt_state.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

struct cublasLtContext {
    int unused;
};

namespace emu {

cublasStatus_t matmul_reject(cublasStatus_t status, const char *format, ...)
{
    char text[400];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    fprintf(stderr, "emulation: cublasLt: %s\n", text);
    if (config.abort_on_fault)
        abort();
    return status;
}

static cublasStatus_t set(void *field, size_t field_bytes, const void *value, size_t bytes)
{
    if (!value || bytes != field_bytes)
        return matmul_reject(CUBLAS_STATUS_INVALID_VALUE, "an attribute of %zu bytes was set from %zu", field_bytes,
                             bytes);
    memcpy(field, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t get(const void *field, size_t field_bytes, void *value, size_t bytes, size_t *written)
{
    if (written)
        *written = field_bytes;
    if (bytes == 0)
        return written ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
    if (!value || bytes != field_bytes)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(value, field, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

#define SET(field) set(&(field), sizeof(field), value, bytes)

} // namespace emu

using namespace emu;

extern "C" {

cublasStatus_t CUBLASWINAPI cublasLtCreate(cublasLtHandle_t *handle)
{
    *handle = new cublasLtContext();
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CUBLASWINAPI cublasLtDestroy(cublasLtHandle_t handle)
{
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

size_t CUBLASWINAPI cublasLtGetVersion(void)
{
    return (size_t)config.cublaslt_version;
}

const char *CUBLASWINAPI cublasLtGetStatusString(cublasStatus_t status)
{
    switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "success";
    case CUBLAS_STATUS_INVALID_VALUE: return "invalid value";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "not supported";
    case CUBLAS_STATUS_EXECUTION_FAILED: return "execution failed";
    default: return "cublasLt error";
    }
}

/* ---- layouts -------------------------------------------------------------------------------------------------- */

cublasStatus_t CUBLASWINAPI cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t layout, size_t size,
                                                              cudaDataType type, uint64_t rows, uint64_t cols,
                                                              int64_t ld)
{
    if (size < sizeof *layout)
        return CUBLAS_STATUS_ALLOC_FAILED;
    *state_of<matrix_layout>(layout) = {type, CUBLASLT_ORDER_COL, 1, rows, cols, ld, 0};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CUBLASWINAPI cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType type, uint64_t rows,
                                                       uint64_t cols, int64_t ld)
{
    *layout = new cublasLtMatrixLayoutOpaque_t();
    return cublasLtMatrixLayoutInit_internal(*layout, sizeof **layout, type, rows, cols, ld);
}

cublasStatus_t CUBLASWINAPI cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    delete layout;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CUBLASWINAPI cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                             cublasLtMatrixLayoutAttribute_t attribute,
                                                             const void *value, size_t bytes)
{
    matrix_layout *state = state_of<matrix_layout>(layout);
    switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_TYPE: return SET(state->type);
    case CUBLASLT_MATRIX_LAYOUT_ORDER: return SET(state->order);
    case CUBLASLT_MATRIX_LAYOUT_ROWS: return SET(state->rows);
    case CUBLASLT_MATRIX_LAYOUT_COLS: return SET(state->cols);
    case CUBLASLT_MATRIX_LAYOUT_LD: return SET(state->ld);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT: return SET(state->batch_count);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET: return SET(state->batch_stride);
    default: return matmul_reject(CUBLAS_STATUS_NOT_SUPPORTED, "layout attribute %d is not emulated", attribute);
    }
}

/* ---- operations ----------------------------------------------------------------------------------------------- */

cublasStatus_t CUBLASWINAPI cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t operation, size_t size,
                                                            cublasComputeType_t compute, cudaDataType_t scale_type)
{
    if (size < sizeof *operation)
        return CUBLAS_STATUS_ALLOC_FAILED;
    matmul_description state = {};
    state.compute = compute;
    state.scale_type = scale_type;
    state.pointer_mode = CUBLASLT_POINTER_MODE_HOST;
    state.transpose_a = state.transpose_b = state.transpose_c = CUBLAS_OP_N;
    state.epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    state.bias_type = -1;
    *state_of<matmul_description>(operation) = state;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CUBLASWINAPI cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *operation, cublasComputeType_t compute,
                                                     cudaDataType_t scale_type)
{
    *operation = new cublasLtMatmulDescOpaque_t();
    return cublasLtMatmulDescInit_internal(*operation, sizeof **operation, compute, scale_type);
}

cublasStatus_t CUBLASWINAPI cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation)
{
    delete operation;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CUBLASWINAPI cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation,
                                                           cublasLtMatmulDescAttributes_t attribute, const void *value,
                                                           size_t bytes)
{
    matmul_description *state = state_of<matmul_description>(operation);
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_COMPUTE_TYPE: return SET(state->compute);
    case CUBLASLT_MATMUL_DESC_SCALE_TYPE: return SET(state->scale_type);
    case CUBLASLT_MATMUL_DESC_POINTER_MODE: return SET(state->pointer_mode);
    case CUBLASLT_MATMUL_DESC_TRANSA: return SET(state->transpose_a);
    case CUBLASLT_MATMUL_DESC_TRANSB: return SET(state->transpose_b);
    case CUBLASLT_MATMUL_DESC_TRANSC: return SET(state->transpose_c);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return SET(state->epilogue);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return SET(state->bias);
    case CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE: return SET(state->bias_batch_stride);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: return SET(state->bias_type);
    default: return matmul_reject(CUBLAS_STATUS_NOT_SUPPORTED, "operation attribute %d is not emulated", attribute);
    }
}

/* ---- choice of algorithm -------------------------------------------------------------------------------------- */

cublasStatus_t CUBLASWINAPI cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference)
{
    *preference = new cublasLtMatmulPreferenceOpaque_t();
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CUBLASWINAPI cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference)
{
    delete preference;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t CUBLASWINAPI cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                                 cublasLtMatmulPreferenceAttributes_t attribute,
                                                                 const void *value, size_t bytes)
{
    matmul_preference *state = state_of<matmul_preference>(preference);
    uint32_t hint; /* alignments and reduction schemes change speed only */
    switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: return SET(state->workspace_bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES: return SET(hint);
    default: return matmul_reject(CUBLAS_STATUS_NOT_SUPPORTED, "preference attribute %d is not emulated", attribute);
    }
}

static void fill_result(cublasLtMatmulHeuristicResult_t *result, int32_t algorithm, const matmul_shape *shape)
{
    *result = {};
    *state_of<matmul_choice>(&result->algo) = {CHOICE_MARK, algorithm};
    result->workspaceSize = matmul_workspace(algorithm, shape);
    result->state = CUBLAS_STATUS_SUCCESS;
    result->wavesCount = 1.0f;
}

cublasStatus_t CUBLASWINAPI cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                                           cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                                           cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                                           cublasLtMatmulPreference_t preference, int requested,
                                                           cublasLtMatmulHeuristicResult_t results[], int *returned)
{
    matmul_shape shape;
    *returned = 0;
    if (!handle)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (requested <= 0)
        return matmul_reject(CUBLAS_STATUS_INVALID_VALUE, "%d algorithms requested", requested);
    const cublasStatus_t status =
        matmul_check(state_of<matmul_description>(operation), state_of<matrix_layout>(a), state_of<matrix_layout>(b),
                     state_of<matrix_layout>(c), state_of<matrix_layout>(d), &shape);
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    for (int32_t algorithm = 0; algorithm_known(algorithm) && *returned < requested; algorithm++)
        if (matmul_workspace(algorithm, &shape) <= state_of<matmul_preference>(preference)->workspace_bytes)
            fill_result(&results[(*returned)++], algorithm, &shape);
    return CUBLAS_STATUS_SUCCESS;
}

/* Refuses a stored choice that does not fit, as a plan read from a file may not. */
cublasStatus_t CUBLASWINAPI cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                                    cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                                    cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                                    const cublasLtMatmulAlgo_t *algorithm,
                                                    cublasLtMatmulHeuristicResult_t *result)
{
    const matmul_choice *choice = state_of<const matmul_choice>(algorithm);
    matmul_shape shape;
    if (!handle)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (choice->mark != CHOICE_MARK || !algorithm_known(choice->algorithm))
        return CUBLAS_STATUS_INVALID_VALUE;
    const cublasStatus_t status =
        matmul_check(state_of<matmul_description>(operation), state_of<matrix_layout>(a), state_of<matrix_layout>(b),
                     state_of<matrix_layout>(c), state_of<matrix_layout>(d), &shape);
    if (status == CUBLAS_STATUS_SUCCESS)
        fill_result(result, choice->algorithm, &shape);
    return status;
}

cublasStatus_t CUBLASWINAPI cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algorithm,
                                                                 cublasLtMatmulAlgoConfigAttributes_t attribute,
                                                                 void *value, size_t bytes, size_t *written)
{
    const matmul_choice *choice = state_of<const matmul_choice>(algorithm);
    const int32_t split = choice->algorithm + 1;
    const uint32_t none = 0;
    switch (attribute) {
    case CUBLASLT_ALGO_CONFIG_ID: return get(&choice->algorithm, sizeof choice->algorithm, value, bytes, written);
    case CUBLASLT_ALGO_CONFIG_SPLITK_NUM: return get(&split, sizeof split, value, bytes, written);
    case CUBLASLT_ALGO_CONFIG_TILE_ID:
    case CUBLASLT_ALGO_CONFIG_STAGES_ID:
    case CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME:
    case CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING: return get(&none, sizeof none, value, bytes, written);
    default: return CUBLAS_STATUS_NOT_SUPPORTED;
    }
}

} // extern "C"
