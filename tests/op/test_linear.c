/* test_linear.c - the matrix products against naive sums in double, over sizes that cross every border of the
 * blocking; packed weights; finite differences; same bits; on CUDA float results from bf16 operands, odd addresses, counted bytes and
 * picks of algorithms.
 */
#include "../support/op_test.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct shape {
    int64_t rows, in, out;
};

static const struct shape shapes[] = {
    {1, 1, 1},     {1, 5, 3},     {2, 17, 66},   {3, 64, 130},   {4, 31, 7},    {5, 1, 1},    {5, 33, 2},
    {7, 8, 19},    {16, 16, 16},  {17, 40, 401}, {31, 65, 33},   {64, 64, 64},  {63, 127, 65}, {100, 3, 385},
    {257, 24, 20}, {258, 96, 400}, {33, 385, 29}, {50, 1000, 50}, {129, 257, 97}, {300, 48, 800},
    {1030, 8, 333}, {20, 1300, 70}, {100, 12, 1290}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

struct results {
    double *y, *dx, *dweight, *dbias;
};

/* How a case runs: results in another type than the operands, arrays that begin `offset` elements behind an aligned
 * address, added to what is there, rows of y and dy with a gap behind them (without a bias then), scaled. */
struct mode {
    bool wide; /* y and the gradients of weight and bias in float */
    int64_t offset;
    bool accumulate;
    int64_t gap;
    double scale;
};

static enum dtype dtype_out(const struct op_test *t, const struct mode *mode)
{
    return mode->wide ? DTYPE_F32 : t->dtype;
}

/* values_random of a seed on the device, NaN for seed 0. */
static void *array_new(struct op_test *t, enum dtype dtype, int64_t n, uint64_t seed, int64_t offset)
{
    double *values = values_new(t, n + offset);
    if (seed)
        memcpy(values + offset, values_random(t, n, seed), (size_t)n * sizeof *values);
    return (char *)device_from(t, dtype, values, n + offset) + (size_t)offset * dtype_size(dtype);
}

/* Rows of `cols` values with the gap of NaN behind each; without a gap it is array_new. */
static void *rows_new(struct op_test *t, enum dtype dtype, int64_t rows, int64_t cols, uint64_t seed,
                      const struct mode *mode)
{
    if (!mode->gap)
        return array_new(t, dtype, rows * cols, seed, mode->offset);
    double *values = values_new(t, rows * (cols + mode->gap));
    double *dense = seed ? values_random(t, rows * cols, seed) : NULL;
    for (int64_t i = 0; dense && i < rows; i++)
        memcpy(values + i * (cols + mode->gap), dense + i * cols, (size_t)cols * sizeof *values);
    return device_from(t, dtype, values, rows * (cols + mode->gap));
}

/* The rows without their gaps, which must be NaN still. */
static double *rows_from(struct op_test *t, enum dtype dtype, const void *device, int64_t rows, int64_t cols,
                         int64_t gap)
{
    double *values = values_from(t, dtype, device, rows * (cols + gap));
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = cols; j < cols + gap; j++)
            assert_true(isnan(values[i * (cols + gap) + j]));
        memmove(values + i * cols, values + i * (cols + gap), (size_t)cols * sizeof *values);
    }
    return values;
}

static struct results products_run(struct op_test *t, const struct shape *s, const struct mode *mode)
{
    int64_t rows = s->rows, in = s->in, out = s->out, offset = mode->offset;
    bool accumulate = mode->accumulate;
    enum dtype to = dtype_out(t, mode);
    void *x = array_new(t, t->dtype, rows * in, 1, offset), *weight = array_new(t, t->dtype, out * in, 2, offset);
    void *bias = mode->gap ? NULL : array_new(t, t->dtype, out, 3, offset);
    void *dy = rows_new(t, t->dtype, rows, out, 4, mode), *y = rows_new(t, to, rows, out, accumulate ? 5 : 0, mode);
    void *dx = array_new(t, t->dtype, rows * in, accumulate ? 6 : 0, offset);
    void *dweight = array_new(t, to, out * in, accumulate ? 7 : 0, offset);
    void *dbias = mode->gap ? NULL : array_new(t, to, out, accumulate ? 8 : 0, offset);
    const int64_t stride = mode->gap ? out + mode->gap : 0;
    OP_CALL(t, linear_forward, linear_args, .dtype = t->dtype, .out_dtype = to, .rows = rows, .in = in, .out = out,
            .x = x, .weight = weight, .bias = bias, .y = y, .accumulate = accumulate, .y_stride = stride,
            .scale = mode->scale);
    OP_CALL(t, linear_backward_input, linear_backward_input_args, .dtype = t->dtype, .rows = rows, .in = in,
            .out = out, .dy = dy, .weight = weight, .dx = dx, .accumulate = accumulate, .dy_stride = stride,
            .scale = mode->scale);
    OP_CALL(t, linear_backward_weight, linear_backward_weight_args, .dtype = t->dtype, .grad_dtype = to, .rows = rows,
            .in = in, .out = out, .dy = dy, .x = x, .dweight = dweight, .dbias = dbias, .accumulate = accumulate,
            .dy_stride = stride);
    return (struct results){rows_from(t, to, y, rows, out, mode->gap), values_from(t, t->dtype, dx, rows * in),
                            values_from(t, to, dweight, out * in), dbias ? values_from(t, to, dbias, out) : NULL};
}

