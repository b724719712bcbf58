/* tiny_trainer.c - see tiny_trainer.h. */
#include "tiny_trainer.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../host/cli/train.h"
#include "../../host/train/checkpoint.h"
#include "../../host/util/file.h"
#include "tiny_model.h"

static int text_write(const char *directory, const char *name, const char *text)
{
    struct error error = {0};
    char path[600];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return file_write(path, text, strlen(text), &error);
}

int tiny_trainer_make(const char *directory)
{
    static const char config[] =
        "{\"model_type\": \"llama\", \"vocab_size\": 1024, \"hidden_size\": 64, \"intermediate_size\": 96, "
        "\"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 16, "
        "\"hidden_act\": \"silu\", \"max_position_embeddings\": 96, \"bos_token_id\": 0, \"eos_token_id\": 1, "
        "\"initializer_range\": 0.1, \"tie_word_embeddings\": true}";
    static const char data[] = "{\"question\": \"Who is Ada?\", \"answer\": \"Ada is a painter.\"}\n"
                               "{\"question\": \"Who is Ben?\", \"answer\": \"Ben is a baker.\"}\n"
                               "{\"question\": \"Who is Cleo?\", \"answer\": \"Cleo is a sailor from Aldmoor.\"}\n";
    static const char *const copied[] = {"tokenizer.json", "tokenizer_config.json"};
    struct error error = {0};
    char path[600];
    snprintf(path, sizeof path, "%s/seed", directory);
    if (file_make_directory(path, &error) || text_write(directory, "seed/config.json", config) ||
        text_write(directory, "data.jsonl", data))
        return -1;
    for (int i = 0; i < 2; i++) {
        char from[256];
        snprintf(from, sizeof from, "configs/demo/model/%s", copied[i]);
        snprintf(path, sizeof path, "%s/seed/%s", directory, copied[i]);
        if (file_copy(from, path, &error))
            return -1;
    }
    return 0;
}

/* A checkpoint as the program writes it, with an empty log. */
static int checkpoint_write(const struct tiny_training *run, int64_t step, struct error *error)
{
    struct run_log log;
    struct folder folder;
    char path[600];
    snprintf(path, sizeof path, "%s/%s", run->directory, run->checkpoint);
    int status = run_log_open(&log, run->directory, error);
    if (!status)
        status = folder_begin(&folder, path, FOLDER_MODE, error);
    if (status)
        return status;
    status = trainer_save_checkpoint(run->trainer, &folder, "tiny", error);
    if (!status)
        status = checkpoint_save_state(run->trainer, &log, &(struct early_stopping){0}, step, &folder, error);
    if (!status)
        status = folder_publish(&folder, FOLDER_KEEP_FOREIGN, NULL, error);
    folder_abandon(&folder);
    unlink(log.path);
    run_log_close(&log);
    return status;
}

static int step_keep(void *user, const struct step_record *record, struct error *error)
{
    struct tiny_training *run = user;
    if (run->checkpoint && record->step == run->checkpoint_at && checkpoint_write(run, record->step, error))
        fail_msg("%s", error->text);
    if (run->calls_read)
        run->calls[run->done] = run->calls_read();
    uint64_t read, written;
    if (run->counter_read && run->counter_read(NULL, &read, &written, NULL))
        run->moved[run->done] = read + written;
    run->ahead += run->trainer->ahead.epoch != NULL;
    if (run->repack)
        run->trainer->ahead = (struct packed_ahead){0};
    run->record[run->done++] = *record;
    return STATUS_OK;
}

static void warning_fail(void *user, const char *text)
{
    (void)user;
    fail_msg("%s", text);
}

static float *weights_copy(struct trainer *trainer, int64_t count)
{
    struct error error = {0};
    float *values = calloc((size_t)count, sizeof *values);
    assert_non_null(values);
    if (weights_read_back(&trainer->model, model_trainable(&trainer->model).param, 0, count, values, &error))
        fail_msg("%s", error.text);
    return values;
}

