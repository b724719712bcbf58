/* stream.cpp - streams, events and graphs of the runtime API.
 *
 * Work runs when it is queued, unless EMU_ASYNC=1: then it stays in its stream until something waits for it, and the
 * streams advance in a random interleaving that keeps what events demand. A missing cudaStreamWaitEvent or a host
 * read before the synchronise then shows up as a wrong result. All calls are to come from one host thread.
 */
#include "emulation_control.h"
#include "runtime.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <time.h>

struct CUgraph_st {
    std::vector<emu::work> items; /* in the order they were recorded, which keeps every dependency */
    cudaStream_t origin;
};

struct CUgraphExec_st {
    std::vector<emu::work> items;
};

struct CUstream_st {
    std::deque<emu::work> queue;
    unsigned flags;
    uint64_t path; /* as emu_calls has it, up to what was queued last */
    CUgraph_st *capture; /* the graph that work goes to instead of the queue */
};

struct CUevent_st {
    uint64_t recorded, done, path;
    double seconds;
    CUgraph_st *capture;
};

namespace emu {

static std::vector<cudaStream_t> streams;
static int captures;

static double pretended;
static uint64_t host_path; /* of what the host has waited for */

void time_pretend(double seconds)
{
    pretended += seconds;
}

static double now_seconds()
{
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec + pretended;
}

/* Cudart's names of the default stream are none of ours. */
static bool is_default(cudaStream_t stream)
{
    return stream == nullptr || stream == cudaStreamLegacy || stream == cudaStreamPerThread;
}

static bool advance(cudaStream_t stream)
{
    if (!stream->queue.front()())
        return false;
    stream->queue.pop_front();
    return true;
}

/* Advances the streams in a random order until `enough`. */
template <class F> static void drain_until(F enough)
{
    static uint64_t random, seed = ~0ull;
    if (seed != config.seed) { /* at first, and after emu_seed_set */
        seed = config.seed;
        random = seed;
    }
    while (!enough()) {
        std::vector<cudaStream_t> waiting;
        for (cudaStream_t stream : streams)
            if (!stream->queue.empty())
                waiting.push_back(stream);
        if (waiting.empty())
            return;
        const size_t start = random_next(&random) % waiting.size();
        size_t tried = 0;
        while (tried < waiting.size() && !advance(waiting[(start + tried) % waiting.size()]))
            tried++;
        if (tried == waiting.size()) {
            fprintf(stderr, "emulation: all streams wait for events that nothing will record\n");
            abort();
        }
    }
}

void streams_drain()
{
    drain_until([] { return false; });
}

void stream_copied(cudaStream_t stream, size_t bytes)
{
    uint64_t *const path = is_default(stream) ? &host_path : &stream->path;
    *path = std::max(*path, host_path) + bytes;
    calls.path = std::max(calls.path, *path);
}

void stream_waited(cudaStream_t stream)
{
    host_path = std::max(host_path, is_default(stream) ? calls.path : stream->path);
}

static void drain(cudaStream_t stream)
{
    stream_waited(stream);
    if (is_default(stream))
        streams_drain();
    else
        drain_until([stream] { return stream->queue.empty(); });
}

/* The default stream waits for every stream that was not made with cudaStreamNonBlocking. */
static void drain_blocking()
{
    drain_until([] {
        for (cudaStream_t stream : streams)
            if (!stream->queue.empty() && !(stream->flags & cudaStreamNonBlocking))
                return false;
        return true;
    });
}

cudaError_t stream_enqueue(cudaStream_t stream, work item)
{
    if (device_status())
        return device_status();
    if (is_default(stream)) {
        if (captures)
            return misuse(cudaErrorStreamCaptureImplicit, "work in the default stream while a stream is captured");
        drain_blocking();
        item();
    } else if (stream->capture) {
        stream->capture->items.push_back(std::move(item));
    } else {
        stream->queue.push_back(std::move(item));
        if (!config.async)
            streams_drain();
    }
    return cudaSuccess;
}

bool capture_forbids(const char *what)
{
    if (captures)
        misuse(cudaErrorStreamCaptureUnsupported, "%s while a stream is captured", what);
    return captures > 0;
}

} // namespace emu

using namespace emu;

extern "C" {

void emu_async_set(int async)
{
    streams_drain();
    config.async = async;
}

cudaError_t CUDARTAPI cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    *stream = new CUstream_st{{}, flags, 0, nullptr};
    streams.push_back(*stream);
    return device_status();
}

cudaError_t CUDARTAPI cudaStreamCreate(cudaStream_t *stream)
{
    return cudaStreamCreateWithFlags(stream, 0);
}

cudaError_t CUDARTAPI cudaStreamDestroy(cudaStream_t stream)
{
    if (is_default(stream))
        return misuse(cudaErrorInvalidResourceHandle, "cudaStreamDestroy of the default stream");
    drain(stream);
    streams.erase(std::remove(streams.begin(), streams.end(), stream), streams.end());
    delete stream;
    return cudaSuccess;
}

