/* linear_pick.cu - which of cublasLt's algorithms a product uses.
 *
 * Two algorithms add in two orders, so the bits of a run hang on the choice. Without a file the library's first
 * proposal is taken: the same on every run with one library and GPU. With a file the proposals are timed once, and the pick is
 * written down and taken from there by every later run. The file is text, one line per product, under a line that names
 * GPU and library; with another GPU or library it is begun anew.
 */
#include "linear_plan.cuh"

#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { PROPOSALS = 8, ROUNDS = 5, HEADER_BYTES = 400 };
/* A later proposal must be this much faster than an earlier one to be taken instead. */
static constexpr float WORTH_IT = 0.98f;

/* ---- the file ---------------------------------------------------------------------------------------------------- */

static int file_fail(struct engine_context *context, const char *file, const char *what)
{
    return engine_fail(context, OP_DEVICE, "%.200s: cannot be %s: %s", file, what, strerror(errno));
}

static bool line_read(FILE *stream, struct linear_pick *pick)
{
    struct linear_key *key = &pick->key;
    uint64_t *word = pick->algorithm.data;
    *pick = {};
    return fscanf(stream,
                  "%" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNu8 " %" SCNu8 " %" SCNu8 " %" SCNu8
                  " %" SCNu8 " %" SCNu8 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64
                  " %" SCNx64 " %" SCNx64,
                  &key->m, &key->n, &key->k, &key->ldb, &key->ldd, &key->in, &key->out, &key->transpose_a,
                  &key->transpose_b, &key->bias, &key->alignment, &word[0], &word[1], &word[2], &word[3], &word[4],
                  &word[5], &word[6], &word[7]) == 19;
}

/* One write, so that processes may add lines side by side; the first line of a product counts. */
static int line_write(struct engine_context *context, const char *file, const struct linear_pick *pick)
{
    const struct linear_key *key = &pick->key;
    const uint64_t *word = pick->algorithm.data;
    FILE *stream = fopen(file, "ae");
    if (!stream)
        return file_fail(context, file, "opened");
    const int written =
        fprintf(stream,
                "%" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %d %d %d %d %d %d %" PRIx64 " %" PRIx64
                " %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64 "\n",
                key->m, key->n, key->k, key->ldb, key->ldd, key->in, key->out, key->transpose_a, key->transpose_b,
                key->bias, key->alignment, word[0], word[1], word[2], word[3], word[4], word[5], word[6], word[7]);
    if (fclose(stream) != 0 || written < 0)
        return file_fail(context, file, "written");
    return OP_OK;
}

static int pick_add(struct engine_context *context, const struct linear_pick *pick)
{
    struct linear_plans *plans = context->linear;
    struct linear_pick *grown =
        (struct linear_pick *)realloc(plans->pick, (size_t)(plans->picks + 1) * sizeof *plans->pick);
    if (!grown)
        return engine_fail(context, OP_MEMORY, "no memory for the picks of matrix products");
    plans->pick = grown;
    plans->pick[plans->picks++] = *pick;
    return OP_OK;
}

int linear_pick_open(struct engine_context *context, const char *file)
{
    struct linear_plans *plans = context->linear;
    char header[HEADER_BYTES], found[HEADER_BYTES] = "";
    snprintf(header, sizeof header, "flat.c plans 2, %s, cublasLt %zu\n", context->describe, cublasLtGetVersion());
    plans->file = strdup(file);
    if (!plans->file)
        return engine_fail(context, OP_MEMORY, "no memory for the name of the plans");
    FILE *stream = fopen(file, "a+e");
    if (!stream)
        return file_fail(context, file, "opened");
    rewind(stream);
    int status = OP_OK;
    if (fgets(found, sizeof found, stream) && strcmp(found, header) == 0) {
        for (struct linear_pick pick; status == OP_OK && line_read(stream, &pick);)
            status = pick_add(context, &pick);
        fclose(stream);
        return status;
    }
    stream = freopen(file, "we", stream);
    if (!stream || fputs(header, stream) < 0 || fclose(stream) != 0)
        return file_fail(context, file, "written");
    return OP_OK;
}

void linear_pick_close(struct linear_plans *plans)
{
    free(plans->file);
    free(plans->pick);
}

/* ---- the choice -------------------------------------------------------------------------------------------------- */

/* Microseconds of one run, or FLT_MAX where the algorithm fails. */
static float algorithm_time(struct engine_context *context, struct linear_plan *plan,
                            const cublasLtMatmulAlgo_t *algorithm, const struct linear_product *product, void *d,
                            cudaEvent_t start, cudaEvent_t end)
{
    float milliseconds = 0;
    if (cudaEventRecord(start, context->stream) != cudaSuccess ||
        linear_plan_queue(context, plan, algorithm, product, d, false) != CUBLAS_STATUS_SUCCESS ||
        cudaEventRecord(end, context->stream) != cudaSuccess || cudaEventSynchronize(end) != cudaSuccess ||
        cudaEventElapsedTime(&milliseconds, start, end) != cudaSuccess)
        return FLT_MAX;
    return milliseconds * 1000;
}

