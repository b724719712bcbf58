/* test_engine.c - the table itself: every op is there, memory and copies work, marks measure, graphs replay, refusals
 * come with a text. */
#include "../support/op_test.h"

#include "../emulation/emulation_control.h"

#include <dlfcn.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void test_table(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 2);
#define X(op, args)                                                                                           \
    assert_non_null(t->engine->op);                                                                           \
    op_test_refused(t, #op, t->engine->op(t->context, NULL));                                                 \
    assert_int_equal(t->engine->op(NULL, &(struct args){0}), OP_CONTRACT);
        ENGINE_OPS(X)
#undef X
        const char *says = op_test_is_cuda(t) ? "compute capability" : "2 threads";
        assert_non_null(strstr(t->engine->describe(t->context), says));
        op_test_close(t);
    }
}

static void test_open(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 0);
        struct engine_context *context = NULL;
        char error[64] = "";
        const struct engine_options wrong = op_test_is_cuda(t) ? (struct engine_options){.device_index = 1000}
                                                               : (struct engine_options){.threads = -1};
        assert_int_equal(t->engine->open(&context, &wrong, error, sizeof error), OP_CONTRACT);
        assert_true(*error && !strchr(error, '\n'));
        assert_null(context);
        assert_int_equal(t->engine->open(&context, NULL, error, sizeof error), OP_OK);
        t->engine->close(context);
        t->engine->close(NULL);
        op_test_close(t);
    }
}

static void test_memory(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
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

/* Memory of many blocks, and not a byte beyond its end, on several threads. */
static void test_fill_zero_of_much(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_ENGINES; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 3);
        const size_t bytes = ((size_t)5 << 20) + 7;
        unsigned char *host = malloc(bytes + 1);
        assert_non_null(host);
        memset(host, 0xa5, bytes + 1);
        void *device = device_bytes(t, host, bytes + 1);
        op_test_status(t, "fill_zero", t->engine->fill_zero(t->context, device, bytes));
        op_test_status(t, "copy_out", t->engine->copy_out(t->context, host, device, bytes + 1));
        for (size_t i = 0; i < bytes; i++)
            assert_int_equal(host[i], 0);
        assert_int_equal(host[bytes], 0xa5);
        free(host);
        op_test_close(t);
    }
}

static void test_copies(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        unsigned char bytes[60], back[60];
        for (int i = 0; i < 60; i++)
            bytes[i] = (unsigned char)(i + 1);
        void *a = device_bytes(t, bytes, sizeof bytes), *b = device_bytes(t, bytes, sizeof bytes);
        op_test_status(t, "fill_zero", t->engine->fill_zero(t->context, b, 10));
        op_test_status(t, "copy", t->engine->copy(t->context, (char *)b + 50, a, 10));
        op_test_status(t, "copy_out", t->engine->copy_out(t->context, back, b, sizeof back));
        for (int i = 0; i < 60; i++)
            assert_int_equal(back[i], i < 10 ? 0 : i < 50 ? i + 1 : i - 49);
        op_test_refused(t, "copy", t->engine->copy(t->context, NULL, a, 1));
        op_test_refused(t, "copy_in", t->engine->copy_in(t->context, b, NULL, 1));
        op_test_status(t, "copy", t->engine->copy(t->context, NULL, NULL, 0));
        op_test_close(t);
    }
}

/* More than the pinned memory of the CUDA engine holds, in pieces of odd sizes; the buffer is written over as soon as
 * the call returns. */
static void test_copy_in_reuse(void **state)
{
    (void)state;
    enum { PIECE = 1234567, PIECES = 11 };
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        unsigned char *bytes = malloc(PIECE);
        char *device;
        assert_non_null(bytes);
        op_test_status(t, "alloc", t->engine->alloc(t->context, (void **)&device, (size_t)PIECE * PIECES));
        for (int i = 0; i < PIECES; i++) {
            memset(bytes, i + 1, PIECE);
            op_test_status(t, "copy_in", t->engine->copy_in(t->context, device + (size_t)i * PIECE, bytes, PIECE));
        }
        for (int i = 0; i < PIECES; i++) {
            op_test_status(t, "copy_out", t->engine->copy_out(t->context, bytes, device + (size_t)i * PIECE, PIECE));
            for (int k = 0; k < PIECE; k++)
                if (bytes[k] != i + 1)
                    fail_msg("%s: byte %d of piece %d is %d", t->name, k, i, bytes[k]);
        }
        t->engine->free(t->context, device);
        free(bytes);
        op_test_close(t);
    }
}

