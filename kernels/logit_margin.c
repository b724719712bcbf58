/* logit_margin.c - CPU: the squared distance of a row's largest logit from its mean, and the gradient. */
#include "engine/cpu.h"

int logit_margin(struct engine_context *context, const struct logit_margin_args *args)
{
    REQUIRE_CONTRACT(logit_margin, args);
    REQUIRE_REAL(args->dtype);
#pragma omp parallel for schedule(static) num_threads(engine_threads(context, args->rows *args->cols))
    for (int64_t i = 0; i < args->rows; i++) {
        real *z = (real *)args->logits + i * args->stride;
        const real margin = ((const real *)args->most)[i] - ((const real *)args->mean)[i];
        const real others = -2 * margin / (real)args->cols;
        for (int64_t v = 0; v < args->cols; v++)
            z[v] = others;
        z[args->argmax[i]] = 2 * margin + others;
        ((real *)args->value)[i] = margin * margin;
    }
    return OP_OK;
}
