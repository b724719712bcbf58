/* bench_cache.c - keys and values of a step into the cache, out of the fused qkv rows (kernels/cache.h). */
#include "bench.h"

/* cols: keys and values of a row, depth: elements between rows (the qkv row). */
static const struct bench_shape shapes[] = {
    {"smollm2-135m", 384, 960}, {"llama-3.2-1b", 1024, 3072}, {"llama-2-7b", 8192, 12288},
    {"one", 8, 8, .rows = 1},   {"odd", 7, 22, .rows = 13},
};
static const int64_t rows[] = {32, 256, 2048, 0};
enum { IN, ROW_OF, OUT };

static int plan(struct bench_case *c, struct error *error)
{
    int32_t *place = bench_integers(c->rows, c->rows, error);
    if (!place)
        return STATUS_MEMORY;
    for (int64_t i = 0; i < c->rows; i++) /* from the end, so that all differ */
        place[i] = (int32_t)(c->rows - 1 - i);
    bench_values(c, c->dtype, c->rows * c->shape->depth, 0, 1);
    bench_bytes(c, place, (size_t)c->rows * sizeof *place);
    bench_values(c, c->dtype, c->rows * c->shape->cols, 0, 0);
    bench_output(c, OUT, 0, 0);
    return STATUS_OK;
}

static void write_args(const struct bench_case *c, void *const *t, union bench_args *args)
{
    args->cache_write = (struct cache_args){.dtype = c->dtype, .rows = c->rows, .cols = c->shape->cols,
                                            .in_stride = c->shape->depth, .out_stride = c->shape->cols,
                                            .row_of = t[ROW_OF], .in = t[IN], .out = t[OUT]};
}

BENCH_OP(cache_write, rows, shapes, plan, write_args);
