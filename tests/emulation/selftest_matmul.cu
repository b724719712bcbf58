/* selftest_matmul.cu - cublasLt against double: types, transposes, leading dimensions, batches, epilogues, both
 * algorithms; and calls that must be refused.
 */
#include "selftest.h"
#include "engine/tile.cuh"

#include <cstring>
#include <cublasLt.h>

#define LT_OK(call)                                                                                        \
    do {                                                                                                   \
        const cublasStatus_t status_ = (call);                                                             \
        EXPECT(status_ == CUBLAS_STATUS_SUCCESS, "cublasLt status %d", (int)status_);                      \
    } while (0)

/* A column-major matrix with its device copy; `type` says how the elements are stored. */
struct test_matrix {
    cudaDataType_t type;
    int rows, cols, ld;
    std::vector<double> value; /* what the device holds */
    device_array<unsigned char> device;
    cublasLtMatrixLayout_t layout;

    test_matrix(cudaDataType_t t, int r, int c, int padding, int batches, int salt)
        : type(t), rows(r), cols(c), ld(r + padding), value((size_t)ld * (size_t)c * (size_t)batches),
          device(value.size() * (t == CUDA_R_32F ? 4 : 2))
    {
        const int32_t count = batches;
        const int64_t stride = (int64_t)ld * cols;
        upload(salt);
        LT_OK(cublasLtMatrixLayoutCreate(&layout, type, (uint64_t)rows, (uint64_t)cols, ld));
        set(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count);
        set(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride);
    }
    ~test_matrix() { cublasLtMatrixLayoutDestroy(layout); }

    void set(cublasLtMatrixLayoutAttribute_t attribute, const void *data, size_t bytes)
    {
        LT_OK(cublasLtMatrixLayoutSetAttribute(layout, attribute, data, bytes));
    }

    size_t index(int batch, int row, int col) const
    {
        return ((size_t)batch * (size_t)cols + (size_t)col) * (size_t)ld + (size_t)row;
    }

    void upload(int salt)
    {
        const size_t size = type == CUDA_R_32F ? 4 : 2;
        std::vector<unsigned char> bytes(value.size() * size);
        for (size_t i = 0; i < value.size(); i++) {
            const float exact = sinf((float)i * 0.37f + (float)salt);
            const bf16 rounded = bf16(exact);
            value[i] = type == CUDA_R_32F ? exact : (float)rounded;
            memcpy(&bytes[i * size], type == CUDA_R_32F ? (const void *)&exact : (const void *)&rounded, size);
        }
        CUDA_OK(cudaMemcpy(device.data, bytes.data(), bytes.size(), cudaMemcpyHostToDevice));
    }

    /* What is on the device now. */
    std::vector<double> download() const
    {
        const std::vector<unsigned char> bytes = device.get();
        std::vector<double> result(value.size());
        for (size_t i = 0; i < result.size(); i++) {
            float exact;
            bf16 rounded;
            if (type == CUDA_R_32F) {
                memcpy(&exact, &bytes[i * 4], 4);
            } else {
                memcpy(&rounded, &bytes[i * 2], 2);
                exact = (float)rounded;
            }
            result[i] = exact;
        }
        return result;
    }
};

struct matmul_case {
    cudaDataType_t in, out;
    bool transpose_a, transpose_b;
    int m, n, k, batches, padding; /* padding: of every leading dimension */
    float alpha, beta;
    cublasLtEpilogue_t epilogue;
};

/* Everything one case needs. */
struct matmul_setup {
    const matmul_case &t;
    test_matrix a, b, d, bias;
    cublasLtMatmulDesc_t operation;