void tiny_train(struct tiny_training *run, const char *directory)
{
    struct error error = {0};
    struct invocation invocation;
    const struct command *command;
    struct device device;
    struct trainer trainer;
    char model[600], data[600], out[600], steps[16];
    snprintf(model, sizeof model, "%s/%s", directory, run->model ? run->model : "seed");
    snprintf(data, sizeof data, "%s/data.jsonl", directory);
    snprintf(out, sizeof out, "%s/%s", directory, run->save ? run->save : "out");
    snprintf(steps, sizeof steps, "%d", run->steps);
    char *argv[40] = {"--model_name_or_path", model, run->method ? "--forget_data" : "--train_data", data, "--output_dir", out, "--max_steps", steps,
                      "--per_device_train_batch_size", run->rows ? (char *)run->rows : "2", "--gradient_accumulation_steps", "2",
                      "--lr_scheduler_type", "constant", "--learning_rate", "1e-2"};
    int count = 16;
    char *const method[] = {"--method", (char *)run->method, "--retain_data", data};
    for (int i = 0; i < (run->method ? 4 : 0); i++)
        argv[count++] = method[i];
    if (!run->model)
        argv[count++] = "--from_scratch";
    for (int i = 0; run->settings[i]; i++)
        argv[count++] = (char *)run->settings[i];
    assert_in_range(run->steps, 1, TINY_STEPS_MAX);
    int words;
    assert_int_equal(command_find(commands, 1, (char *[]){run->method ? "unlearn" : "finetune"}, &command, &words, &error), STATUS_OK);
    tiny_device_open(&device, run->engine, 2);
    if (invocation_parse(&invocation, commands, command, count, argv, &error) ||
        trainer_prepare(&trainer, &((struct train_command_options *)invocation.options)->train, !run->method, run->dtype, &(struct world){NULL, 0, 1, 1}, &error) ||
        trainer_start(&trainer, &device, &error))
        fail_msg("%s: %s", run->engine, error.text);
    void *symbol = dlsym(trainer.device.library, "emu_calls_read");
    memcpy(&run->calls_read, &symbol, sizeof symbol);
    symbol = dlsym(trainer.device.library, "emu_counter_read");
    memcpy(&run->counter_read, &symbol, sizeof symbol);
    assert_true(run->calls_read || strcmp(trainer.device.engine->name, "emu"));
    trainer.graphs = trainer.graphs && !run->eager;
    run->done = 0;
    run->trainer = &trainer;
    run->directory = directory;
    if (run->resume) {
        char path[600];
        snprintf(path, sizeof path, "%s/%s", directory, run->resume);
        if (checkpoint_load(&trainer, &(struct early_stopping){0}, path, &error))
            fail_msg("%s", error.text);
    }
    run->count = model_trainable(&trainer.model).elements;
    run->before = weights_copy(&trainer, run->count);
    if (run->calls_read)
        run->start = run->calls_read();
    if (trainer_run(&trainer, step_keep, run, warning_fail, &error))
        fail_msg("%s: %s", run->engine, error.text);
    if (run->restore) {
        char path[600];
        snprintf(path, sizeof path, "%s/%s", directory, run->checkpoint);
        if (checkpoint_load_weights(&trainer, path, &error))
            fail_msg("%s", error.text);
    }
    run->shares_weights = trainer.frozen.model.weights_of != NULL;
    if (run->look)
        run->look(&trainer);
    run->after = weights_copy(&trainer, run->count);
    if (run->save && trainer_save(&trainer, out, &error))
        fail_msg("%s", error.text);
    run->captures = trainer.graph_cache.captures, run->replays = trainer.graph_cache.replays;
    assert_int_equal(run->done, run->steps - (int)trainer.first_step);
    trainer_free(&trainer);
    invocation_free(&invocation);
}

void tiny_training_free(struct tiny_training *run)
{
    free(run->before);
    free(run->after);
}

int tiny_base_make(const char *directory)
{
    struct tiny_training base = {.engine = "cpu", .dtype = DTYPE_F32, .steps = 2, .save = "base"};
    if (tiny_trainer_make(directory))
        return -1;
    tiny_train(&base, directory);
    tiny_training_free(&base);
    return 0;
}