/* An operand of a product: element (i, k) is at i * row + k * step. */
struct operand {
    const double *values;
    int64_t row, step;
};

/* c [m, n] against start + bias + a b over k. The sum may be off by what the card says, and c by one rounding more. */
static void product_check(struct op_test *t, const char *what, const struct shape *s, double rounding, const double *c,
                          int64_t m, int64_t n, int64_t k, struct operand a, struct operand b, const double *bias,
                          const double *start)
{
    char name[96];
    snprintf(name, sizeof name, "%s %s (%lld rows, %lld in, %lld out)", t->name, what, (long long)s->rows,
             (long long)s->in, (long long)s->out);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = bias ? bias[j] : 0, size = fabs(sum);
            if (start)
                sum += start[i * n + j], size += fabs(start[i * n + j]);
            for (int64_t l = 0; l < k; l++) {
                double term = a.values[i * a.row + l * a.step] * b.values[j * b.row + l * b.step];
                sum += term;
                size += fabs(term);
            }
            assert_close(name, &c[i * n + j], &sum, 1, 2 * sqrt((double)k + 1) * t->eps / 2 * size, rounding);
        }
}

static void results_check(struct op_test *t, const struct shape *s, const struct mode *mode, const struct results *r)
{
    int64_t rows = s->rows, in = s->in, out = s->out;
    const double rounding = mode->wide ? t->eps / 2 : t->rounding;
    double *x = values_random(t, rows * in, 1), *weight = values_random(t, out * in, 2);
    double *bias = values_random(t, out, 3), *dy = values_random(t, rows * out, 4), *ones = values_new(t, rows);
    double *y = mode->accumulate ? values_random(t, rows * out, 5) : NULL;
    double *dx = mode->accumulate ? values_random(t, rows * in, 6) : NULL;
    double *dweight = mode->accumulate ? values_random(t, out * in, 7) : NULL;
    double *dbias = mode->accumulate ? values_random(t, out, 8) : NULL;
    for (int64_t k = 0; k < rows; k++)
        ones[k] = 1;
    product_check(t, "dweight", s, rounding, r->dweight, out, in, rows, (struct operand){dy, 1, out},
                  (struct operand){x, 1, in}, NULL, dweight);
    if (r->dbias)
        product_check(t, "dbias", s, rounding, r->dbias, 1, out, rows, (struct operand){ones, rows, 1},
                      (struct operand){dy, 1, out}, NULL, dbias);
    for (int64_t i = 0; i < out * in; i++)
        weight[i] *= mode->scale;
    product_check(t, "y", s, rounding, r->y, rows, out, in, (struct operand){x, in, 1}, (struct operand){weight, in, 1},
                  r->dbias ? bias : NULL, y);
    product_check(t, "dx", s, t->rounding, r->dx, rows, in, out, (struct operand){dy, out, 1},
                  (struct operand){weight, 1, in}, NULL, dx);
}

static void modes_check(const char *engine, const struct mode *mode)
{
    for (int i = 0; i < SHAPES; i++) {
        struct op_test *t = op_test_open(engine, 2);
        struct results r = products_run(t, &shapes[i], mode);
        results_check(t, &shapes[i], mode, &r);
        op_test_close(t);
    }
}

static void test_products(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        for (int accumulate = 0; accumulate < 2; accumulate++)
            modes_check(op_test_engines[e], &(struct mode){.scale = 1, .accumulate = accumulate});
}

static void test_float_from_bf16(void **state)
{
    (void)state;
    for (int accumulate = 0; accumulate < 2; accumulate++)
        modes_check("emu-bf16", &(struct mode){.scale = 1, .wide = true, .accumulate = accumulate});
}