    explicit matmul_setup(const matmul_case &c)
        : t(c), a(c.in, c.transpose_a ? c.k : c.m, c.transpose_a ? c.m : c.k, c.padding, c.batches, 1),
          b(c.in, c.transpose_b ? c.n : c.k, c.transpose_b ? c.k : c.n, c.padding, c.batches, 2),
          d(c.out, c.m, c.n, c.padding, c.batches, 3), bias(c.out, c.m > c.n ? c.m : c.n, 1, 0, 1, 4)
    {
        const int32_t transpose_a = t.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
        const int32_t transpose_b = t.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
        const uint32_t epilogue = t.epilogue;
        const void *vector = bias.device.data;
        LT_OK(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
        set(CUBLASLT_MATMUL_DESC_TRANSA, &transpose_a, sizeof transpose_a);
        set(CUBLASLT_MATMUL_DESC_TRANSB, &transpose_b, sizeof transpose_b);
        set(CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
        set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, &vector, sizeof vector);
    }
    ~matmul_setup() { cublasLtMatmulDescDestroy(operation); }

    void set(cublasLtMatmulDescAttributes_t attribute, const void *data, size_t bytes)
    {
        LT_OK(cublasLtMatmulDescSetAttribute(operation, attribute, data, bytes));
    }

    double a_value(int batch, int row, int k) const
    {
        return a.value[t.transpose_a ? a.index(batch, k, row) : a.index(batch, row, k)];
    }

    double b_value(int batch, int k, int col) const
    {
        return b.value[t.transpose_b ? b.index(batch, col, k) : b.index(batch, k, col)];
    }

    double expected(int batch, int row, int col) const
    {
        double x = 0.0;
        for (int k = 0; k < t.k; k++)
            x += t.alpha * a_value(batch, row, k) * b_value(batch, k, col);
        x += t.beta * d.value[d.index(batch, row, col)];
        if (t.epilogue & CUBLASLT_EPILOGUE_BIAS)
            x += bias.value[(size_t)row];
        if (t.epilogue & CUBLASLT_EPILOGUE_RELU)
            return x > 0 ? x : 0;
        if (t.epilogue & CUBLASLT_EPILOGUE_GELU)
            return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
        return x;
    }

    /* Relative to what one rounding to the output type, or float sums, may cost. */
    double error_of(double expected_value, double got) const
    {
        return fabs(expected_value - got) / (1e-5 + (t.out == CUDA_R_32F ? 0.0 : 0.004 * fabs(expected_value)));
    }
};

static void compare_product(const matmul_setup &setup, int algorithm)
{
    const matmul_case &t = setup.t;
    const test_matrix &d = setup.d;
    const std::vector<double> got = d.download();
    double error = 0.0;
    for (int batch = 0; batch < t.batches; batch++)
        for (int col = 0; col < t.n; col++) {
            for (int row = 0; row < t.m; row++)
                error = worse(error, setup.error_of(setup.expected(batch, row, col), got[d.index(batch, row, col)]));
            for (int row = t.m; row < d.ld; row++)
                EXPECT(got[d.index(batch, row, col)] == d.value[d.index(batch, row, col)], "padding was written");
        }
    EXPECT(error < 1.0, "matmul %d x %d x %d, algorithm %d: %g of the bound", t.m, t.n, t.k, algorithm, error);
}

static void compare_bias_gradient(const matmul_setup &setup)
{
    const matmul_case &t = setup.t;
    const bool of_a = t.epilogue & CUBLASLT_EPILOGUE_BGRADA, of_b = t.epilogue & CUBLASLT_EPILOGUE_BGRADB;
    const std::vector<double> got = setup.bias.download();
    double error = 0.0;
    for (int i = 0; i < (of_a ? t.m : of_b ? t.n : 0); i++) {
        double sum = 0.0;
        for (int k = 0; k < t.k; k++)
            sum += of_a ? setup.a_value(0, i, k) : setup.b_value(0, k, i);
        error = worse(error, setup.error_of(sum, got[(size_t)i]));
    }
    EXPECT(error < 1.0, "bias gradient: %g of the bound", error);
}

static void check_case(cublasLtHandle_t handle, const matmul_case &t)
{
    matmul_setup setup(t);
    const test_matrix &a = setup.a, &b = setup.b, &d = setup.d;
    const uint64_t workspace_bytes = 1 << 16;
    device_array<unsigned char> workspace(workspace_bytes);
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t results[4], checked;
    int found;
    LT_OK(cublasLtMatmulPreferenceCreate(&preference));
    LT_OK(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes,
                                               sizeof workspace_bytes));
    LT_OK(cublasLtMatmulAlgoGetHeuristic(handle, setup.operation, a.layout, b.layout, d.layout, d.layout, preference, 4,
                                         results, &found));
    LT_OK(cublasLtMatmulPreferenceDestroy(preference));
    EXPECT(found > 0, "no algorithm");
    for (int i = 0; i < found; i++) {
        LT_OK(cublasLtMatmulAlgoCheck(handle, setup.operation, a.layout, b.layout, d.layout, d.layout,
                                      &results[i].algo, &checked));
        setup.d.upload(3);
        LT_OK(cublasLtMatmul(handle, setup.operation, &t.alpha, a.device.data, a.layout, b.device.data, b.layout,
                             &t.beta, d.device.data, d.layout, d.device.data, d.layout, &results[i].algo,
                             workspace.data, workspace_bytes, 0));
        compare_product(setup, i);
        compare_bias_gradient(setup);
    }
}

