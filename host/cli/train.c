/* train.c - see train.h. */
#include "train.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../io/json/json.h"
#include "../train/agreement.h"
#include "../train/run_log.h"
#include "../train/schedule.h"
#include "../util/clock.h"
#include "../util/file.h"
#include "../util/interrupt.h"
#include "../util/progress.h"
#include "launcher.h"

struct training {
    struct invocation *run;
    const struct train_options *options;
    struct comm *comm;
    struct trainer trainer;
    struct run_log log;
    struct progress progress;
    struct profile profile;
};

static void training_warn(void *user, const char *text)
{
    struct training *training = user;
    if (training->comm)
        log_warning(&training->run->log, "rank %d: %s", comm_rank(training->comm), text);
    else
        log_warning(&training->run->log, "%s", text);
}

/* A failure of one rank becomes that of all. */
static int training_agree(const struct training *training, int status, struct error *error)
{
    return comm_agree(training->comm, status, error);
}

/* output_dir/checkpoint-<step>: the model as it is now, in a folder of its own. */
static int checkpoint_save(struct training *training, int64_t step, struct error *error)
{
    char name[64], path[4096];
    snprintf(name, sizeof name, "checkpoint-%lld", (long long)step);
    int status = file_join(path, sizeof path, training->options->output.output_dir, name, error);
    return status ? status : trainer_save(&training->trainer, path, error);
}

static void training_show(struct training *training, const struct step_record *record)
{
    const double rate = record->seconds > 0 ? (double)record->tokens / record->seconds : 0;
    const struct method *method = training->trainer.method;
    struct progress_metric metric[METHOD_LOGGED + 2] = {{"loss", record->loss, NULL}};
    int metrics = 1;
    for (int i = 0; i < METHOD_LOGGED && method->logged[i].key; i++)
        if (method->logged[i].label)
            metric[metrics++] = (struct progress_metric){method->logged[i].label, record->logged[i], NULL};
    metric[metrics++] = (struct progress_metric){NULL, rate, "tok/s"};
    progress_step(&training->progress, record->step, metric, metrics);
}

static int training_step(void *user, const struct step_record *record, struct error *error)
{
    struct training *training = user;
    const struct train_options *options = training->options;
    bool keep = record->step % options->output.logging_steps == 0 || record->step == record->total_steps;
    int status = STATUS_OK;
    if (!comm_rank(training->comm)) {
        training_show(training, record);
        status = keep ? run_log_step(&training->log, &training->trainer, record, true, error) : STATUS_OK;
    }
    bool epoch_ends = record->step % training->trainer.steps_per_epoch == 0 && record->step < record->total_steps;
    if (!epoch_ends || options->output.save_strategy != SAVE_EPOCH)
        return status;
    status = comm_agree(training->comm, status, error); /* saving takes all ranks */
    return status ? status : checkpoint_save(training, record->step, error);
}

/* The output must be new, or its overwriting asked for; the model that is read must never be written over. */
static int output_check(const struct train_options *options, struct error *error)
{
    const bool lora = options->lora.lora.rank || *options->model.adapter;
    const bool adapter_only = lora && options->lora.output == LORA_ADAPTER;
    char from[4096], to[4096], config[4096], adapter[4096];
    if (!file_exists(options->output.output_dir))
        return STATUS_OK;
    if (!file_is_directory(options->output.output_dir))
        return error_set(error, STATUS_USAGE, "output_dir: %s is a file; choose a folder", options->output.output_dir);
    if (realpath(options->model.model_name_or_path, from) && realpath(options->output.output_dir, to) && !strcmp(from, to))
        return error_set(error, STATUS_USAGE, "output_dir: %s is the folder of the model itself; choose another",
                         options->output.output_dir);
    int status = file_join(config, sizeof config, options->output.output_dir, "config.json", error);
    if (!status)
        status = file_join(adapter, sizeof adapter, options->output.output_dir, "adapter_config.json", error);
    if (status)
        return status;
    /* in one folder the two would be loaded on top of each other */
    if (file_exists(adapter_only ? config : adapter))
        return error_set(error, STATUS_USAGE, "output_dir: %s holds %s, and this run writes %s; choose another folder",
                         options->output.output_dir, adapter_only ? "a whole model" : "a LoRA adapter",
                         adapter_only ? "a LoRA adapter" : "a whole model");
    if (file_exists(adapter_only ? adapter : config) && !options->output.overwrite_output_dir)
        return error_set(error, STATUS_USAGE, "output_dir: %s holds %s already; choose another folder or add "
                         "--overwrite_output_dir", options->output.output_dir, adapter_only ? "an adapter" : "a model");
    return STATUS_OK;
}