static void test_odd_addresses(void **state)
{
    (void)state;
    modes_check("emu-bf16", &(struct mode){.scale = 1, .offset = 1});
    modes_check("emu-f32", &(struct mode){.scale = 1, .offset = 3, .accumulate = true});
}

static void test_strides_and_scale(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        for (int accumulate = 0; accumulate < 2; accumulate++)
            for (int zero = 0; zero < 2; zero++) /* a scale of 0 is 0 */
                modes_check(op_test_engines[e], &(struct mode){.gap = 3 + 5 * accumulate, .scale = zero ? 0 : -0.75,
                                                               .accumulate = accumulate});
}

static void bits_run(struct op_test *t, void *user, double *out)
{
    const struct shape *s = user;
    struct results r = products_run(t, s, &(struct mode){.scale = 1, .accumulate = true});
    const double *part[] = {r.y, r.dx, r.dweight, r.dbias};
    const int64_t size[] = {s->rows * s->out, s->rows * s->in, s->out * s->in, s->out};
    for (int i = 0; i < 4; out += size[i++])
        memcpy(out, part[i], (size_t)size[i] * sizeof *out);
}

static void test_same_bits(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        for (int i = 0; i < SHAPES; i++) {
            struct shape s = shapes[i];
            op_test_same_bits(op_test_engines[e], s.rows * s.out + s.rows * s.in + s.out * s.in + s.out, bits_run, &s);
        }
}

/* The CPU engine sums an element of a product in the same order whatever the sizes of the rest: a row's result does not
 * depend on the rows beside it. */
static void test_same_bits_of_a_row(void **state)
{
    (void)state;
    const int64_t rows = 301, in = 1300, out = 333, first = 100, some = 31;
    op_test_cpu_only();
    struct op_test *t = op_test_open("cpu", 2);
    float *x = array_new(t, t->dtype, rows * in, 1, 0), *weight = array_new(t, t->dtype, out * in, 2, 0);
    void *all = device_new(t, t->dtype, rows * out), *part = device_new(t, t->dtype, some * out);
    OP_CALL(t, linear_forward, linear_args, .dtype = t->dtype, .out_dtype = t->dtype, .rows = rows, .in = in,
            .out = out, .x = x, .weight = weight, .y = all, .scale = 1);
    OP_CALL(t, linear_forward, linear_args, .dtype = t->dtype, .out_dtype = t->dtype, .rows = some, .in = in,
            .out = out, .x = x + first * in, .weight = weight, .y = part, .scale = 1);
    assert_same("rows alone", values_from(t, t->dtype, part, some * out),
                values_from(t, t->dtype, all, rows * out) + first * out, some * out);
    op_test_close(t);
}

/* y with the weight packed, in the rows' own sums: of floats, or of values that are bf16. */
static double *packed_run(struct op_test *t, const struct shape *s, bool bf16, bool packed, bool accumulate)
{
    double *values = values_random(t, s->out * s->in, 2);
    if (bf16)
        values_round(DTYPE_BF16, values, s->out * s->in);
    void *x = array_new(t, t->dtype, s->rows * s->in, 1, 0), *weight = device_from(t, t->dtype, values, s->out * s->in);
    void *bias = array_new(t, t->dtype, s->out, 3, 0), *y = array_new(t, t->dtype, s->rows * s->out, 5, 0);
    enum linear_form form = LINEAR_PLAIN;
    if (packed) {
        assert_int_equal(t->engine->linear_pack(t->context, weight, s->in, s->out, &form), OP_OK);
        const bool whole = s->out >= 64; /* a panel at the least, of any engine */
        assert_true(form == (bf16 ? LINEAR_PACKED_BF16 : LINEAR_PACKED) || !whole);
    }
    OP_CALL(t, linear_forward, linear_args, .dtype = t->dtype, .out_dtype = t->dtype, .rows = s->rows, .in = s->in,
            .out = s->out, .x = x, .weight = weight, .form = form, .bias = bias, .y = y, .scale = 1, .accumulate = accumulate);
    return values_from(t, t->dtype, y, s->rows * s->out);
}

/* A packed weight gives the bits of the plain one, for any number of rows; few rows of a plain one are summed in another order,
 * and are compared as part of many. */
