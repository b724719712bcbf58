/* op_test.c - see op_test.h. */
#include "op_test.h"

#include "../../host/util/float16.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CANARY_BYTES = 256, CANARY = 0xA5 };

const char *const op_test_engines[] = {"cpu", "cpu64", "emu-f32", "emu-bf16"};

int op_test_first(void)
{
    const char *engines = getenv("FLAT_TEST_ENGINES");
    return engines && !strcmp(engines, "cuda") ? OP_TEST_ENGINES : 0;
}

void op_test_cpu_only(void)
{
    if (op_test_first())
        skip();
}

/* One allocation of a test, on the host or on the device. */
struct op_test_owned {
    struct op_test_owned *next;
    void *host, *device;
    size_t bytes;
};

/* A function of the plugin, or NULL. */
static void *plugin_function(const struct op_test *test, const char *name) { return dlsym(test->library, name); }

bool op_test_is_cuda(const struct op_test *test) { return !strncmp(test->name, "emu", 3); }

static void library_open(struct op_test *test)
{
    const char *folder = getenv("FLAT_BUILD"), *other = op_test_is_cuda(test) ? getenv("FLAT_EMU") : NULL;
    char path[512];
    if (other)
        snprintf(path, sizeof path, "%s", other);
    else
        snprintf(path, sizeof path, "%s/libflat_%.*s.so", folder ? folder : "build", (int)strcspn(test->name, "-"),
                 test->name);
    /* Never unmapped: threads of the engine's OpenMP and BLAS runtimes outlive the context. */
    test->library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!test->library)
        fail_msg("%s", dlerror());
}

struct op_test *op_test_open(const char *name, int threads)
{
    char error[256] = "";
    struct op_test *test = calloc(1, sizeof *test);
    assert_non_null(test);
    test->name = name;
    library_open(test);
    flat_engine_fn function;
    *(void **)&function = plugin_function(test, "flat_engine");
    assert_non_null(function);
    test->engine = function();
    assert_int_equal(test->engine->abi, ENGINE_ABI);
    if (test->engine->open(&test->context, &(struct engine_options){.threads = threads}, error, sizeof error) != OP_OK)
        fail_msg("%s: %s", name, error);
    test->dtype = op_test_is_cuda(test) ? strstr(name, "-bf16") ? DTYPE_BF16 : DTYPE_F32 : test->engine->dtype;
    test->stat = dtype_stat(test->dtype);
    test->eps = test->stat == DTYPE_F64 ? 0x1p-52 : 0x1p-23;
    test->rounding = test->dtype == DTYPE_BF16 ? 0x1p-8 : test->eps / 2;
    return test;
}

static void seed_set(const struct op_test *test, uint64_t seed)
{
    void (*function)(uint64_t seed);
    *(void **)&function = plugin_function(test, "emu_seed_set");
    if (function) /* a GPU makes its own schedules */
        function(seed);
}

void op_test_same_bits(const char *name, int64_t n, void (*run)(struct op_test *test, void *user, double *out),
                       void *user)
{
    struct op_test *first = op_test_open(name, 1);
    double *expected = values_new(first, n);
    run(first, user, expected);
    int others = op_test_is_cuda(first) ? 5 : 2;
    for (int i = 1; i <= others; i++) {
        struct op_test *test = op_test_open(name, 1 + i);
        double *out = values_new(test, n);
        seed_set(test, (uint64_t)i);
        run(test, user, out);
        seed_set(test, 0);
        assert_same(name, out, expected, n);
        op_test_close(test);
    }
    op_test_close(first);
}

void op_test_bytes_begin(struct op_test *test)
{
    void (*reset)(void);
    *(void **)&reset = plugin_function(test, "emu_counter_reset");
    if (reset)
        reset();
}

