/* test_embedding.c - gather and scatter of table rows against naive loops, in wide and narrow gradients and at odd
 * addresses; buckets without rows; bits for any order of events; counted bytes; the backward pass against finite differences.
 */
#include "../support/op_test.h"

#include <string.h>

enum { TABLE = 37, POSITIONS = 19, ROWS_MAX = 700, EMPTY = 21 };

struct problem {
    int64_t rows, cols, offset; /* elements between an aligned address and the arrays' */
    enum dtype grad_dtype;
    int32_t ids[ROWS_MAX], positions[ROWS_MAX];
    int32_t buckets, bucket_id[TABLE + EMPTY], bucket_begin[TABLE + EMPTY + 1], bucket_rows[ROWS_MAX];
    double *table, *position_table, *dout;
};

static struct problem problem_make(struct op_test *t, int64_t rows, int64_t cols)
{
    struct problem p = {.rows = rows, .cols = cols, .grad_dtype = t->dtype, .table = values_random(t, TABLE * cols, 1),
                        .position_table = values_random(t, POSITIONS * cols, 2),
                        .dout = values_random(t, rows * cols, 3)};
    uint64_t random = 99;
    for (int64_t i = 0; i < rows; i++) { /* two tokens are more than half of it: long buckets, near each other */
        p.ids[i] = i % 3 == 0 ? 5 : i % 4 == 1 ? 7 : (int32_t)(uniform_next(&random) * TABLE);
        p.positions[i] = (int32_t)(uniform_next(&random) * POSITIONS);
    }
    for (int32_t id = TABLE - 1; id >= 0; id--) {
        int32_t end = p.bucket_begin[p.buckets];
        for (int32_t i = 0; i < rows; i++)
            if (p.ids[i] == id)
                p.bucket_rows[end++] = i;
        if (end == p.bucket_begin[p.buckets])
            continue;
        p.bucket_id[p.buckets++] = id;
        p.bucket_begin[p.buckets] = end;
    }
    return p;
}

static void *array_from(struct op_test *t, enum dtype dtype, const double *values, int64_t n, int64_t offset)
{
    char *array = (char *)device_new(t, dtype, n + offset) + offset * (int64_t)dtype_size(dtype);
    device_set(t, dtype, array, values, n);
    return array;
}

static double *forward_run(struct op_test *t, const struct problem *p, bool positions)
{
    void *out = device_new(t, t->dtype, p->rows * p->cols);
    OP_CALL(t, embedding_forward, embedding_args, .dtype = t->dtype, .rows = p->rows, .cols = p->cols,
            .table = array_from(t, t->dtype, p->table, TABLE * p->cols, p->offset),
            .ids = device_bytes(t, p->ids, sizeof p->ids),
            .position_table = positions ? device_from(t, t->dtype, p->position_table, POSITIONS * p->cols) : NULL,
            .positions = positions ? device_bytes(t, p->positions, sizeof p->positions) : NULL, .out = out);
    return values_from(t, t->dtype, out, p->rows * p->cols);
}

static double *backward_run(struct op_test *t, const struct problem *p, bool accumulate)
{
    void *dtable = array_from(t, p->grad_dtype, values_random(t, TABLE * p->cols, 4), TABLE * p->cols, p->offset);
    OP_CALL(t, embedding_backward, embedding_backward_args, .dtype = t->dtype, .grad_dtype = p->grad_dtype,
            .buckets = p->buckets, .cols = p->cols, .bucket_id = device_bytes(t, p->bucket_id, sizeof p->bucket_id),
            .bucket_begin = device_bytes(t, p->bucket_begin, sizeof p->bucket_begin),
            .bucket_rows = device_bytes(t, p->bucket_rows, sizeof p->bucket_rows),
            .dout = device_from(t, t->dtype, p->dout, p->rows * p->cols), .dtable = dtable, .accumulate = accumulate);
    return values_from(t, p->grad_dtype, dtable, TABLE * p->cols);
}

static const int64_t sizes[][2] = {{1, 1}, {1, 8}, {3, 5}, {40, 33}, {90, 264}, {700, 64}};
enum { SIZES = sizeof sizes / sizeof *sizes };

static void test_naive(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        for (int i = 0; i < SIZES * 8; i++) {
            struct op_test *t = op_test_open(op_test_engines[e], 2);
            struct problem p = problem_make(t, sizes[i / 8][0], sizes[i / 8][1]);
            bool flag = i & 1;
            int64_t cols = p.cols;
            p.grad_dtype = i & 2 ? t->stat : t->dtype;
            p.offset = i & 4 ? 1 : 0;
            double narrowing = i & 2 ? t->eps / 2 : t->rounding; /* of dtable */
            double *expected = values_new(t, p.rows * cols), *start = values_random(t, TABLE * cols, 4);
            for (int64_t k = 0; k < p.rows * cols; k++)
                expected[k] = p.table[p.ids[k / cols] * cols + k % cols] +
                              (flag ? p.position_table[p.positions[k / cols] * cols + k % cols] : 0);
            assert_close("out", forward_run(t, &p, flag), expected, p.rows * cols, 0, flag ? t->rounding : 0);

            for (int32_t b = 0; b < p.buckets && !flag; b++)
                memset(start + p.bucket_id[b] * cols, 0, (size_t)cols * sizeof *start);
            for (int64_t k = 0; k < p.rows * cols; k++)
                start[p.ids[k / cols] * cols + k % cols] += p.dout[k];
            assert_close("dtable", backward_run(t, &p, flag), start, TABLE * cols, 1000 * t->eps,
                         20 * t->eps + narrowing);
            op_test_close(t);
        }
}

