/* test_copies.c - copies when the host runs ahead: memory that copy_in goes through is not filled again too early. Copies beside the
 * ops: chunks of an array come in, are computed on and go out through two buffers, while streams run late and in any order that
 * events allow; each of the waits is needed; refusals. An offloaded update: test_offload.c.
 */
#include "../support/op_test.h"

#include "../emulation/emulation_control.h"

#include <dlfcn.h>
#include <string.h>

enum { CHUNK = 8, CHUNKS = 7, N = CHUNK * CHUNKS, BUFFERS = 2, SEEDS = 12 };
enum waits { IN_FOR_OUT = 1, OPS_FOR_IN = 2, OUT_FOR_OPS = 4, LAST = 8, ALL = 15 };

static void *function_of(const struct op_test *t, const char *name)
{
    return dlsym(t->library, name);
}

/* Streams in the order of the calls (seed 0), or late and interleaved by the seed. false: a device has an order of its own. */
static bool schedule_set(const struct op_test *t, uint64_t seed)
{
    void (*async)(int), (*schedule)(uint64_t);
    *(void **)&async = function_of(t, "emu_async_set");
    *(void **)&schedule = function_of(t, "emu_seed_set");
    if (!async || !schedule)
        return false;
    async(seed != 0);
    schedule(seed);
    return true;
}

#define CALL(t, call, ...) op_test_status(t, #call, (t)->engine->call((t)->context, __VA_ARGS__))

/* The 2 N floats of `in` as bf16, through the buffers x and y, the second half over what came of the first. */
static void pipeline(struct op_test *t, const float *in, uint16_t *out, float *x, uint16_t *y, int waits)
{
    for (int k = 0; k < 2 * CHUNKS; k++) {
        const int b = k % BUFFERS, at = k % CHUNKS * CHUNK;
        if (waits & IN_FOR_OUT)
            CALL(t, await, ENGINE_STREAM_IN, 2 * BUFFERS + b);
        CALL(t, copy_in_beside, x + b * CHUNK, in + k * CHUNK, CHUNK * sizeof *in);
        CALL(t, signal, ENGINE_STREAM_IN, b);
        if (waits & OPS_FOR_IN)
            CALL(t, await, ENGINE_STREAM_OPS, b);
        OP_CALL(t, cast, cast_args, .from = DTYPE_F32, .to = DTYPE_BF16, .n = CHUNK, .x = x + b * CHUNK, .y = y + b * CHUNK);
        CALL(t, signal, ENGINE_STREAM_OPS, BUFFERS + b);
        if (waits & OUT_FOR_OPS)
            CALL(t, await, ENGINE_STREAM_OUT, BUFFERS + b);
        CALL(t, copy_out_beside, out + at, y + b * CHUNK, CHUNK * sizeof *out);
        CALL(t, signal, ENGINE_STREAM_OUT, 2 * BUFFERS + b);
    }
    for (int b = 0; b < BUFFERS && waits & LAST; b++)
        CALL(t, await, ENGINE_STREAM_OPS, 2 * BUFFERS + b);
    op_test_status(t, "synchronize", t->engine->synchronize(t->context));
}

/* Whether the pipeline with these waits gives every element, in one schedule. */
static bool is_right(struct op_test *t, int waits, uint64_t seed)
{
    void *memory;
    static const double nothing[BUFFERS * CHUNK];
    float *x = device_from(t, DTYPE_F32, nothing, BUFFERS * CHUNK);
    uint16_t *y = device_from(t, DTYPE_BF16, nothing, BUFFERS * CHUNK);
    CALL(t, host_alloc, &memory, 2 * N * sizeof(float) + N * sizeof(uint16_t));
    assert_int_equal((uintptr_t)memory % 64, 0);
    float *in = memory;
    uint16_t *out = (uint16_t *)(in + 2 * N);
    memset(out, 0, N * sizeof *out);
    for (int i = 0; i < 2 * N; i++)
        in[i] = (float)(i + 1);
    (void)schedule_set(t, seed);
    pipeline(t, in, out, x, y, waits);
    bool right = true;
    for (int i = 0; i < N; i++) { /* whole numbers below 256 are the upper half of their float */
        uint32_t bits;
        memcpy(&bits, &in[N + i], sizeof bits);
        right = right && out[i] == bits >> 16;
    }
    (void)schedule_set(t, 0);
    t->engine->host_free(t->context, memory);
    return right;
}

static void test_pipeline(void **state)
{
    (void)state;
    struct op_test *t = op_test_open("emu-bf16", 1);
    for (uint64_t seed = 0; seed <= SEEDS; seed++)
        assert_true(is_right(t, ALL, seed));
    op_test_close(t);
}

/* Without any one of the waits some schedule shows it. */
static void test_each_wait_is_needed(void **state)
{
    (void)state;
    struct op_test *t = op_test_open("emu-bf16", 1);
    if (!schedule_set(t, 0))
        skip();
    for (int missing = 1; missing < ALL; missing *= 2) {
        int wrong = 0;
        for (uint64_t seed = 1; seed <= SEEDS; seed++)
            wrong += !is_right(t, ALL & ~missing, seed);
        if (!wrong)
            fail_msg("nothing changes without wait %d", missing);
    }
    op_test_close(t);
}

