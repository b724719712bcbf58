/* test_embedding.c - gather and scatter of table rows against naive loops; bits for 1, 2 and 3 threads; the
 * backward pass against finite differences.
 */
#include "op_test.h"

#include <string.h>

enum { TABLE = 37, POSITIONS = 19, ROWS_MAX = 700 };

struct problem {
    int64_t rows, cols;
    int32_t ids[ROWS_MAX], positions[ROWS_MAX];
    int32_t buckets, bucket_id[TABLE], bucket_begin[TABLE + 1], bucket_rows[ROWS_MAX];
    double *table, *position_table, *dout;
};

static struct problem problem_make(struct op_test *t, int64_t rows, int64_t cols)
{
    struct problem p = {.rows = rows, .cols = cols, .table = values_random(t, TABLE * cols, 1),
                        .position_table = values_random(t, POSITIONS * cols, 2),
                        .dout = values_random(t, rows * cols, 3)};
    uint64_t random = 99;
    for (int64_t i = 0; i < rows; i++) { /* a third are one token: a long bucket */
        p.ids[i] = i % 3 == 0 ? 5 : (int32_t)(uniform_next(&random) * TABLE);
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

static double *forward_run(struct op_test *t, const struct problem *p, bool positions)
{
    void *out = device_new(t, t->dtype, p->rows * p->cols);
    OP_CALL(t, embedding_forward, embedding_args, .dtype = t->dtype, .rows = p->rows, .cols = p->cols,
            .table = device_from(t, t->dtype, p->table, TABLE * p->cols),
            .ids = device_bytes(t, p->ids, sizeof p->ids),
            .position_table = positions ? device_from(t, t->dtype, p->position_table, POSITIONS * p->cols) : NULL,
            .positions = positions ? device_bytes(t, p->positions, sizeof p->positions) : NULL, .out = out);
    return values_from(t, t->dtype, out, p->rows * p->cols);
}

static double *backward_run(struct op_test *t, const struct problem *p, bool accumulate)
{
    void *dtable = device_from(t, t->dtype, values_random(t, TABLE * p->cols, 4), TABLE * p->cols);
    OP_CALL(t, embedding_backward, embedding_backward_args, .dtype = t->dtype, .grad_dtype = t->dtype,
            .buckets = p->buckets, .cols = p->cols, .bucket_id = device_bytes(t, p->bucket_id, sizeof p->bucket_id),
            .bucket_begin = device_bytes(t, p->bucket_begin, sizeof p->bucket_begin),
            .bucket_rows = device_bytes(t, p->bucket_rows, sizeof p->bucket_rows),
            .dout = device_from(t, t->dtype, p->dout, p->rows * p->cols), .dtable = dtable, .accumulate = accumulate);
    return values_from(t, t->dtype, dtable, TABLE * p->cols);
}

static const int64_t sizes[][2] = {{1, 1}, {1, 8}, {3, 5}, {40, 33}, {700, 64}};

static void test_naive(void **state)
{
    (void)state;
    for (int e = 0; e < OP_TEST_ENGINES; e++)
        for (int i = 0; i < 10; i++) {
            struct op_test *t = op_test_open(op_test_engines[e], 2);
            struct problem p = problem_make(t, sizes[i / 2][0], sizes[i / 2][1]);
            bool flag = i % 2;
            int64_t cols = p.cols;
            double *expected = values_new(t, p.rows * cols), *start = values_random(t, TABLE * cols, 4);
            for (int64_t k = 0; k < p.rows * cols; k++)
                expected[k] = p.table[p.ids[k / cols] * cols + k % cols] +
                              (flag ? p.position_table[p.positions[k / cols] * cols + k % cols] : 0);
            assert_close("out", forward_run(t, &p, flag), expected, p.rows * cols, 0, flag ? t->eps / 2 : 0);

            for (int32_t b = 0; b < p.buckets && !flag; b++)
                memset(start + p.bucket_id[b] * cols, 0, (size_t)cols * sizeof *start);
            for (int64_t k = 0; k < p.rows * cols; k++)
                start[p.ids[k / cols] * cols + k % cols] += p.dout[k];
            assert_close("dtable", backward_run(t, &p, flag), start, TABLE * cols, 1000 * t->eps, 20 * t->eps);
            op_test_close(t);
        }
}

static void test_same_bits(void **state)
{
    (void)state;
    for (int e = 0; e < OP_TEST_ENGINES; e++) {
        struct op_test *one = op_test_open(op_test_engines[e], 1);
        struct problem p = problem_make(one, 700, 64);
        double *out = forward_run(one, &p, true), *dtable = backward_run(one, &p, true);
        for (int threads = 1; threads <= 3; threads++) {
            struct op_test *t = op_test_open(op_test_engines[e], threads);
            assert_same("out", forward_run(t, &p, true), out, p.rows * p.cols);
            assert_same("dtable", backward_run(t, &p, true), dtable, TABLE * p.cols);
            op_test_close(t);
        }
        op_test_close(one);
    }
}

static double problem_loss(void *user)
{
    struct problem *p = user;
    struct op_test *t = op_test_open("cpu64", 1);
    double loss = dot_product(forward_run(t, p, true), p->dout, p->rows * p->cols);
    op_test_close(t);
    return loss;
}

static void test_finite_differences(void **state)
{
    (void)state;
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
    for (int e = 0; e < OP_TEST_ENGINES; e++) {
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
        OP_REFUSES(t, embedding_backward, embedding_backward_args, .dtype = t->dtype, .grad_dtype = DTYPE_BF16,
                   .buckets = 1, .cols = 1, .dtable = a);
        OP_REFUSES(t, embedding_backward, embedding_backward_args, .dtype = t->dtype, .grad_dtype = t->dtype,
                   .buckets = 1, .cols = 1, .dtable = a);
        op_test_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_naive), cmocka_unit_test(test_same_bits),
                                       cmocka_unit_test(test_finite_differences), cmocka_unit_test(test_contract)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
