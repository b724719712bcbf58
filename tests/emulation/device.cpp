/* device.cpp - allocation, copies, device properties and function attributes of the runtime API. */
#include "runtime.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <unordered_map>

namespace emu {

enum { SHARED_DEFAULT = 48 << 10, SHARED_OPT_IN = 227 << 10, PROCESSORS = 4, BLOCKS_A_PROCESSOR = 2 };

static std::map<const char *, size_t> pinned; /* of the host's memory, what cudaMallocHost gave */
static std::unordered_map<const void *, size_t> dynamic_limits; /* kernels that asked for more than the default */

size_t kernel_dynamic_limit(const void *function)
{
    auto entry = dynamic_limits.find(function);
    return entry == dynamic_limits.end() ? (size_t)SHARED_DEFAULT : entry->second;
}

/* ---- copies --------------------------------------------------------------------------------------------------- */

struct copy_work {
    char *to;
    const char *from;
    size_t bytes;
};

static bool touches_device(const void *pointer)
{
    char *start;
    size_t bytes;
    return device_range(pointer, &start, &bytes);
}

static bool is_pinned(const char *pointer, size_t bytes)
{
    auto next = pinned.upper_bound(pointer);
    return next != pinned.begin() && pointer + bytes <= (--next)->first + next->second;
}

static cudaError_t range_check(const void *pointer, size_t bytes, const char *call)
{
    if (touches_device(pointer) && !is_device(pointer, bytes))
        return misuse(cudaErrorInvalidValue, "%s of %zu bytes runs past the end of a device allocation", call, bytes);
    return cudaSuccess;
}

static cudaError_t copy_check(const copy_work &copy, cudaMemcpyKind kind, const char *call)
{
    const bool to = touches_device(copy.to), from = touches_device(copy.from);
    const cudaMemcpyKind real = to ? from ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice
                                   : from ? cudaMemcpyDeviceToHost : cudaMemcpyHostToHost;
    if (kind != cudaMemcpyDefault && kind != real)
        return misuse(cudaErrorInvalidMemcpyDirection, "%s: the direction does not fit the pointers", call);
    const cudaError_t status = range_check(copy.to, copy.bytes, call);
    return status != cudaSuccess ? status : range_check(copy.from, copy.bytes, call);
}

static void copy_run(const copy_work &copy)
{
    if (!config.run) { /* what comes from the device is 0 */
        if (!touches_device(copy.to))
            memset(copy.to, 0, copy.bytes);
        return;
    }
    device_open open;
    const char *reason = check_host_read(copy.from, copy.bytes);
    if (reason) /* copying what was never written is legal, but rarely meant */
        fprintf(stderr, "emulation: note: a copy of %zu bytes reads %s\n", copy.bytes, reason);
    memmove(copy.to, copy.from, copy.bytes);
    check_host_write(copy.to, copy.bytes);
    if (touches_device(copy.to) && touches_device(copy.from)) {
        kernel_counter *counter = counter_find("memcpy");
        counter_add_launch(counter, 0);
        counter_add(counter, copy.bytes, copy.bytes);
    }
}

static cudaError_t copy_queue(copy_work copy, cudaMemcpyKind kind, cudaStream_t stream, bool wait, const char *call)
{
    if (wait && capture_forbids(call))
        return cudaErrorStreamCaptureUnsupported;
    if (device_status() || !copy.bytes)
        return device_status();
    const cudaError_t status = copy_check(copy, kind, call);
    if (status != cudaSuccess)
        return status;
    calls.copies++;
    calls.copied += copy.bytes;
    if (!touches_device(copy.to) || !touches_device(copy.from))
        stream_copied(stream, copy.bytes);
    const bool pageable = !touches_device(copy.from) && !is_pinned(copy.from, copy.bytes);
    if (pageable || (!touches_device(copy.to) && !is_pinned(copy.to, copy.bytes)))
        stream_waited(stream); /* for all that the host can tell, such a copy is done when the call returns */
    if (!wait && config.async && pageable) {
        /* Pageable memory is staged before the call returns, so the host may reuse it at once. */
        auto staged = std::make_shared<std::string>(copy.from, copy.bytes);
        return stream_enqueue(stream, [copy, staged] {
            copy_work from_stage = copy;
            from_stage.from = staged->data();
            copy_run(from_stage);
            return true;
        });
    }
    return stream_enqueue(stream, [copy] {
        copy_run(copy);
        return true;
    });
}

} // namespace emu

using namespace emu;

extern "C" {

cudaError_t CUDARTAPI cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    calls.waits++;
    const copy_work copy = {(char *)to, (const char *)from, bytes};
    const cudaError_t status = copy_queue(copy, kind, nullptr, true, "cudaMemcpy");
    return status != cudaSuccess ? status : device_status();
}

cudaError_t CUDARTAPI cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                                      cudaStream_t stream)
{
    const copy_work copy = {(char *)to, (const char *)from, bytes};
    return copy_queue(copy, kind, stream, false, "cudaMemcpyAsync");
}

cudaError_t CUDARTAPI cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    if (device_status() || !bytes)
        return device_status();
    if (!is_device(to, bytes))
        return misuse(cudaErrorInvalidValue, "cudaMemset of %zu bytes that are not device memory", bytes);
    calls.fills++;
    return stream_enqueue(stream, [=] {
        if (!config.run)
            return true;
        device_open open;
        memset(to, value, bytes);
        check_host_write(to, bytes);
        kernel_counter *counter = counter_find("memset");
        counter_add_launch(counter, 0);
        counter_add(counter, 0, bytes);
        return true;
    });
}

