/* bench_nf4_dequantize.c - a projection's weight out of NF4 (kernels/nf4_dequantize.h). */
#include "../util/memory.h"
#include "bench.h"

static const struct bench_shape shapes[] = {
    {"llama-3.1-8b", 4096}, {"block", 64, .rows = 1}, {"odd", 192, .rows = 37}, {"wide", 4160, .rows = 9},
};
static const int64_t rows[] = {4096, 28672, 0}; /* o_proj; gate_proj and up_proj */
enum { CODE, SCALE, Y };

static int plan(struct bench_case *c, struct error *error)
{
    const int64_t n = c->rows * c->shape->cols;
    uint8_t *code = memory_array((size_t)(n / 2), 1, error);
    float *scale = memory_array((size_t)(n / NF4_BLOCK), sizeof *scale, error);
    for (int64_t i = 0; code && i < n / 2; i++)
        code[i] = (uint8_t)(sample_uniform(0x4F4, (uint64_t)i) * 256);
    for (int64_t i = 0; scale && i < n / NF4_BLOCK; i++)
        scale[i] = (float)(0.1 * sample_uniform(0x4F5, (uint64_t)i));
    bench_bytes(c, code, (size_t)(n / 2));
    bench_bytes(c, scale, (size_t)(n / NF4_BLOCK) * sizeof *scale);
    bench_values(c, c->dtype, n, 0, 0);
    bench_output(c, Y, 0, 0);
    return code && scale ? STATUS_OK : STATUS_MEMORY;
}

static void nf4_dequantize_args(const struct bench_case *c, void *const *t, union bench_args *args)
{
    args->nf4_dequantize = (struct nf4_dequantize_args){c->dtype, c->rows * c->shape->cols, t[CODE], t[SCALE], t[Y]};
}

BENCH_OP(nf4_dequantize, rows, shapes, plan, nf4_dequantize_args);