void op_test_bytes_check(struct op_test *test, const char *what, int64_t expected, double tolerance)
{
    bool (*counter)(const char *kernel, uint64_t *read, uint64_t *written, uint64_t *launches);
    uint64_t read, written, launches;
    *(void **)&counter = plugin_function(test, "emu_counter_read");
    if (!counter)
        return;
    op_test_status(test, "synchronize", test->engine->synchronize(test->context));
    assert_true(counter(NULL, &read, &written, &launches));
    double total = (double)read + (double)written, off = total / (double)expected - 1;
    print_message("%s %s: %.0f bytes in %d launches, the contract says %lld (%+.1f %%)\n", test->name, what, total,
                  (int)launches, (long long)expected, 100 * off);
    if (!(fabs(off) <= tolerance))
        fail_msg("%s moves %.0f bytes, %+.1f %% off its contract's %lld", what, total, 100 * off, (long long)expected);
}

static struct op_test_owned *owned_new(struct op_test *test)
{
    struct op_test_owned *owned = calloc(1, sizeof *owned);
    assert_non_null(owned);
    owned->next = test->owned;
    test->owned = owned;
    return owned;
}

static void canary_check(struct op_test *test, const struct op_test_owned *owned)
{
    unsigned char canary[CANARY_BYTES];
    op_test_status(test, "copy_out", test->engine->copy_out(test->context, canary, (char *)owned->device + owned->bytes,
                                                            sizeof canary));
    for (int i = 0; i < CANARY_BYTES; i++)
        if (canary[i] != CANARY)
            fail_msg("%s wrote %d bytes behind an array of %zu bytes", test->name, i, owned->bytes);
}

void op_test_close(struct op_test *test)
{
    while (test->owned) {
        struct op_test_owned *owned = test->owned;
        if (owned->device)
            canary_check(test, owned);
        test->engine->free(test->context, owned->device);
        test->owned = owned->next;
        free(owned->host);
        free(owned);
    }
    test->engine->close(test->context);
    dlclose(test->library);
    free(test);
}

double uniform_next(uint64_t *state) { return sample_uniform(0x5EED, (*state)++); }

double *values_new(struct op_test *test, int64_t n)
{
    double *values = malloc((size_t)(n ? n : 1) * sizeof *values);
    assert_non_null(values);
    owned_new(test)->host = values;
    for (int64_t i = 0; i < n; i++)
        values[i] = NAN;
    return values;
}

double *values_random(struct op_test *test, int64_t n, uint64_t seed)
{
    double *values = values_new(test, n);
    uint64_t state = seed << 32;
    for (int64_t i = 0; i < n; i++) { /* four uniforms: variance 1 */
        double sum = -2;
        for (int k = 0; k < 4; k++)
            sum += uniform_next(&state);
        values[i] = sum * sqrt(3);
    }
    values_round(test->dtype, values, n);
    return values;
}

void values_round(enum dtype dtype, double *values, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        values[i] = dtype == DTYPE_F64    ? values[i]
                    : dtype == DTYPE_BF16 ? (double)float_from_bf16(bf16_from_float((float)values[i]))
                                          : (double)(float)values[i];
}

static void *device_room(struct op_test *test, size_t bytes)
{
    unsigned char canary[CANARY_BYTES];
    memset(canary, CANARY, sizeof canary);
    struct op_test_owned *owned = owned_new(test);
    op_test_status(test, "alloc", test->engine->alloc(test->context, &owned->device, bytes + sizeof canary));
    owned->bytes = bytes;
    op_test_status(test, "copy_in", test->engine->copy_in(test->context, (char *)owned->device + bytes, canary,
                                                          sizeof canary));
    return owned->device;
}

void *device_bytes(struct op_test *test, const void *bytes, size_t size)
{
    void *device = device_room(test, size);
    op_test_status(test, "copy_in", test->engine->copy_in(test->context, device, bytes, size));
    return device;
}

void *device_from(struct op_test *test, enum dtype dtype, const double *values, int64_t n)
{
    void *device = device_room(test, (size_t)n * dtype_size(dtype));
    device_set(test, dtype, device, values, n);
    return device;
}

void *device_new(struct op_test *test, enum dtype dtype, int64_t n)
{
    return device_from(test, dtype, values_new(test, n), n);
}