static void test_marks(void **state)
{
    (void)state;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        double seconds[3] = {NAN, NAN, NAN};
        void *a = device_new(t, DTYPE_F32, 1000);
        op_test_refused(t, "elapsed", t->engine->elapsed(t->context, 0, 1, seconds));
        for (int slot = 0; slot < 3; slot++) {
            op_test_status(t, "mark", t->engine->mark(t->context, slot ? ENGINE_MARKS - slot : 0));
            op_test_status(t, "fill_zero", t->engine->fill_zero(t->context, a, 4000));
        }
        op_test_status(t, "elapsed", t->engine->elapsed(t->context, 0, ENGINE_MARKS - 1, &seconds[0]));
        op_test_status(t, "elapsed", t->engine->elapsed(t->context, ENGINE_MARKS - 1, ENGINE_MARKS - 2, &seconds[1]));
        op_test_status(t, "elapsed", t->engine->elapsed(t->context, 0, ENGINE_MARKS - 2, &seconds[2]));
        assert_true(seconds[0] >= 0 && seconds[1] >= 0); /* a CUDA event's time is a float of milliseconds */
        assert_true(fabs(seconds[0] + seconds[1] - seconds[2]) <= 1e-6 + 1e-6 * seconds[2]);
        op_test_refused(t, "mark", t->engine->mark(t->context, ENGINE_MARKS));
        op_test_refused(t, "mark", t->engine->mark(t->context, -1));
        op_test_refused(t, "elapsed", t->engine->elapsed(t->context, 0, ENGINE_MARKS, seconds));
        op_test_refused(t, "elapsed", t->engine->elapsed(t->context, 0, 0, NULL));
        t->engine->range_push(t->context, "outer");
        t->engine->range_push(t->context, "inner");
        t->engine->range_pop(t->context);
        t->engine->range_pop(t->context);
        op_test_close(t);
    }
}

/* sum_squares += sum of grad^2, and then grad = 0 and copy = sum_squares. */
static void work_queue(struct op_test *t, void *grad, int64_t n, double *sum_squares, double *copy)
{
    OP_CALL(t, adamw_norm, adamw_norm_args, .grad_dtype = DTYPE_F32, .n = n, .grad = grad, .sum_squares = sum_squares,
            .accumulate = true);
    op_test_status(t, "fill_zero", t->engine->fill_zero(t->context, grad, (size_t)n * sizeof(float)));
    op_test_status(t, "copy", t->engine->copy(t->context, copy, sum_squares, sizeof(double)));
}

/* A graph runs when it is launched, not when it is captured; it reads what is in memory then. Scratch that grew after
 * the capture does not harm it. */
