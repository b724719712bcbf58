/* nccl.cu - the collectives of the CUDA engine: NCCL, loaded when it is first asked for.
 *
 * They run on a stream of their own: an event of the context's stream holds each back until its buffer is written, and
 * comm_wait makes the context's stream wait for all of them. In between, kernels and collectives share the GPU.
 *
 * reduce_scatter is one ncclReduceScatter of the equal slices, in place, grouped with an ncclReduce of the rest (less
 * than 16 elements per rank) to the last rank; all_gather an ncclAllGather with an ncclBroadcast of the rest. Over the
 * links go (size - 1) / size of the buffer per rank, as for equal parts; the rest costs one more small message in the
 * same launch.
 *
 * SAME BITS: NCCL's ring adds in an order that the size and the ranks' places decide. Trees and the switch's own sums
 * (NVLS) do not promise that, so NCCL_ALGO is Ring unless the environment says otherwise; of reduce-scatter and
 * all-gather there is hardly a faster form inside a node.
 */
#include "cuda.cuh"
#include "nccl_api.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

struct nccl_plane {
    struct nccl_api api;
    struct ncclComm *comm;
    cudaStream_t stream;
    cudaEvent_t ready, done; /* the context's stream has written; the collectives have ended */
    int rank, size;
    char failure[256];
};

/* Names what NCCL said of a call. */
static int nccl_status(struct engine_context *context, const char *call, int result)
{
    struct nccl_plane *nccl = context->nccl;
    if (result == NCCL_SUCCESS || result == NCCL_IN_PROGRESS)
        return OP_OK;
    const char *last = nccl->api.ncclGetLastError(nccl->comm);
    return engine_fail(context, OP_DEVICE, "%s: %s%s%.180s", call, nccl->api.ncclGetErrorString(result),
                       last && *last ? ": " : "", last ? last : "");
}

/* ---- open and close --------------------------------------------------------------------------------------------- */