static void test_packed(void **state)
{
    (void)state;
    for (int i = 0; i < SHAPES; i++)
        for (int kind = 0; kind < 4; kind++) {
            const bool bf16 = kind & 1, accumulate = kind & 2;
            struct op_test *t = op_test_open("cpu", 2);
            struct shape many = shapes[i];
            many.rows = many.rows > 8 ? many.rows : 9;
            double *plain = packed_run(t, &many, bf16, false, accumulate);
            assert_same("packed", packed_run(t, &shapes[i], bf16, true, accumulate), plain, shapes[i].rows * shapes[i].out);
            op_test_close(t);
        }
    struct op_test *t = op_test_open("cpu", 2);
    const struct shape whole = {40, 1301, 99};
    double *y = packed_run(t, &whole, true, true, false);
    for (int64_t rows = 1; rows < whole.rows; rows++) { /* all sizes of a panel of rows */
        const struct shape some = {rows, whole.in, whole.out};
        assert_same("some rows", packed_run(t, &some, true, true, false), y, rows * whole.out);
    }
    op_test_close(t);
}

/* Rows of a table that is packed, because it is a tied head's, are those of the plain one. */
static void test_packed_table(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        struct op_test *t = op_test_open("cpu", 2);
        const int64_t table_rows = 75, cols = kind & 2 ? 33 : 16;
        double *values = values_random(t, table_rows * cols, 9);
        values_round(kind & 1 ? DTYPE_BF16 : t->dtype, values, table_rows * cols);
        void *table = device_from(t, t->dtype, values, table_rows * cols), *out = device_new(t, t->dtype, table_rows * cols);
        int32_t ids[75];
        for (int i = 0; i < 75; i++)
            ids[i] = 74 - i;
        enum linear_form form;
        assert_int_equal(t->engine->linear_pack(t->context, table, cols, table_rows, &form), OP_OK);
        OP_CALL(t, embedding_forward, embedding_args, .dtype = t->dtype, .rows = table_rows, .cols = cols, .table = table,
                .form = form, .table_rows = table_rows, .ids = device_bytes(t, ids, sizeof ids), .out = out);
        double *read = values_from(t, t->dtype, out, table_rows * cols);
        for (int i = 0; i < 75; i++)
            assert_same("row", read + i * cols, values + ids[i] * cols, cols);
        op_test_close(t);
    }
}

/* The products move each operand once by definition; the gradient of the bias reads dy once more, and the sums of its
 * blocks of rows are the 5 %. */
static void test_bytes(void **state)
{
    (void)state;
    const int64_t rows = 1024, in = 64, out = 512;
    for (int e = OP_TEST_ENGINES; e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        const int64_t size = (int64_t)dtype_size(t->dtype);
        void *x = array_new(t, t->dtype, rows * in, 1, 0), *weight = array_new(t, t->dtype, out * in, 2, 0);
        void *bias = array_new(t, t->dtype, out, 3, 0), *dy = array_new(t, t->dtype, rows * out, 4, 0);
        void *y = array_new(t, DTYPE_F32, rows * out, 0, 0);
        op_test_bytes_begin(t);
        OP_CALL(t, linear_forward, linear_args, .dtype = t->dtype, .out_dtype = t->dtype, .rows = rows, .in = in,
                .out = out, .x = x, .weight = weight, .bias = bias, .y = y, .scale = 1);
        op_test_bytes_check(t, "linear_forward", OP_BYTES(linear_forward, linear_args, .dtype = t->dtype,
                            .out_dtype = t->dtype, .rows = rows, .in = in, .out = out), 0.01);
        op_test_bytes_begin(t);
        OP_CALL(t, linear_backward_weight, linear_backward_weight_args, .dtype = t->dtype, .grad_dtype = DTYPE_F32,
                .rows = rows, .in = in, .out = out, .dy = dy, .x = x, .dweight = y, .dbias = (char *)y + in * out * 4);
        op_test_bytes_check(t, "linear_backward_weight",
                            size * (rows * in + 2 * rows * out) + 4 * (in * out + out), 0.05);
        op_test_close(t);
    }
}

/* What a product with these picks, or with timing, comes to on a context of its own: y [rows, out], and the picks afterwards. */
struct picked {
    double *y;
    char line[4][ENGINE_PICK_BYTES];
    bool used[4];
    int lines;
};

