/* selftest_device.cu - device side of the self-test: the demo kernels against double, byte counts, warp functions. */
#include "selftest.h"
#include "demo.h"
#ifdef EMU
#include "emulation_control.h"
#endif

/* ---- demo ----------------------------------------------------------------------------------------------------- */

/* The count of a memory-bound kernel against the formula of its contract: within 5 %. */
static void expect_bytes(const char *kernel, uint64_t read_formula, uint64_t written_formula)
{
#ifdef EMU
    uint64_t read, written, launches, checked_read, checked_written;
    EXPECT(emu_counter_read(kernel, &read, &written, &launches), "kernel %s was not counted", kernel);
    EXPECT(launches == 1, "%llu launches", (unsigned long long)launches);
    EXPECT(fabs((double)read - (double)read_formula) <= 0.05 * (double)read_formula, "read %llu, contract %llu",
           (unsigned long long)read, (unsigned long long)read_formula);
    EXPECT(fabs((double)written - (double)written_formula) <= 0.05 * (double)written_formula, "written %llu, contract %llu",
           (unsigned long long)written, (unsigned long long)written_formula);
    if (emu_counter_read_checked(kernel, &checked_read, &checked_written))
        EXPECT(checked_read == read && checked_written == written, "accesses pass by the helpers: %llu and %llu",
               (unsigned long long)checked_read, (unsigned long long)checked_written);
#else
    (void)kernel, (void)read_formula, (void)written_formula;
#endif
}

template <typename T> static uint64_t check_row_sum(int rows, int cols)
{
    const std::vector<float> values = test_values((size_t)rows * (size_t)cols);
    std::vector<T> x(values.size());
    for (size_t i = 0; i < x.size(); i++)
        x[i] = T(values[i]);
    device_array<T> device_x(x);
    device_array<float> sums((size_t)rows), total(1);
    device_array<unsigned> counter(std::vector<unsigned>{0});
#ifdef EMU
    emu_counter_reset();
#endif
    CUDA_OK(demo_row_sum(device_x.data, rows, cols, sums.data, total.data, counter.data, 0));
    CUDA_OK(cudaDeviceSynchronize());
    /* A row: its elements, its sum written and read again, and one atomic. */
    const uint64_t elements = (uint64_t)rows * (uint64_t)cols;
    expect_bytes("row_sum_kernel", elements * sizeof(T) + (uint64_t)rows * 8, (uint64_t)rows * 8 + 8);
    const std::vector<float> result = sums.get();
    double error = 0.0, all = 0.0;
    for (int row = 0; row < rows; row++) {
        double sum = 0.0;
        for (int i = 0; i < cols; i++)
            sum += values[(size_t)row * (size_t)cols + (size_t)i];
        error = worse(error, fabs(sum - result[(size_t)row]));
        all += sum;
    }
    error = worse(error, fabs(all - total.get()[0]));
    EXPECT(error == 0.0, "%d x %d: error %g", rows, cols, error);
    EXPECT(counter.get()[0] == 0, "the counter was left at %u", counter.get()[0]);
    return hash_bytes(result.data(), result.size() * sizeof(float));
}

static uint64_t check_matmul(int m, int n, int k)
{
    std::vector<bf16> a((size_t)m * (size_t)k), b((size_t)n * (size_t)k);
    for (size_t i = 0; i < a.size(); i++)
        a[i] = bf16(sinf((float)i));
    for (size_t i = 0; i < b.size(); i++)
        b[i] = bf16(cosf((float)i * 0.7f));
    device_array<bf16> device_a(a), device_b(b);
    device_array<float> c((size_t)m * (size_t)n);
    CUDA_OK(demo_matmul(device_a.data, device_b.data, c.data, m, n, k, 0));
    CUDA_OK(cudaDeviceSynchronize());
    const std::vector<float> result = c.get();
    double error = 0.0;
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            double sum = 0.0;
            const bf16 *a_row = &a[(size_t)i * (size_t)k], *b_row = &b[(size_t)j * (size_t)k];
            for (int l = 0; l < k; l++)
                sum += (double)(float)a_row[l] * (double)(float)b_row[l];
            error = worse(error, fabs(sum - result[(size_t)i * (size_t)n + (size_t)j]));
        }
    EXPECT(error < 1e-6 * k, "matmul %d x %d x %d: error %g", m, n, k, error);
    return hash_bytes(result.data(), result.size() * sizeof(float));
}

