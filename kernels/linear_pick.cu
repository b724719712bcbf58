/* linear_pick.cu - which of cublasLt's algorithms a product uses.
 *
 * Two algorithms add in two orders, so the bits of a run hang on the choice. Without a pick the library's first proposal is
 * taken: the same on every run with one library and GPU. While picks are timed, the first product of a shape runs the
 * library's proposals in turns and keeps the fastest. Shapes that differ in the rows of activations alone share a pick where
 * those rows round up to the same quarter of a power of two: a run has hundreds of row counts, and few such steps.
 *
 * A pick is a line of text, for the host to keep and hand back: the product as the library sees it (column-major, op(a) [m, k]
 * op(b) [k, n]) with its rows rounded up, and the library's own description of the algorithm:
 *
 *     m=4096 n=2560 k=4096 ldb=4096 ldd=4096 ops=TN types=1,1 bias=0 align=16 rows=n algorithm=<8 words>
 */
#include "linear_plan.cuh"

#include <float.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { PROPOSALS = 16, ROUNDS = 5, ROWS_LEAST = 16 };
/* A later proposal must be this much faster than an earlier one to be taken instead. */
static constexpr float WORTH_IT = 0.98f;

/* ---- keys -------------------------------------------------------------------------------------------------------- */

static int64_t rows_round(int64_t rows)
{
    int64_t step = ROWS_LEAST;
    while (step <= rows / 8)
        step *= 2;
    return (rows + step - 1) / step * step;
}

/* The key that a product shares its pick by. */
static struct linear_key shared_key(const struct linear_key *key)
{
    struct linear_key shared = *key;
    int64_t *rows = key->rows_are_k ? &shared.k : &shared.n;
    *rows = rows_round(*rows);
    return shared;
}

static struct linear_pick *pick_find(struct linear_plans *plans, const struct linear_key *shared)
{
    for (int i = 0; i < plans->picks; i++)
        if (memcmp(&plans->pick[i].key, shared, sizeof *shared) == 0)
            return &plans->pick[i];
    return NULL;
}

/* ---- text -------------------------------------------------------------------------------------------------------- */

static void key_print(const struct linear_key *key, char *out, size_t bytes)
{
    snprintf(out, bytes,
             "m=%" PRId64 " n=%" PRId64 " k=%" PRId64 " ldb=%" PRId64 " ldd=%" PRId64 " ops=%c%c types=%d,%d bias=%d align=%d rows=%c",
             key->m, key->n, key->k, key->ldb, key->ldd, key->transpose_a ? 'T' : 'N', key->transpose_b ? 'T' : 'N', key->in,
             key->out, key->bias, key->alignment, key->rows_are_k ? 'k' : 'n');
}

static void pick_print(const struct linear_pick *pick, char out[ENGINE_PICK_BYTES])
{
    key_print(&pick->key, out, ENGINE_PICK_BYTES);
    size_t used = strlen(out);
    for (int i = 0; i < LINEAR_ALGORITHM_WORDS && used < ENGINE_PICK_BYTES; i++)
        used += (size_t)snprintf(out + used, ENGINE_PICK_BYTES - used, "%s%" PRIx64, i ? "," : " algorithm=",
                                 pick->algorithm.data[i]);
}

/* False: no pick, or one that pick_print would not write so. */
static bool pick_parse(const char *line, struct linear_pick *pick)
{
    struct linear_key *key = &pick->key;
    uint64_t *word = pick->algorithm.data;
    char a, b, rows, again[ENGINE_PICK_BYTES];
    *pick = {};
    if (sscanf(line,
               "m=%" SCNd64 " n=%" SCNd64 " k=%" SCNd64 " ldb=%" SCNd64 " ldd=%" SCNd64 " ops=%c%c types=%" SCNu8 ",%" SCNu8
               " bias=%" SCNu8 " align=%" SCNu8 " rows=%c algorithm=%" SCNx64 ",%" SCNx64 ",%" SCNx64 ",%" SCNx64 ",%" SCNx64
               ",%" SCNx64 ",%" SCNx64 ",%" SCNx64,
               &key->m, &key->n, &key->k, &key->ldb, &key->ldd, &a, &b, &key->in, &key->out, &key->bias, &key->alignment, &rows,
               &word[0], &word[1], &word[2], &word[3], &word[4], &word[5], &word[6], &word[7]) != 20)
        return false;
    key->transpose_a = a == 'T';
    key->transpose_b = b == 'T';
    key->rows_are_k = rows == 'k';
    pick_print(pick, again);
    return strcmp(line, again) == 0 && key->m > 0 && key->n > 0 && key->k > 0 && key->in <= DTYPE_BF16 && key->out <= DTYPE_BF16;
}