static struct picked picked_run(struct op_test *t, const struct shape *s, bool timed, const struct picked *given)
{
    char error[256] = "";
    struct picked picked = {.y = values_new(t, s->rows * s->out)};
    struct engine_context *own = t->context;
    if (t->engine->open(&t->context, NULL, error, sizeof error) != OP_OK)
        fail_msg("%s", error);
    for (int i = 0; given && i < given->lines; i++)
        assert_int_equal(t->engine->pick_add(t->context, given->line[i]), OP_OK);
    assert_int_equal(t->engine->picks_time(t->context, timed), OP_OK);
    struct results r = products_run(t, s, &(struct mode){.scale = 1, .accumulate = true});
    memcpy(picked.y, r.y, (size_t)(s->rows * s->out) * sizeof *picked.y);
    for (const char *line; (line = t->engine->pick_get(t->context, picked.lines, &picked.used[picked.lines])); picked.lines++)
        snprintf(picked.line[picked.lines], sizeof picked.line[0], "%s", line);
    t->engine->close(t->context);
    t->context = own;
    return picked;
}

static bool same_values(const struct picked *a, const struct picked *b, const struct shape *s)
{
    return !memcmp(a->y, b->y, (size_t)(s->rows * s->out) * sizeof *a->y);
}

/* The fastest proposal is picked, and what it computes differs from the first one's; a pick is text that another context takes, for
 * about as many rows; what the library does not know is refused by the product's name, what is no pick as such. */
static void test_picks(void **state)
{
    (void)state;
    const struct shape s = {33, 64, 48}, near = {40, 64, 48}, far = {49, 64, 48};
    struct op_test *t = op_test_open("emu-f32", 1);
    void (*set)(int algorithms, int fastest);
    *(void **)&set = dlsym(t->library, "emu_matmul_set");
    if (!set) { /* a GPU's own algorithms: only that they are taken again */
        const struct picked timed = picked_run(t, &s, true, NULL), again = picked_run(t, &s, false, &timed);
        assert_true(timed.lines == 3 && same_values(&timed, &again, &s));
        op_test_close(t);
        return;
    }
    const struct picked first = picked_run(t, &s, false, NULL);
    set(3, 2);
    const struct picked timed = picked_run(t, &s, true, NULL);
    assert_true(first.lines == 0 && timed.lines == 3);
    assert_false(same_values(&first, &timed, &s));
    set(3, 0);
    const struct picked taken = picked_run(t, &s, true, &timed), other = picked_run(t, &near, false, &timed),
                        beyond = picked_run(t, &far, false, &timed), plain = picked_run(t, &near, false, NULL);
    assert_true(taken.lines == 3 && other.lines == 3 && same_values(&timed, &taken, &s));
    assert_false(same_values(&plain, &other, &near));
    for (int i = 0; i < 3; i++) {
        assert_string_equal(taken.line[i], timed.line[i]);
        assert_true(taken.used[i] && other.used[i] && !beyond.used[i]);
    }
    char line[ENGINE_PICK_BYTES];
    snprintf(line, sizeof line, "%s", timed.line[0]);
    line[strlen(line) / 2] = '?';
    static const char *const wrong[] = {"", "algorithm", "m=1 n=2"};
    for (int i = 0; i < 3; i++)
        assert_int_equal(t->engine->pick_add(t->context, wrong[i]), OP_CONTRACT);
    assert_int_equal(t->engine->pick_add(t->context, line), OP_CONTRACT);
    set(1, 0);
    assert_int_equal(t->engine->pick_add(t->context, timed.line[0]), OP_DEVICE);
    assert_non_null(strstr(t->engine->error(t->context), "m=48 n=48 k=64 ldb=64 ldd=48 ops=TN"));
    assert_non_null(strstr(t->engine->error(t->context), "does not take the algorithm"));
    set(3, 0);
    op_test_close(t);
}

struct problem {
    struct op_test *t;
    struct shape s;
    double *x, *weight, *bias, *dy;
};

static double problem_loss(void *user)
{
    struct problem *p = user;
    op_test_cpu_only();
    struct op_test *t = op_test_open("cpu64", 1);
    int64_t rows = p->s.rows, in = p->s.in, out = p->s.out;
    void *y = device_new(t, t->dtype, rows * out);
    OP_CALL(t, linear_forward, linear_args, .dtype = t->dtype, .out_dtype = t->dtype, .rows = rows, .in = in,
            .out = out, .x = device_from(t, t->dtype, p->x, rows * in),
            .weight = device_from(t, t->dtype, p->weight, out * in), .bias = device_from(t, t->dtype, p->bias, out),
            .y = y, .scale = 1);
    double loss = dot_product(values_from(t, t->dtype, y, rows * out), p->dy, rows * out);
    op_test_close(t);
    return loss;
}

