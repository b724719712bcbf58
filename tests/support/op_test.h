/* op_test.h - what the tests of the ops share: an engine loaded as the program loads it, tensors with
 * canaries behind them, comparisons that a NaN fails, finite differences, counted bytes.
 *
 * A test keeps its values as double on the host. A struct op_test owns whatever is made through it; closing
 * it checks every canary. Everything here ends the running test on a failure.
 *
 * An op's cases run over op_test_engines: the CPU engine, its double build, and the CUDA kernels in float and bf16.
 * These run in the emulation (libflat_emu.so), or in the plugin that FLAT_EMU names: another flavour of the
 * emulation, or libflat_cuda.so on a GPU.
 */
#ifndef FLAT_TESTS_OP_TEST_H
#define FLAT_TESTS_OP_TEST_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../kernels/engine/engine.h"

struct op_test {
    const char *name; /* as it was opened */
    const struct engine *engine;
    struct engine_context *context;
    enum dtype dtype, stat; /* what this test stores tensors in */
    double eps;             /* spacing of stat at 1: what sums and functions are computed in */
    double rounding;        /* largest relative error of one rounding to dtype */
    struct op_test_owned *owned;
    void *library;
};

/* The engines that every op is tested on: first OP_TEST_ENGINES of the CPU, "cpu" and "cpu64", then "emu-f32" and
 * "emu-bf16", the CUDA kernels in a dtype. */
extern const char *const op_test_engines[];
enum { OP_TEST_ENGINES = 2, OP_TEST_VARIANTS = 4 };
/* The first of them to test: 0, or OP_TEST_ENGINES where FLAT_TEST_ENGINES is "cuda", for a machine whose time counts. */
int op_test_first(void);
/* Skips a test that is for the CPU engine alone, there. */
void op_test_cpu_only(void);

/* Loads libflat_<name>.so from $FLAT_BUILD (default: build) and opens it. threads 0: its default; GPUs ignore it. */
struct op_test *op_test_open(const char *name, int threads);
/* Whether it is an emu engine. */
bool op_test_is_cuda(const struct op_test *test);
void op_test_close(struct op_test *test);

/* Same bits whatever the order in which things happen to run: runs `run`, which fills out [n] on a fresh engine, with
 * 1 to 3 threads of a CPU engine, or with 6 schedules of the emulation, and compares. */
void op_test_same_bits(const char *name, int64_t n, void (*run)(struct op_test *test, void *user, double *out),
                       void *user);

/* Bytes of device memory that the kernels run in between have read and written, against the contract's, as a fraction:
 * op_test_bytes_check(t, "norm_forward", OP_BYTES(...), 0.05). Nothing is counted outside the emulation. */
void op_test_bytes_begin(struct op_test *test);
void op_test_bytes_check(struct op_test *test, const char *what, int64_t expected, double tolerance);

/* Bytes that a call moves by its contract: OP_BYTES(norm_forward, norm_args, .rows = 3, ...). */
#define OP_BYTES(op, arguments, ...) ((int64_t)op##_cost(&(const struct arguments){__VA_ARGS__}).bytes)

/* n doubles on the host: NaN, or about normal with the given seed (the same for every engine). */
double *values_new(struct op_test *test, int64_t n);
double *values_random(struct op_test *test, int64_t n, uint64_t seed);
/* Rounds to what dtype holds, so that a reference in double starts from the engine's own input. */
void values_round(enum dtype dtype, double *values, int64_t n);

/* n elements on the device: NaN, the given values, or any bytes. */
void *device_new(struct op_test *test, enum dtype dtype, int64_t n);
void *device_from(struct op_test *test, enum dtype dtype, const double *values, int64_t n);
void *device_bytes(struct op_test *test, const void *bytes, size_t size);
void device_set(struct op_test *test, enum dtype dtype, void *device, const double *values, int64_t n);
void device_get(struct op_test *test, enum dtype dtype, const void *device, double *values, int64_t n);
/* device_get into a new array. */
double *values_from(struct op_test *test, enum dtype dtype, const void *device, int64_t n);

/* |got - expected| <= absolute + relative |expected| for each of n. */
void assert_close(const char *what, const double *got, const double *expected, int64_t n, double absolute,
                  double relative);
/* Bit for bit. */
void assert_same(const char *what, const double *got, const double *expected, int64_t n);

/* Compares gradient [n] with fourth-order central differences of loss(user) around x [n], relative to the
 * largest entry of the gradient. Of long arrays about 200 entries are tried. */
void gradient_check(const char *what, double *x, const double *gradient, int64_t n, double (*loss)(void *user),
                    void *user, double tolerance);

double uniform_next(uint64_t *state); /* in [0, 1) */
double dot_product(const double *a, const double *b, int64_t n);

/* Calls an op and expects success: OP_CALL(test, norm_forward, norm_args, .rows = 3, ...). */
#define OP_CALL(test, op, arguments, ...)                                                                     \
    op_test_status(test, #op, (test)->engine->op((test)->context, &(struct arguments){__VA_ARGS__}))
/* The same, expecting OP_CONTRACT and a text. */
#define OP_REFUSES(test, op, arguments, ...)                                                                  \
    op_test_refused(test, #op, (test)->engine->op((test)->context, &(struct arguments){__VA_ARGS__}))
void op_test_status(struct op_test *test, const char *op, int status);
void op_test_refused(struct op_test *test, const char *op, int status);

#endif