static void test_graphs(void **state)
{
    (void)state;
    const int64_t n = 100000, rows = 8, cols = 32768;
    for (int e = op_test_first(); e < OP_TEST_VARIANTS; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        struct engine_graph *graph = NULL;
        if (!t->engine->graphs) {
            op_test_refused(t, "capture_begin", t->engine->capture_begin(t->context));
            op_test_refused(t, "capture_end", t->engine->capture_end(t->context, &graph));
            op_test_refused(t, "graph_launch", t->engine->graph_launch(t->context, graph));
            t->engine->graph_free(t->context, NULL);
            op_test_close(t);
            continue;
        }
        double zero = 0, *ones = values_new(t, n), expected = (double)n;
        for (int64_t i = 0; i < n; i++)
            ones[i] = 1;
        void *grad = device_from(t, DTYPE_F32, ones, n);
        double *sum_squares = device_from(t, DTYPE_F64, &zero, 1), *copy = device_from(t, DTYPE_F64, &zero, 1);
        work_queue(t, grad, n, sum_squares, copy);
        assert_same("first", values_from(t, DTYPE_F64, copy, 1), &expected, 1);
        op_test_status(t, "capture_begin", t->engine->capture_begin(t->context));
        op_test_refused(t, "capture_begin", t->engine->capture_begin(t->context));
        work_queue(t, grad, n, sum_squares, copy);
        op_test_refused(t, "synchronize", t->engine->synchronize(t->context));
        op_test_refused(t, "copy_in", t->engine->copy_in(t->context, copy, &zero, sizeof zero));
        op_test_refused(t, "copy_out", t->engine->copy_out(t->context, &zero, copy, sizeof zero));
        op_test_refused(t, "mark", t->engine->mark(t->context, 0));
        op_test_status(t, "capture_end", t->engine->capture_end(t->context, &graph));
        op_test_refused(t, "capture_end", t->engine->capture_end(t->context, NULL));
        assert_non_null(graph);
        for (int launch = 0; launch < 3; launch++) {
            if (launch == 2) { /* two megabytes of scratch */
                void *x = device_new(t, DTYPE_F32, rows * cols), *dx = device_new(t, DTYPE_F32, rows * cols);
                void *dweight = device_new(t, DTYPE_F32, cols);
                op_test_status(t, "fill_zero", t->engine->fill_zero(t->context, x, (size_t)(rows * cols) * sizeof(float)));
                op_test_status(t, "fill_zero", t->engine->fill_zero(t->context, dweight, (size_t)cols * sizeof(float)));
                OP_CALL(t, norm_backward, norm_backward_args, .kind = NORM_RMS, .dtype = DTYPE_F32,
                        .grad_dtype = DTYPE_F32, .rows = rows, .cols = cols, .x = x, .weight = x, .rstd = x, .dy = x,
                        .dx = dx, .dweight = dweight);
            }
            device_set(t, DTYPE_F32, grad, ones, n);
            op_test_status(t, "graph_launch", t->engine->graph_launch(t->context, graph));
            expected += (double)n;
            assert_same("replayed", values_from(t, DTYPE_F64, copy, 1), &expected, 1);
            assert_same("cleared", values_from(t, DTYPE_F32, grad, 1), &zero, 1);
        }
        /* dropped: nothing has run */
        op_test_status(t, "capture_begin", t->engine->capture_begin(t->context));
        op_test_status(t, "fill_zero", t->engine->fill_zero(t->context, copy, sizeof(double)));
        op_test_status(t, "capture_end", t->engine->capture_end(t->context, NULL));
        assert_same("dropped", values_from(t, DTYPE_F64, copy, 1), &expected, 1);
        t->engine->graph_free(t->context, graph);
        t->engine->graph_free(t->context, NULL);
        op_test_refused(t, "graph_launch", t->engine->graph_launch(t->context, NULL));
        op_test_close(t);
    }
}

/* With FLAT_SYNC=1 every call waits, but inside a capture, and results are as before. */
static void test_sync(void **state)
{
    (void)state;
    assert_int_equal(setenv("FLAT_SYNC", "1", 1), 0);
    struct op_test *t = op_test_open("emu-f32", 1);
    assert_int_equal(unsetenv("FLAT_SYNC"), 0);
    struct emu_calls (*calls_read)(void);
    *(void **)&calls_read = dlsym(t->library, "emu_calls_read");
    const double ones[4] = {1, 1, 1, 1}, zero = 0, four = 4;
    void *grad = device_from(t, DTYPE_F32, ones, 4);
    double *sum = device_from(t, DTYPE_F64, &zero, 1), *copy = device_from(t, DTYPE_F64, &zero, 1);
    struct engine_graph *graph = NULL;
    uint64_t waits = calls_read ? calls_read().waits : 0;
    work_queue(t, grad, 4, sum, copy);
    if (calls_read)
        assert_int_equal(calls_read().waits, waits + 3); /* the norm, the zeros and the copy */
    assert_same("at once", values_from(t, DTYPE_F64, copy, 1), &four, 1);
    device_set(t, DTYPE_F32, grad, ones, 4);
    device_set(t, DTYPE_F64, sum, &zero, 1);
    op_test_status(t, "capture_begin", t->engine->capture_begin(t->context));
    waits = calls_read ? calls_read().waits : 0;
    work_queue(t, grad, 4, sum, copy);
    if (calls_read)
        assert_int_equal(calls_read().waits, waits);
    op_test_status(t, "capture_end", t->engine->capture_end(t->context, &graph));
    op_test_status(t, "graph_launch", t->engine->graph_launch(t->context, graph));
    assert_same("replayed", values_from(t, DTYPE_F64, copy, 1), &four, 1);
    t->engine->graph_free(t->context, graph);
    op_test_close(t);
}

