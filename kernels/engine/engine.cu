/* engine.cu - the CUDA engine: its context, its memory and the table that libflat_cuda.so exports (libflat_emu.so,
 * from the same source, in the tests).
 *
 * One context is one device, one stream and one host thread. Everything is queued on the stream, but for copies that run
 * beside it (engine_copies.cu) and collectives (nccl.cu). The host waits where something is freed, in copy_out and synchronize,
 * and in copy_in when it runs more than STAGING_HALF bytes ahead of the device; with FLAT_SYNC=1 in the environment, in every call.
 */
#include "cuda.cuh"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef EMU
#define ENGINE_NAME "emu"
#else
#define ENGINE_NAME "cuda"
#endif

enum : size_t { STAGING_HALF = (size_t)4 << 20, SCRATCH_STEP = (size_t)1 << 20 };

int engine_fail(struct engine_context *context, int status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(context->error, sizeof context->error, format, arguments);
    va_end(arguments);
    return status;
}

int engine_launched(struct engine_context *context, const char *op, cudaError_t error)
{
    if (error == cudaSuccess && context->synchronous && !context->capturing)
        error = cudaStreamSynchronize(context->stream);
    if (error == cudaSuccess)
        return OP_OK;
    cudaGetLastError(); /* what was refused here is not the next launch's error */
    return engine_fail(context, error == cudaErrorMemoryAllocation ? OP_MEMORY : OP_DEVICE, "%s: %s", op,
                       cudaGetErrorString(error));
}

struct retired {
    struct retired *next;
    void *memory;
};

/* Gives the old scratch up: to the list while graphs may use it, otherwise to the device. */
static cudaError_t scratch_retire(struct engine_context *context)
{
    if (!context->scratch || !context->graphs)
        return cudaFree(context->scratch); /* waits until nothing uses it any more */
    struct retired *entry = (struct retired *)malloc(sizeof *entry);
    if (!entry)
        return cudaErrorMemoryAllocation;
    *entry = (struct retired){context->retired, context->scratch};
    context->retired = entry;
    return cudaSuccess;
}

void scratch_retired_free(struct engine_context *context)
{
    while (context->retired) {
        struct retired *entry = context->retired;
        context->retired = entry->next;
        cudaFree(entry->memory);
        free(entry);
    }
}

void *engine_scratch(struct engine_context *context, size_t bytes)
{
    if (context->scratch && bytes <= context->scratch_bytes)
        return context->scratch;
    if (context->capturing) {
        engine_fail(context, OP_MEMORY, "scratch of %zu bytes would grow inside a capture; run the work once before",
                    bytes);
        return NULL;
    }
    const size_t size = (bytes / SCRATCH_STEP + 1) * SCRATCH_STEP;
    cudaError_t error = scratch_retire(context);
    context->scratch = NULL;
    context->scratch_bytes = 0;
    if (error == cudaSuccess)
        error = size < bytes ? cudaErrorMemoryAllocation : cudaMalloc(&context->scratch, size);
    if (error != cudaSuccess) {
        context->scratch = NULL;
        engine_launched(context, "scratch", error);
        engine_fail(context, OP_MEMORY, "no memory for %zu bytes of scratch: %s", bytes, cudaGetErrorString(error));
        return NULL;
    }
    context->scratch_bytes = size;
    return context->scratch;
}

/* ---- open and close --------------------------------------------------------------------------------------------- */

/* Whether there is a device `index` that the kernels run on; one line in context->error if not. */
static int device_check(struct engine_context *context, int index)
{
    int count = 0, driver = 0, major = 0;
    cudaError_t error = cudaGetDeviceCount(&count); /* leaves count alone when it fails */
    if (error == cudaErrorInsufficientDriver) {
        cudaDriverGetVersion(&driver);
        return engine_fail(context, driver ? OP_DEVICE : OP_ABSENT,
                           driver ? "the NVIDIA driver is for CUDA %d.%d, this program needs %d.%d"
                                  : "no NVIDIA driver on this machine",
                           driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    }
    if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0))
        return engine_fail(context, OP_ABSENT, "the NVIDIA driver sees no GPU");
    if (error != cudaSuccess)
        return engine_launched(context, "looking for a GPU", error);
    if (index < 0 || index >= count)
        return engine_fail(context, OP_CONTRACT, "device %d does not exist; there %s %d, counted from 0", index,
                           count == 1 ? "is" : "are", count);
    error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index);
    if (error == cudaSuccess && major < 8)
        return engine_fail(context, OP_DEVICE, "device %d is of compute capability %d; bf16 needs 8.0", index, major);
    return engine_launched(context, "looking at the GPU", error);
}

