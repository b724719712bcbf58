/* test_offload.c - moments and masters in the host's memory: the bits of a run that has them on the device, in every kind of states,
 * with graphs, adapters and layers that are left out, and through checkpoints from one to the other; the bytes that the device has less;
 * what is refused. Over ranks: test_ranks.c.
 */
#include "../support/temporary.h"

#include "../support/assert_ok.h"
#include "../support/program.h"
#include "../support/tiny_trainer.h"

static int make(void **state)
{
    return temporary_make(state) || tiny_base_make(temporary) ? -1 : 0;
}

static size_t optimizer_memory, host_memory;

static void memory_look(struct trainer *trainer)
{
    optimizer_memory = trainer->model.plan.bytes[MEMORY_OPTIMIZER];
    host_memory = trainer->offload.bytes;
}

static void check(enum dtype dtype, const char *states, const char *method, const char *option, const char *value)
{
    struct tiny_training device = {.engine = "emu", .dtype = dtype, .steps = 4, .method = method, .model = "base", .look = memory_look,
                                   .settings = {"--optimizer_states", states, "--offload_optimizer", "none", option, value}};
    struct tiny_training host = device;
    host.settings[3] = "cpu";
    tiny_train(&device, temporary);
    const size_t whole = optimizer_memory;
    assert_int_equal(host_memory, 0);
    tiny_train(&host, temporary);
    assert_true(host_memory >= whole - 4096 && optimizer_memory < whole / 4);
    for (int i = 0; i < device.steps; i++)
        assert_true(device.record[i].loss == host.record[i].loss && device.record[i].grad_norm == host.record[i].grad_norm);
    assert_memory_equal(device.after, host.after, (size_t)host.count * sizeof *host.after);
    tiny_training_free(&device), tiny_training_free(&host);
}

static void test_same_bits(void **state)
{
    (void)state;
    static const char *const states[] = {"float32", "bfloat16", "8bit"};
    for (int i = 0; i < 3; i++) {
        check(DTYPE_F32, states[i], NULL, NULL, NULL);
        check(DTYPE_BF16, states[i], NULL, NULL, NULL);
    }
    check(DTYPE_BF16, "bfloat16", NULL, "--cuda_graphs", "true");
    check(DTYPE_BF16, "float32", NULL, "--lora.r", "4");
    check(DTYPE_BF16, "float32", "rmu", "--layer", "0");
}

/* A checkpoint of either kind goes on as the other. */
static void test_resumed(void **state)
{
    (void)state;
    struct tiny_training device = {.engine = "emu", .dtype = DTYPE_BF16, .steps = 4, .checkpoint = "of-device", .checkpoint_at = 2,
                                   .settings = {"--optimizer_states", "8bit", "--offload_optimizer", "none"}};
    struct tiny_training host = device;
    host.settings[3] = "cpu", host.checkpoint = "of-host";
    tiny_train(&device, temporary);
    tiny_train(&host, temporary);
    for (int i = 0; i < 2; i++) {
        struct tiny_training rest = i ? host : device;
        rest.checkpoint = NULL, rest.resume = i ? "of-device" : "of-host";
        tiny_train(&rest, temporary);
        assert_memory_equal(device.after, rest.after, (size_t)device.count * sizeof *device.after);
        tiny_training_free(&rest);
    }
    tiny_training_free(&device), tiny_training_free(&host);
}

static void test_refused(void **state)
{
    (void)state;
    struct program_result result = program_line("finetune --model %s/base --train_data %s/data.jsonl --output_dir %s/no --device cpu "
                                                "--offload_optimizer cpu", temporary, temporary, temporary);
    program_expect_error(&result, STATUS_USAGE, "offload_optimizer: the memory of device cpu is the host's");
    program_free(&result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_bits), cmocka_unit_test(test_resumed), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, make, temporary_remove);
}
