/* op_test.h - what the tests of the rooms share: an engine loaded as the program loads it, tensors with
 * canaries behind them, comparisons that a NaN fails, finite differences.
 *
 * A test keeps its values as double on the host. A struct op_test owns whatever is made through it; closing
 * it checks every canary. Everything here ends the running test on a failure.
 */
#ifndef FLAT_TESTS_OP_TEST_H
#define FLAT_TESTS_OP_TEST_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../kernels/engine.h"

struct op_test {
    const struct engine *engine;
    struct engine_context *context;
    enum dtype dtype, stat; /* the engine's own */
    double eps;             /* spacing of stat at 1 */
    struct op_test_owned *owned;
    void *library;
};

/* The engines that every room is tested on. */
extern const char *const op_test_engines[];
enum { OP_TEST_ENGINES = 2 };

/* Loads libflat_<name>.so from $FLAT_BUILD (default: build) and opens it. threads 0: its default. */
struct op_test *op_test_open(const char *name, int threads);
void op_test_close(struct op_test *test);

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
