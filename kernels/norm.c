/* norm.c - CPU: RMS norm and Layer norm over the last axis. One row is one piece of work; RMS is the case
 * in which the mean is taken to be 0. Sums run in double.
 */
#include "engine/cpu.h"

/* Rows whose weight gradient is summed into one partial result; the partials are then summed in order. */
enum { ROW_BLOCK = 32 };

static double row_mean(const real *h, int64_t cols)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < cols; j++)
        sum += (double)h[j];
    return sum / (double)cols;
}

static double row_variance(const real *h, double mean, int64_t cols)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < cols; j++) {
        double centred = (double)h[j] - mean;
        sum += centred * centred;
    }
    return sum / (double)cols;
}

static void row_forward(const struct norm_args *args, int64_t i)
{
    int64_t cols = args->cols;
    const real *h = (const real *)args->x + i * cols, *weight = args->weight, *bias = args->bias;
    real *y = (real *)args->y + i * cols, offset = (real)args->offset;
    if (args->residual) {
        const real *residual = (const real *)args->residual + i * cols;
        real *sum = (real *)args->sum + i * cols;
#pragma omp simd
        for (int64_t j = 0; j < cols; j++)
            sum[j] = h[j] + residual[j];
        h = sum;
    }
    real mean = 0;
    if (args->kind == NORM_LAYER)
        ((real *)args->mean)[i] = mean = (real)row_mean(h, cols);
    real rstd = (real)(1 / sqrt(row_variance(h, mean, cols) + args->eps));
    ((real *)args->rstd)[i] = rstd;
    if (bias) {
#pragma omp simd
        for (int64_t j = 0; j < cols; j++)
            y[j] = (h[j] - mean) * rstd * weight[j] + bias[j];
    } else {
#pragma omp simd
        for (int64_t j = 0; j < cols; j++)
            y[j] = (h[j] - mean) * rstd * (offset + weight[j]);
    }
    if (args->added) {
        const real *added = (const real *)args->added + i * cols;
#pragma omp simd
        for (int64_t j = 0; j < cols; j++)
            y[j] += added[j];
    }
}

int norm_forward(struct engine_context *context, const struct norm_args *args)
{
    REQUIRE_CONTRACT(norm_forward, args);
    REQUIRE_REAL(args->dtype);
    if (args->rows == 0)
        return OP_OK;
#pragma omp parallel for schedule(static) num_threads(engine_threads(context, args->rows *args->cols))
    for (int64_t i = 0; i < args->rows; i++)
        row_forward(args, i);
    return OP_OK;
}

/* Adds the row's part to dweight and dbias (each may be NULL) first: dx may lie on top of dy. */
static void row_backward(const struct norm_backward_args *args, int64_t i, real *dweight, real *dbias)
{
    int64_t cols = args->cols;
    bool layer = args->kind == NORM_LAYER;
    const real *h = (const real *)args->x + i * cols, *dy = (const real *)args->dy + i * cols, *weight = args->weight;
    real *dx = (real *)args->dx + i * cols, offset = (real)args->offset;
    real mean = layer ? ((const real *)args->mean)[i] : 0, rstd = ((const real *)args->rstd)[i];
    if (dweight) {
#pragma omp simd
        for (int64_t j = 0; j < cols; j++)
            dweight[j] += dy[j] * ((h[j] - mean) * rstd);
    }
    if (dbias) {
#pragma omp simd
        for (int64_t j = 0; j < cols; j++)
            dbias[j] += dy[j];
    }

    double sum = 0, dot = 0; /* of dy weight, alone and with the normalised row */
#pragma omp simd reduction(+ : sum, dot)
    for (int64_t j = 0; j < cols; j++) {
        double g = (double)dy[j] * (double)(offset + weight[j]);
        sum += g;
        dot += g * (double)((h[j] - mean) * rstd);
    }
    real mean_g = layer ? (real)(sum / (double)cols) : 0, mean_dot = (real)(dot / (double)cols);
    if (args->dresidual) {
        const real *dresidual = (const real *)args->dresidual + i * cols;
#pragma omp simd
        for (int64_t j = 0; j < cols; j++)
            dx[j] = dresidual[j] + rstd * (dy[j] * (offset + weight[j]) - mean_g - (h[j] - mean) * rstd * mean_dot);
    } else {
#pragma omp simd
        for (int64_t j = 0; j < cols; j++)
            dx[j] = rstd * (dy[j] * (offset + weight[j]) - mean_g - (h[j] - mean) * rstd * mean_dot);
    }
}

/* gradient += the sum of the blocks' partial results, in order. */
static void partials_add(struct engine_context *context, const char *partials, size_t stride, int64_t blocks,
                         real *gradient, int64_t cols)
{
#pragma omp parallel for schedule(static) num_threads(engine_threads(context, blocks *cols))
    for (int64_t j = 0; j < cols; j++) {
        double sum = 0;
        for (int64_t b = 0; b < blocks; b++)
            sum += (double)((const real *)(partials + (size_t)b * stride))[j];
        gradient[j] += (real)sum;
    }
}

int norm_backward(struct engine_context *context, const struct norm_backward_args *args)
{
    REQUIRE_CONTRACT(norm_backward, args);
    REQUIRE_REAL(args->dtype);
    REQUIRE_REAL(args->grad_dtype);
    int64_t rows = args->rows, cols = args->cols;
    if (rows == 0)
        return OP_OK;

    /* Partial results, one per block: dweight of all blocks, then dbias of all blocks. */
    int64_t blocks = (rows + ROW_BLOCK - 1) / ROW_BLOCK;
    size_t bytes = (size_t)cols * sizeof(real), stride = scratch_stride(bytes);
    char *dweight = NULL, *dbias = NULL;
    if (args->dweight || args->dbias) {
        dweight = engine_scratch(context, 2 * blocks, bytes);
        if (!dweight)
            return OP_MEMORY;
        dbias = dweight + (size_t)blocks * stride;
    }

#pragma omp parallel for schedule(static) num_threads(engine_threads(context, rows *cols))
    for (int64_t b = 0; b < blocks; b++) {
        real *block_dweight = args->dweight ? memset(dweight + (size_t)b * stride, 0, bytes) : NULL;
        real *block_dbias = args->dbias ? memset(dbias + (size_t)b * stride, 0, bytes) : NULL;
        for (int64_t i = b * ROW_BLOCK; i < min_i64(rows, (b + 1) * ROW_BLOCK); i++)
            row_backward(args, i, block_dweight, block_dbias);
    }
    if (args->dweight)
        partials_add(context, dweight, stride, blocks, args->dweight, cols);
    if (args->dbias)
        partials_add(context, dbias, stride, blocks, args->dbias, cols);
    return OP_OK;
}
