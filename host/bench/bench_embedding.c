/* bench_embedding.c - gathering rows of the token table, and adding gradients back (kernels/embedding.h). */
#include <math.h>
#include <stdlib.h>

#include "../util/memory.h"
#include "bench.h"

/* cols: hidden, depth: rows of the table. */
static const struct bench_shape shapes[] = {
    {"smollm2-135m", 576, 49152}, {"qwen2-1.5b", 1536, 151936}, {"llama-3.2-1b", 2048, 128256}, {"llama-2-7b", 4096, 32000},
    {"one", 1, 1, .rows = 1}, {"odd", 33, 70, .rows = 129}, {"wide", 1544, 5, .rows = 60},
};
static const int64_t rows[] = {256, 3840, 16384, 0};

enum { TABLE, IDS, OUT };                                            /* forward */
enum { DTABLE, BUCKET_ID, BUCKET_BEGIN, BUCKET_ROWS, DOUT };       /* backward */

static int forward_plan(struct bench_case *c, struct error *error)
{
    bench_values(c, c->dtype, c->shape->depth * c->shape->cols, 0, 0.02);
    int32_t *ids = bench_integers(c->rows, c->shape->depth, error);
    if (!ids)
        return STATUS_MEMORY;
    bench_bytes(c, ids, (size_t)c->rows * sizeof *ids);
    bench_values(c, c->dtype, c->rows * c->shape->cols, 0, 0);
    bench_output(c, OUT, 0, 0);
    return STATUS_OK;
}

static void forward_args(const struct bench_case *c, void *const *t, union bench_args *args)
{
    args->embedding_forward = (struct embedding_args){.dtype = c->dtype, .rows = c->rows, .cols = c->shape->cols,
                                                      .table = t[TABLE], .ids = t[IDS], .out = t[OUT]};
}

struct occurrence {
    int32_t id, row;
};

static int by_id(const void *left, const void *right)
{
    const struct occurrence *a = left, *b = right;
    return a->id != b->id ? (a->id > b->id) - (a->id < b->id) : (a->row > b->row) - (a->row < b->row);
}

/* Rows sorted into buckets by id, half of them on a few ids as in text. */
static int buckets_make(struct bench_case *c, int64_t *buckets, struct error *error)
{
    const size_t count = (size_t)c->rows, s = sizeof(int32_t);
    struct occurrence *o = memory_array(count, sizeof *o, error);
    int32_t *ids = bench_integers(c->rows, c->shape->depth, error), *id = memory_array(count, s, error);
    int32_t *begin = memory_array(count + 1, s, error), *row = memory_array(count, s, error);
    *buckets = 0;
    bool made = o && ids && id && begin && row;
    for (size_t i = 0; made && i < count; i++)
        o[i] = (struct occurrence){i % 2 ? ids[i] % 64 : ids[i], (int32_t)i};
    if (made)
        qsort(o, count, sizeof *o, by_id);
    for (size_t i = 0; made && i < count; i++) {
        row[i] = o[i].row;
        if (!i || o[i].id != o[i - 1].id) {
            begin[*buckets] = (int32_t)i;
            id[(*buckets)++] = o[i].id;
        }
    }
    if (made)
        begin[*buckets] = (int32_t)count;
    free(o);
    free(ids);
    bench_bytes(c, id, (size_t)*buckets * s);
    bench_bytes(c, begin, ((size_t)*buckets + 1) * s);
    bench_bytes(c, row, count * s);
    return made ? STATUS_OK : STATUS_MEMORY;
}

static int backward_plan(struct bench_case *c, struct error *error)
{
    int64_t buckets;
    bench_values(c, c->dtype, c->shape->depth * c->shape->cols, 0, 0);
    int status = buckets_make(c, &buckets, error);
    bench_values(c, c->dtype, c->rows * c->shape->cols, 0, 1);
    bench_output(c, DTABLE, 2 * (double)c->rows, 2 * sqrt((double)c->rows));
    return status;
}

static void backward_args(const struct bench_case *c, void *const *t, union bench_args *args)
{
    args->embedding_backward = (struct embedding_backward_args){
        .dtype = c->dtype, .grad_dtype = c->dtype, .rows = c->rows, .buckets = (int64_t)(c->tensor[BUCKET_ID].bytes / 4),
        .cols = c->shape->cols, .bucket_id = t[BUCKET_ID], .bucket_begin = t[BUCKET_BEGIN], .bucket_rows = t[BUCKET_ROWS],
        .dout = t[DOUT], .dtable = t[DTABLE], .accumulate = true};
}

BENCH_OP(embedding_forward, rows, shapes, forward_plan, forward_args);
BENCH_OP(embedding_backward, rows, shapes, backward_plan, backward_args);
