/* embedding.c - CPU: gather rows of a table, and add gradients back into it. */
#include "engine/gemm.h"

static void row_read(const struct embedding_args *args, const real *table, int32_t id, real *to)
{
    if (args->form != LINEAR_PLAIN)
        gemm_packed_row(table, args->form, args->table_rows, args->cols, id, to);
    else
        memcpy(to, table + id * args->cols, (size_t)args->cols * sizeof *to);
}

int embedding_forward(struct engine_context *context, const struct embedding_args *args)
{
    REQUIRE_CONTRACT(embedding_forward, args);
    REQUIRE_REAL(args->dtype);
    REQUIRE(args->form == LINEAR_PLAIN || gemm_packs, "this engine knows plain tables only");
    int64_t rows = args->rows, cols = args->cols;
    const real *table = args->table, *position_table = args->position_table;
    const int32_t *ids = args->ids, *positions = args->positions;
    real *out = args->out;

#pragma omp parallel for schedule(static) num_threads(engine_threads(context, rows *cols))
    for (int64_t i = 0; i < rows; i++) {
        real *to = out + i * cols;
        row_read(args, table, ids[i], to);
        if (!position_table)
            continue;
        const real *position = position_table + positions[i] * cols;
        for (int64_t j = 0; j < cols; j++)
            to[j] += position[j];
    }
    return OP_OK;
}

int embedding_backward(struct engine_context *context, const struct embedding_backward_args *args)
{
    REQUIRE_CONTRACT(embedding_backward, args);
    REQUIRE_REAL(args->dtype);
    REQUIRE_REAL(args->grad_dtype);
    int64_t buckets = args->buckets, cols = args->cols;
    if (buckets == 0)
        return OP_OK;
    const int32_t *id = args->bucket_id, *begin = args->bucket_begin, *bucket_rows = args->bucket_rows;
    const real *dout = args->dout;
    real *dtable = args->dtable;
    bool accumulate = args->accumulate;

    /* Dynamic: a frequent token's bucket is much longer than the others. */
#pragma omp parallel for schedule(dynamic, 16) num_threads(engine_threads(context, begin[buckets] * cols))
    for (int64_t b = 0; b < buckets; b++) {
        real *to = dtable + id[b] * cols;
        if (!accumulate && begin[b] < begin[b + 1])
            memset(to, 0, (size_t)cols * sizeof *to);
        for (int32_t k = begin[b]; k < begin[b + 1]; k++) {
            const real *from = dout + bucket_rows[k] * cols;
            for (int64_t j = 0; j < cols; j++)
                to[j] += from[j];
        }
    }
    return OP_OK;
}
