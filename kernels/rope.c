/* rope.c - CPU: rotary position embedding, in place. */
#include "engine/cpu.h"

int rope(struct engine_context *context, const struct rope_args *args)
{
    REQUIRE_CONTRACT(rope, args);
    REQUIRE_REAL(args->dtype);
    int64_t rows = args->rows, heads = args->heads, head_dim = args->head_dim, half = args->rotary_dim / 2;
    const int32_t *positions = args->positions;
    real direction = (real)args->direction;

#pragma omp parallel for schedule(static) num_threads(engine_threads(context, rows *heads *head_dim))
    for (int64_t i = 0; i < rows; i++) {
        const real *cosine = (const real *)args->cos + positions[i] * half;
        const real *sine = (const real *)args->sin + positions[i] * half;
        for (int64_t h = 0; h < heads; h++) {
            real *first = (real *)args->x + i * args->row_stride + h * head_dim, *second = first + half;
#pragma omp simd
            for (int64_t j = 0; j < half; j++) {
                real a = first[j], b = second[j], s = direction * sine[j];
                first[j] = a * cosine[j] - b * s;
                second[j] = b * cosine[j] + a * s;
            }
        }
    }
    return OP_OK;
}