void device_set(struct op_test *test, enum dtype dtype, void *device, const double *values, int64_t n)
{
    assert_true(dtype == DTYPE_F32 || dtype == DTYPE_F64 || dtype == DTYPE_BF16);
    void *stored = malloc((size_t)(n ? n : 1) * dtype_size(dtype));
    assert_non_null(stored);
    for (int64_t i = 0; i < n; i++)
        if (dtype == DTYPE_F64)
            ((double *)stored)[i] = values[i];
        else if (dtype == DTYPE_F32)
            ((float *)stored)[i] = (float)values[i];
        else
            ((uint16_t *)stored)[i] = bf16_from_float((float)values[i]);
    op_test_status(test, "copy_in", test->engine->copy_in(test->context, device, stored,
                                                          (size_t)n * dtype_size(dtype)));
    free(stored);
}

void device_get(struct op_test *test, enum dtype dtype, const void *device, double *values, int64_t n)
{
    assert_true(dtype == DTYPE_F32 || dtype == DTYPE_F64 || dtype == DTYPE_BF16);
    void *stored = malloc((size_t)(n ? n : 1) * dtype_size(dtype));
    assert_non_null(stored);
    op_test_status(test, "copy_out", test->engine->copy_out(test->context, stored, device,
                                                            (size_t)n * dtype_size(dtype)));
    for (int64_t i = 0; i < n; i++)
        values[i] = dtype == DTYPE_F64   ? ((double *)stored)[i]
                    : dtype == DTYPE_F32 ? (double)((float *)stored)[i]
                                         : (double)float_from_bf16(((uint16_t *)stored)[i]);
    free(stored);
}

double *values_from(struct op_test *test, enum dtype dtype, const void *device, int64_t n)
{
    double *values = values_new(test, n);
    device_get(test, dtype, device, values, n);
    return values;
}

void assert_close(const char *what, const double *got, const double *expected, int64_t n, double absolute,
                  double relative)
{
    for (int64_t i = 0; i < n; i++) {
        double allowed = absolute + relative * fabs(expected[i]);
        if (!(fabs(got[i] - expected[i]) <= allowed) && !(got[i] == expected[i]))
            fail_msg("%s[%lld]: %.17g, expected %.17g (off by %.2e, allowed %.2e)", what, (long long)i, got[i],
                     expected[i], fabs(got[i] - expected[i]), allowed);
    }
}

void assert_same(const char *what, const double *got, const double *expected, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (memcmp(&got[i], &expected[i], sizeof *got))
            fail_msg("%s[%lld]: %.17g and %.17g are not the same bits", what, (long long)i, got[i], expected[i]);
}

static double loss_at(double *x, double value, double (*loss)(void *user), void *user)
{
    double kept = *x;
    *x = value;
    double result = loss(user);
    *x = kept;
    return result;
}

void gradient_check(const char *what, double *x, const double *gradient, int64_t n, double (*loss)(void *user),
                    void *user, double tolerance)
{
    const double h = 1e-3;
    double most = 0;
    for (int64_t i = 0; i < n; i++)
        most = fmax(most, fabs(gradient[i]));
    assert_true(most > 0);
    int64_t step = n > 200 ? n / 200 : 1;
    for (int64_t i = 0; i < n; i += step) {
        double near = loss_at(&x[i], x[i] + h, loss, user) - loss_at(&x[i], x[i] - h, loss, user);
        double far = loss_at(&x[i], x[i] + 2 * h, loss, user) - loss_at(&x[i], x[i] - 2 * h, loss, user);
        double difference = (8 * near - far) / (12 * h);
        if (!(fabs(difference - gradient[i]) <= tolerance * most))
            fail_msg("d loss / d %s[%lld]: %.12g, finite differences give %.12g (largest entry %.3g)", what,
                     (long long)i, gradient[i], difference, most);
    }
}

double dot_product(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

void op_test_status(struct op_test *test, const char *op, int status)
{
    if (status != OP_OK)
        fail_msg("%s on %s: status %d, %s", op, test->name, status, test->engine->error(test->context));
}

void op_test_refused(struct op_test *test, const char *op, int status)
{
    if (status != OP_CONTRACT || !*test->engine->error(test->context))
        fail_msg("%s on %s: status %d instead of a refusal with a text", op, test->name, status);
}