static int device_start(struct engine_context *context)
{
    struct cudaDeviceProp properties;
    int runtime = 0;
    cudaError_t error = cudaSetDevice(context->device);
    if (error == cudaSuccess)
        error = cudaGetDeviceProperties(&properties, context->device);
    if (error == cudaSuccess)
        error = cudaRuntimeGetVersion(&runtime);
    if (error == cudaSuccess)
        error = cudaStreamCreateWithFlags(&context->stream, cudaStreamNonBlocking);
    if (error == cudaSuccess)
        error = cudaMallocHost((void **)&context->staging.memory, 2 * STAGING_HALF);
    for (int i = 0; i < 2 && error == cudaSuccess; i++)
        error = cudaEventCreateWithFlags(&context->staging.copied[i], cudaEventDisableTiming);
    if (error != cudaSuccess)
        return engine_launched(context, "opening the GPU", error);
    context->processors = properties.multiProcessorCount;
    snprintf(context->describe, sizeof context->describe,
             "%.128s, compute capability %d.%d, %.1f GiB, CUDA %d.%d, PCI %04x:%02x:%02x", properties.name,
             properties.major, properties.minor, (double)properties.totalGlobalMem / (1 << 30), runtime / 1000,
             runtime % 1000 / 10, properties.pciDomainID, properties.pciBusID, properties.pciDeviceID);
    return OP_OK;
}

static void cuda_close(struct engine_context *context)
{
    if (!context)
        return;
    comm_close(context, true); /* where it is still there, something has failed, and the stream may wait for it */
    if (context->stream)
        cudaStreamSynchronize(context->stream);
    linear_close(context);
    cuda_copies_close(context);
    cuda_marks_close(context);
    scratch_retired_free(context);
    cudaFree(context->scratch);
    for (int i = 0; i < 2; i++)
        if (context->staging.copied[i])
            cudaEventDestroy(context->staging.copied[i]);
    if (context->staging.memory)
        cudaFreeHost(context->staging.memory);
    if (context->stream)
        cudaStreamDestroy(context->stream);
    free(context);
}

static int cuda_open(struct engine_context **context, const struct engine_options *options, char *error,
                     size_t error_bytes)
{
    struct engine_context *opened = context ? (struct engine_context *)calloc(1, sizeof *opened) : NULL;
    if (!opened) {
        snprintf(error, error_bytes, "CUDA engine: no %s", context ? "memory for the context" : "context");
        return context ? OP_MEMORY : OP_CONTRACT;
    }
    const char *synchronous = getenv("FLAT_SYNC");
    opened->device = options ? options->device_index : 0;
    opened->synchronous = synchronous && strcmp(synchronous, "1") == 0;
    int status = device_check(opened, opened->device);
    if (status == OP_OK)
        status = device_start(opened);
    if (status == OP_OK)
        status = linear_open(opened);
    if (status != OP_OK) {
        snprintf(error, error_bytes, "CUDA engine: %s", opened->error);
        cuda_close(opened);
        return status;
    }
    *context = opened;
    return OP_OK;
}

static const char *cuda_error(struct engine_context *context)
{
    return context ? context->error : "no context";
}

static const char *cuda_describe(struct engine_context *context)
{
    return context ? context->describe : "no context";
}

/* ---- memory ----------------------------------------------------------------------------------------------------- */

static int cuda_memory_free(struct engine_context *context, size_t *bytes)
{
    size_t total;
    REQUIRE_ARGS(bytes);
    return engine_launched(context, "memory_free", cudaMemGetInfo(bytes, &total));
}

static int cuda_alloc(struct engine_context *context, void **pointer, size_t bytes)
{
    REQUIRE_ARGS(pointer);
    *pointer = NULL;
    REQUIRE_NO_CAPTURE;
    const cudaError_t error = bytes > PTRDIFF_MAX ? cudaErrorMemoryAllocation : cudaMalloc(pointer, bytes ? bytes : 1);
    if (error == cudaSuccess)
        return OP_OK;
    *pointer = NULL;
    const int status = engine_launched(context, "alloc", error);
    return status != OP_MEMORY ? status : engine_fail(context, OP_MEMORY, "no memory for %zu bytes on the GPU", bytes);
}

static void cuda_free(struct engine_context *, void *pointer)
{
    cudaFree(pointer); /* waits for what still uses it; a fault of earlier work comes back from the next call as well */
}

static int cuda_fill_zero(struct engine_context *context, void *device, size_t bytes)
{
    REQUIRE_ARGS(device || !bytes);
    return engine_launched(context, "fill_zero",
                           bytes ? cudaMemsetAsync(device, 0, bytes, context->stream) : cudaSuccess);
}

