/* cuda.cuh - what the ops of the CUDA engine share; no other engine and no host code includes it.
 *
 * An op checks its arguments (REQUIRE), launches on the context's stream through LAUNCH, and returns
 * engine_launched(): no op waits for the device, allocates in the steady state or reads a device value on the host.
 * Every op takes bf16 and float; statistics, sums and arithmetic are float; no float atomics; the order of every sum is
 * fixed by the shapes. Rows whose start or width is not a multiple of 16 bytes take a scalar path for the ragged part.
 */
#ifndef FLAT_KERNELS_CUDA_CUH
#define FLAT_KERNELS_CUDA_CUH
#include "contract.h"
#include "engine.h"
#include "tile.cuh"

struct nccl_plane;   /* nccl.cu: the communicator, its stream and events */
struct retired;      /* engine.cu */
struct linear_plans; /* linear_plan.cu: cublasLt handle, workspace, algorithms by shape */

/* Pinned memory that copy_in writes to, in two halves: one is filled while the device reads the other. */
struct staging {
    char *memory;
    size_t used; /* bytes of the half in use */
    int half;
    cudaEvent_t copied[2]; /* the device has read this half */
};

/* engine_copies.cu: the streams beside the ops' and the slots of signal; made when they are first needed. */
struct copy_streams {
    cudaStream_t stream[ENGINE_STREAMS]; /* that of the ops is the context's, and not here */
    cudaEvent_t signal[ENGINE_SIGNALS];
};

struct engine_context {
    int device, processors; /* number of multiprocessors */
    cudaStream_t stream;
    struct staging staging;
    struct copy_streams copies;
    void *scratch;
    size_t scratch_bytes;
    struct retired *retired; /* scratch of before, which graphs may hold */
    struct linear_plans *linear;
    struct nccl_plane *nccl; /* NULL without other ranks */
    cudaEvent_t mark[ENGINE_MARKS]; /* NULL until first marked */
    bool capturing;
    bool synchronous; /* FLAT_SYNC=1: every call waits for the device, so that an error has the name of its op */
    int graphs; /* that exist */
    char error[320], describe[256];
};

/* Device scratch of at least `bytes`, valid until the next call; ops that run one after the other on the stream may
 * all use it. Grows outside the steady state only (it waits for the stream then), and never inside a capture. NULL with
 * the error set: no memory. */
void *engine_scratch(struct engine_context *context, size_t bytes);
/* Frees what engine_scratch kept for graphs. */
void scratch_retired_free(struct engine_context *context);

/* engine_copies.cu: entries of the engine's table. */
int cuda_host_alloc(struct engine_context *context, void **pointer, size_t bytes);
void cuda_host_free(struct engine_context *context, void *pointer);
int cuda_copy_in_beside(struct engine_context *context, void *device, const void *host, size_t bytes);
int cuda_copy_out_beside(struct engine_context *context, void *host, const void *device, size_t bytes);
int cuda_signal(struct engine_context *context, enum engine_stream stream, int slot);
int cuda_await(struct engine_context *context, enum engine_stream stream, int slot);
void cuda_copies_close(struct engine_context *context);

/* engine_graph.cu: entries of the engine's table. */
int cuda_mark(struct engine_context *context, int slot);
int cuda_elapsed(struct engine_context *context, int from, int to, double *seconds);
void cuda_marks_close(struct engine_context *context);
void cuda_range_push(struct engine_context *context, const char *name);
void cuda_range_pop(struct engine_context *context);
int cuda_capture_begin(struct engine_context *context);
int cuda_capture_end(struct engine_context *context, struct engine_graph **graph);
int cuda_graph_launch(struct engine_context *context, struct engine_graph *graph);
void cuda_graph_free(struct engine_context *context, struct engine_graph *graph);

/* Turns a CUDA error into OP_DEVICE (OP_MEMORY for cudaErrorMemoryAllocation) with a line "op: text". A kernel runs later
 * than its launch returns, so that its fault comes back from a later op, under that name, unless FLAT_SYNC is 1. */
int engine_launched(struct engine_context *context, const char *op, cudaError_t error);

/* linear_plan.cu, called by engine.cu when a context opens and closes. */
int linear_open(struct engine_context *context);
void linear_close(struct engine_context *context);
/* linear_pick.cu: entries of the engine's table. */
const char *pick_scope(struct engine_context *context);
int picks_time(struct engine_context *context, bool on);
int pick_add(struct engine_context *context, const char *line);
const char *pick_get(struct engine_context *context, int index, bool *used);
int picks_clear(struct engine_context *context);

/* nccl.cu: the collectives of engine.h's table. */
int comm_load(struct engine_context *context, char *name, size_t name_bytes);
int comm_id(struct engine_context *context, void *id);
int comm_open(struct engine_context *context, const void *id, int rank, int size);
void comm_close(struct engine_context *context, bool failed);
const char *comm_failure(struct engine_context *context);
int comm_reduce_scatter(struct engine_context *context, enum dtype dtype, void *buffer, int64_t n, int64_t slice);
int comm_all_gather(struct engine_context *context, enum dtype dtype, void *buffer, int64_t n, int64_t slice);
int comm_broadcast(struct engine_context *context, void *buffer, size_t bytes, int root);
int comm_wait(struct engine_context *context);

/* What waits for the device or allocates; the runtime would refuse it as well, and spoil the capture. */
#define REQUIRE_NO_CAPTURE REQUIRE(!context->capturing, "not inside a capture")

/* f(T()) with T = float or bf16 by dtype: REQUIRE_DTYPE first. */
#define REQUIRE_DTYPE(type)                                                                                   \
    do {                                                                                                      \
        if ((type) != DTYPE_F32 && (type) != DTYPE_BF16)                                                      \
            return engine_fail(context, OP_CONTRACT, "%s: %s is not supported by the CUDA engine", __func__,  \
                               dtype_name(type));                                                             \
    } while (0)

#endif
