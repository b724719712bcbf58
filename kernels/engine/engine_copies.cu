/* engine_copies.cu - copies between the host and a GPU that run beside the ops: two streams of their own, one a direction,
 * page-locked memory of the host's, and events between the streams. A device has a copy engine for each direction, so that one
 * copy comes in and one goes out while kernels run; each moves bytes / bus (55 GB/s on PCIe 5.0 x16) and costs the host a call.
 */
#include "cuda.cuh"

/* The stream, made if it is not there yet. */
static cudaError_t stream_of(struct engine_context *context, enum engine_stream which, cudaStream_t *stream)
{
    cudaStream_t *const own = &context->copies.stream[which];
    cudaError_t error = cudaSuccess;
    if (which != ENGINE_STREAM_OPS && !*own)
        error = cudaStreamCreateWithFlags(own, cudaStreamNonBlocking);
    *stream = which == ENGINE_STREAM_OPS ? context->stream : *own;
    return error;
}

/* Waits for the streams beside the ops'. What fails there comes back from the next call as well. */
static void copies_wait(struct engine_context *context)
{
    for (int i = 0; i < ENGINE_STREAMS; i++)
        if (context->copies.stream[i])
            cudaStreamSynchronize(context->copies.stream[i]);
}

int cuda_host_alloc(struct engine_context *context, void **pointer, size_t bytes)
{
    REQUIRE_ARGS(pointer);
    *pointer = NULL;
    REQUIRE_NO_CAPTURE;
    const cudaError_t error = bytes > PTRDIFF_MAX ? cudaErrorMemoryAllocation : cudaMallocHost(pointer, bytes ? bytes : 1);
    if (error == cudaSuccess)
        return OP_OK;
    *pointer = NULL;
    const int status = engine_launched(context, "host_alloc", error);
    return status != OP_MEMORY ? status : engine_fail(context, OP_MEMORY, "%zu bytes of the host's memory cannot be pinned", bytes);
}

void cuda_host_free(struct engine_context *context, void *pointer)
{
    if (!pointer)
        return;
    cudaStreamSynchronize(context->stream); /* ops may read or write it as well */
    copies_wait(context);
    cudaFreeHost(pointer);
}

static int copy_beside(struct engine_context *context, const char *call, enum engine_stream which, void *to, const void *from,
                       size_t bytes)
{
    REQUIRE_ARGS((to && from) || !bytes);
    REQUIRE_NO_CAPTURE;
    cudaStream_t stream;
    cudaError_t error = stream_of(context, which, &stream);
    if (error == cudaSuccess && bytes)
        error = cudaMemcpyAsync(to, from, bytes, which == ENGINE_STREAM_IN ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost, stream);
    if (error == cudaSuccess && context->synchronous)
        error = cudaStreamSynchronize(stream);
    return engine_launched(context, call, error);
}

int cuda_copy_in_beside(struct engine_context *context, void *device, const void *host, size_t bytes)
{
    return copy_beside(context, "copy_in_beside", ENGINE_STREAM_IN, device, host, bytes);
}

int cuda_copy_out_beside(struct engine_context *context, void *host, const void *device, size_t bytes)
{
    return copy_beside(context, "copy_out_beside", ENGINE_STREAM_OUT, host, device, bytes);
}

int cuda_signal(struct engine_context *context, enum engine_stream which, int slot)
{
    REQUIRE_ARGS(context);
    REQUIRE((unsigned)which < ENGINE_STREAMS && slot >= 0 && slot < ENGINE_SIGNALS, "no such stream or slot");
    REQUIRE_NO_CAPTURE;
    cudaEvent_t *const event = &context->copies.signal[slot];
    cudaStream_t stream;
    cudaError_t error = stream_of(context, which, &stream);
    if (error == cudaSuccess && !*event)
        error = cudaEventCreateWithFlags(event, cudaEventDisableTiming);
    if (error == cudaSuccess)
        error = cudaEventRecord(*event, stream);
    return engine_launched(context, "signal", error);
}

int cuda_await(struct engine_context *context, enum engine_stream which, int slot)
{
    REQUIRE_ARGS(context);
    REQUIRE((unsigned)which < ENGINE_STREAMS && slot >= 0 && slot < ENGINE_SIGNALS, "no such stream or slot");
    REQUIRE_NO_CAPTURE;
    cudaStream_t stream;
    cudaError_t error = stream_of(context, which, &stream);
    if (error == cudaSuccess && context->copies.signal[slot])
        error = cudaStreamWaitEvent(stream, context->copies.signal[slot], 0);
    return engine_launched(context, "await", error);
}

void cuda_copies_close(struct engine_context *context)
{
    copies_wait(context);
    for (int i = 0; i < ENGINE_SIGNALS; i++)
        if (context->copies.signal[i])
            cudaEventDestroy(context->copies.signal[i]);
    for (int i = 0; i < ENGINE_STREAMS; i++)
        if (context->copies.stream[i])
            cudaStreamDestroy(context->copies.stream[i]);
}
