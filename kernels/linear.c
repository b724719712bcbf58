/* linear.c - CPU: the matrix products, by gemm.c. A handful of rows (decoding) is bound by reading W once: there
 * every output is a dot product and nothing is copied.
 */
#include "engine/gemm.h"

/* From this many rows on a packed product beats dot products. */
enum { DOT_ROWS = 8, DOT_BLOCK = 64 };

/* The product on all threads, and `bias` [n] added to every row of it if given. form: of b. */
static int product_compute(struct engine_context *context, const struct gemm *product, enum linear_form form, const real *bias)
{
    int threads = engine_threads(context, product->m * product->n * product->k);
    const bool packed = form != LINEAR_PLAIN;
    void *scratch = engine_scratch(context, 1, packed ? gemm_packed_scratch(product->m, product->k, threads)
                                                      : gemm_scratch(product->m, product->n, product->k, threads));
    if (!scratch)
        return OP_MEMORY;
    if (packed)
        gemm_packed_compute(product, form, threads, scratch);
    else
        gemm_compute(product, threads, scratch);
    if (!bias)
        return OP_OK;
#pragma omp parallel for schedule(static) num_threads(engine_threads(context, product->m *product->n))
    for (int64_t i = 0; i < product->m; i++) {
        real *row = product->c + i * product->c_stride;
#pragma omp simd
        for (int64_t j = 0; j < product->n; j++)
            row[j] += bias[j];
    }
    return OP_OK;
}

/* y[0..3] = x . w[0..3] for four rows of W at distance `in`: four sums in flight hide the adder's latency. */
static void dot_four(const real *x, const real *w, int64_t in, real y[4])
{
    const real *w1 = w + in, *w2 = w1 + in, *w3 = w2 + in;
    real s0 = 0, s1 = 0, s2 = 0, s3 = 0;
#pragma omp simd reduction(+ : s0, s1, s2, s3)
    for (int64_t k = 0; k < in; k++) {
        s0 += x[k] * w[k];
        s1 += x[k] * w1[k];
        s2 += x[k] * w2[k];
        s3 += x[k] * w3[k];
    }
    y[0] = s0, y[1] = s1, y[2] = s2, y[3] = s3;
}

static real dot_one(const real *x, const real *w, int64_t in)
{
    real s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t k = 0; k < in; k++)
        s += x[k] * w[k];
    return s;
}

/* Outputs begin .. end-1 of all rows; the rows of W stay in the cache from one row of x to the next. */
static void dots_compute(const struct linear_args *args, int64_t begin, int64_t end)
{
    int64_t in = args->in, stride = args->y_stride ? args->y_stride : args->out;
    const real *x = args->x, *weight = args->weight, *bias = args->bias;
    const real scale = (real)args->scale;
    for (int64_t o = begin; o < end; o += 4) {
        int64_t count = min_i64(4, end - o);
        for (int64_t i = 0; i < args->rows; i++) {
            real dots[4], *y = (real *)args->y + i * stride + o;
            if (count == 4)
                dot_four(x + i * in, weight + o * in, in, dots);
            else
                for (int64_t j = 0; j < count; j++)
                    dots[j] = dot_one(x + i * in, weight + (o + j) * in, in);
            for (int64_t j = 0; j < count; j++)
                y[j] = (args->accumulate ? y[j] : 0) + scale * dots[j] + (bias ? bias[o + j] : 0);
        }
    }
}

int linear_forward(struct engine_context *context, const struct linear_args *args)
{
    REQUIRE_CONTRACT(linear_forward, args);
    REQUIRE_REAL(args->dtype);
    REQUIRE_REAL(args->out_dtype);
    const int64_t out = args->out, stride = linear_stride(args->y_stride, args->out);
    if (args->rows == 0)
        return OP_OK;
    REQUIRE(args->form == LINEAR_PLAIN || gemm_packs, "this engine knows plain weights only");
    if (args->rows > DOT_ROWS || args->form != LINEAR_PLAIN)
        return product_compute(context,
                               &(struct gemm){.m = args->rows, .n = out, .k = args->in, .a = args->x,
                                              .a_stride = args->in, .b = args->weight, .b_stride = args->in,
                                              .b_transposed = true, .c = args->y, .c_stride = stride,
                                              .scale = (real)args->scale, .accumulate = args->accumulate},
                               args->form, args->bias);
#pragma omp parallel for schedule(static) num_threads(engine_threads(context, out *args->in))
    for (int64_t o = 0; o < out; o += DOT_BLOCK)
        dots_compute(args, o, min_i64(out, o + DOT_BLOCK));
    return OP_OK;
}

int linear_backward_input(struct engine_context *context, const struct linear_backward_input_args *args)
{
    REQUIRE_CONTRACT(linear_backward_input, args);
    REQUIRE_REAL(args->dtype);
    const int64_t stride = linear_stride(args->dy_stride, args->out);
    if (args->rows == 0)
        return OP_OK;
    return product_compute(context,
                           &(struct gemm){.m = args->rows, .n = args->in, .k = args->out, .a = args->dy,
                                          .a_stride = stride, .b = args->weight, .b_stride = args->in, .c = args->dx,
                                          .c_stride = args->in, .scale = (real)args->scale,
                                          .accumulate = args->accumulate},
                           LINEAR_PLAIN, NULL);
}

int linear_backward_weight(struct engine_context *context, const struct linear_backward_weight_args *args)
{
    REQUIRE_CONTRACT(linear_backward_weight, args);
    REQUIRE_REAL(args->dtype);
    REQUIRE_REAL(args->grad_dtype);
    int64_t rows = args->rows, in = args->in, out = args->out, stride = linear_stride(args->dy_stride, args->out);
    int status = OP_OK;
    if (rows == 0 && !args->accumulate)
        memset(args->dweight, 0, (size_t)(out * in) * sizeof(real));
    if (rows > 0)
        status = product_compute(context,
                                 &(struct gemm){.m = out, .n = in, .k = rows, .a = args->dy, .a_stride = stride,
                                                .a_transposed = true, .b = args->x, .b_stride = in,
                                                .c = args->dweight, .c_stride = in, .scale = 1,
                                                .accumulate = args->accumulate},
                                 LINEAR_PLAIN, NULL);
    if (status || !args->dbias)
        return status;
    const real *dy = args->dy;
    real *dbias = args->dbias;
#pragma omp parallel for schedule(static) num_threads(engine_threads(context, rows *out))
    for (int64_t begin = 0; begin < out; begin += DOT_BLOCK) {
        double sum[DOT_BLOCK] = {0};
        int64_t count = min_i64(DOT_BLOCK, out - begin);
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < count; j++)
                sum[j] += (double)dy[i * out + begin + j];
        for (int64_t j = 0; j < count; j++)
            dbias[begin + j] = (args->accumulate ? dbias[begin + j] : 0) + (real)sum[j];
    }
    return OP_OK;
}