void selftest_matmul(void)
{
    const cudaDataType_t f = CUDA_R_32F, h = CUDA_R_16BF;
    const matmul_case cases[] = {
        {f, f, false, false, 17, 9, 33, 1, 0, 1.0f, 0.0f, CUBLASLT_EPILOGUE_DEFAULT},
        {f, f, true, false, 8, 12, 5, 1, 3, 0.5f, 1.0f, CUBLASLT_EPILOGUE_BIAS},
        {h, h, true, false, 24, 16, 40, 1, 8, 1.0f, 0.0f, CUBLASLT_EPILOGUE_GELU_BIAS},
        {h, f, false, true, 24, 16, 40, 1, 0, 1.0f, 1.0f, CUBLASLT_EPILOGUE_BGRADB},
        {h, f, true, true, 9, 7, 11, 1, 1, -2.0f, 0.0f, CUBLASLT_EPILOGUE_BGRADA},
        {h, h, false, false, 8, 8, 16, 3, 2, 1.0f, 0.5f, CUBLASLT_EPILOGUE_RELU},
        {h, f, false, false, 1, 1, 1, 1, 0, 1.0f, 0.0f, CUBLASLT_EPILOGUE_DEFAULT},
    };
    cublasLtHandle_t handle;
    LT_OK(cublasLtCreate(&handle));
    for (const matmul_case &t : cases)
        check_case(handle, t);
    LT_OK(cublasLtDestroy(handle));
}

void selftest_matmul_misuse(bool uninitialised)
{
    const float one = 1.0f, zero = 0.0f;
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t square, wide;
    device_array<float> x(std::vector<float>(32, 1.0f)), fresh(32), d(32);
    LT_OK(cublasLtCreate(&handle));
    LT_OK(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    LT_OK(cublasLtMatrixLayoutCreate(&square, CUDA_R_32F, 4, 4, 4));
    LT_OK(cublasLtMatrixLayoutCreate(&wide, CUDA_R_32F, 4, 5, 4));
    const auto multiply = [&](const float *a, cublasLtMatrixLayout_t b, float *to) {
        return cublasLtMatmul(handle, operation, &one, a, square, x.data, b, &zero, to, square, to, square, nullptr,
                              nullptr, 0, 0);
    };
    if (uninitialised) {
        LT_OK(multiply(fresh.data, square, d.data));
        CUDA_OK(cudaDeviceSynchronize());
    } else {
        EXPECT(multiply(x.data, wide, d.data) == CUBLAS_STATUS_INVALID_VALUE, "matrices that do not fit");
        EXPECT(multiply(x.data, square, x.data) == CUBLAS_STATUS_INVALID_VALUE, "D over A");
        EXPECT(multiply(&one, square, d.data) == CUBLAS_STATUS_INVALID_VALUE, "A on the host");
    }
    LT_OK(cublasLtMatrixLayoutDestroy(square));
    LT_OK(cublasLtMatrixLayoutDestroy(wide));
    LT_OK(cublasLtMatmulDescDestroy(operation));
    LT_OK(cublasLtDestroy(handle));
}
