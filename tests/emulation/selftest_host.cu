/* selftest_host.cu - host side of the self-test: streams, events, graphs, and misuse of the runtime API. */
#include "selftest.h"
#include "engine/tile.cuh"

#include <cstring>

static __global__ void scale_add_kernel(float *x, int count, float factor, float term)
{
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < count)
        store_global(x + i, load_global(x + i) * factor + term);
}

/* ---- streams ---------------------------------------------------------------------------------------------------- */

enum { COUNT = 100 };

/* Two streams take turns on one array; planted: without waiting for each other. */
void selftest_streams(bool planted)
{
    cudaStream_t first, second;
    cudaEvent_t done;
    float *pinned;
    device_array<float> x(std::vector<float>(COUNT, 1.0f));
    CUDA_OK(cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking));
    CUDA_OK(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking));
    CUDA_OK(cudaEventCreateWithFlags(&done, cudaEventDisableTiming));
    CUDA_OK(cudaMallocHost((void **)&pinned, COUNT * sizeof(float)));
    for (int i = 0; i < 3; i++) {
        CUDA_OK(LAUNCH(scale_add_kernel, 1, 128, 0, first, x.data, COUNT, 2.0f, 1.0f));
        CUDA_OK(cudaEventRecord(done, first));
        if (!planted)
            CUDA_OK(cudaStreamWaitEvent(second, done, 0));
        CUDA_OK(LAUNCH(scale_add_kernel, 1, 128, 0, second, x.data, COUNT, 2.0f, 5.0f));
        CUDA_OK(cudaEventRecord(done, second));
        if (!planted)
            CUDA_OK(cudaStreamWaitEvent(first, done, 0));
    }
    pinned[0] = -1.0f;
    CUDA_OK(cudaMemcpyAsync(pinned, x.data, COUNT * sizeof(float), cudaMemcpyDeviceToHost, second));
    printf("early %g\n", pinned[0]); /* with EMU_ASYNC the copy has not run yet */
    CUDA_OK(cudaStreamSynchronize(second));
    printf("hash %g\n", pinned[0]);
    CUDA_OK(cudaDeviceSynchronize());
    CUDA_OK(cudaFreeHost(pinned));
    CUDA_OK(cudaEventDestroy(done));
    CUDA_OK(cudaStreamDestroy(first));
    CUDA_OK(cudaStreamDestroy(second));
}

void selftest_graph(void)
{
    cudaStream_t stream, branch;
    cudaEvent_t fork, join;
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    device_array<float> x(std::vector<float>(COUNT, 1.0f));
    CUDA_OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    CUDA_OK(cudaStreamCreateWithFlags(&branch, cudaStreamNonBlocking));
    CUDA_OK(cudaEventCreate(&fork));
    CUDA_OK(cudaEventCreate(&join));
    CUDA_OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    CUDA_OK(LAUNCH(scale_add_kernel, 1, 128, 0, stream, x.data, COUNT, 2.0f, 1.0f));
    CUDA_OK(cudaEventRecord(fork, stream));
    CUDA_OK(cudaStreamWaitEvent(branch, fork, 0));
    CUDA_OK(LAUNCH(scale_add_kernel, 1, 128, 0, branch, x.data, COUNT, 1.0f, 3.0f));
    CUDA_OK(cudaEventRecord(join, branch));
    CUDA_OK(cudaStreamWaitEvent(stream, join, 0));
    CUDA_OK(cudaStreamEndCapture(stream, &graph));
    CUDA_OK(cudaGraphInstantiate(&executable, graph, 0));
    CUDA_OK(cudaGraphDestroy(graph));
    EXPECT(x.get()[0] == 1.0f, "the capture ran something: %g", x.get()[0]);
    for (int i = 0; i < 2; i++)
        CUDA_OK(cudaGraphLaunch(executable, stream));
    CUDA_OK(cudaStreamSynchronize(stream));
    EXPECT(x.get()[COUNT - 1] == (1 * 2 + 4) * 2 + 4, "graph result %g", x.get()[COUNT - 1]);
    CUDA_OK(cudaGraphExecDestroy(executable));
    CUDA_OK(cudaStreamDestroy(stream));
    CUDA_OK(cudaStreamDestroy(branch));
    CUDA_OK(cudaEventDestroy(fork));
    CUDA_OK(cudaEventDestroy(join));
}

