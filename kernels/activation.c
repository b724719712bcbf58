/* activation.c - CPU: the non-linearity of the feed-forward block. With u = sqrt(2/pi) (z + 0.044715 z^3),
 * (1 + tanh u) / 2 is the logistic function of 2u, and (1 + erf(z / sqrt 2)) / 2 is erfc(-z / sqrt 2) / 2:
 * neither cancels for negative z.
 */
#include "engine/cpu.h"

#define SQRT_2_OVER_PI ((real)0.79788456080286535588)
#define SQRT_1_OVER_2 ((real)0.70710678118654752440)
#define SQRT_1_OVER_2PI ((real)0.39894228040143267794)
#define GELU_CUBIC ((real)0.044715)

static inline real logistic(real z) { return 1 / (1 + exp_real(-z)); }

static inline real erfc_real(real z)
{
#ifdef FLAT_DOUBLE
    return erfc(z);
#else
    return erfcf(z);
#endif
}

static inline real gelu_tanh_argument(real z) { return 2 * SQRT_2_OVER_PI * z * (1 + GELU_CUBIC * z * z); }

static void row_forward(enum activation_kind kind, const real *x, real *y, int64_t cols)
{
    switch (kind) {
    case ACTIVATION_SWIGLU:
#pragma omp simd
        for (int64_t j = 0; j < cols; j++)
            y[j] = x[j] * logistic(x[j]) * x[cols + j];
        break;
    case ACTIVATION_GEGLU_TANH:
#pragma omp simd
        for (int64_t j = 0; j < cols; j++)
            y[j] = x[j] * logistic(gelu_tanh_argument(x[j])) * x[cols + j];
        break;
    case ACTIVATION_GELU_TANH:
#pragma omp simd
        for (int64_t j = 0; j < cols; j++)
            y[j] = x[j] * logistic(gelu_tanh_argument(x[j]));
        break;
    case ACTIVATION_GELU:
        for (int64_t j = 0; j < cols; j++)
            y[j] = x[j] * (erfc_real(-SQRT_1_OVER_2 * x[j]) / 2);
        break;
    case ACTIVATION_RELU:
#pragma omp simd
        for (int64_t j = 0; j < cols; j++)
            y[j] = x[j] > 0 ? x[j] : 0;
        break;
    }
}

static void row_backward(enum activation_kind kind, const real *x, const real *dy, real *dx, int64_t cols)
{
    switch (kind) {
    case ACTIVATION_SWIGLU:
#pragma omp simd
        for (int64_t j = 0; j < cols; j++) {
            real gate = x[j], up = x[cols + j], s = logistic(gate), d = dy[j];
            dx[j] = d * up * s * (1 + gate * (1 - s));
            dx[cols + j] = d * gate * s;
        }
        break;
    case ACTIVATION_GEGLU_TANH:
#pragma omp simd
        for (int64_t j = 0; j < cols; j++) {
            real gate = x[j], up = x[cols + j], u2 = gelu_tanh_argument(gate), s = logistic(u2), d = dy[j];
            real slope = 2 * SQRT_2_OVER_PI * (1 + 3 * GELU_CUBIC * gate * gate);
            dx[j] = d * up * s * (1 + gate * logistic(-u2) * slope); /* not 1 - s, which cancels where s is near 1 */
            dx[cols + j] = d * gate * s;
        }
        break;
    case ACTIVATION_GELU_TANH:
#pragma omp simd
        for (int64_t j = 0; j < cols; j++) {
            real z = x[j], u2 = gelu_tanh_argument(z);
            real slope = 2 * SQRT_2_OVER_PI * (1 + 3 * GELU_CUBIC * z * z);
            dx[j] = dy[j] * logistic(u2) * (1 + z * logistic(-u2) * slope);
        }
        break;
    case ACTIVATION_GELU:
        for (int64_t j = 0; j < cols; j++) {
            real z = x[j];
            dx[j] = dy[j] * (erfc_real(-SQRT_1_OVER_2 * z) / 2 + z * SQRT_1_OVER_2PI * exp_real(-z * z / 2));
        }
        break;
    case ACTIVATION_RELU:
#pragma omp simd
        for (int64_t j = 0; j < cols; j++)
            dx[j] = x[j] > 0 ? dy[j] : 0;
        break;
    }
}

int activation_forward(struct engine_context *context, const struct activation_args *args)
{
    REQUIRE_CONTRACT(activation_forward, args);
    REQUIRE_REAL(args->dtype);
    int64_t rows = args->rows, cols = args->cols, x_cols = ACTIVATION_GATED(args->kind) ? 2 * cols : cols;
    if (rows == 0)
        return OP_OK;
#pragma omp parallel for schedule(static) num_threads(engine_threads(context, rows *cols))
    for (int64_t i = 0; i < rows; i++)
        row_forward(args->kind, (const real *)args->x + i * x_cols, (real *)args->y + i * cols, cols);
    return OP_OK;
}

int activation_backward(struct engine_context *context, const struct activation_backward_args *args)
{
    REQUIRE_CONTRACT(activation_backward, args);
    REQUIRE_REAL(args->dtype);
    int64_t rows = args->rows, cols = args->cols, x_cols = ACTIVATION_GATED(args->kind) ? 2 * cols : cols;
    if (rows == 0)
        return OP_OK;
#pragma omp parallel for schedule(static) num_threads(engine_threads(context, rows *cols))
    for (int64_t i = 0; i < rows; i++)
        row_backward(args->kind, (const real *)args->x + i * x_cols, (const real *)args->dy + i * cols,
                     (real *)args->dx + i * x_cols, cols);
    return OP_OK;
}
