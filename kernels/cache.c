/* cache.c - CPU: new keys and values into a cache. */
#include "engine/cpu.h"

int cache_write(struct engine_context *context, const struct cache_args *args)
{
    REQUIRE_CONTRACT(cache_write, args);
    REQUIRE_REAL(args->dtype);
    const int64_t rows = args->rows, cols = args->cols;
    const int32_t *row_of = args->row_of;
    const real *in = args->in;
    real *out = args->out;
#pragma omp parallel for schedule(static) num_threads(engine_threads(context, rows *cols))
    for (int64_t i = 0; i < rows; i++)
        if (row_of[i] >= 0)
            memcpy(out + row_of[i] * args->out_stride, in + i * args->in_stride, (size_t)cols * sizeof(real));
    return OP_OK;
}
