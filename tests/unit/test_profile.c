/* test_profile.c - a profile counts every op once and gives each its time, and does not hold the device up. */
#include "../support/temporary.h"

#include <dlfcn.h>

#include "../../kernels/loss_function.h"
#include "../emulation/emulation_control.h"
#include "../support/tiny_model.h"

enum { STEPS = 8, LAYERS = 3 };

static void check(const char *engine)
{
    struct tiny tiny;
    struct error error = {0};
    struct profile profile;
    struct emu_calls (*calls_read)(void);
    int64_t ops = 0;
    tiny_config(temporary, "");
    tiny_open(&tiny, temporary, engine, 2, true, 4);
    void *symbol = dlsym(tiny.device.library, "emu_calls_read");
    memcpy(&calls_read, &symbol, sizeof symbol);
    tiny_step(&tiny, DIVERGENCE_kl); /* whatever a first step allocates */
    assert_int_equal(profile_attach(&profile, &tiny.device, &error), STATUS_OK);
    for (int step = 0; step < STEPS; step++) {
        const uint64_t waits = calls_read ? calls_read().waits : 0;
        tiny_step(&tiny, DIVERGENCE_kl);
        if (calls_read && step == 0) /* the step's own, to read its totals */
            assert_int_equal(calls_read().waits, waits + 1);
    }
    assert_int_equal(profile_finish(&profile, &tiny.device, &error), STATUS_OK);
    for (int op = 0; op < ENGINE_OP_COUNT; op++) {
        const struct profile_row *row = &profile.row[op];
        assert_int_equal(row->calls % STEPS, 0);
        assert_true(row->calls ? row->seconds > 0 : row->seconds == 0);
        ops += row->calls;
    }
    assert_true(ops > PROFILE_PENDING); /* or the marks were not used twice */
    assert_int_equal(profile.row[ENGINE_OP_attention_forward].calls, LAYERS * STEPS);
    assert_int_equal(profile.row[ENGINE_OP_attention_backward].calls, LAYERS * STEPS);
    assert_int_equal(profile.row[ENGINE_OP_sequence_loss].calls, STEPS);
    assert_true(profile.row[ENGINE_OP_linear_forward].flops > 0);
    tiny.device.profile = NULL;
    tiny_close(&tiny);
}

static void test_cpu(void **state)
{
    (void)state;
    check("cpu");
}

static void test_cuda(void **state)
{
    (void)state;
    check("emu-f32");
}

/* A plan on a GPU leaves a gigabyte for what is allocated later. */
static void test_reserve(void **state)
{
    (void)state;
    struct device device;
    struct error error = {0};
    size_t available;
    tiny_device_open(&device, "emu-f32", 1);
    assert_int_equal(device.engine->memory_free(device.context, &available), OP_OK);
    struct memory_plan plan = {0};
    assert_int_equal(memory_plan_add(&plan, MEMORY_PARAM, "all", (int64_t)(available - ((size_t)1 << 29)), 1, NULL, &error), STATUS_OK);
    assert_int_equal(memory_plan_commit(&plan, &device, &error), STATUS_MEMORY);
    assert_non_null(strstr(error.text, "are free beside what CUDA's libraries take"));
    memory_plan_free(&plan, &device);
    device_close(&device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cpu), cmocka_unit_test(test_cuda), cmocka_unit_test(test_reserve)};
    return cmocka_run_group_tests(tests, temporary_make, temporary_remove);
}