static int describe_run(struct training *training, struct error *error)
{
    struct buffer text = {0};
    cJSON *json = invocation_json(training->run, error);
    int status = json ? json_print(json, &text, error) : STATUS_MEMORY;
    cJSON_Delete(json);
    if (!status)
        status = run_log_describe(&training->log, &training->trainer, text.data, training->run->argc,
                                  training->run->argv, error);
    buffer_free(&text);
    return status;
}

/* How the rows become text, and what was noticed of them. */
static void data_announce(const struct examples *examples, struct log *log)
{
    struct buffer prompt = {0};
    struct error unused;
    char line[400];
    if (!prompt_describe(&examples->prompt, &prompt, &unused))
        log_info(log, "%s", prompt.data);
    buffer_free(&prompt);
    if (examples->answers.count)
        log_info(log, "%d template answers, the first is \"%.200s\"", examples->answers.count, examples->answers.text[0]);
    for (int next = 0; example_counts_line(&examples->counts, &next, line, sizeof line);)
        log_warning(log, "%s", line);
}

/* Before anything is read: what was asked for, and that it is being looked for. */
static void announce_options(struct training *training)
{
    struct buffer table = {0};
    struct error unused = {0};
    struct log *log = &training->run->log;
    if (!option_set_print_values(&training->run->set, log->verbose, &table, &unused) && table.length)
        log_info(log, "%s", table.data);
    buffer_free(&table);
}

/* Once everything but the weights has been read. */
static void announce_run(struct training *training)
{
    struct trainer *trainer = &training->trainer;
    const struct train_options *options = training->options;
    struct log *log = &training->run->log;
    log_info(log, "%s, %lld parameters, %d rows, %lld steps, %.1f MiB of device memory",
             trainer->model.config.family->model_type, (long long)trainer->model.elements, trainer->examples.data.rows,
             (long long)trainer->total_steps, (double)memory_plan_total(&trainer->model.plan) / (1 << 20));
    for (int rank = 0; training->comm && rank < comm_size(training->comm); rank++)
        log_info(log, "%s", comm_describe(training->comm, rank));
    if (trainer->model.lora.modules)
        log_info(log, "LoRA: %lld parameters of %d modules are trained, the model is frozen",
                 (long long)trainer->model.lora.elements, trainer->model.lora.modules);
    if (options->schedule.lr_scheduler_type == SCHEDULE_CONSTANT &&
        schedule_warmup(&options->schedule, trainer->total_steps))
        log_warning(log, "warmup_steps: the schedule 'constant' has no warm-up; constant_with_warmup has");
    if (trainer->examples.max_length < options->examples.max_length)
        log_info(log, "max_length is %lld here: the model has no more positions, or a sliding window of that",
                 (long long)trainer->examples.max_length);
    data_announce(&trainer->examples, log);
    if (trainer->from_scratch)
        log_info(log, "drawing random weights");
    else
        log_info(log, "loading the weights of %s", options->model.model_name_or_path);
}

/* On a terminal; in a pipe the line before says enough. */
static void loading_show(void *user, int64_t pieces, int64_t of)
{
    struct training *training = user;
    if (!training->run->log.terminal)
        return;
    if (pieces == 1)
        progress_begin(&training->progress, &training->run->log, "loading", 0, of, of);
    progress_step(&training->progress, pieces, NULL, 0);
    if (pieces == of)
        progress_end(&training->progress);
}

/* The options that all ranks must have alike. */
static int options_shared(const struct training *training, struct buffer *text, struct error *error)
{
    cJSON *json = invocation_shared_json(training->run, error);
    int status = json ? json_print(json, text, error) : STATUS_MEMORY;
    cJSON_Delete(json);
    return status;
}

