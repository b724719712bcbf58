/* hidden_target.c - CPU: the squared distance of hidden states from their targets, and its gradient. Sums are double. */
#include "engine/cpu.h"

int hidden_target(struct engine_context *context, const struct hidden_target_args *args)
{
    REQUIRE_CONTRACT(hidden_target, args);
    REQUIRE_REAL(args->dtype);
    const int64_t cols = args->cols;
    const real slope = 2 / (real)cols;
#pragma omp parallel for schedule(static) num_threads(engine_threads(context, args->rows *cols))
    for (int64_t i = 0; i < args->rows; i++) {
        const real *x = (const real *)args->x + i * cols, *residual = (const real *)args->residual + i * cols;
        const real *target = (const real *)args->target + (args->one_target ? 0 : i * cols);
        const real *more = args->target_residual ? (const real *)args->target_residual + i * cols : NULL;
        real *gradient = (real *)args->gradient + i * cols;
        double sum = 0;
        for (int64_t v = 0; v < cols; v++) {
            const real distance = (x[v] + residual[v]) - (more ? target[v] + more[v] : target[v]);
            sum += (double)distance * (double)distance;
            gradient[v] = slope * distance;
        }
        ((real *)args->value)[i] = (real)(sum / (double)cols);
    }
    return OP_OK;
}
