/* rope.c - CPU: rotary position embedding, in place. */
#include "engine/cpu.h"

int rope(struct engine_context *context, const struct rope_args *args)
{
    REQUIRE_ARGS(args);
    REQUIRE_REAL(args->dtype);
    int64_t rows = args->rows, heads = args->heads, head_dim = args->head_dim, half = args->rotary_dim / 2;
    REQUIRE(rows >= 0 && heads > 0 && head_dim > 0, "rows is negative, or heads or head_dim not positive");
    REQUIRE(args->rotary_dim > 0 && args->rotary_dim % 2 == 0 && args->rotary_dim <= head_dim,
            "rotary_dim is not even, positive and at most head_dim");
    REQUIRE(args->row_stride >= heads * head_dim, "row_stride is below heads * head_dim");
    REQUIRE(args->direction == 1 || args->direction == -1, "direction is neither +1 nor -1");
    if (rows == 0)
        return OP_OK;
    REQUIRE(args->positions && args->cos && args->sin && args->x, "positions, cos, sin or x is NULL");
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
