/* test_offload.c - moments and masters in the host's memory: the bits of a run that has them on the device, in every kind of states,
 * with graphs, adapters and layers that are left out, through checkpoints from one to the other, and with copies that run late and
 * beside the rest in any order that events allow; the bytes that the device has less; the copies of a step, and that it waits for none
 * of them; what is refused. Over ranks: test_ranks.c.
 */
#include "../support/temporary.h"

#include <dlfcn.h>

#include "../support/assert_ok.h"
#include "../support/program.h"
#include "../support/tiny_model.h"
#include "../support/tiny_trainer.h"

enum { SEEDS = 1 };

static struct device kept;

static int make(void **state)
{
    tiny_device_open(&kept, "emu", 1);
    return temporary_make(state) || tiny_base_make(temporary) ? -1 : 0;
}

static int end(void **state)
{
    device_close(&kept);
    return temporary_remove(state);
}

static size_t optimizer_memory, host_memory;
static uint64_t chunks;

static uint64_t chunks_of(int64_t elements, int64_t chunk)
{
    return chunk ? (uint64_t)((elements + chunk - 1) / chunk) : 0;
}

static void memory_look(struct trainer *trainer)
{
    const struct model_trainable trained = model_trainable(&trainer->model);
    chunks = chunks_of(trained.decayed, trainer->offload.chunk) + chunks_of(trained.elements - trained.decayed, trainer->offload.chunk);
    optimizer_memory = trainer->model.plan.bytes[MEMORY_OPTIMIZER];
    host_memory = trainer->offload.bytes;
}

/* Streams in the order of the calls (seed 0), or late and interleaved by the seed. A library that stays open keeps this. */
static void schedule_set(uint64_t seed)
{
    void (*async)(int), (*schedule)(uint64_t);
    *(void **)&async = dlsym(kept.library, "emu_async_set");
    *(void **)&schedule = dlsym(kept.library, "emu_seed_set");
    if (async && schedule) /* a GPU has an order of its own */
        async(seed != 0), schedule(seed);
}

static void check(enum dtype dtype, const char *states, const char *method, const char *option, const char *value)
{
    struct tiny_training device = {.engine = "emu", .dtype = dtype, .steps = 4, .method = method, .model = "base", .look = memory_look,
                                   .settings = {"--optimizer_states", states, "--offload_optimizer", "none", option, value}};
    tiny_train(&device, temporary);
    const size_t whole = optimizer_memory;
    assert_int_equal(host_memory, 0);
    for (uint64_t seed = 0; seed <= SEEDS; seed++) {
        struct tiny_training host = device;
        host.settings[3] = "cpu";
        schedule_set(seed);
        tiny_train(&host, temporary);
        schedule_set(0);
        assert_true(host_memory >= whole - 4096 && optimizer_memory < whole / 4);
        for (int i = 0; i < device.steps; i++)
            assert_true(device.record[i].loss == host.record[i].loss && device.record[i].grad_norm == host.record[i].grad_norm);
        assert_memory_equal(device.after, host.after, (size_t)host.count * sizeof *host.after);
        tiny_training_free(&host);
    }
    tiny_training_free(&device);
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

/* Each chunk of each array comes in once and goes out once, and the host waits for none of it. Of all these bytes little more than
 * those of one direction have to wait for one another. */
static void check_counts(const char *states, int arrays, double bytes)
{
    struct tiny_training run = {.engine = "emu", .dtype = DTYPE_BF16, .steps = 4, .look = memory_look,
                                .settings = {"--optimizer_states", states, "--offload_optimizer", "none"}};
    struct emu_calls calls[2];
    for (int i = 0; i < 2; i++) {
        run.settings[3] = i ? "cpu" : "none";
        tiny_train(&run, temporary);
        tiny_training_free(&run);
        calls[i] = run.calls[3];
        if (!run.calls_read)
            skip();
        calls[i].waits -= run.calls[2].waits, calls[i].copies -= run.calls[2].copies, calls[i].copied -= run.calls[2].copied;
        calls[i].allocations -= run.calls[2].allocations, calls[i].path -= run.calls[2].path;
    }
    assert_int_equal(calls[1].waits, calls[0].waits);
    assert_int_equal(calls[1].allocations, calls[0].allocations);
    assert_int_equal(calls[1].copies - calls[0].copies, 2 * (uint64_t)arrays * chunks);
    assert_true(chunks > 8 && (double)(calls[1].copied - calls[0].copied) == 2 * bytes * (double)run.count);
    const double path = (double)(calls[1].path - calls[0].path) / (double)(calls[1].copied - calls[0].copied);
    print_message("%s: %g copies of %g bytes per step, %.3f of them one after the other, no wait\n", states,
                  (double)(calls[1].copies - calls[0].copies), (double)(calls[1].copied - calls[0].copied), path);
    assert_true(path > 0.5 && path < 0.6);
}

static void test_counts(void **state)
{
    (void)state;
    check_counts("float32", 3, 2 + 4 + 4);
    check_counts("bfloat16", 3, 2 + 2 + 2);
    check_counts("8bit", 5, 2 + 1 + 1 + 2 * 4 / 256.0);
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
    schedule_set(1);
    tiny_train(&host, temporary);
    for (int i = 0; i < 2; i++) {
        struct tiny_training rest = i ? host : device;
        rest.checkpoint = NULL, rest.resume = i ? "of-device" : "of-host";
        tiny_train(&rest, temporary);
        assert_memory_equal(device.after, rest.after, (size_t)device.count * sizeof *device.after);
        tiny_training_free(&rest);
    }
    schedule_set(0);
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_bits), cmocka_unit_test(test_counts), cmocka_unit_test(test_resumed),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, make, end);
}