cudaError_t CUDARTAPI cudaStreamSynchronize(cudaStream_t stream)
{
    calls.waits++;
    if (capture_forbids("cudaStreamSynchronize"))
        return cudaErrorStreamCaptureUnsupported;
    drain(stream);
    return device_status();
}

cudaError_t CUDARTAPI cudaStreamQuery(cudaStream_t stream)
{
    if (device_status())
        return device_status();
    return is_default(stream) || stream->queue.empty() ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t CUDARTAPI cudaDeviceSynchronize(void)
{
    calls.waits++;
    if (capture_forbids("cudaDeviceSynchronize"))
        return cudaErrorStreamCaptureUnsupported;
    host_path = calls.path;
    streams_drain();
    return device_status();
}

/* ---- events --------------------------------------------------------------------------------------------------- */

cudaError_t CUDARTAPI cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    *event = new CUevent_st();
    return device_status();
}

cudaError_t CUDARTAPI cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, 0);
}

cudaError_t CUDARTAPI cudaEventDestroy(cudaEvent_t event)
{
    streams_drain();
    delete event;
    return cudaSuccess;
}

cudaError_t CUDARTAPI cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    event->capture = is_default(stream) ? nullptr : stream->capture;
    if (event->capture)
        return cudaSuccess; /* a border inside the graph, kept by the order of its items */
    const uint64_t number = ++event->recorded;
    event->path = is_default(stream) ? host_path : stream->path;
    return stream_enqueue(stream, [=] {
        event->done = number;
        event->seconds = now_seconds();
        return true;
    });
}

cudaError_t CUDARTAPI cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    if (event->capture) { /* the stream joins the capture */
        if (is_default(stream))
            return misuse(cudaErrorStreamCaptureImplicit, "the default stream waits for an event of a capture");
        stream->capture = event->capture;
        return cudaSuccess;
    }
    const uint64_t number = event->recorded;
    if (!number)
        return device_status(); /* an event that was never recorded holds nothing up */
    if (is_default(stream)) {
        drain_until([=] { return event->done >= number; });
        return device_status();
    }
    stream->path = std::max(stream->path, event->path);
    return stream_enqueue(stream, [=] { return event->done >= number; });
}

cudaError_t CUDARTAPI cudaEventSynchronize(cudaEvent_t event)
{
    calls.waits++;
    if (capture_forbids("cudaEventSynchronize"))
        return cudaErrorStreamCaptureUnsupported;
    const uint64_t number = event->recorded;
    host_path = std::max(host_path, event->path);
    drain_until([=] { return event->done >= number; });
    return device_status();
}

cudaError_t CUDARTAPI cudaEventQuery(cudaEvent_t event)
{
    if (device_status())
        return device_status();
    return event->done >= event->recorded ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t CUDARTAPI cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end)
{
    if (!start->done || !end->done)
        return misuse(cudaErrorInvalidResourceHandle, "cudaEventElapsedTime of an event that has not been recorded");
    *milliseconds = (float)((end->seconds - start->seconds) * 1e3);
    return device_status();
}

/* ---- graphs --------------------------------------------------------------------------------------------------- */

cudaError_t CUDARTAPI cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode)
{
    if (is_default(stream))
        return misuse(cudaErrorStreamCaptureUnsupported, "cudaStreamBeginCapture of the default stream");
    if (stream->capture)
        return misuse(cudaErrorIllegalState, "cudaStreamBeginCapture of a stream that is captured already");
    stream->capture = new CUgraph_st{{}, stream};
    captures++;
    return device_status();
}

cudaError_t CUDARTAPI cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status)
{
    const bool active = !is_default(stream) && stream->capture;
    *status = active ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return device_status();
}

cudaError_t CUDARTAPI cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    *graph = nullptr;
    if (is_default(stream) || !stream->capture || stream->capture->origin != stream)
        return misuse(cudaErrorIllegalState, "cudaStreamEndCapture of a stream that did not begin one");
    *graph = stream->capture;
    for (cudaStream_t other : streams)
        if (other->capture == *graph)
            other->capture = nullptr;
    captures--;
    return device_status();
}

cudaError_t CUDARTAPI cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long)
{
    *executable = new CUgraphExec_st{graph->items};
    return device_status();
}

cudaError_t CUDARTAPI cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream)
{
    calls.graph_launches++;
    for (const work &item : executable->items) {
        const cudaError_t status = stream_enqueue(stream, item);
        if (status != cudaSuccess)
            return status;
    }
    return device_status();
}

cudaError_t CUDARTAPI cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}

cudaError_t CUDARTAPI cudaGraphExecDestroy(cudaGraphExec_t executable)
{
    streams_drain(); /* queued items may still be copies of this one's */
    delete executable;
    return cudaSuccess;
}

} // extern "C"
