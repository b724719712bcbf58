/* nf4_dequantize.c - CPU: weights out of NF4. */
#include "engine/cpu.h"

static const float level[NF4_LEVELS] = {NF4_LEVEL_LIST};

int nf4_dequantize(struct engine_context *context, const struct nf4_dequantize_args *args)
{
    REQUIRE_CONTRACT(nf4_dequantize, args);
    REQUIRE_REAL(args->dtype);
    real *const y = args->y;
#pragma omp parallel for schedule(static) num_threads(engine_threads(context, args->n))
    for (int64_t block = 0; block < args->n / NF4_BLOCK; block++)
        for (int64_t i = block * NF4_BLOCK; i < (block + 1) * NF4_BLOCK; i += 2) {
            const uint8_t pair = args->code[i / 2];
            y[i] = (real)(level[pair >> 4] * args->scale[block]);
            y[i + 1] = (real)(level[pair & 15] * args->scale[block]);
        }
    return OP_OK;
}
