/* logits_combine.c - CPU: logits, less alpha times what a reinforced model raises them by. */
#include "engine/cpu.h"

int logits_combine(struct engine_context *context, const struct logits_combine_args *args)
{
    REQUIRE_CONTRACT(logits_combine, args);
    REQUIRE_REAL(args->dtype);
    real *z = args->z;
    const real *r = args->r, alpha = (real)args->alpha;

#pragma omp parallel for simd schedule(static) num_threads(engine_threads(context, args->count))
    for (int64_t i = 0; i < args->count; i++)
        z[i] -= alpha * (r[i] > z[i] ? r[i] - z[i] : 0);
    return OP_OK;
}