/* Where it was built: the CUDA engine opens, or says in one line why it does not. */
static void test_no_gpu(void **state)
{
    (void)state;
    const char *folder = getenv("FLAT_BUILD");
    char path[512], error[256] = "";
    snprintf(path, sizeof path, "%s/libflat_cuda.so", folder ? folder : "build");
    if (access(path, R_OK) != 0) {
        print_message("%s is not there (make cuda)\n", path);
        skip();
    }
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!library)
        fail_msg("%s", dlerror());
    flat_engine_fn function;
    *(void **)&function = dlsym(library, "flat_engine");
    assert_non_null(function);
    struct engine_context *context = NULL;
    const int status = function()->open(&context, NULL, error, sizeof error);
    if (status == OP_OK) {
        function()->close(context);
        return;
    }
    print_message("%s\n", error);
    assert_int_equal(status, OP_ABSENT);
    assert_true(*error && !strchr(error, '\n'));
    assert_null(context);
}

/* What a process with these variables ("" unset) has for GOMP_SPINCOUNT once the CPU engine is loaded. */
static void spin_of(const char *policy, const char *spin, char *found, size_t bytes)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (!child) {
        char path[600];
        const char *folder = getenv("FLAT_BUILD");
        unsetenv("OMP_WAIT_POLICY");
        unsetenv("GOMP_SPINCOUNT");
        if (*policy)
            setenv("OMP_WAIT_POLICY", policy, 1);
        if (*spin)
            setenv("GOMP_SPINCOUNT", spin, 1);
        snprintf(path, sizeof path, "%s/libflat_cpu.so", folder ? folder : "build");
        const char *now = dlopen(path, RTLD_NOW | RTLD_LOCAL) ? getenv("GOMP_SPINCOUNT") : "no engine";
        _exit(write(ends[1], now ? now : "unset", strlen(now ? now : "unset")) < 0);
    }
    close(ends[1]);
    ssize_t got = read(ends[0], found, bytes - 1);
    found[got < 0 ? 0 : got] = 0;
    close(ends[0]);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

/* How long waiting threads spin is the user's to say; otherwise by whether others want the cores. First of all tests: the
 * engine must not be loaded yet. */
static void test_spin(void **state)
{
    (void)state;
    char found[64];
    spin_of("", "", found, sizeof found);
    if (strcmp(found, "0") && strcmp(found, "10000"))
        fail_msg("GOMP_SPINCOUNT is %s, expected 0 or 10000", found);
    spin_of("", "77", found, sizeof found);
    assert_string_equal(found, "77");
    spin_of("passive", "", found, sizeof found);
    assert_string_equal(found, "unset");
    spin_of("active", "5", found, sizeof found);
    assert_string_equal(found, "5");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_spin), cmocka_unit_test(test_table), cmocka_unit_test(test_open),
                                       cmocka_unit_test(test_memory), cmocka_unit_test(test_fill_zero_of_much),
                                       cmocka_unit_test(test_copies), cmocka_unit_test(test_copy_in_reuse),
                                       cmocka_unit_test(test_marks),
                                       cmocka_unit_test(test_graphs), cmocka_unit_test(test_sync), cmocka_unit_test(test_no_gpu)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