/* The memory that is copied from is written anew after each call, more often than there is memory on the way. */
static void test_copy_in_ahead(void **state)
{
    (void)state;
    enum { BYTES = 1000003, COPIES = 20 };
    static unsigned char host[BYTES];
    struct op_test *t = op_test_open("emu-bf16", 1);
    void *device;
    CALL(t, alloc, &device, (size_t)BYTES * COPIES);
    (void)schedule_set(t, 1);
    for (int i = 0; i < COPIES; i++) {
        memset(host, i + 1, BYTES);
        CALL(t, copy_in, (char *)device + (size_t)i * BYTES, host, BYTES);
    }
    for (int i = 0; i < COPIES; i++) {
        CALL(t, copy_out, host, (char *)device + (size_t)i * BYTES, BYTES);
        for (int j = 0; j < BYTES; j += 1000)
            assert_int_equal(host[j], i + 1);
    }
    (void)schedule_set(t, 0);
    t->engine->free(t->context, device);
    op_test_close(t);
}

/* A slot that was never signalled holds nothing up, and a slot signalled again is awaited anew. */
static void test_order(void **state)
{
    (void)state;
    struct op_test *t = op_test_open("emu-bf16", 1);
    float *x = device_from(t, DTYPE_F32, (double[]){1}, 1);
    void *memory;
    CALL(t, host_alloc, &memory, 3 * sizeof(float));
    float *const host = memory;
    for (uint64_t seed = 0; seed <= SEEDS; seed++) {
        (void)schedule_set(t, seed);
        host[0] = 5, host[1] = 6, host[2] = 0;
        CALL(t, await, ENGINE_STREAM_IN, ENGINE_SIGNALS - 1);
        CALL(t, copy_in_beside, x, host, sizeof *host);
        CALL(t, signal, ENGINE_STREAM_IN, 0);
        CALL(t, copy_in_beside, x, host + 1, sizeof *host);
        CALL(t, signal, ENGINE_STREAM_IN, 0);
        CALL(t, await, ENGINE_STREAM_OUT, 0);
        CALL(t, copy_out_beside, host + 2, x, sizeof *host);
        CALL(t, signal, ENGINE_STREAM_OUT, 1);
        CALL(t, await, ENGINE_STREAM_OPS, 1);
        op_test_status(t, "synchronize", t->engine->synchronize(t->context));
        assert_true(host[2] == 6);
    }
    (void)schedule_set(t, 0);
    t->engine->host_free(t->context, memory);
    op_test_close(t);
}

static void test_refusals(void **state)
{
    (void)state;
    struct op_test *t = op_test_open("emu-bf16", 1);
    struct engine_context *const context = t->context;
    void *pointer = t, *device = device_from(t, DTYPE_F32, (double[]){1}, 1);
    float host = 1;
    const size_t impossible[] = {SIZE_MAX, (size_t)PTRDIFF_MAX + 1};
    for (int i = 0; i < 2; i++) {
        pointer = t;
        assert_int_equal(t->engine->host_alloc(context, &pointer, impossible[i]), OP_MEMORY);
        assert_non_null(strstr(t->engine->error(context), "of the host's memory cannot be pinned"));
        assert_null(pointer);
    }
    CALL(t, host_alloc, &pointer, 0);
    assert_non_null(pointer);
    t->engine->host_free(context, pointer);
    t->engine->host_free(context, NULL);
    op_test_refused(t, "host_alloc", t->engine->host_alloc(context, NULL, 1));
    op_test_refused(t, "copy_in_beside", t->engine->copy_in_beside(context, device, NULL, 4));
    op_test_refused(t, "copy_out_beside", t->engine->copy_out_beside(context, NULL, device, 4));
    CALL(t, copy_in_beside, NULL, NULL, 0);
    const int no_slot[] = {-1, ENGINE_SIGNALS};
    for (int i = 0; i < 2; i++) {
        op_test_refused(t, "signal", t->engine->signal(context, ENGINE_STREAM_OPS, no_slot[i]));
        op_test_refused(t, "await", t->engine->await(context, ENGINE_STREAM_OPS, no_slot[i]));
    }
    op_test_refused(t, "signal", t->engine->signal(context, ENGINE_STREAMS, 0));
    op_test_refused(t, "await", t->engine->await(context, ENGINE_STREAMS, 0));
    op_test_status(t, "capture_begin", t->engine->capture_begin(context));
    op_test_refused(t, "host_alloc", t->engine->host_alloc(context, &pointer, 4));
    op_test_refused(t, "copy_in_beside", t->engine->copy_in_beside(context, device, &host, 4));
    op_test_refused(t, "copy_out_beside", t->engine->copy_out_beside(context, &host, device, 4));
    op_test_refused(t, "signal", t->engine->signal(context, ENGINE_STREAM_IN, 0));
    op_test_refused(t, "await", t->engine->await(context, ENGINE_STREAM_OPS, 0));
    op_test_status(t, "capture_end", t->engine->capture_end(context, NULL));
    op_test_close(t);
}

/* Where the device's memory is the host's there is nothing to copy. */
static void test_cpu(void **state)
{
    (void)state;
    op_test_cpu_only();
    for (int e = 0; e < OP_TEST_ENGINES; e++) {
        struct op_test *t = op_test_open(op_test_engines[e], 1);
        assert_true(!t->engine->host_alloc && !t->engine->host_free && !t->engine->copy_in_beside && !t->engine->copy_out_beside &&
                    !t->engine->signal && !t->engine->await);
        op_test_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_copy_in_ahead), cmocka_unit_test(test_pipeline),
                                       cmocka_unit_test(test_each_wait_is_needed), cmocka_unit_test(test_order),
                                       cmocka_unit_test(test_refusals), cmocka_unit_test(test_cpu)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
