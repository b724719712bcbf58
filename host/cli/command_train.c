/* command_train.c - `flat unlearn` and `flat finetune`: one run from a config to a saved model. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../io/json.h"
#include "../train/run_log.h"
#include "../util/clock.h"
#include "../util/file.h"
#include "../util/progress.h"
#include "commands.h"

struct training {
    struct invocation *run;
    struct trainer trainer;
    struct run_log log;
    struct progress progress;
    struct profile profile;
};

static void training_warn(void *user, const char *text)
{
    struct training *training = user;
    log_warning(&training->run->log, "%s", text);
}

/* output_dir/checkpoint-<step>: the model as it is now, in a folder of its own. */
static int checkpoint_save(struct training *training, int64_t step, struct error *error)
{
    char name[64], path[4096];
    snprintf(name, sizeof name, "checkpoint-%lld", (long long)step);
    int status = file_join(path, sizeof path, training->run->line.settings.output_dir, name, error);
    return status ? status : trainer_save(&training->trainer, path, error);
}

static int training_step(void *user, const struct step_record *record, struct error *error)
{
    struct training *training = user;
    const struct settings *settings = &training->run->line.settings;
    bool keep = record->step % settings->logging_steps == 0 || record->step == record->total_steps;
    const double rate = record->seconds > 0 ? (double)record->tokens / record->seconds : 0;
    const struct progress_metric flat[] = {{"loss", record->loss, NULL},
                                           {"P(template)", record->prob_template, NULL},
                                           {"P(forget)", record->prob_answer, NULL},
                                           {NULL, rate, "tok/s"}};
    const struct progress_metric plain[] = {{"loss", record->loss, NULL},
                                            {"P(answer)", record->prob_answer, NULL},
                                            {NULL, rate, "tok/s"}};
    if (training->trainer.method->needs_template)
        progress_step(&training->progress, record->step, flat, sizeof flat / sizeof *flat);
    else
        progress_step(&training->progress, record->step, plain, sizeof plain / sizeof *plain);
    int status = keep ? run_log_step(&training->log, &training->trainer, record, true, error) : STATUS_OK;
    bool epoch_ends = record->step % training->trainer.steps_per_epoch == 0 && record->step < record->total_steps;
    if (!status && epoch_ends && !strcmp(settings->save_strategy, "epoch"))
        status = checkpoint_save(training, record->step, error);
    return status;
}

/* The output must be new, or its overwriting asked for; the model that is read must never be written over. */
static int output_check(const struct settings *settings, struct error *error)
{
    const bool lora = settings->lora_rank || *settings->adapter;
    const bool adapter_only = lora && !strcmp(settings->lora_output, "adapter");
    char from[4096], to[4096], config[4096], adapter[4096];
    if (!file_is_directory(settings->output_dir))
        return STATUS_OK;
    if (realpath(settings->model_name_or_path, from) && realpath(settings->output_dir, to) && !strcmp(from, to))
        return error_set(error, STATUS_USAGE, "output_dir: %s is the folder of the model itself; choose another",
                         settings->output_dir);
    int status = file_join(config, sizeof config, settings->output_dir, "config.json", error);
    if (!status)
        status = file_join(adapter, sizeof adapter, settings->output_dir, "adapter_config.json", error);
    if (status)
        return status;
    /* in one folder the two would be loaded on top of each other */
    if (file_exists(adapter_only ? config : adapter))
        return error_set(error, STATUS_USAGE, "output_dir: %s holds %s, and this run writes %s; choose another folder",
                         settings->output_dir, adapter_only ? "a whole model" : "a LoRA adapter",
                         adapter_only ? "a LoRA adapter" : "a whole model");
    if (file_exists(adapter_only ? adapter : config) && !settings->overwrite_output_dir)
        return error_set(error, STATUS_USAGE, "output_dir: %s holds %s already; choose another folder or add "
                         "--overwrite_output_dir", settings->output_dir, adapter_only ? "an adapter" : "a model");
    return STATUS_OK;
}

static int describe_run(struct training *training, struct error *error)
{
    struct buffer text = {0};
    cJSON *json = settings_to_json(&training->run->line, error);
    int status = json ? json_print(json, &text, error) : STATUS_MEMORY;
    cJSON_Delete(json);
    if (!status)
        status = run_log_describe(&training->log, &training->trainer, text.data, training->run->argc,
                                  training->run->argv, error);
    buffer_free(&text);
    return status;
}

static void announce(struct training *training)
{
    struct trainer *trainer = &training->trainer;
    struct device *device = &trainer->device;
    struct log *log = &training->run->log;
    struct buffer table = {0};
    if (!settings_print_table(&training->run->line, &table, NULL))
        log_info(log, "%s", table.data);
    buffer_free(&table);
    log_info(log, "%s: %s", device->engine->name, device->engine->describe(device->context));
    log_info(log, "%s, %lld parameters, %d rows, %lld steps", trainer->model.config.family->model_type,
             (long long)trainer->model.elements, trainer->examples.data.rows, (long long)trainer->total_steps);
    if (trainer->model.lora.modules)
        log_info(log, "LoRA: %lld parameters of %d modules are trained, the model is frozen",
                 (long long)trainer->model.lora.elements, trainer->model.lora.modules);
    if (trainer->examples.max_length < training->run->line.settings.max_length)
        log_info(log, "max_length is %lld here: the model has no more positions", (long long)trainer->examples.max_length);
    if (trainer->examples.cut)
        log_warning(log, "%lld of %lld sequences were cut at max_length %lld", (long long)trainer->examples.cut,
                    (long long)(trainer->epochs * trainer->examples.data.rows * (trainer->method->needs_template ? 2 : 1)),
                    (long long)trainer->examples.max_length);
}

int command_train(struct invocation *run, bool finetune, struct error *error)
{
    const struct settings *settings = &run->line.settings;
    struct training training = {.run = run};
    double start = clock_seconds();
    int status = output_check(settings, error);
    if (status)
        return status;
    struct device device; /* opened first: the memory that a run needs depends on what it stores */
    status = device_open(&device, settings->device, 0, (int)settings->threads, error);
    if (status)
        return status;
    status = trainer_prepare(&training.trainer, settings, finetune, device.engine->dtype,
                             &(struct world){NULL, 0, 1, 1}, error);
    if (status) {
        device_close(&device);
        return status;
    }
    status = trainer_start(&training.trainer, &device, error);
    if (!status)
        status = run_log_open(&training.log, settings->output_dir, error);
    if (!status)
        status = describe_run(&training, error);
    if (!status) {
        announce(&training);
        if (settings->profile)
            status = profile_attach(&training.profile, &training.trainer.device, error);
    }
    if (!status) {
        progress_begin(&training.progress, &run->log, finetune ? "finetune" : "unlearn", 0, training.trainer.total_steps,
                       settings->logging_steps);
        status = trainer_run(&training.trainer, training_step, &training, training_warn, error);
        progress_end(&training.progress);
        if (settings->profile)
            profile_print(&training.profile, stderr);
    }
    if (!status)
        status = trainer_save(&training.trainer, settings->output_dir, error);
    if (!status)
        status = run_log_finish(&training.log, &training.trainer, clock_seconds() - start, error);
    if (!status)
        log_info(&run->log, "saved %s in %.1f s%s", settings->output_dir, clock_seconds() - start,
                 training.trainer.nonfinite ? "; some steps were skipped, see the warnings" : "");
    run_log_close(&training.log);
    trainer_free(&training.trainer);
    return status;
}
