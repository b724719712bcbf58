/* cublaslt_matmul.cpp - cublasLtMatmul over CBLAS.
 *
 *     D = epilogue(alpha op(A) op(B) + beta C)      column major, op(A) is m x k, op(B) k x n, C and D m x n
 *
 * A and B in bf16 or float (both the same), C and D in bf16 or float (both the same), float accumulation and one
 * rounding at the end. Epilogues: bias along the rows of D, ReLU, GELU (the tanh form), and bias gradients as sums of A
 * or B over k. What real cublasLt would refuse is refused here.
 */
#include "cublaslt_state.h"

#include <cblas.h>
#include <cstdio>

namespace emu {

static size_t type_bytes(cudaDataType_t type)
{
    return type == CUDA_R_32F ? 4 : 2;
}

static bool is_supported_type(cudaDataType_t type)
{
    return type == CUDA_R_32F || type == CUDA_R_16BF;
}

enum : uint32_t {
    EPILOGUES = CUBLASLT_EPILOGUE_DEFAULT | CUBLASLT_EPILOGUE_RELU | CUBLASLT_EPILOGUE_BIAS | CUBLASLT_EPILOGUE_GELU |
                CUBLASLT_EPILOGUE_BGRADA | CUBLASLT_EPILOGUE_BGRADB,
    EPILOGUES_WITH_VECTOR = CUBLASLT_EPILOGUE_BIAS | CUBLASLT_EPILOGUE_BGRADA | CUBLASLT_EPILOGUE_BGRADB
};

/* ---- checks --------------------------------------------------------------------------------------------------- */

static cublasStatus_t layout_check(const char *name, const matrix_layout *layout)
{
    if (!is_supported_type(layout->type))
        return matmul_reject(CUBLAS_STATUS_NOT_SUPPORTED, "type %d of %s is not emulated", layout->type, name);
    if (layout->order != CUBLASLT_ORDER_COL)
        return matmul_reject(CUBLAS_STATUS_NOT_SUPPORTED, "%s is not in column order", name);
    if (layout->rows == 0 || layout->cols == 0 || layout->ld < (int64_t)layout->rows || layout->batch_count < 1)
        return matmul_reject(CUBLAS_STATUS_INVALID_VALUE, "%s is %lu x %lu with leading dimension %ld", name,
                             (unsigned long)layout->rows, (unsigned long)layout->cols, (long)layout->ld);
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t operation_check(const matmul_description *operation, cudaDataType_t output)
{
    const bool compute = operation->compute == CUBLAS_COMPUTE_32F ||
                         operation->compute == CUBLAS_COMPUTE_32F_PEDANTIC ||
                         operation->compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    if (!compute || operation->scale_type != CUDA_R_32F)
        return matmul_reject(CUBLAS_STATUS_NOT_SUPPORTED, "compute type %d with scale type %d is not emulated",
                             operation->compute, operation->scale_type);
    if (operation->transpose_c != CUBLAS_OP_N)
        return matmul_reject(CUBLAS_STATUS_NOT_SUPPORTED, "C cannot be transposed");
    if (operation->pointer_mode != CUBLASLT_POINTER_MODE_HOST &&
        operation->pointer_mode != CUBLASLT_POINTER_MODE_DEVICE)
        return matmul_reject(CUBLAS_STATUS_NOT_SUPPORTED, "pointer mode %d is not emulated", operation->pointer_mode);
    if (operation->epilogue == 0 || (operation->epilogue & ~(uint32_t)EPILOGUES) != 0)
        return matmul_reject(CUBLAS_STATUS_NOT_SUPPORTED, "epilogue %u is not emulated", operation->epilogue);
    if (operation->bias_type != -1 && operation->bias_type != (int32_t)output)
        return matmul_reject(CUBLAS_STATUS_NOT_SUPPORTED, "bias of another type than D");
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t matmul_check(const matmul_description *operation, const matrix_layout *a, const matrix_layout *b,
                            const matrix_layout *c, const matrix_layout *d, matmul_shape *shape)
{
    const matrix_layout *layouts[4] = {a, b, c, d};
    const char *names[4] = {"A", "B", "C", "D"};
    for (int i = 0; i < 4; i++) {
        const cublasStatus_t status = layout_check(names[i], layouts[i]);
        if (status != CUBLAS_STATUS_SUCCESS)
            return status;
    }
    const bool ta = operation->transpose_a != CUBLAS_OP_N, tb = operation->transpose_b != CUBLAS_OP_N;
    *shape = {ta ? a->cols : a->rows, tb ? b->rows : b->cols, ta ? a->rows : a->cols, d->batch_count};
    if ((tb ? b->cols : b->rows) != shape->k || c->rows != shape->m || c->cols != shape->n || d->rows != shape->m ||
        d->cols != shape->n || a->batch_count != d->batch_count || b->batch_count != d->batch_count ||
        c->batch_count != d->batch_count)
        return matmul_reject(CUBLAS_STATUS_INVALID_VALUE,
                             "op(A) is %lu x %lu, op(B) %lu x %lu, C %lu x %lu, D %lu x %lu: they do not fit",
                             (unsigned long)shape->m, (unsigned long)shape->k, (unsigned long)(tb ? b->cols : b->rows),
                             (unsigned long)shape->n, (unsigned long)c->rows, (unsigned long)c->cols,
                             (unsigned long)d->rows, (unsigned long)d->cols);
    if (a->type != b->type || c->type != d->type || (a->type == CUDA_R_32F && d->type != CUDA_R_32F))
        return matmul_reject(CUBLAS_STATUS_NOT_SUPPORTED, "types A %d, B %d, C %d, D %d do not go together", a->type,
                             b->type, c->type, d->type);
    return operation_check(operation, d->type);
}

size_t matmul_workspace(int32_t algorithm, const matmul_shape *shape)
{
    return algorithm == ALGORITHM_WHOLE ? 0 : shape->m * shape->n * sizeof(float);
}

/* Bytes from the first to the last element of all batches. */
static size_t extent(const matrix_layout *layout)
{
    const size_t elements = (size_t)(layout->batch_count - 1) * (size_t)layout->batch_stride +
                            (size_t)(layout->cols - 1) * (size_t)layout->ld + (size_t)layout->rows;
    return elements * type_bytes(layout->type);
}

static bool overlap(const void *a, size_t a_bytes, const void *b, size_t b_bytes)
{
    return (const char *)a < (const char *)b + b_bytes && (const char *)b < (const char *)a + a_bytes;
}

/* ---- one matrix ----------------------------------------------------------------------------------------------- */

static float element(const void *memory, size_t index, cudaDataType_t type)
{
    if (type == CUDA_R_32F)
        return ((const float *)memory)[index];
    return __uint_as_float((uint32_t)((const uint16_t *)memory)[index] << 16);
}

static void element_set(void *memory, size_t index, cudaDataType_t type, float value)
{
    if (type == CUDA_R_32F)
        ((float *)memory)[index] = value;
    else
        ((uint16_t *)memory)[index] = bf16_round(value);
}

struct float_matrix {
    const float *data;
    int64_t ld;
    std::vector<float> copy;
};

static void read_check(const void *memory, const matrix_layout *layout, int32_t batch, const char *name)
{
    for (uint64_t column = 0; column < layout->cols; column++) {
        const size_t start = (size_t)batch * (size_t)layout->batch_stride + column * (size_t)layout->ld;
        const size_t size = type_bytes(layout->type);
        const char *reason = check_host_read((const char *)memory + start * size, layout->rows * size);
        if (reason)
            fault_record(cudaErrorLaunchFailure, std::string("cublasLtMatmul reads ") + reason + " as " + name);
    }
}

/* A batch of a matrix as floats, without gaps if it had to be widened. */
static void widen(float_matrix *out, const void *memory, const matrix_layout *layout, int32_t batch)
{
    const size_t start = (size_t)batch * (size_t)layout->batch_stride;
    if (layout->type == CUDA_R_32F) {
        out->data = (const float *)memory + start;
        out->ld = layout->ld;
        return;
    }
    out->copy.resize(layout->rows * layout->cols);
    for (uint64_t column = 0; column < layout->cols; column++) {
        const uint16_t *from = (const uint16_t *)memory + start + column * (size_t)layout->ld;
        float *to = out->copy.data() + column * layout->rows;
        for (uint64_t row = 0; row < layout->rows; row++)
            to[row] = __uint_as_float((uint32_t)from[row] << 16);
    }
    out->data = out->copy.data();
    out->ld = (int64_t)layout->rows;
}

/* ---- the product ---------------------------------------------------------------------------------------------- */

struct matmul_call {
    matmul_description operation;
    matrix_layout a, b, c, d;
    const void *a_data, *b_data, *c_data;
    void *d_data;
    const float *alpha_device, *beta_device; /* null in host pointer mode */
    float alpha, beta;
    int32_t algorithm;
    matmul_shape shape;
};

static void product(const matmul_call *call, const float_matrix *a, const float_matrix *b, float *result)
{
    const bool ta = call->operation.transpose_a != CUBLAS_OP_N, tb = call->operation.transpose_b != CUBLAS_OP_N;
    const int m = (int)call->shape.m, n = (int)call->shape.n, k = (int)call->shape.k;
    const int parts = call->algorithm < k ? call->algorithm + 1 : 1;
    for (int part = 0, from = 0, to; part < parts; part++, from = to) {
        to = (int)((int64_t)k * (part + 1) / parts);
        const float *a_part = a->data + (ta ? from : (int64_t)from * a->ld);
        const float *b_part = b->data + (tb ? (int64_t)from * b->ld : from);
        cblas_sgemm(CblasColMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, m, n, to - from,
                    call->alpha, a_part, (int)a->ld, b_part, (int)b->ld, part ? 1.0f : 0.0f, result, m);
    }
}

static float activate(uint32_t epilogue, float x)
{
    if (epilogue & CUBLASLT_EPILOGUE_RELU)
        return x > 0.0f ? x : 0.0f;
    if (epilogue & CUBLASLT_EPILOGUE_GELU)
        return 0.5f * x * (1.0f + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
    return x;
}

static void store(const matmul_call *call, const float *result, int32_t batch)
{
    const matrix_layout *c = &call->c, *d = &call->d;
    const uint32_t epilogue = call->operation.epilogue;
    const size_t bias_start = (size_t)batch * (size_t)call->operation.bias_batch_stride;
    for (uint64_t column = 0; column < d->cols; column++) {
        const size_t to = (size_t)batch * (size_t)d->batch_stride + column * (size_t)d->ld;
        const size_t from = (size_t)batch * (size_t)c->batch_stride + column * (size_t)c->ld;
        for (uint64_t row = 0; row < d->rows; row++) {
            float value = result[column * d->rows + row];
            if (call->beta != 0.0f)
                value += call->beta * element(call->c_data, from + row, c->type);
            if (epilogue & CUBLASLT_EPILOGUE_BIAS)
                value += element(call->operation.bias, bias_start + row, d->type);
            element_set(call->d_data, to + row, d->type, activate(epilogue, value));
        }
        check_host_write((char *)call->d_data + to * type_bytes(d->type), d->rows * type_bytes(d->type));
    }
}

/* Sums of op(A) or op(B) over k, one per row or column of D. */
static void bias_gradient(const matmul_call *call, const float_matrix *matrix, bool k_is_rows, uint64_t count,
                          int32_t batch)
{
    const size_t start = (size_t)batch * (size_t)call->operation.bias_batch_stride;
    for (uint64_t i = 0; i < count; i++) {
        float sum = 0.0f;
        for (uint64_t k = 0; k < call->shape.k; k++)
            sum += matrix->data[k_is_rows ? i * (uint64_t)matrix->ld + k : k * (uint64_t)matrix->ld + i];
        element_set(call->operation.bias, start + i, call->d.type, sum);
    }
    check_host_write((char *)call->operation.bias + start * type_bytes(call->d.type), count * type_bytes(call->d.type));
}

static void matmul_run(matmul_call call)
{
    if (!config.run)
        return;
    device_open open;
    if (call.alpha_device) {
        call.alpha = *call.alpha_device;
        call.beta = *call.beta_device;
    }
    std::vector<float> result(call.shape.m * call.shape.n);
    for (int32_t batch = 0; batch < call.shape.batches; batch++) {
        float_matrix a, b;
        read_check(call.a_data, &call.a, batch, "A");
        read_check(call.b_data, &call.b, batch, "B");
        if (call.beta != 0.0f)
            read_check(call.c_data, &call.c, batch, "C");
        widen(&a, call.a_data, &call.a, batch);
        widen(&b, call.b_data, &call.b, batch);
        product(&call, &a, &b, result.data());
        if (call.operation.epilogue & CUBLASLT_EPILOGUE_BGRADA)
            bias_gradient(&call, &a, call.operation.transpose_a != CUBLAS_OP_N, call.shape.m, batch);
        if (call.operation.epilogue & CUBLASLT_EPILOGUE_BGRADB)
            bias_gradient(&call, &b, call.operation.transpose_b == CUBLAS_OP_N, call.shape.n, batch);
        store(&call, result.data(), batch);
    }
    const uint64_t in = call.shape.m * call.shape.k + call.shape.k * call.shape.n, out = call.shape.m * call.shape.n;
    const uint64_t batches = (uint64_t)call.shape.batches, d_bytes = out * type_bytes(call.d.type);
    time_pretend(call.algorithm == config.matmul_fastest ? 0 : 1);
    kernel_counter *counter = counter_find("matmul");
    counter_add_launch(counter, 0);
    const uint64_t read = in * type_bytes(call.a.type) + (call.beta != 0.0f ? d_bytes : 0);
    counter_add(counter, batches * read, batches * d_bytes);
}

/* Pointers: all in device memory, D apart from A and B. */
static cublasStatus_t pointers_check(const matmul_call *call, const void *workspace, size_t workspace_bytes)
{
    const size_t a_bytes = extent(&call->a), b_bytes = extent(&call->b);
    const size_t c_bytes = extent(&call->c), d_bytes = extent(&call->d);
    const bool reads_c = call->beta_device || call->beta != 0.0f;
    if (!is_device(call->a_data, a_bytes) || !is_device(call->b_data, b_bytes) || !is_device(call->d_data, d_bytes) ||
        (reads_c && !is_device(call->c_data, c_bytes)))
        return matmul_reject(CUBLAS_STATUS_INVALID_VALUE, "a matrix is not, or not as a whole, in device memory");
    if (overlap(call->d_data, d_bytes, call->a_data, a_bytes) || overlap(call->d_data, d_bytes, call->b_data, b_bytes))
        return matmul_reject(CUBLAS_STATUS_INVALID_VALUE, "D overlaps A or B");
    if (reads_c && call->c_data == call->d_data && call->c.ld != call->d.ld)
        return matmul_reject(CUBLAS_STATUS_INVALID_VALUE, "C and D are one matrix with two leading dimensions");
    if (call->operation.epilogue & EPILOGUES_WITH_VECTOR) {
        const bool by_column = call->operation.epilogue & CUBLASLT_EPILOGUE_BGRADB;
        const size_t count = by_column ? call->shape.n : call->shape.m;
        if (!is_device(call->operation.bias, count * type_bytes(call->d.type)))
            return matmul_reject(CUBLAS_STATUS_INVALID_VALUE, "the bias is not in device memory");
    }
    const size_t needed = matmul_workspace(call->algorithm, &call->shape);
    if (needed > workspace_bytes || (needed && !is_device(workspace, needed)))
        return matmul_reject(CUBLAS_STATUS_INVALID_VALUE, "the algorithm needs %zu bytes of workspace", needed);
    return CUBLAS_STATUS_SUCCESS;
}

} // namespace emu

using namespace emu;

extern "C" cublasStatus_t CUBLASWINAPI cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                                      const void *alpha, const void *a, cublasLtMatrixLayout_t a_layout,
                                                      const void *b, cublasLtMatrixLayout_t b_layout, const void *beta,
                                                      const void *c, cublasLtMatrixLayout_t c_layout, void *d,
                                                      cublasLtMatrixLayout_t d_layout,
                                                      const cublasLtMatmulAlgo_t *algorithm, void *workspace,
                                                      size_t workspace_bytes, cudaStream_t stream)
{
    matmul_call call = {};
    if (!handle)
        return matmul_reject(CUBLAS_STATUS_NOT_INITIALIZED, "no handle");
    call.operation = *state_of<matmul_description>(operation);
    call.a = *state_of<matrix_layout>(a_layout);
    call.b = *state_of<matrix_layout>(b_layout);
    call.c = *state_of<matrix_layout>(c_layout);
    call.d = *state_of<matrix_layout>(d_layout);
    cublasStatus_t status = matmul_check(&call.operation, &call.a, &call.b, &call.c, &call.d, &call.shape);
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    call.a_data = a;
    call.b_data = b;
    call.c_data = c;
    call.d_data = d;
    if (call.operation.pointer_mode == CUBLASLT_POINTER_MODE_DEVICE) {
        if (!is_device(alpha, 4) || !is_device(beta, 4))
            return matmul_reject(CUBLAS_STATUS_INVALID_VALUE, "alpha or beta is not in device memory");
        call.alpha_device = (const float *)alpha;
        call.beta_device = (const float *)beta;
    } else {
        call.alpha = *(const float *)alpha;
        call.beta = *(const float *)beta;
    }
    if (algorithm) {
        const matmul_choice *choice = state_of<const matmul_choice>(algorithm);
        if (choice->mark != CHOICE_MARK || !algorithm_known(choice->algorithm))
            return matmul_reject(CUBLAS_STATUS_INVALID_VALUE, "the algorithm is not one that a heuristic returned");
        call.algorithm = choice->algorithm;
    }
    status = pointers_check(&call, workspace, workspace_bytes);
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    calls.launches++;
    const cudaError_t queued = stream_enqueue(stream, [call] {
        matmul_run(call);
        return true;
    });
    return queued == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
