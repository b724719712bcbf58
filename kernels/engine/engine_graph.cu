/* engine_graph.cu - what the CUDA engine has around the ops of its stream: time marks, named ranges and graphs.
 *
 * A captured graph holds addresses. Those of the engine's scratch are kept alive by engine_scratch while there is a
 * graph; cublasLt's workspace never moves once it is there.
 */
#include "cuda.cuh"

#include <nvtx3/nvToolsExt.h>
#include <stdlib.h>

/* ---- marks and ranges -------------------------------------------------------------------------------------------- */

int cuda_mark(struct engine_context *context, int slot)
{
    REQUIRE_ARGS(context);
    REQUIRE(slot >= 0 && slot < ENGINE_MARKS, "no such slot");
    REQUIRE(!context->capturing, "a mark inside a capture has no time");
    cudaError_t error = cudaSuccess;
    if (!context->mark[slot])
        error = cudaEventCreate(&context->mark[slot]);
    if (error == cudaSuccess)
        error = cudaEventRecord(context->mark[slot], context->stream);
    return engine_launched(context, "mark", error);
}

int cuda_elapsed(struct engine_context *context, int from, int to, double *seconds)
{
    REQUIRE_ARGS(seconds);
    REQUIRE(from >= 0 && from < ENGINE_MARKS && to >= 0 && to < ENGINE_MARKS, "no such slot");
    REQUIRE(context->mark[from] && context->mark[to], "a slot that was never marked");
    REQUIRE(!context->capturing, "waits for the device, which a capture cannot");
    float milliseconds = 0;
    cudaError_t error = cudaEventSynchronize(context->mark[from]);
    if (error == cudaSuccess)
        error = cudaEventSynchronize(context->mark[to]);
    if (error == cudaSuccess)
        error = cudaEventElapsedTime(&milliseconds, context->mark[from], context->mark[to]);
    *seconds = 1e-3 * (double)milliseconds;
    return engine_launched(context, "elapsed", error);
}

void cuda_marks_close(struct engine_context *context)
{
    for (int slot = 0; slot < ENGINE_MARKS; slot++)
        if (context->mark[slot])
            cudaEventDestroy(context->mark[slot]);
}

void cuda_range_push(struct engine_context *, const char *name)
{
    nvtxRangePushA(name);
}

void cuda_range_pop(struct engine_context *)
{
    nvtxRangePop();
}

/* ---- graphs ------------------------------------------------------------------------------------------------------ */

struct engine_graph {
    cudaGraphExec_t executable;
};

int cuda_capture_begin(struct engine_context *context)
{
    REQUIRE_ARGS(context);
    REQUIRE(!context->capturing, "the capture before was not ended");
    const cudaError_t error = cudaStreamBeginCapture(context->stream, cudaStreamCaptureModeThreadLocal);
    context->capturing = error == cudaSuccess;
    return engine_launched(context, "capture_begin", error);
}

int cuda_capture_end(struct engine_context *context, struct engine_graph **graph)
{
    if (graph)
        *graph = NULL;
    REQUIRE_ARGS(context);
    REQUIRE(context->capturing, "no capture was begun");
    context->capturing = false;
    cudaGraph_t captured = NULL;
    cudaError_t error = cudaStreamEndCapture(context->stream, &captured);
    if (error != cudaSuccess || !graph) {
        if (captured)
            cudaGraphDestroy(captured);
        return engine_launched(context, "capture_end", error);
    }
    struct engine_graph *made = (struct engine_graph *)calloc(1, sizeof *made);
    if (made)
        error = cudaGraphInstantiate(&made->executable, captured, 0);
    cudaGraphDestroy(captured);
    if (!made || error != cudaSuccess) {
        free(made);
        return made ? engine_launched(context, "capture_end", error)
                    : engine_fail(context, OP_MEMORY, "capture_end: no memory for a graph");
    }
    context->graphs++;
    *graph = made;
    return OP_OK;
}

int cuda_graph_launch(struct engine_context *context, struct engine_graph *graph)
{
    REQUIRE_ARGS(graph);
    REQUIRE(!context->capturing, "a launch inside a capture");
    return engine_launched(context, "graph_launch", cudaGraphLaunch(graph->executable, context->stream));
}

void cuda_graph_free(struct engine_context *context, struct engine_graph *graph)
{
    if (!graph)
        return;
    cudaStreamSynchronize(context->stream); /* it may be running */
    cudaGraphExecDestroy(graph->executable);
    free(graph);
    if (--context->graphs == 0)
        scratch_retired_free(context);
}