int comm_load(struct engine_context *context, char *name, size_t name_bytes)
{
    REQUIRE_ARGS(name && name_bytes);
    if (!context->nccl)
        context->nccl = (struct nccl_plane *)calloc(1, sizeof *context->nccl);
    if (!context->nccl)
        return engine_fail(context, OP_MEMORY, "no memory for the communicator");
    setenv("NCCL_ALGO", "Ring", 0);
    void *library = dlopen(NCCL_LIBRARY, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!library)
        return engine_fail(context, OP_DEVICE, "several GPUs need NCCL: %s; install it, or add its folder to "
                           "LD_LIBRARY_PATH", dlerror());
    struct nccl_api *api = &context->nccl->api;
    const char *missing = NULL;
    void *symbol;
#define X(type, function, arguments)                       \
    symbol = dlsym(library, #function);                    \
    missing = symbol ? missing : #function;                \
    memcpy(&api->function, &symbol, sizeof api->function);
    NCCL_API(X)
#undef X
    if (missing)
        return engine_fail(context, OP_DEVICE, "%s has no %s; NCCL 2.13 or newer is needed", NCCL_LIBRARY, missing);
    int version = 0;
    const int status = nccl_status(context, "ncclGetVersion", api->ncclGetVersion(&version));
    snprintf(name, name_bytes, "NCCL %d.%d.%d", version / 10000, version / 100 % 100, version % 100);
    return status;
}

int comm_id(struct engine_context *context, void *id)
{
    REQUIRE_ARGS(id && context->nccl);
    static_assert(sizeof(struct nccl_id) == ENGINE_COMM_ID_BYTES, "the id goes through engine.h");
    return nccl_status(context, "ncclGetUniqueId", context->nccl->api.ncclGetUniqueId((struct nccl_id *)id));
}

int comm_open(struct engine_context *context, const void *id, int rank, int size)
{
    REQUIRE_ARGS(id && context->nccl);
    REQUIRE(size > 0 && rank >= 0 && rank < size, "the rank is not below the size");
    struct nccl_plane *nccl = context->nccl;
    struct nccl_id own;
    memcpy(&own, id, sizeof own);
    nccl->rank = rank;
    nccl->size = size;
    cudaError_t error = cudaSetDevice(context->device);
    if (error == cudaSuccess)
        error = cudaStreamCreateWithFlags(&nccl->stream, cudaStreamNonBlocking);
    if (error == cudaSuccess)
        error = cudaEventCreateWithFlags(&nccl->ready, cudaEventDisableTiming);
    if (error == cudaSuccess)
        error = cudaEventCreateWithFlags(&nccl->done, cudaEventDisableTiming);
    if (error != cudaSuccess)
        return engine_launched(context, "opening the communicator", error);
    return nccl_status(context, "ncclCommInitRank", nccl->api.ncclCommInitRank(&nccl->comm, size, own, rank));
}

void comm_close(struct engine_context *context, bool failed)
{
    struct nccl_plane *nccl = context ? context->nccl : NULL;
    if (!nccl)
        return;
    if (nccl->comm && failed) {
        nccl->api.ncclCommAbort(nccl->comm);
    } else if (nccl->comm) {
        cudaStreamSynchronize(nccl->stream);
        nccl->api.ncclCommDestroy(nccl->comm);
    }
    if (nccl->ready)
        cudaEventDestroy(nccl->ready);
    if (nccl->done)
        cudaEventDestroy(nccl->done);
    if (nccl->stream)
        cudaStreamDestroy(nccl->stream);
    free(nccl);
    context->nccl = NULL;
}

const char *comm_failure(struct engine_context *context)
{
    struct nccl_plane *nccl = context ? context->nccl : NULL;
    int found = NCCL_SUCCESS;
    if (!nccl || !nccl->comm)
        return NULL;
    int result = nccl->api.ncclCommGetAsyncError(nccl->comm, &found);
    result = result == NCCL_SUCCESS ? found : result;
    if (result == NCCL_SUCCESS || result == NCCL_IN_PROGRESS)
        return NULL;
    snprintf(nccl->failure, sizeof nccl->failure, "NCCL: %s", nccl->api.ncclGetErrorString(result));
    return nccl->failure;
}

/* ---- collectives ------------------------------------------------------------------------------------------------ */

static int nccl_type(enum dtype dtype)
{
    switch (dtype) {
    case DTYPE_F32: return NCCL_FLOAT32;
    case DTYPE_BF16: return NCCL_BFLOAT16;
    case DTYPE_F16: return NCCL_FLOAT16;
    case DTYPE_F64: return NCCL_FLOAT64;
    }
    return -1;
}

#define REQUIRE_COMM(buffer, n)                                                                  \
    do {                                                                                         \
        REQUIRE_ARGS((buffer) || !(n));                                                          \
        REQUIRE(context->nccl && context->nccl->comm, "there is no communicator (comm_open)");   \
    } while (0)

#define REQUIRE_SLICES(n, slice) \
    REQUIRE((n) >= 0 && (slice) >= 0 && (slice) <= (n) / context->nccl->size, "the slices do not fit into n")

/* The collectives' stream waits for what the context's stream holds so far. */
static int stream_follow(struct engine_context *context)
{
    struct nccl_plane *nccl = context->nccl;
    cudaError_t error = cudaEventRecord(nccl->ready, context->stream);
    if (error == cudaSuccess)
        error = cudaStreamWaitEvent(nccl->stream, nccl->ready, 0);
    return engine_launched(context, "queueing a collective", error);
}

/* Ends a group whatever happened in it, and tells of the first failure. */
static int group_end(struct engine_context *context, const char *call, int result)
{
    const int ended = context->nccl->api.ncclGroupEnd();
    return nccl_status(context, call, result != NCCL_SUCCESS ? result : ended);
}

namespace {

/* A buffer in equal slices, one per rank, and what is left behind them, which the last rank has too. */
struct parts {
    char *own, *rest;
    size_t slice, left; /* elements */
    int type, last;
};

} // namespace

static struct parts parts_make(const struct nccl_plane *nccl, enum dtype dtype, void *buffer, int64_t n, int64_t slice)
{
    const size_t bytes = dtype_size(dtype);
    const int64_t equal = slice * nccl->size;
    struct parts parts;
    parts.own = (char *)buffer + (size_t)nccl->rank * (size_t)slice * bytes;
    parts.rest = (char *)buffer + (size_t)equal * bytes;
    parts.slice = (size_t)slice;
    parts.left = (size_t)(n - equal);
    parts.type = nccl_type(dtype);
    parts.last = nccl->size - 1;
    return parts;
}

int comm_reduce_scatter(struct engine_context *context, enum dtype dtype, void *buffer, int64_t n, int64_t slice)
{
    REQUIRE_COMM(buffer, n);
    REQUIRE_SLICES(n, slice);
    struct nccl_plane *nccl = context->nccl;
    const struct parts parts = parts_make(nccl, dtype, buffer, n, slice);
    int status = n ? stream_follow(context) : OP_OK;
    if (status != OP_OK || !n)
        return status;
    int result = nccl->api.ncclGroupStart();
    if (result == NCCL_SUCCESS && parts.slice)
        result = nccl->api.ncclReduceScatter(buffer, parts.own, parts.slice, parts.type, NCCL_SUM, nccl->comm,
                                             nccl->stream);
    if (result == NCCL_SUCCESS && parts.left)
        result = nccl->api.ncclReduce(parts.rest, parts.rest, parts.left, parts.type, NCCL_SUM, parts.last, nccl->comm,
                                      nccl->stream);
    return group_end(context, "reduce_scatter", result);
}

int comm_all_gather(struct engine_context *context, enum dtype dtype, void *buffer, int64_t n, int64_t slice)
{
    REQUIRE_COMM(buffer, n);
    REQUIRE_SLICES(n, slice);
    struct nccl_plane *nccl = context->nccl;
    const struct parts parts = parts_make(nccl, dtype, buffer, n, slice);
    int status = n ? stream_follow(context) : OP_OK;
    if (status != OP_OK || !n)
        return status;
    int result = nccl->api.ncclGroupStart();
    if (result == NCCL_SUCCESS && parts.slice)
        result = nccl->api.ncclAllGather(parts.own, buffer, parts.slice, parts.type, nccl->comm, nccl->stream);
    if (result == NCCL_SUCCESS && parts.left)
        result = nccl->api.ncclBroadcast(parts.rest, parts.rest, parts.left, parts.type, parts.last, nccl->comm,
                                         nccl->stream);
    return group_end(context, "all_gather", result);
}

int comm_broadcast(struct engine_context *context, void *buffer, size_t bytes, int root)
{
    REQUIRE_COMM(buffer, bytes);
    REQUIRE(root >= 0 && root < context->nccl->size, "there is no such root");
    struct nccl_plane *nccl = context->nccl;
    int status = bytes ? stream_follow(context) : OP_OK;
    if (status != OP_OK || !bytes)
        return status;
    return nccl_status(context, "broadcast", nccl->api.ncclBroadcast(buffer, buffer, bytes, NCCL_UINT8, root,
                                                                     nccl->comm, nccl->stream));
}

int comm_wait(struct engine_context *context)
{
    REQUIRE_COMM(context, 0);
    struct nccl_plane *nccl = context->nccl;
    cudaError_t error = cudaEventRecord(nccl->done, nccl->stream);
    if (error == cudaSuccess)
        error = cudaStreamWaitEvent(context->stream, nccl->done, 0);
    return engine_launched(context, "waiting for the collectives", error);
}
