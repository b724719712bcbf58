/* row_scale.c - CPU: rows times numbers of their own. */
#include "engine/cpu.h"

int row_scale(struct engine_context *context, const struct row_scale_args *args)
{
    REQUIRE_CONTRACT(row_scale, args);
    REQUIRE_REAL(args->dtype);
    int64_t rows = args->rows, cols = args->cols;

#pragma omp parallel for schedule(static) num_threads(engine_threads(context, rows *cols))
    for (int64_t i = 0; i < rows; i++) {
        const real *x = (const real *)args->x + i * cols;
        real *y = (real *)args->y + i * cols, scale = ((const real *)args->scale)[i];
#pragma omp simd
        for (int64_t j = 0; j < cols; j++)
            y[j] = scale * x[j];
    }
    return OP_OK;
}