void selftest_demo(void)
{
    uint64_t hash = 0;
    hash ^= check_row_sum<float>(1, 1) ^ check_row_sum<float>(7, 1021) ^ check_row_sum<float>(33, 64);
    hash ^= check_row_sum<bf16>(5, 3) ^ check_row_sum<bf16>(9, 2047) ^ check_row_sum<bf16>(16, 4096);
    hash ^= check_matmul(64, 64, 32) ^ check_matmul(1, 5, 8) ^ check_matmul(100, 72, 88);
    printf("hash %016llx\n", (unsigned long long)hash);
}

/* ---- warp functions ------------------------------------------------------------------------------------------- */

enum { FEATURES = 13 };

static __global__ void features_kernel(const int *in, int *out)
{
    SHARED(int, pair, [64]);
    const int t = (int)threadIdx.x, value = load_global(in + t);
    int result[FEATURES];
    result[0] = __shfl_up_sync(FULL_WARP, value, 3);
    result[1] = __shfl_down_sync(FULL_WARP, value, 5, 16);
    result[2] = __shfl_sync(FULL_WARP, value, 7, 8);
    result[3] = __shfl_xor_sync(FULL_WARP, value, 9, 16);
    result[4] = (int)__ballot_sync(FULL_WARP, value & 1);
    result[5] = __reduce_add_sync(FULL_WARP, value);
    result[6] = (int)__reduce_max_sync(FULL_WARP, (unsigned)value);
    if (t & 1) /* two halves of a warp in flight at once */
        result[7] = __shfl_xor_sync(0xaaaaaaaau, value, 2);
    else
        result[7] = __shfl_xor_sync(0x55555555u, value, 4);
    result[8] = __syncthreads_count(value > 50);
    result[9] = __syncthreads_or(value > 1000) + 2 * __syncthreads_and(value < 1000);
    result[10] = __any_sync(FULL_WARP, value == 3) + 2 * __all_sync(FULL_WARP, value >= 0);
    pair[t] = value;
    __syncwarp();
    result[11] = pair[t ^ 1];
    result[12] = t < 32 ? __popc(__ballot_sync(FULL_WARP, value > 4)) : -1; /* the other warp does not take part */
    for (int i = 0; i < FEATURES; i++)
        store_global(out + t * FEATURES + i, result[i]);
}

void selftest_features(void)
{
    std::vector<int> in(64);
    for (int i = 0; i < 64; i++)
        in[(size_t)i] = i;
    device_array<int> device_in(in), out(64 * FEATURES);
    CUDA_OK(LAUNCH(features_kernel, 1, 64, 0, 0, device_in.data, out.data));
    CUDA_OK(cudaDeviceSynchronize());
    const std::vector<int> result = out.get();
    for (int t = 0; t < 64; t++) {
        const int lane = t % 32, base = t - lane;
        const int expected[FEATURES] = {lane >= 3 ? t - 3 : t,
                                        lane % 16 + 5 < 16 ? t + 5 : t,
                                        base + lane / 8 * 8 + 7,
                                        base + (lane ^ 9),
                                        (int)0xaaaaaaaau,
                                        32 * base + 496,
                                        base + 31,
                                        base + (lane ^ (t & 1 ? 2 : 4)),
                                        13,
                                        2,
                                        (base == 0) + 2,
                                        t ^ 1,
                                        t < 32 ? 27 : -1};
        for (int i = 0; i < FEATURES; i++)
            EXPECT(result[(size_t)(t * FEATURES + i)] == expected[i], "feature %d of thread %d is %d, not %d", i, t,
                   result[(size_t)(t * FEATURES + i)], expected[i]);
    }
}