cudaError_t CUDARTAPI cudaMemset(void *to, int value, size_t bytes)
{
    return cudaMemsetAsync(to, value, bytes, nullptr);
}

/* ---- allocation ----------------------------------------------------------------------------------------------- */

cudaError_t CUDARTAPI cudaMalloc(void **pointer, size_t bytes)
{
    calls.allocations++;
    return capture_forbids("cudaMalloc") ? cudaErrorStreamCaptureUnsupported : device_alloc(pointer, bytes);
}

cudaError_t CUDARTAPI cudaFree(void *pointer)
{
    calls.allocations++;
    if (capture_forbids("cudaFree"))
        return cudaErrorStreamCaptureUnsupported;
    streams_drain();
    return device_free(pointer);
}

cudaError_t CUDARTAPI cudaMallocHost(void **pointer, size_t bytes)
{
    calls.allocations++;
    *pointer = aligned_alloc(4096, (bytes + 4095) & ~(size_t)4095);
    if (!*pointer)
        return cudaErrorMemoryAllocation;
    pinned[(char *)*pointer] = bytes;
    return device_status();
}

cudaError_t CUDARTAPI cudaHostAlloc(void **pointer, size_t bytes, unsigned)
{
    return cudaMallocHost(pointer, bytes);
}

cudaError_t CUDARTAPI cudaFreeHost(void *pointer)
{
    calls.allocations++;
    streams_drain();
    if (pointer && !pinned.erase((char *)pointer))
        return misuse(cudaErrorInvalidValue, "cudaFreeHost of a pointer that cudaMallocHost did not return");
    free(pointer);
    return device_status();
}

cudaError_t CUDARTAPI cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    *total = config.device_bytes;
    *free_bytes = config.device_bytes - device_used();
    return device_status();
}

/* ---- the device ----------------------------------------------------------------------------------------------- */

cudaError_t CUDARTAPI cudaGetDeviceCount(int *count)
{
    *count = 1;
    return cudaSuccess;
}

cudaError_t CUDARTAPI cudaGetDevice(int *device)
{
    *device = 0;
    return device_status();
}

cudaError_t CUDARTAPI cudaSetDevice(int device)
{
    return device == 0 ? device_status()
                       : misuse(cudaErrorInvalidDevice, "cudaSetDevice(%d): there is one device", device);
}

cudaError_t CUDARTAPI cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device)
{
    if (device != 0)
        return misuse(cudaErrorInvalidDevice, "cudaGetDeviceProperties(%d): there is one device", device);
    *properties = {};
    snprintf(properties->name, sizeof properties->name, "CUDA emulation");
    properties->major = 9;
    properties->multiProcessorCount = PROCESSORS;
    properties->warpSize = 32;
    properties->maxThreadsPerBlock = BLOCK_THREADS;
    properties->maxThreadsPerMultiProcessor = 2048;
    properties->sharedMemPerBlock = SHARED_DEFAULT;
    properties->sharedMemPerBlockOptin = SHARED_OPT_IN;
    properties->sharedMemPerMultiprocessor = 228 << 10;
    properties->regsPerBlock = 65536;
    properties->l2CacheSize = 50 << 20;
    properties->totalGlobalMem = config.device_bytes;
    return device_status();
}

cudaError_t CUDARTAPI cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int)
{
    switch (attribute) {
    case cudaDevAttrMultiProcessorCount: *value = PROCESSORS; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = SHARED_DEFAULT; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = SHARED_OPT_IN; break;
    case cudaDevAttrComputeCapabilityMajor: *value = 9; break;
    case cudaDevAttrComputeCapabilityMinor: *value = 0; break;
    case cudaDevAttrL2CacheSize: *value = 50 << 20; break;
    default: return misuse(cudaErrorInvalidValue, "cudaDeviceGetAttribute: attribute %d is not emulated", attribute);
    }
    return device_status();
}

cudaError_t CUDARTAPI cudaDriverGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t CUDARTAPI cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t CUDARTAPI cudaFuncSetAttribute(const void *function, enum cudaFuncAttribute attribute, int value)
{
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize)
        return device_status(); /* the others are hints */
    if (value < 0 || value > SHARED_OPT_IN)
        return misuse(cudaErrorInvalidValue, "cudaFuncSetAttribute: %d bytes of shared memory exceed %d", value,
                      (int)SHARED_OPT_IN);
    dynamic_limits[function] = (size_t)value;
    return device_status();
}

cudaError_t CUDARTAPI cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *, int, size_t)
{
    *blocks = BLOCKS_A_PROCESSOR;
    return device_status();
}

const char *CUDARTAPI cudaGetErrorName(cudaError_t status)
{
    switch (status) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration: return "cudaErrorInvalidConfiguration";
    case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
    case cudaErrorIllegalAddress: return "cudaErrorIllegalAddress";
    default: return "cudaError";
    }
}

/* Says what happened, which the real one cannot know. */
const char *CUDARTAPI cudaGetErrorString(cudaError_t status)
{
    const char *text = device_status_text();
    return status == cudaSuccess ? "no error" : *text ? text : cudaGetErrorName(status);
}

} // extern "C"
