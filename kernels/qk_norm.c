/* qk_norm.c - CPU: RMS norm of queries and keys with their rotary positions. A row is one piece of work, a piece of it (a
 * head, or all queries or keys) one norm; sums run in double. */
#include "engine/cpu.h"

/* Rows whose weight gradients are summed into one partial result; the partials are then summed in order. */
enum { ROW_BLOCK = 32 };

/* One norm of a row. */
struct piece {
    int64_t column, width; /* in x and raw */
    const real *weight;
    int64_t gradient;      /* of its weights among those of queries and keys together */
};

static int64_t q_width(const struct qk_norm_args *args) { return args->wide ? args->heads * args->head_dim : args->head_dim; }
static int64_t k_width(const struct qk_norm_args *args)
{
    return args->wide ? args->kv_heads * args->head_dim : args->head_dim;
}

static struct piece piece_of(const struct qk_norm_args *args, int p)
{
    const bool query = args->wide ? p == 0 : p < args->heads;
    return (struct piece){.column = args->wide ? p * q_width(args) : p * (int64_t)args->head_dim,
                          .width = query ? q_width(args) : k_width(args),
                          .weight = query ? args->q_weight : args->k_weight,
                          .gradient = query ? 0 : q_width(args)};
}

/* Rotates the heads of `width` columns by the row's position; direction -1 is the transpose. */
static void heads_rotate(const struct qk_norm_args *args, int64_t row, real *x, int64_t width, real direction)
{
    const int64_t half = args->rotary_dim / 2;
    if (!args->cos)
        return;
    const real *cosine = (const real *)args->cos + args->positions[row] * half;
    const real *sine = (const real *)args->sin + args->positions[row] * half;
    for (real *first = x; first < x + width; first += args->head_dim) {
        real *second = first + half;
#pragma omp simd
        for (int64_t j = 0; j < half; j++) {
            real a = first[j], b = second[j], s = direction * sine[j];
            first[j] = a * cosine[j] - b * s;
            second[j] = b * cosine[j] + a * s;
        }
    }
}

static void row_forward(const struct qk_norm_args *args, int64_t row)
{
    const int pieces = qk_norm_pieces(args);
    const int64_t cols = ((int64_t)args->heads + args->kv_heads) * args->head_dim;
    real *x = (real *)args->x + row * args->row_stride, offset = (real)args->offset;
    if (args->raw)
        memcpy((real *)args->raw + row * cols, x, (size_t)cols * sizeof *x);
    for (int p = 0; p < pieces; p++) {
        const struct piece piece = piece_of(args, p);
        real *h = x + piece.column;
        double square = 0;
#pragma omp simd reduction(+ : square)
        for (int64_t j = 0; j < piece.width; j++)
            square += (double)h[j] * (double)h[j];
        const real rstd = (real)(1 / sqrt(square / (double)piece.width + args->eps));
        ((real *)args->rstd)[row * pieces + p] = rstd;
#pragma omp simd
        for (int64_t j = 0; j < piece.width; j++)
            h[j] = h[j] * rstd * (offset + piece.weight[j]);
        heads_rotate(args, row, h, piece.width, 1);
    }
}

int qk_norm_forward(struct engine_context *context, const struct qk_norm_args *args)
{
    REQUIRE_CONTRACT(qk_norm_forward, args);
    REQUIRE_REAL(args->dtype);
    const int64_t work = args->rows * ((int64_t)args->heads + args->kv_heads) * args->head_dim;

#pragma omp parallel for schedule(static) num_threads(engine_threads(context, work))
    for (int64_t row = 0; row < args->rows; row++)
        row_forward(args, row);
    return OP_OK;
}

/* dweight: where the row's weight gradients are added, or NULL. */
static void row_backward(const struct qk_norm_backward_args *backward, int64_t row, real *dweight)
{
    const struct qk_norm_args *args = &backward->forward;
    const int pieces = qk_norm_pieces(args);
    const int64_t cols = ((int64_t)args->heads + args->kv_heads) * args->head_dim;
    const real offset = (real)args->offset;
    for (int p = 0; p < pieces; p++) {
        const struct piece piece = piece_of(args, p);
        const real *raw = (const real *)args->raw + row * cols + piece.column;
        const real rstd = ((const real *)args->rstd)[row * pieces + p];
        real *dx = (real *)backward->dx + row * args->row_stride + piece.column;
        heads_rotate(args, row, dx, piece.width, -1);
        double dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t j = 0; j < piece.width; j++)
            dot += (double)dx[j] * (double)(offset + piece.weight[j]) * (double)(raw[j] * rstd);
        const real mean = (real)(dot / (double)piece.width);
        if (dweight) {
#pragma omp simd
            for (int64_t j = 0; j < piece.width; j++)
                dweight[piece.gradient + j] += dx[j] * (raw[j] * rstd);
        }
#pragma omp simd
        for (int64_t j = 0; j < piece.width; j++)
            dx[j] = rstd * (dx[j] * (offset + piece.weight[j]) - raw[j] * rstd * mean);
    }
}

int qk_norm_backward(struct engine_context *context, const struct qk_norm_backward_args *args)
{
    REQUIRE_CONTRACT(qk_norm_backward, args);
    const struct qk_norm_args *forward = &args->forward;
    REQUIRE_REAL(forward->dtype);
    REQUIRE_REAL(args->grad_dtype);
    const int64_t rows = forward->rows, weights = q_width(forward) + k_width(forward);
    const int64_t blocks = (rows + ROW_BLOCK - 1) / ROW_BLOCK;
    const int64_t work = rows * ((int64_t)forward->heads + forward->kv_heads) * forward->head_dim;
    const size_t bytes = (size_t)weights * sizeof(real), stride = scratch_stride(bytes);
    char *partial = args->dq_weight && blocks ? engine_scratch(context, blocks, bytes) : NULL;
    if (args->dq_weight && blocks && !partial)
        return OP_MEMORY;

#pragma omp parallel for schedule(static) num_threads(engine_threads(context, work))
    for (int64_t b = 0; b < blocks; b++) {
        real *dweight = partial ? memset(partial + (size_t)b * stride, 0, bytes) : NULL;
        for (int64_t row = b * ROW_BLOCK; row < min_i64(rows, (b + 1) * ROW_BLOCK); row++)
            row_backward(args, row, dweight);
    }
    for (int64_t j = 0; partial && j < weights; j++) {
        double sum = 0;
        for (int64_t b = 0; b < blocks; b++)
            sum += (double)((const real *)(partial + (size_t)b * stride))[j];
        real *to = j < q_width(forward) ? (real *)args->dq_weight + j : (real *)args->dk_weight + j - q_width(forward);
        *to += (real)sum;
    }
    return OP_OK;
}