static void test_finite_differences(void **state)
{
    (void)state;
    const struct shape sizes[] = {{3, 10, 9}, {9, 12, 20}};
    for (int i = 0; i < 2; i++) {
        op_test_cpu_only();
        struct op_test *t = op_test_open("cpu64", 1);
        struct shape s = sizes[i];
        struct problem p = {.t = t, .s = s, .x = values_random(t, s.rows * s.in, 1),
                            .weight = values_random(t, s.out * s.in, 2), .bias = values_random(t, s.out, 3),
                            .dy = values_random(t, s.rows * s.out, 4)};
        struct results r = products_run(t, &s, &(struct mode){.scale = 1});
        gradient_check("x", p.x, r.dx, s.rows * s.in, problem_loss, &p, 1e-9);
        gradient_check("weight", p.weight, r.dweight, s.out * s.in, problem_loss, &p, 1e-9);
        gradient_check("bias", p.bias, r.dbias, s.out, problem_loss, &p, 1e-9);
        op_test_close(t);
    }
}

static void test_contract(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        void *a = device_new(t, t->dtype, 4), *zero = device_new(t, t->dtype, 4);
        const double zeros[4] = {0};
        OP_REFUSES(t, linear_forward, linear_args, .dtype = DTYPE_F16, .out_dtype = t->dtype, .rows = 1, .in = 1,
                   .out = 1, .x = a, .weight = a, .y = a);
        OP_REFUSES(t, linear_forward, linear_args, .dtype = t->dtype, .out_dtype = t->dtype, .rows = -1, .in = 1,
                   .out = 1, .x = a, .weight = a, .y = a);
        OP_REFUSES(t, linear_forward, linear_args, .dtype = t->dtype, .out_dtype = t->dtype, .rows = 1, .in = 1,
                   .out = 1, .x = a, .y = a);
        OP_REFUSES(t, linear_forward, linear_args, .dtype = t->dtype, .out_dtype = t->dtype, .rows = 1, .in = 1,
                   .out = 2, .x = a, .weight = a, .y = a, .y_stride = 1);
        OP_REFUSES(t, linear_forward, linear_args, .dtype = t->dtype, .out_dtype = t->dtype, .rows = 1, .in = 1,
                   .out = 2, .x = a, .weight = a, .bias = a, .y = a, .y_stride = 3);
        OP_REFUSES(t, linear_forward, linear_args, .dtype = t->dtype, .out_dtype = t->dtype, .rows = 1, .in = 1,
                   .out = 1, .x = a, .weight = a, .y = a, .form = (enum linear_form)3);
        if (!t->engine->linear_pack)
            OP_REFUSES(t, linear_forward, linear_args, .dtype = t->dtype, .out_dtype = t->dtype, .rows = 1, .in = 1,
                       .out = 1, .x = a, .weight = a, .y = a, .form = LINEAR_PACKED);
        OP_REFUSES(t, linear_backward_input, linear_backward_input_args, .dtype = t->dtype, .rows = 1, .in = 0,
                   .out = 1, .dy = a, .weight = a, .dx = a);
        OP_REFUSES(t, linear_backward_weight, linear_backward_weight_args, .dtype = t->dtype, .grad_dtype = t->dtype,
                   .rows = 1, .in = 1, .out = 1, .dy = a, .x = a);
        op_test_refused(t, "linear_forward", t->engine->linear_forward(t->context, NULL));
        OP_CALL(t, linear_forward, linear_args, .dtype = t->dtype, .out_dtype = t->dtype, .rows = 0, .in = 1, .out = 1);
        OP_CALL(t, linear_backward_weight, linear_backward_weight_args, .dtype = t->dtype, .grad_dtype = t->dtype,
                .rows = 0, .in = 2, .out = 2, .dweight = zero);
        assert_same("dweight of no rows", values_from(t, t->dtype, zero, 4), zeros, 4);
        op_test_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_products), cmocka_unit_test(test_float_from_bf16),
                                       cmocka_unit_test(test_odd_addresses), cmocka_unit_test(test_strides_and_scale),
                                       cmocka_unit_test(test_same_bits), cmocka_unit_test(test_same_bits_of_a_row),
                                       cmocka_unit_test(test_packed), cmocka_unit_test(test_packed_table),
                                       cmocka_unit_test(test_bytes), cmocka_unit_test(test_picks),
                                       cmocka_unit_test(test_finite_differences), cmocka_unit_test(test_contract)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