/* Meets the others, opens the device, reads everything but the weights, and makes sure that all have read the same. */
static int training_prepare(struct training *training, bool finetune, struct device *device, struct error *error)
{
    const struct train_options *options = training->options;
    struct rank_env env;
    struct buffer text = {0};
    int status = rank_env_read(&env, error);
    if (!status)
        status = comm_open(&training->comm, &env, error);
    if (status)
        return status;
    const int rank = comm_rank(training->comm);
    if (!rank)
        announce_options(training);
    if (training->comm && *options->trainer.dump_step)
        status = error_set(error, STATUS_USAGE, "dump_step: no one of several ranks has the whole gradient; use one");
    if (!status && !rank)
        status = output_check(options, error);
    if (!status) /* before the rest: the memory that a run needs depends on what the device stores */
        status = device_open_chosen(device, &options->device, rank_env_device(&env), error);
    status = training_agree(training, status, error);
    if (!status)
        status = comm_attach(training->comm, device, error);
    if (status)
        return status;
    if (!rank)
        log_info(&training->run->log, "%s: %s", device->engine->name, device->engine->describe(device->context));
    const struct world world = {training->comm, rank, comm_size(training->comm), env.local_size};
    status = trainer_prepare(&training->trainer, options, finetune, device->engine->dtype, &world, error);
    if (!status)
        status = options_shared(training, &text, error);
    status = training_agree(training, status, error);
    if (!status)
        status = agreement_check(&training->trainer, text.data, error);
    buffer_free(&text);
    return status;
}

/* Memory, weights, and the folder that rank 0 writes. */
static int training_start(struct training *training, struct device *device, struct error *error)
{
    const struct train_options *options = training->options;
    const bool writes = !comm_rank(training->comm);
    if (writes) {
        announce_run(training);
        training->trainer.weights.loaded = loading_show;
        training->trainer.weights.loaded_user = training;
    }
    int status = training_agree(training, trainer_start(&training->trainer, device, error), error);
    if (!status)
        status = agreement_check_weights(&training->trainer, error);
    if (status)
        return status;
    interrupt_catch(!training->comm); /* from the first file to the last: none is left half-written */
    if (writes)
        status = run_log_open(&training->log, options->output.output_dir, error);
    if (!status && writes)
        status = describe_run(training, error);
    if (writes && options->trainer.cuda_graphs && !training->trainer.graphs)
        log_warning(&training->run->log, "cuda_graphs: device %s has no graphs; the run goes on without",
                    training->trainer.device.engine->name);
    if (!status && options->trainer.profile)
        status = profile_attach(&training->profile, &training->trainer.device, error);
    return training_agree(training, status, error);
}

static int training_run(struct training *training, bool finetune, double start, struct error *error)
{
    const struct train_options *options = training->options;
    struct trainer *trainer = &training->trainer;
    const bool writes = !comm_rank(training->comm);
    if (writes)
        progress_begin(&training->progress, &training->run->log, finetune ? "finetune" : "unlearn", 0,
                       trainer->total_steps, options->output.logging_steps);
    if (writes && training->run->log.terminal) /* the first step may take long */
        progress_step(&training->progress, 0, NULL, 0);
    int status = trainer_run(trainer, training_step, training, training_warn, error);
    if (writes)
        progress_end(&training->progress);
    if (!status && options->trainer.profile)
        status = profile_finish(&training->profile, &trainer->device, error);
    if (writes && options->trainer.profile)
        profile_print(&training->profile, stderr);
    if (!status)
        status = trainer_save(trainer, options->output.output_dir, error);
    if (!trainer->aborted)
        status = comm_report_once(training->comm, status, error);
    if (status)
        return status;
    if (writes)
        status = run_log_finish(&training->log, trainer, clock_seconds() - start, error);
    status = training_agree(training, status, error);
    if (!status && writes)
        log_info(&training->run->log, "saved %s in %.1f s%s", options->output.output_dir, clock_seconds() - start,
                 trainer->nonfinite ? "; some steps were skipped, see the warnings" : "");
    return status;
}

int train_run(struct invocation *run, bool finetune, struct error *error)
{
    const struct train_command_options *options = run->options;
    struct training training = {.run = run, .options = &options->train};
    struct device device = {0};
    const double start = clock_seconds();
    int status;
    if (launcher_wanted(&options->launcher, &status, error))
        return status ? status : launcher_run((int)options->launcher.nproc_per_node, run->argv, &run->log, error);
    status = training_prepare(&training, finetune, &device, error);
    if (!status)
        status = training_start(&training, &device, error);
    if (!status)
        status = training_run(&training, finetune, start, error);
    interrupt_release();
    comm_close(training.comm);
    run_log_close(&training.log);
    if (!training.trainer.device.context) /* not taken over yet */
        device_close(&device);
    trainer_free(&training.trainer);
    return status;
}

int train_check(struct invocation *run, struct error *error)
{
    const struct train_command_options *options = run->options;
    return train_options_check(&options->train, &run->set, error);
}
