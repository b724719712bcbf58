/* command_train.c - `flat unlearn`, `flat finetune` and `flat plan`: one run from a config to a saved model. */
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

/* What a plan, which opens no device, supposes: bf16 on a GPU that is asked for, float otherwise. */
static enum dtype planned_dtype(const struct settings *settings)
{
    return !strcmp(settings->device, "cuda") ? DTYPE_BF16 : DTYPE_F32;
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
    if (training->run->line.settings.cuda_graphs && !trainer->graphs)
        log_warning(log, "cuda_graphs: device %s has no graphs; the run goes on without", device->engine->name);
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
    status = trainer_prepare(&training.trainer, settings, finetune, device.engine->dtype, error);
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

/* Forward and backward of one epoch's rows: 2 flops a multiply-add, backward twice the forward (attention 2.5 times); of a
 * frozen weight backward once, for there is no gradient of its own. */
static double epoch_flops(const struct trainer *trainer)
{
    const struct model_config *c = &trainer->model.config;
    const struct batch_size *size = &trainer->epoch_size;
    const double rate = trainer->model.lora.modules ? 4 : 6;
    double layers = 0;
    for (int i = 0; i < trainer->model.tensors; i++) {
        const struct model_tensor *tensor = &trainer->model.tensor[i];
        if (tensor->from->slot >= SLOT_LAYER)
            layers += (double)tensor->rows * (double)(tensor->cols ? tensor->cols : 0);
    }
    const int heads = (int)c->num_attention_heads, dim = (int)c->head_dim;
    return (rate * layers + 6 * (double)trainer->model.lora.elements) * (double)size->rows +
           rate * (double)c->vocab_size * (double)c->hidden_size * (double)size->heads +
           (double)c->num_hidden_layers * ((double)attention_forward_flops(size->visible_keys, heads, dim) +
                                           (double)attention_backward_flops(size->visible_keys, heads, dim));
}

static void plan_print(const struct trainer *trainer)
{
    const struct model *model = &trainer->model;
    const struct memory_plan *plan = &model->plan;
    const int64_t trained = model_trainable(model).elements;
    const double mib = 1.0 / (1 << 20), steps = trainer->steps_per_epoch;
    printf("model          %s, %lld parameters in %d tensors, planned in %s\n", model->config.family->model_type,
           (long long)model->elements, model->tensors, dtype_name(model->dtype));
    if (model->lora.modules)
        printf("trained        %lld parameters: adapters of rank %lld on %d modules\n", (long long)trained,
               (long long)model->lora.options.rank, model->lora.modules);
    printf("data           %d rows; an epoch feeds %lld tokens and predicts %lld answer tokens\n",
           trainer->examples.data.rows, (long long)trainer->epoch_size.rows, (long long)trainer->epoch_size.heads);
    printf("steps          %d an epoch, %lld in all; largest micro-batch %lld tokens, %lld answer tokens\n",
           trainer->steps_per_epoch, (long long)trainer->total_steps, (long long)trainer->max_rows,
           (long long)trainer->max_heads);
    for (int class = 0; class < MEMORY_CLASSES; class++)
        if (plan->bytes[class])
            printf("%-14s %12.1f MiB\n", memory_class_name((enum memory_class)class), mib * (double)plan->bytes[class]);
    printf("%-14s %12.1f MiB of device memory\n", "total", mib * (double)memory_plan_total(plan));
    printf("work           %.4g flops a step on average: matrix products and attention, forward and backward\n",
           epoch_flops(trainer) / steps);
    printf("optimizer      %.4g bytes a step: gradient norm and AdamW\n",
           (double)(adamw_norm_bytes(trained, model->dtype) +
                    adamw_step_bytes(trained, model->dtype, model->dtype, false)));
    if (trainer->examples.cut)
        printf("warning        %lld sequences are cut at max_length\n", (long long)trainer->examples.cut);
}

int command_plan(struct invocation *run, struct error *error)
{
    const struct settings *settings = &run->line.settings;
    struct trainer trainer;
    bool finetune = *settings->train_data && !*settings->forget_data;
    int status = trainer_prepare(&trainer, settings, finetune, planned_dtype(settings), error);
    if (status)
        return status;
    plan_print(&trainer);
    trainer_free(&trainer);
    return stdout_finish(error);
}