/* Buckets without rows, as a padded batch has them, write nothing: not even to the table row that they name, which is
 * another bucket's. */
static void test_empty_buckets(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        for (int accumulate = 0; accumulate < 2; accumulate++) {
            struct op_test *t = op_test_open(op_test_engines[e], 2);
            struct problem p = problem_make(t, 90, 264);
            double *expected = backward_run(t, &p, accumulate);
            for (int32_t b = 0; b < EMPTY; b++) {
                p.bucket_id[p.buckets] = p.bucket_id[b % 2];
                p.bucket_begin[p.buckets + 1] = p.bucket_begin[p.buckets];
                p.buckets++;
            }
            assert_same("dtable", backward_run(t, &p, accumulate), expected, TABLE * p.cols);
            op_test_close(t);
        }
}

static void bits_run(struct op_test *t, void *user, double *out)
{
    (void)user;
    struct problem p = problem_make(t, 700, 64);
    memcpy(out, forward_run(t, &p, true), 700 * 64 * sizeof *out);
    memcpy(out + 700 * 64, backward_run(t, &p, true), TABLE * 64 * sizeof *out);
}

static void test_same_bits(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++)
        op_test_same_bits(op_test_engines[e], (700 + TABLE) * 64, bits_run, NULL);
}

static void test_bytes(void **state)
{
    (void)state;
    for (int e = OP_TEST_ENGINES; e < OP_TEST_VARIANTS; e++)
        for (int flag = 0; flag < 2; flag++) {
            struct op_test *t = op_test_open(op_test_engines[e], 1);
            struct problem p = problem_make(t, 700, 512);
            p.grad_dtype = flag ? t->stat : t->dtype;
            op_test_bytes_begin(t);
            forward_run(t, &p, flag);
            op_test_bytes_check(t, "embedding_forward", OP_BYTES(embedding_forward, embedding_args, .dtype = t->dtype,
                                .rows = 700, .cols = 512, .position_table = flag ? t : NULL), 0.05);
            op_test_bytes_begin(t);
            backward_run(t, &p, flag);
            op_test_bytes_check(t, "embedding_backward",
                                OP_BYTES(embedding_backward, embedding_backward_args, .dtype = t->dtype,
                                         .grad_dtype = p.grad_dtype, .rows = 700, .buckets = p.buckets, .cols = 512,
                                         .accumulate = flag), 0.05);
            op_test_close(t);
        }
}

static double problem_loss(void *user)
{
    struct problem *p = user;
    op_test_cpu_only();
    struct op_test *t = op_test_open("cpu64", 1);
    double loss = dot_product(forward_run(t, p, true), p->dout, p->rows * p->cols);
    op_test_close(t);
    return loss;
}

static void test_finite_differences(void **state)
{
    (void)state;
    op_test_cpu_only();
    struct op_test *t = op_test_open("cpu64", 1);
    struct problem p = problem_make(t, 60, 6);
    double *dtable = backward_run(t, &p, false), *touched = values_new(t, TABLE * p.cols);
    memset(touched, 0, (size_t)(TABLE * p.cols) * sizeof *touched);
    for (int32_t b = 0; b < p.buckets; b++)
        memcpy(touched + p.bucket_id[b] * p.cols, dtable + p.bucket_id[b] * p.cols, (size_t)p.cols * sizeof *touched);
    gradient_check("table", p.table, touched, TABLE * p.cols, problem_loss, &p, 1e-9);
    op_test_close(t);
}

static void test_contract(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        void *a = device_new(t, t->dtype, 4);
        const int32_t *index = a;
        OP_REFUSES(t, embedding_forward, embedding_args, .dtype = DTYPE_F16, .rows = 1, .cols = 1, .table = a,
                   .ids = index, .out = a);
        OP_REFUSES(t, embedding_forward, embedding_args, .dtype = t->dtype, .rows = 1, .cols = 1, .table = a, .out = a);
        OP_REFUSES(t, embedding_forward, embedding_args, .dtype = t->dtype, .rows = 1, .cols = 0, .table = a,
                   .ids = index, .out = a);
        OP_REFUSES(t, embedding_forward, embedding_args, .dtype = t->dtype, .rows = 1, .cols = 1, .table = a,
                   .ids = index, .position_table = a, .out = a);
        OP_REFUSES(t, embedding_backward, embedding_backward_args, .dtype = t->dtype, .grad_dtype = DTYPE_F16,
                   .buckets = 1, .cols = 1, .dtable = a);
        OP_REFUSES(t, embedding_backward, embedding_backward_args, .dtype = t->dtype, .grad_dtype = t->dtype,
                   .buckets = 1, .cols = 1, .dtable = a);
        op_test_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_naive), cmocka_unit_test(test_empty_buckets),
                                       cmocka_unit_test(test_same_bits), cmocka_unit_test(test_bytes),
                                       cmocka_unit_test(test_finite_differences), cmocka_unit_test(test_contract)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
