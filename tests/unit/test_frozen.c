/* test_frozen.c - the reference model beside a trained one stays the model that the run started from: a copy of the weights, the
 * frozen base of adapters without a copy, a copy of the adapter that a run goes on from. Its logits after a few steps are those
 * of the model as it is read from its folder, bit for bit.
 */
#include "../support/temporary.h"

#include <string.h>

#include "../support/assert_ok.h"
#include "../support/tiny_trainer.h"

static int make(void **state)
{
    if (temporary_make(state) || tiny_base_make(temporary))
        return -1;
    struct tiny_training adapter = {.engine = "cpu", .dtype = DTYPE_F32, .steps = 2, .model = "base", .save = "adapter",
                                    .settings = {"--lora.r", "2", "--lora.output", "adapter"}};
    tiny_train(&adapter, temporary);
    tiny_training_free(&adapter);
    return 0;
}

static char *logits_read(struct trainer *trainer, const struct model *model, size_t *bytes)
{
    struct error error = {0};
    *bytes = (size_t)trainer->frozen.batch.real_targets * (size_t)model->config.vocab_size * dtype_size(model->logits_dtype);
    char *logits = malloc(*bytes);
    assert_non_null(logits);
    OK(device_copy_out(&trainer->device, logits, model->head.logits, *bytes, &error));
    return logits;
}

/* The logits of the model as its folder and the adapter's have it, over the frozen model's batch. */
static char *start_run(struct trainer *trainer, size_t *bytes)
{
    struct error error = {0};
    const struct frozen *frozen = &trainer->frozen;
    struct model start;
    OK(model_create(&start, &trainer->model.config, trainer->model.dtype, &error));
    if (trainer->adapter.lora.options.rank)
        OK(lora_create(&start.lora, &start, &trainer->adapter.lora.options, &error));
    OK(model_plan(&start, false, frozen->max_rows, frozen->max_targets, frozen->max_sequences, &error));
    OK(model_allocate(&start, &trainer->device, &error));
    OK(weights_load(&trainer->weights, &start, &error));
    if (start.lora.modules)
        OK(adapter_upload(&trainer->adapter, &start, &error));
    OK(model_forward_logits(&start, &frozen->batch, NULL, NULL, &error));
    char *logits = logits_read(trainer, &start, bytes);
    model_free(&start);
    return logits;
}

static void compare(struct trainer *trainer)
{
    struct error error = {0};
    struct epoch epoch;
    size_t bytes, same_bytes;
    OK(epoch_build(&epoch, &trainer->examples, 0, &error));
    OK(micro_batch_pack(trainer, &epoch, 0, 2, &error));
    OK(frozen_pack(trainer, &epoch, 0, 2, &error));
    OK(model_forward_logits(&trainer->frozen.model, &trainer->frozen.batch, NULL, NULL, &error));
    char *got = logits_read(trainer, &trainer->frozen.model, &bytes), *expected = start_run(trainer, &same_bytes);
    assert_int_equal(bytes, same_bytes);
    assert_true(bytes > 0);
    assert_memory_equal(got, expected, bytes);
    free(got), free(expected);
    epoch_free(&epoch);
}

static void check(const char *engine, const char *method, const char *setting, const char *value, bool shares)
{
    struct tiny_training run = {.engine = engine, .dtype = DTYPE_F32, .steps = 3, .method = method, .model = "base",
                                .settings = {"--retain_choice", "cycle", setting, value}, .look = compare};
    tiny_train(&run, temporary);
    assert_int_equal(run.shares_weights, shares);
    assert_memory_not_equal(run.before, run.after, (size_t)run.count * sizeof *run.after);
    tiny_training_free(&run);
}

static void test_copy(void **state)
{
    (void)state;
    check("cpu", "kl_min", NULL, NULL, false);
    check("emu", "kl_min", NULL, NULL, false);
}

static void test_base(void **state)
{
    (void)state;
    check("cpu", "kl_min", "--lora.r", "2", true);
}

static void test_adapter(void **state)
{
    (void)state;
    char adapter[600];
    snprintf(adapter, sizeof adapter, "%s/adapter", temporary);
    check("cpu", "kl_min", "--adapter", adapter, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_copy), cmocka_unit_test(test_base),
                                       cmocka_unit_test(test_adapter)};
    return cmocka_run_group_tests(tests, make, temporary_remove);
}
