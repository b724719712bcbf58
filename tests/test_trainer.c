/* test_trainer.c - the trainer on the CUDA engine (emulated, bf16 with float master weights) against the CPU engine, from
 * one seed: the same road from a config to losses and weights.
 */
#include "temporary.h"

#include <dlfcn.h>
#include <math.h>

#include "../host/cli/settings.h"
#include "../host/train/trainer.h"
#include "../host/util/file.h"
#include "emulation/emulation_control.h"

enum { STEPS = 6 };

static int make_seed(void **state)
{
    static const char config[] =
        "{\"model_type\": \"llama\", \"vocab_size\": 1024, \"hidden_size\": 64, \"intermediate_size\": 96, "
        "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 16, "
        "\"hidden_act\": \"silu\", \"max_position_embeddings\": 96, \"bos_token_id\": 0, \"eos_token_id\": 1, "
        "\"initializer_range\": 0.1, \"tie_word_embeddings\": true}";
    struct error error = {0};
    if (temporary_make(state) || file_make_directory(temporary_path("seed"), &error))
        return -1;
    temporary_file("seed/config.json", config, strlen(config));
    static const char *const file[] = {"tokenizer.json", "tokenizer_config.json"};
    for (int i = 0; i < 2; i++) {
        char from[256], to[600];
        snprintf(from, sizeof from, "configs/demo/model/%s", file[i]);
        snprintf(to, sizeof to, "%s/seed/%s", temporary, file[i]);
        if (file_copy(from, to, &error))
            return -1;
    }
    static const char data[] = "{\"question\": \"Who is Ada?\", \"answer\": \"Ada is a painter.\"}\n"
                               "{\"question\": \"Who is Ben?\", \"answer\": \"Ben is a baker.\"}\n"
                               "{\"question\": \"Who is Cleo?\", \"answer\": \"Cleo is a sailor from Aldmoor.\"}\n";
    temporary_file("data.jsonl", data, strlen(data));
    return 0;
}

struct losses {
    double loss[STEPS], norm[STEPS];
    int count;
    struct emu_calls (*calls_read)(void); /* NULL outside the emulation */
    struct emu_calls calls[STEPS];        /* at the end of each step */
};

static int keep(void *user, const struct step_record *record, struct error *error)
{
    (void)error;
    struct losses *losses = user;
    if (losses->calls_read)
        losses->calls[losses->count] = losses->calls_read();
    losses->loss[losses->count] = record->loss;
    losses->norm[losses->count++] = record->grad_norm;
    return STATUS_OK;
}

static void no_warning(void *user, const char *text)
{
    (void)user;
    fail_msg("%s", text);
}

/* Trains from scratch on a device; the trainable weights before and after, as float. */
static void train(const char *engine, const char *rate, struct losses *losses, float **before, float **after,
                  int64_t *count)
{
    struct error error = {0};
    struct command_line line;
    const struct command *command;
    struct device device;
    struct trainer trainer;
    char model[600], data[600], out[600];
    snprintf(model, sizeof model, "%s/seed", temporary);
    snprintf(data, sizeof data, "%s/data.jsonl", temporary);
    snprintf(out, sizeof out, "%s/out", temporary);
    char *argv[] = {"--model_name_or_path", model, "--train_data", data, "--output_dir", out, "--from_scratch",
                    "--learning_rate", (char *)rate, "--max_steps", "6", "--per_device_train_batch_size", "2",
                    "--gradient_accumulation_steps", "2", "--lr_scheduler_type", "constant"};
    assert_int_equal(command_find("finetune", &command, &error), STATUS_OK);
    if (settings_parse(&line, command, (int)(sizeof argv / sizeof *argv), argv, &error) ||
        device_open(&device, engine, 0, 2, &error) ||
        trainer_prepare(&trainer, &line.settings, true, device.engine->dtype, &(struct world){NULL, 0, 1, 1}, &error) ||
        trainer_start(&trainer, &device, &error))
        fail_msg("%s: %s", engine, error.text);
    *count = model_trainable(&trainer.model).elements;
    *before = calloc((size_t)*count, sizeof(float));
    *after = calloc((size_t)*count, sizeof(float));
    assert_true(*before && *after);
    *losses = (struct losses){0};
    void *symbol = dlsym(trainer.device.library, "emu_calls_read");
    memcpy(&losses->calls_read, &symbol, sizeof symbol);
    int status = weights_read_back(&trainer.model, model_trainable(&trainer.model).param, 0, *count, *before, &error);
    if (!status)
        status = trainer_run(&trainer, keep, losses, no_warning, &error);
    if (!status)
        status = weights_read_back(&trainer.model, model_trainable(&trainer.model).param, 0, *count, *after, &error);
    if (status)
        fail_msg("%s: %s", engine, error.text);
    assert_int_equal(losses->count, STEPS);
    trainer_free(&trainer);
    settings_free(&line);
}

/* bf16 rounds activations and gradients at every op (2 to 3 digits): losses within 2 %. */
static void test_losses(void **state)
{
    (void)state;
    struct losses cpu, emu;
    float *before[2], *after[2];
    int64_t count[2];
    train("cpu", "1e-2", &cpu, &before[0], &after[0], &count[0]);
    train("emu", "1e-2", &emu, &before[1], &after[1], &count[1]);
    for (int i = 0; i < STEPS; i++) {
        if (!(fabs(emu.loss[i] - cpu.loss[i]) <= 0.02 * fabs(cpu.loss[i])))
            fail_msg("step %d: loss %.6g on emu, %.6g on cpu", i + 1, emu.loss[i], cpu.loss[i]);
        if (!(fabs(emu.norm[i] - cpu.norm[i]) <= 0.05 * cpu.norm[i]))
            fail_msg("step %d: gradient norm %.6g on emu, %.6g on cpu", i + 1, emu.norm[i], cpu.norm[i]);
    }
    assert_true(cpu.loss[STEPS - 1] < 0.8 * cpu.loss[0]);
    /* after the first step nothing is allocated, and a step waits once: for its record */
    assert_non_null(emu.calls_read);
    for (int i = 1; i < STEPS; i++) {
        assert_int_equal(emu.calls[i].allocations, emu.calls[i - 1].allocations);
        assert_int_equal(emu.calls[i].waits, emu.calls[i - 1].waits + 1);
    }
    for (int i = 0; i < 2; i++)
        free(before[i]), free(after[i]);
}

/* Six updates of 1e-7: less than a bf16 weight's spacing, but the master weights keep them. */
static void test_small_updates_are_kept(void **state)
{
    (void)state;
    struct losses losses;
    float *before, *after;
    int64_t count, moved = 0;
    double sum = 0;
    train("emu", "1e-7", &losses, &before, &after, &count);
    for (int64_t i = 0; i < count; i++) {
        double change = fabs((double)after[i] - before[i]);
        assert_true(change <= 6e-7 * 1.1 + 6 * 0x1p-24 * fabs(before[i])); /* six updates, and their roundings */
        moved += change > 0;
        sum += change;
    }
    assert_true(moved > count * 9 / 10);
    assert_true(sum / (double)moved > 4e-7);
    free(before), free(after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_losses),
        cmocka_unit_test(test_small_updates_are_kept),
    };
    return cmocka_run_group_tests(tests, make_seed, temporary_remove);
}
