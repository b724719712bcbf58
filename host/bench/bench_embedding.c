/* bench_embedding.c - gathering rows of the token table, and adding gradients back (kernels/embedding.h). */
#include <math.h>
#include <stdlib.h>

#include "../util/memory.h"
#include "bench.h"

/* cols: hidden, depth: rows of the table. */
static const struct bench_shape shapes[] = {
    {"smollm2-135m", 576, 49152}, {"qwen2-1.5b", 1536, 151936}, {"llama-3.2-1b", 2048, 128256}, {"llama-2-7b", 4096, 32000},
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
    c->bytes = (double)embedding_forward_bytes(c->rows, c->shape->cols, false, c->dtype);
    return STATUS_OK;
}

static int forward_call(const struct bench_case *c, struct device *device, void *const *t)
{
    return device->engine->embedding_forward(device->context,
                                             &(struct embedding_args){.dtype = c->dtype, .rows = c->rows,
                                                                      .cols = c->shape->cols, .table = t[TABLE],
                                                                      .ids = t[IDS], .out = t[OUT]});
}

static int forward_check(const struct bench_result *r, struct bench_error *worst, struct error *error)
{
    const struct bench_case *c = r->bench_case;
    int status = STATUS_OK;
    for (int k = 0; k < 64 && !status; k++) {
        int64_t row = k * (c->rows - 1) / 63, j = k * (c->shape->cols - 1) / 63;
        double got = 0;
        status = bench_read(r, OUT, row * c->shape->cols + j, 1, &got, error);
        bench_compare(worst, got,
                      bench_input(c, TABLE, ((const int32_t *)c->tensor[IDS].data)[row] * c->shape->cols + j), 1e-37);
    }
    return status;
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
    c->bytes = (double)embedding_backward_bytes(c->rows, buckets, c->shape->cols, true, c->dtype, c->dtype);
    return status;
}

static int backward_call(const struct bench_case *c, struct device *device, void *const *t)
{
    return device->engine->embedding_backward(
        device->context, &(struct embedding_backward_args){.dtype = c->dtype, .grad_dtype = c->dtype,
                                                           .buckets = (int64_t)(c->tensor[BUCKET_ID].bytes / 4),
                                                           .cols = c->shape->cols, .bucket_id = t[BUCKET_ID],
                                                           .bucket_begin = t[BUCKET_BEGIN], .bucket_rows = t[BUCKET_ROWS],
                                                           .dout = t[DOUT], .dtable = t[DTABLE], .accumulate = true});
}

static int backward_check(const struct bench_result *r, struct bench_error *worst, struct error *error)
{
    const struct bench_case *c = r->bench_case;
    const int32_t *id = c->tensor[BUCKET_ID].data, *begin = c->tensor[BUCKET_BEGIN].data;
    const int32_t *row = c->tensor[BUCKET_ROWS].data;
    const int64_t buckets = (int64_t)(c->tensor[BUCKET_ID].bytes / 4);
    int status = STATUS_OK;
    for (int64_t k = 0; k < 32 && !status; k++) {
        int64_t b = k < 16 ? k % buckets : k * (buckets - 1) / 31, j = k * (c->shape->cols - 1) / 31;
        double sum = 0, size = 0, got = 0;
        for (int32_t i = begin[b]; i < begin[b + 1]; i++) {
            double term = bench_input(c, DOUT, row[i] * c->shape->cols + j);
            sum += term, size += fabs(term);
        }
        status = bench_read(r, DTABLE, id[b] * c->shape->cols + j, 1, &got, error);
        bench_compare(worst, got, sum, 2 * sqrt((double)(begin[b + 1] - begin[b])) * bench_epsilon(c) * size +
                                           bench_rounding(c->dtype) * fabs(sum));
    }
    return status;
}

#define SHAPES (int)(sizeof shapes / sizeof *shapes)
const struct bench_op bench_embedding_forward = {"embedding_forward", rows, shapes, SHAPES, forward_plan, forward_call,
                                                 forward_check};
const struct bench_op bench_embedding_backward = {"embedding_backward", rows, shapes, SHAPES, backward_plan, backward_call,
                                                  backward_check};