/* The first of the fastest, by the best of ROUNDS that take turns, after one that warms up. The result goes to scratch
 * memory: d may hold what the product is to be added to. */
static int fastest(struct engine_context *context, struct linear_plan *plan, const struct linear_product *product,
                   const cublasLtMatmulHeuristicResult_t *proposal, int proposals)
{
    cudaEvent_t start = NULL, end = NULL;
    void *d = engine_scratch(context, (size_t)(product->ldd * product->n) * dtype_size(product->out));
    int best = 0;
    if (d && cudaEventCreate(&start) == cudaSuccess && cudaEventCreate(&end) == cudaSuccess) {
        float time[PROPOSALS];
        for (int i = 0; i < proposals; i++)
            time[i] = FLT_MAX;
        for (int round = 0; round <= ROUNDS; round++)
            for (int i = 0; i < proposals; i++) {
                const float now = algorithm_time(context, plan, &proposal[i].algo, product, d, start, end);
                if (round > 0 && now < time[i])
                    time[i] = now;
            }
        for (int i = 1; i < proposals; i++)
            if (time[i] < WORTH_IT * time[best])
                best = i;
    }
    if (start)
        cudaEventDestroy(start);
    if (end)
        cudaEventDestroy(end);
    return best;
}

/* Whether the file has an algorithm for the key that this library still takes. */
static bool pick_find(struct linear_plans *plans, struct linear_plan *plan, const struct linear_key *key)
{
    cublasLtMatmulHeuristicResult_t result;
    for (int i = 0; i < plans->picks; i++)
        if (memcmp(&plans->pick[i].key, key, sizeof *key) == 0) {
            plan->algorithm = plans->pick[i].algorithm;
            return cublasLtMatmulAlgoCheck(plans->handle, &plan->operation, &plan->a, &plan->b, &plan->d, &plan->d,
                                           &plan->algorithm, &result) == CUBLAS_STATUS_SUCCESS &&
                   result.workspaceSize <= LINEAR_WORKSPACE;
        }
    return false;
}

static cublasStatus_t alignment_set(struct linear_plans *plans, uint32_t alignment)
{
    static const cublasLtMatmulPreferenceAttributes_t attribute[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    for (int i = 0; i < 4 && status == CUBLAS_STATUS_SUCCESS; i++)
        status = cublasLtMatmulPreferenceSetAttribute(plans->preference, attribute[i], &alignment, sizeof alignment);
    return status;
}

/* Moves the proposals that the library itself marks as usable to the front; how many they are. */
static int proposals_usable(cublasLtMatmulHeuristicResult_t *proposal, int proposals)
{
    int usable = 0;
    for (int i = 0; i < proposals; i++)
        if (proposal[i].state == CUBLAS_STATUS_SUCCESS)
            proposal[usable++] = proposal[i];
    return usable;
}

int linear_pick_choose(struct engine_context *context, const char *op, struct linear_plan *plan,
                       const struct linear_product *product)
{
    struct linear_plans *plans = context->linear;
    cublasLtMatmulHeuristicResult_t proposal[PROPOSALS];
    enum cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    int proposals = 0;
    plan->possible = true;
    if (pick_find(plans, plan, &plan->key))
        return OP_OK;
    cudaError_t error = cudaStreamIsCapturing(context->stream, &capture);
    if (error != cudaSuccess)
        return engine_launched(context, op, error);
    /* a captured stream cannot be waited for */
    const bool timed = plans->file && capture == cudaStreamCaptureStatusNone;
    cublasStatus_t status = alignment_set(plans, plan->key.alignment);
    if (status != CUBLAS_STATUS_SUCCESS)
        return linear_status(context, op, status);
    status = cublasLtMatmulAlgoGetHeuristic(plans->handle, &plan->operation, &plan->a, &plan->b, &plan->d, &plan->d,
                                            plans->preference, timed ? PROPOSALS : 1, proposal, &proposals);
    proposals = status == CUBLAS_STATUS_SUCCESS ? proposals_usable(proposal, proposals) : 0;
    plan->possible = proposals > 0;
    if (!plan->possible)
        return status == CUBLAS_STATUS_NOT_SUPPORTED ? OP_OK : linear_status(context, op, status);
    const int best = timed && proposals > 1 ? fastest(context, plan, product, proposal, proposals) : 0;
    plan->algorithm = proposal[best].algo;
    if (!timed)
        return OP_OK;
    const struct linear_pick pick = {plan->key, plan->algorithm};
    const int written = line_write(context, plans->file, &pick);
    return written == OP_OK ? pick_add(context, &pick) : written;
}