/* ---- misuse: each must be refused, or end the process with a report ---------------------------------------------- */

static void refused(cudaError_t status, cudaError_t expected)
{
    EXPECT(status == expected, "status %d", (int)status);
    EXPECT(cudaGetLastError() == expected && cudaGetLastError() == cudaSuccess, "the last error");
}

static __global__ void deep_stack_kernel(float *out, int count)
{
    volatile float large[20000]; /* more than EMU_STACK_KB has by default */
    for (int i = 0; i < count; i++)
        large[i] = (float)i;
    store_global(out, large[0]);
}

static void misuse_capture(const device_array<float> &x)
{
    cudaStream_t stream;
    float host;
    CUDA_OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    CUDA_OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    refused(cudaStreamSynchronize(stream), cudaErrorStreamCaptureUnsupported);
    refused(cudaMemcpy(&host, x.data, 4, cudaMemcpyDeviceToHost), cudaErrorStreamCaptureUnsupported);
    refused(LAUNCH(scale_add_kernel, 1, 128, 0, 0, x.data, COUNT, 2.0f, 1.0f), cudaErrorStreamCaptureImplicit);
    exit(0);
}

void selftest_host_misuse(const char *name)
{
    device_array<float> x(std::vector<float>(COUNT, 1.0f));
    std::vector<float> host(2 * COUNT, 1.0f);
    if (strcmp(name, "device_pointer_on_host") == 0) {
        volatile float *pointer = x.data;
        printf("hash %g\n", (double)pointer[0]);
    } else if (strcmp(name, "host_pointer_in_kernel") == 0) {
        CUDA_OK(LAUNCH(scale_add_kernel, 1, 128, 0, 0, host.data(), COUNT, 2.0f, 1.0f));
        CUDA_OK(cudaDeviceSynchronize());
    } else if (strcmp(name, "uninitialised_global") == 0) {
        device_array<float> fresh(COUNT);
        CUDA_OK(LAUNCH(scale_add_kernel, 1, 128, 0, 0, fresh.data, COUNT, 2.0f, 1.0f));
        CUDA_OK(cudaDeviceSynchronize());
        const float first = fresh.get()[0];
        EXPECT(first == first, "NaN");
    } else if (strcmp(name, "stack_overflow") == 0) {
        CUDA_OK(LAUNCH(deep_stack_kernel, 1, 32, 0, 0, x.data, 20000));
        CUDA_OK(cudaDeviceSynchronize());
    } else if (strcmp(name, "copies") == 0) {
        refused(cudaMemcpy(host.data(), x.data, 4, cudaMemcpyHostToDevice), cudaErrorInvalidMemcpyDirection);
        refused(cudaMemcpy(x.data, host.data(), 4 * COUNT + 4, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
        refused(cudaMemset(host.data(), 0, 4), cudaErrorInvalidValue);
        refused(cudaFree(host.data()), cudaErrorInvalidValue);
    } else if (strcmp(name, "launches") == 0) {
        refused(LAUNCH(scale_add_kernel, 1, 1025, 0, 0, x.data, COUNT, 2.0f, 1.0f), cudaErrorInvalidConfiguration);
        refused(LAUNCH(scale_add_kernel, 0, 128, 0, 0, x.data, COUNT, 2.0f, 1.0f), cudaErrorInvalidConfiguration);
        refused(LAUNCH(scale_add_kernel, 1, 128, 64 << 10, 0, x.data, COUNT, 2.0f, 1.0f), cudaErrorInvalidValue);
        CUDA_OK(cudaFuncSetAttribute(scale_add_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 64 << 10));
        CUDA_OK(LAUNCH(scale_add_kernel, 1, 128, 64 << 10, 0, x.data, COUNT, 2.0f, 1.0f));
    } else if (strcmp(name, "capture") == 0) {
        misuse_capture(x);
    } else if (strcmp(name, "matmul") == 0) {
        selftest_matmul_misuse(false);
    } else if (strcmp(name, "matmul_uninitialised") == 0) {
        selftest_matmul_misuse(true);
    } else {
        EXPECT(false, "no case named %s", name);
    }
}