/* ---- the host's calls -------------------------------------------------------------------------------------------- */

static int pick_append(struct engine_context *context, const struct linear_pick *pick)
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

const char *pick_scope(struct engine_context *context)
{
    return context->linear->scope;
}

int picks_time(struct engine_context *context, bool on)
{
    REQUIRE_ARGS(context);
    linear_plans_forget(context->linear); /* a plan that was made before would not be timed */
    context->linear->timing = on;
    return OP_OK;
}

/* Whether the library takes an algorithm for the product of a plan. */
static bool algorithm_fits(struct linear_plans *plans, struct linear_plan *plan, const cublasLtMatmulAlgo_t *algorithm)
{
    cublasLtMatmulHeuristicResult_t result;
    return cublasLtMatmulAlgoCheck(plans->handle, &plan->operation, &plan->a, &plan->b, &plan->d, &plan->d, algorithm,
                                   &result) == CUBLAS_STATUS_SUCCESS &&
           result.state == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= LINEAR_WORKSPACE;
}

int pick_add(struct engine_context *context, const char *line)
{
    struct linear_pick pick;
    struct linear_plan plan = {};
    char product[ENGINE_PICK_BYTES];
    REQUIRE_ARGS(line);
    REQUIRE(pick_parse(line, &pick), "no pick of a matrix product");
    key_print(&pick.key, product, sizeof product);
    const struct linear_key rounded = shared_key(&pick.key);
    REQUIRE(memcmp(&rounded, &pick.key, sizeof rounded) == 0, "a pick whose rows are not rounded up");
    if (pick_find(context->linear, &pick.key))
        return OP_OK; /* the first counts */
    if (linear_plan_describe(&plan, &pick.key) != CUBLAS_STATUS_SUCCESS || !algorithm_fits(context->linear, &plan, &pick.algorithm))
        return engine_fail(context, OP_DEVICE, "%s: cublasLt %zu does not take the algorithm", product, cublasLtGetVersion());
    linear_plans_forget(context->linear);
    return pick_append(context, &pick);
}

const char *pick_get(struct engine_context *context, int index, bool *used)
{
    struct linear_plans *plans = context->linear;
    if (index < 0 || index >= plans->picks)
        return NULL;
    pick_print(&plans->pick[index], plans->line);
    *used = plans->pick[index].used;
    return plans->line;
}

int picks_clear(struct engine_context *context)
{
    REQUIRE_ARGS(context);
    linear_plans_forget(context->linear);
    context->linear->picks = 0;
    return OP_OK;
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

/* The first of the fastest, by the best of ROUNDS that take turns, after one that warms up. What is to be overwritten takes the
 * results; what is added to is left alone, and they go to memory of their own, for as long as that takes. Without any, the
 * first proposal is as good as timed. */
static int fastest(struct engine_context *context, struct linear_plan *plan, const struct linear_product *product,
                   const cublasLtMatmulHeuristicResult_t *proposal, int proposals)
{
    cudaEvent_t start = NULL, end = NULL;
    void *own = NULL;
    int best = 0;
    if (product->accumulate &&
        cudaMalloc(&own, (size_t)(product->ldd * product->n) * dtype_size(product->out)) != cudaSuccess) {
        cudaGetLastError();
        return best;
    }
    if (cudaEventCreate(&start) == cudaSuccess && cudaEventCreate(&end) == cudaSuccess) {
        float time[PROPOSALS];
        for (int i = 0; i < proposals; i++)
            time[i] = FLT_MAX;
        for (int round = 0; round <= ROUNDS; round++)
            for (int i = 0; i < proposals; i++) {
                const float now = algorithm_time(context, plan, &proposal[i].algo, product, own ? own : product->d, start, end);
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
    cudaFree(own);
    return best;
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
    const struct linear_key shared = shared_key(&plan->key);
    struct linear_pick *pick = pick_find(plans, &shared);
    int proposals = 0;
    plan->possible = true;
    if (pick && algorithm_fits(plans, plan, &pick->algorithm)) {
        pick->used = true;
        plan->algorithm = pick->algorithm;
        return OP_OK;
    }
    cudaError_t error = cudaStreamIsCapturing(context->stream, &capture);
    if (error != cudaSuccess)
        return engine_launched(context, op, error);
    /* a captured stream cannot be waited for; a pick that does not fit these very rows is no reason to time them */
    const bool timed = plans->timing && !pick && capture == cudaStreamCaptureStatusNone;
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
    const struct linear_pick made = {shared, plan->algorithm, true};
    return pick_append(context, &made);
}
