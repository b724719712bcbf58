/* test_engine.c - the table itself: every op is there, memory and copies work, refusals come with a text. */
#include "op_test.h"

#include <stdint.h>
#include <string.h>

static void test_table(void **state)
{
    (void)state;
    for (int e = 0; e < OP_TEST_ENGINES; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 2);
#define X(op, args)                                                                                           \
    assert_non_null(t->engine->op);                                                                           \
    op_test_refused(t, #op, t->engine->op(t->context, NULL));                                                 \
    assert_int_equal(t->engine->op(NULL, &(struct args){0}), OP_CONTRACT);
        ENGINE_OPS(X)
#undef X
        assert_non_null(strstr(t->engine->describe(t->context), "2 threads"));
        op_test_close(t);
    }
}

static void test_open(void **state)
{
    (void)state;
    for (int e = 0; e < OP_TEST_ENGINES; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 0);
        struct engine_context *context = NULL;
        char error[64] = "";
        assert_int_equal(t->engine->open(&context, &(struct engine_options){.threads = -1}, error, sizeof error),
                         OP_CONTRACT);
        assert_true(*error);
        assert_int_equal(t->engine->open(&context, NULL, error, sizeof error), OP_OK);
        t->engine->close(context);
        t->engine->close(NULL);
        op_test_close(t);
    }
}

static void test_memory(void **state)
{
    (void)state;
    for (int e = 0; e < OP_TEST_ENGINES; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        size_t free_bytes = 0;
        op_test_status(t, "memory_free", t->engine->memory_free(t->context, &free_bytes));
        assert_true(free_bytes > 1 << 20);
        for (size_t bytes = 0; bytes < 1000; bytes += 37) {
            void *pointer = NULL;
            op_test_status(t, "alloc", t->engine->alloc(t->context, &pointer, bytes));
            assert_non_null(pointer);
            assert_int_equal((uintptr_t)pointer % 64, 0);
            t->engine->free(t->context, pointer);
        }
        void *pointer = NULL;
        const size_t impossible[] = {SIZE_MAX, SIZE_MAX - 64, (size_t)PTRDIFF_MAX + 1};
        for (int i = 0; i < 3; i++) {
            assert_int_equal(t->engine->alloc(t->context, &pointer, impossible[i]), OP_MEMORY);
            assert_non_null(strstr(t->engine->error(t->context), "no memory"));
            assert_null(pointer);
        }
        t->engine->free(t->context, NULL);
        op_test_close(t);
    }
}

static void test_copies(void **state)
{
    (void)state;
    for (int e = 0; e < OP_TEST_ENGINES; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        unsigned char bytes[60], back[60], rows[60];
        for (int i = 0; i < 60; i++)
            bytes[i] = (unsigned char)(i + 1);
        void *a = device_bytes(t, bytes, sizeof bytes), *b = device_bytes(t, bytes, sizeof bytes);
        op_test_status(t, "fill_zero", t->engine->fill_zero(t->context, b, 10));
        op_test_status(t, "copy", t->engine->copy(t->context, (char *)b + 50, a, 10));
        op_test_status(t, "copy_out", t->engine->copy_out(t->context, back, b, sizeof back));
        for (int i = 0; i < 60; i++)
            assert_int_equal(back[i], i < 10 ? 0 : i < 50 ? i + 1 : i - 49);
        /* Columns 2..4 of rows of 10 to columns 0..2 of rows of 20. */
        op_test_status(t, "fill_zero", t->engine->fill_zero(t->context, b, 60));
        op_test_status(t, "copy_rows", t->engine->copy_rows(t->context, b, 20, (char *)a + 2, 10, 3, 3));
        op_test_status(t, "synchronize", t->engine->synchronize(t->context));
        op_test_status(t, "copy_out", t->engine->copy_out(t->context, rows, b, sizeof rows));
        for (int i = 0; i < 60; i++)
            assert_int_equal(rows[i], i % 20 < 3 ? i / 20 * 10 + i % 20 + 3 : 0);
        op_test_refused(t, "copy", t->engine->copy(t->context, NULL, a, 1));
        op_test_refused(t, "copy_in", t->engine->copy_in(t->context, b, NULL, 1));
        op_test_refused(t, "copy_rows", t->engine->copy_rows(t->context, b, 2, a, 3, 3, 2));
        op_test_status(t, "copy", t->engine->copy(t->context, NULL, NULL, 0));
        op_test_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_table), cmocka_unit_test(test_open),
                                       cmocka_unit_test(test_memory), cmocka_unit_test(test_copies)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
