/* selftest.h - what the files of the emulation's self-test share. */
#ifndef FLAT_EMULATION_SELFTEST_H
#define FLAT_EMULATION_SELFTEST_H
#include "engine/gpu.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

/* Ends the process with 3 when a runtime call fails: the text is on stderr. */
#define CUDA_OK(call)                                                                                      \
    do {                                                                                                   \
        const cudaError_t status_ = (call);                                                                \
        if (status_ != cudaSuccess) {                                                                      \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, cudaGetErrorString(status_));               \
            exit(3);                                                                                       \
        }                                                                                                  \
    } while (0)

/* Ends the process with 4 when a result is wrong. */
#define EXPECT(condition, ...)                                                                             \
    do {                                                                                                   \
        if (!(condition)) {                                                                                \
            fprintf(stderr, "%s:%d: expected %s; ", __FILE__, __LINE__, #condition);                       \
            fprintf(stderr, __VA_ARGS__);                                                                  \
            fprintf(stderr, "\n");                                                                         \
            exit(4);                                                                                       \
        }                                                                                                  \
    } while (0)

/* An array in device memory. */
template <typename T> struct device_array {
    T *data;
    size_t count;

    explicit device_array(size_t n) : data(nullptr), count(n) { CUDA_OK(cudaMalloc((void **)&data, n * sizeof(T))); }
    explicit device_array(const std::vector<T> &from) : device_array(from.size())
    {
        CUDA_OK(cudaMemcpy(data, from.data(), count * sizeof(T), cudaMemcpyHostToDevice));
    }
    device_array(const device_array &) = delete;
    ~device_array() { CUDA_OK(cudaFree(data)); }
    std::vector<T> get() const
    {
        std::vector<T> to(count);
        CUDA_OK(cudaMemcpy(to.data(), data, count * sizeof(T), cudaMemcpyDeviceToHost));
        return to;
    }
};

/* The larger error; NaN wins, where fmax would drop it. */
static inline double worse(double a, double b)
{
    return a != a ? a : b > a || b != b ? b : a;
}

/* Small halves: their sums are exact in float in any order, so that results are the same bits in every build. */
static inline std::vector<float> test_values(size_t count)
{
    std::vector<float> values(count);
    for (size_t i = 0; i < count; i++)
        values[i] = (float)(i * 7 % 37) - 17.5f;
    return values;
}

static inline uint64_t hash_bytes(const void *data, size_t bytes)
{
    uint64_t hash = 0xcbf29ce484222325ull;
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ ((const unsigned char *)data)[i]) * 0x100000001b3ull;
    return hash;
}

void selftest_demo(void);
void selftest_features(void);
void selftest_matmul(void);
void selftest_matmul_misuse(bool uninitialised);
void selftest_streams(bool planted);
void selftest_graph(void);
void selftest_host_misuse(const char *name);

#endif
