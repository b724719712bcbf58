/* linear_plan.cu - cublasLt: one handle, one workspace, and a plan for every shape that has been asked for.
 *
 * A plan holds the descriptors and the algorithm, so that a product in the steady state is one library call, without
 * allocation, and has the same bits every time. Sums over k that are split are added in a fixed order, in float.
 */
#include "linear_plan.cuh"

#include <stdio.h>
#include <stdlib.h>

int linear_status(struct engine_context *context, const char *op, cublasStatus_t status)
{
    if (status == CUBLAS_STATUS_SUCCESS)
        return OP_OK;
    return engine_fail(context, status == CUBLAS_STATUS_ALLOC_FAILED ? OP_MEMORY : OP_DEVICE, "%s: cublasLt: %s", op,
                       cublasLtGetStatusString(status));
}

/* ---- open and close ---------------------------------------------------------------------------------------------- */

static cublasStatus_t preference_create(struct linear_plans *plans)
{
    const uint64_t workspace = LINEAR_WORKSPACE;
    const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    cublasStatus_t status = cublasLtMatmulPreferenceCreate(&plans->preference);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulPreferenceSetAttribute(plans->preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                      &workspace, sizeof workspace);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulPreferenceSetAttribute(plans->preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                                      &reductions, sizeof reductions);
    return status;
}

int linear_open(struct engine_context *context)
{
    struct linear_plans *plans = (struct linear_plans *)calloc(1, sizeof *plans);
    if (!plans)
        return engine_fail(context, OP_MEMORY, "no memory for the plans of matrix products");
    context->linear = plans;
    int status = linear_status(context, "opening cublasLt", cublasLtCreate(&plans->handle));
    if (status == OP_OK)
        status = linear_status(context, "opening cublasLt", preference_create(plans));
    snprintf(plans->scope, sizeof plans->scope, "%.*s, cublasLt %zu", (int)strcspn(context->describe, ","), context->describe,
             cublasLtGetVersion());
    return status;
}

void linear_close(struct engine_context *context)
{
    struct linear_plans *plans = context->linear;
    if (!plans)
        return;
    free(plans->pick);
    if (plans->preference)
        cublasLtMatmulPreferenceDestroy(plans->preference);
    if (plans->handle)
        cublasLtDestroy(plans->handle);
    cudaFree(plans->workspace);
    free(plans);
    context->linear = NULL;
}

/* ---- plans ------------------------------------------------------------------------------------------------------- */

static struct linear_key key_of(const struct linear_product *product)
{
    const uintptr_t bits = (uintptr_t)product->a | (uintptr_t)product->b | (uintptr_t)product->d |
                           (uintptr_t)product->bias | 16;
    return {product->m, product->n, product->k, product->ldb, product->ldd, (uint8_t)product->in,
            (uint8_t)product->out, product->transpose_a, product->transpose_b, product->bias != NULL,
            (uint8_t)(bits & (~bits + 1)), product->rows_are_k, 0};
}

/* FNV-1a. */
static uint64_t key_hash(const struct linear_key *key)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < sizeof *key; i++)
        hash = (hash ^ ((const unsigned char *)key)[i]) * 0x100000001b3u;
    return hash;
}

void linear_plans_forget(struct linear_plans *plans)
{
    memset(plans->plan, 0, sizeof plans->plan);
    plans->used = 0;
}

/* The plan of a key, or the free place for it. A table that fills up starts anew: a plan costs microseconds. */
static struct linear_plan *plan_slot(struct linear_plans *plans, const struct linear_key *key)
{
    if (plans->used > LINEAR_PLANS * 3 / 4)
        linear_plans_forget(plans);
    for (uint64_t slot = key_hash(key);; slot++) {
        struct linear_plan *plan = &plans->plan[slot % LINEAR_PLANS];
        if (!plan->used || memcmp(&plan->key, key, sizeof *key) == 0)
            return plan;
    }
}