/* The half of the staging memory that is filled next, when the device has read what was in it. */
static cudaError_t staging_turn(struct engine_context *context)
{
    struct staging *staging = &context->staging;
    const cudaError_t error = cudaEventRecord(staging->copied[staging->half], context->stream);
    staging->half ^= 1;
    staging->used = 0;
    return error != cudaSuccess ? error : cudaEventSynchronize(staging->copied[staging->half]);
}

/* Through pinned memory of our own: the caller's buffer is free at once, whatever kind of memory it is. */
static int cuda_copy_in(struct engine_context *context, void *device, const void *host, size_t bytes)
{
    REQUIRE_ARGS((device && host) || !bytes);
    REQUIRE_NO_CAPTURE;
    struct staging *staging = &context->staging;
    cudaError_t error = cudaSuccess;
    for (size_t done = 0, piece; done < bytes && error == cudaSuccess; done += piece) {
        if (staging->used == STAGING_HALF)
            error = staging_turn(context);
        piece = STAGING_HALF - staging->used;
        piece = bytes - done < piece ? bytes - done : piece;
        char *stage = staging->memory + (size_t)staging->half * STAGING_HALF + staging->used;
        memcpy(stage, (const char *)host + done, piece);
        staging->used += piece;
        if (error == cudaSuccess)
            error = cudaMemcpyAsync((char *)device + done, stage, piece, cudaMemcpyHostToDevice, context->stream);
    }
    return engine_launched(context, "copy_in", error);
}

static int cuda_copy_out(struct engine_context *context, void *host, const void *device, size_t bytes)
{
    REQUIRE_ARGS((device && host) || !bytes);
    REQUIRE_NO_CAPTURE;
    cudaError_t error = cudaSuccess;
    if (bytes)
        error = cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, context->stream);
    if (error == cudaSuccess)
        error = cudaStreamSynchronize(context->stream);
    return engine_launched(context, "copy_out", error);
}

static int cuda_copy(struct engine_context *context, void *to, const void *from, size_t bytes)
{
    REQUIRE_ARGS((to && from) || !bytes);
    return engine_launched(context, "copy",
                           bytes ? cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, context->stream)
                                 : cudaSuccess);
}

static int cuda_synchronize(struct engine_context *context)
{
    REQUIRE_ARGS(context);
    REQUIRE_NO_CAPTURE;
    return engine_launched(context, "synchronize", cudaStreamSynchronize(context->stream));
}

static struct engine engine_table()
{
    struct engine e = {};
    e.abi = ENGINE_ABI;
    e.name = ENGINE_NAME;
    e.dtype = DTYPE_BF16;
    e.graphs = true;
    e.open = cuda_open;
    e.close = cuda_close;
    e.error = cuda_error;
    e.describe = cuda_describe;
    e.memory_free = cuda_memory_free;
    e.alloc = cuda_alloc;
    e.free = cuda_free;
    e.fill_zero = cuda_fill_zero;
    e.copy_in = cuda_copy_in;
    e.copy_out = cuda_copy_out;
    e.copy = cuda_copy;
    e.synchronize = cuda_synchronize;
    e.host_alloc = cuda_host_alloc;
    e.host_free = cuda_host_free;
    e.copy_in_beside = cuda_copy_in_beside;
    e.copy_out_beside = cuda_copy_out_beside;
    e.signal = cuda_signal;
    e.await = cuda_await;
    e.mark = cuda_mark;
    e.elapsed = cuda_elapsed;
    e.range_push = cuda_range_push;
    e.range_pop = cuda_range_pop;
    e.pick_scope = pick_scope;
    e.picks_time = picks_time;
    e.pick_add = pick_add;
    e.pick_get = pick_get;
    e.picks_clear = picks_clear;
    e.capture_begin = cuda_capture_begin;
    e.capture_end = cuda_capture_end;
    e.graph_launch = cuda_graph_launch;
    e.graph_free = cuda_graph_free;
#define X(op, args) e.op = op;
    ENGINE_OPS(X)
#undef X
    e.comm_load = comm_load;
    e.comm_id = comm_id;
    e.comm_open = comm_open;
    e.comm_close = comm_close;
    e.comm_failure = comm_failure;
    e.comm_reduce_scatter = comm_reduce_scatter;
    e.comm_all_gather = comm_all_gather;
    e.comm_broadcast = comm_broadcast;
    e.comm_wait = comm_wait;
    return e;
}

static const struct engine cuda_engine = engine_table();

extern "C" __attribute__((visibility("default"))) const struct engine *flat_engine(void)
{
    return &cuda_engine;
}
