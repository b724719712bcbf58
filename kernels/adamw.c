/* adamw.c - CPU: gradient norm, clipping, finite check and the AdamW update over whole arenas. */
#include "engine/cpu.h"

/* Elements per piece of work: fixed, so that the norm's sum does not depend on the number of threads. */
enum { BLOCK = 1 << 14 };

static double block_sum_squares(const real *g, int64_t count)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; i++)
        sum += (double)g[i] * (double)g[i];
    return sum;
}

int adamw_norm(struct engine_context *context, const struct adamw_norm_args *args)
{
    REQUIRE_CONTRACT(adamw_norm, args);
    REQUIRE_REAL(args->grad_dtype);
    int64_t blocks = (args->n + BLOCK - 1) / BLOCK;
    double *partial = engine_scratch(context, 1, (size_t)blocks * sizeof *partial);
    if (!partial)
        return OP_MEMORY;
    const real *grad = args->grad;

#pragma omp parallel for schedule(static) num_threads(engine_threads(context, args->n))
    for (int64_t b = 0; b < blocks; b++)
        partial[b] = block_sum_squares(grad + b * BLOCK, min_i64(BLOCK, args->n - b * BLOCK));

    double sum = args->accumulate ? *args->sum_squares : 0;
    for (int64_t b = 0; b < blocks; b++)
        sum += partial[b];
    *args->sum_squares = sum;
    return OP_OK;
}

int adamw_prepare(struct engine_context *context, const struct adamw_prepare_args *args)
{
    REQUIRE_CONTRACT(adamw_prepare, args);
    struct adamw_state *state = args->state;
    state->skip = !isfinite(*args->sum_squares);
    if (state->skip)
        return OP_OK;
    double limit = args->max_grad_norm, ratio = limit / (sqrt(*args->sum_squares) + 1e-6);
    state->updates++;
    state->clip = limit > 0 && ratio < 1 ? ratio : 1;
    state->rate = state->learning_rate / (1 - pow(args->beta1, (double)state->updates));
    state->correction = 1 / sqrt(1 - pow(args->beta2, (double)state->updates));
    return OP_OK;
}

int adamw_step(struct engine_context *context, const struct adamw_args *args)
{
    REQUIRE_CONTRACT(adamw_step, args);
    REQUIRE_REAL(args->dtype);
    REQUIRE_REAL(args->grad_dtype);
    const struct adamw_state *state = args->state;
    if (args->n == 0 || state->skip)
        return OP_OK;

    real clip = (real)state->clip, rate = (real)state->rate, correction = (real)state->correction;
    real keep = (real)(1 - state->learning_rate * args->weight_decay), eps = (real)args->eps;
    real beta1 = (real)args->beta1, beta2 = (real)args->beta2;
    real beta1_rest = (real)(1 - args->beta1), beta2_rest = (real)(1 - args->beta2);
    const real *grad = args->grad;
    real *param = args->param, *m = args->m, *v = args->v;

#pragma omp parallel for schedule(static) num_threads(engine_threads(context, args->n))
    for (int64_t begin = 0; begin < args->n; begin += BLOCK) {
        int64_t end = min_i64(args->n, begin + BLOCK);
#pragma omp simd
        for (int64_t i = begin; i < end; i++) {
            real g = clip * grad[i];
            m[i] = beta1 * m[i] + beta1_rest * g;
            v[i] = beta2 * v[i] + beta2_rest * g * g;
            param[i] = keep * param[i] - rate * m[i] / ((real)sqrt(v[i]) * correction + eps);
        }
    }
    return OP_OK;
}