static cudaDataType_t type_of(uint8_t dtype)
{
    return dtype == DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static cublasStatus_t bias_set(struct linear_plan *plan, const void *bias)
{
    return cublasLtMatmulDescSetAttribute(&plan->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
}

cublasStatus_t linear_plan_describe(struct linear_plan *plan, const struct linear_key *key)
{
    const int32_t operation_a = key->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    const int32_t operation_b = key->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasLtEpilogue_t epilogue = key->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    const cudaDataType_t in = type_of(key->in);
    const int64_t a_rows = key->transpose_a ? key->k : key->m, a_columns = key->transpose_a ? key->m : key->k;
    const int64_t b_rows = key->transpose_b ? key->n : key->k, b_columns = key->transpose_b ? key->k : key->n;
    cublasStatus_t status = cublasLtMatmulDescInit(&plan->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulDescSetAttribute(&plan->operation, CUBLASLT_MATMUL_DESC_TRANSA, &operation_a,
                                                sizeof operation_a);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulDescSetAttribute(&plan->operation, CUBLASLT_MATMUL_DESC_TRANSB, &operation_b,
                                                sizeof operation_b);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulDescSetAttribute(&plan->operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                                sizeof epilogue);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatrixLayoutInit(&plan->a, in, (uint64_t)a_rows, (uint64_t)a_columns, a_rows);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatrixLayoutInit(&plan->b, in, (uint64_t)b_rows, (uint64_t)b_columns, key->ldb);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatrixLayoutInit(&plan->d, type_of(key->out), (uint64_t)key->m, (uint64_t)key->n, key->ldd);
    return status;
}

cublasStatus_t linear_plan_queue(struct engine_context *context, struct linear_plan *plan,
                                 const cublasLtMatmulAlgo_t *algorithm, const struct linear_product *product, void *d,
                                 bool accumulate)
{
    const float beta = accumulate ? 1 : 0;
    struct linear_plans *plans = context->linear;
    const cublasStatus_t status = product->bias ? bias_set(plan, product->bias) : CUBLAS_STATUS_SUCCESS;
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    return cublasLtMatmul(plans->handle, &plan->operation, &product->scale, product->a, &plan->a, product->b, &plan->b,
                          &beta, d, &plan->d, d, &plan->d, algorithm, plans->workspace, LINEAR_WORKSPACE,
                          context->stream);
}

static int plan_make(struct engine_context *context, const char *op, struct linear_plan *plan,
                     const struct linear_key *key, const struct linear_product *product)
{
    struct linear_plans *plans = context->linear;
    int status = OP_OK;
    if (!plans->workspace) /* with the first plan: many a context never needs it */
        status = engine_launched(context, op, cudaMalloc(&plans->workspace, LINEAR_WORKSPACE));
    plan->key = *key;
    if (status == OP_OK)
        status = linear_status(context, op, linear_plan_describe(plan, key));
    if (status == OP_OK && product->bias)
        status = linear_status(context, op, bias_set(plan, product->bias));
    if (status == OP_OK)
        status = linear_pick_choose(context, op, plan, product);
    plan->used = status == OP_OK;
    plans->used += plan->used;
    return status;
}

int linear_product_run(struct engine_context *context, const char *op, const struct linear_product *product,
                       bool *queued)
{
    struct linear_plans *plans = context->linear;
    *queued = false;
    if (product->bias && product->in != product->out)
        return OP_OK; /* cublasLt's bias is of the type of d */
    const struct linear_key key = key_of(product);
    struct linear_plan *plan = plan_slot(plans, &key);
    if (!plan->used) {
        const int status = plan_make(context, op, plan, &key, product);
        if (status != OP_OK)
            return status;
    }
    if (!plan->possible && product->bias)
        return OP_OK;
    if (!plan->possible)
        return engine_fail(context, OP_DEVICE, "%s: cublasLt has no algorithm for %lld x %lld x %lld", op,
                           (long long)product->m, (long long)product->n, (long long)product->k);
    *queued = true;
    return linear_status(context, op, linear_plan_queue(context, plan, &plan->algorithm, product, product->d,
                                                        product->accumulate));
}
