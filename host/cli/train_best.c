/* train_best.c - what the measurements during a run decide: when it ends, and which step's model is kept; see training.h. */
#include <stdio.h>
#include <string.h>

#include "../io/json/json.h"
#include "../util/file.h"
#include "training.h"

static int best_path(const struct training *training, char path[FOLDER_PATH_BYTES], struct error *error)
{
    char name[64];
    snprintf(name, sizeof name, "checkpoint-%lld", (long long)training->stopping.best_step);
    return file_join(path, FOLDER_PATH_BYTES, training->folder.path, name, error);
}

int stopping_look(struct training *training, int64_t step, int status, struct error *error)
{
    struct early_stopping *stopping = &training->stopping;
    const int64_t best = stopping->best_step;
    double value;
    if (!train_eval_value(&training->eval, step, stopping->set, stopping->is_loss, &value))
        return status;
    if (step == 0) {
        if (early_stopping_passes(stopping, value) && !comm_rank(training->comm))
            log_warning(&training->run->log, "early_stopping_threshold: %s is %.4g before the first step already, and the "
                        "threshold %.4g", stopping->options->metric, value, stopping->options->threshold);
        return status;
    }
    early_stopping_take(stopping, step, value);
    if (stopping->options->load_best && stopping->best_step != best)
        training->superseded_step = best;
    training->trainer.stops = stopping->reason != STOP_NOT && step < training->trainer.total_steps;
    if (training->trainer.stops && !status && !comm_rank(training->comm))
        status = run_log_end_window(&training->log, &training->trainer, error);
    return status;
}

bool best_is_new(const struct training *training, int64_t step)
{
    return training->stopping.options->load_best && training->stopping.best_step == step;
}

int best_check(const struct training *training, struct error *error)
{
    char path[FOLDER_PATH_BYTES], weights[FOLDER_PATH_BYTES];
    if (!training->stopping.options->load_best || !training->stopping.best_step)
        return STATUS_OK;
    int status = best_path(training, path, error);
    if (!status)
        status = file_join(weights, sizeof weights, path, "trainer/optimizer.safetensors", error);
    if (status || file_exists(weights))
        return status;
    return error_set(error, STATUS_USAGE, "resume_from_checkpoint: the best model so far is of step %lld, and %s is not there; "
                     "go on in the folder of that run, from its newest checkpoint", (long long)training->stopping.best_step, path);
}

int best_restore(struct training *training, struct error *error)
{
    const struct early_stopping *stopping = &training->stopping;
    char path[FOLDER_PATH_BYTES];
    training->kept_step = training->step;
    if (!stopping->options->load_best || stopping->best_step == training->step)
        return STATUS_OK;
    if (!stopping->best_step) {
        if (!comm_rank(training->comm))
            log_warning(&training->run->log, "load_best_model_at_end: no measurement of %s was a finite number; the model of the "
                        "last step is saved", stopping->options->metric);
        return STATUS_OK;
    }
    int status = training_agree(training, best_path(training, path, error), error);
    if (!status)
        status = checkpoint_load_weights(&training->trainer, path, error);
    if (!status)
        training->kept_step = stopping->best_step;
    return status;
}

int best_forget(struct training *training, int64_t step, struct error *error)
{
    if (!step || !training->stopping.options->load_best || is_save_step(training, step))
        return STATUS_OK;
    return checkpoint_remove(training, step, error);
}

int best_tidy(struct training *training, struct error *error)
{
    const int64_t best = training->stopping.best_step;
    struct file_list list;
    bool others = false;
    if (!best || !training->stopping.options->load_best)
        return STATUS_OK;
    int status = file_list_read(&list, training->folder.path, error);
    for (size_t i = 0; i < list.count; i++)
        others |= folder_checkpoint(list.name[i]) >= 0 && folder_checkpoint(list.name[i]) != best;
    file_list_free(&list);
    return status || others ? status : best_forget(training, best, error);
}

static bool stopping_add(const struct training *training, cJSON *json)
{
    const struct early_stopping *stopping = &training->stopping;
    return json_add_string(json, "stop_reason", early_stopping_reason(stopping)) &&
           json_add_string(json, "metric", stopping->options->metric) && json_add_number(json, "value", stopping->last) &&
           (!stopping->best_step ||
            (json_add_number(json, "best", stopping->best) && json_add_int(json, "best_step", stopping->best_step)));
}

bool stopping_add_result(const struct training *training, cJSON *result)
{
    cJSON *object = *training->stopping.set ? cJSON_AddObjectToObject(result, "early_stopping") : NULL;
    return json_add_int(result, "step", training->kept_step) && json_add_int(result, "steps", training->step) &&
           (!*training->stopping.set || (object && stopping_add(training, object)));
}

int stopping_log(struct training *training, struct error *error)
{
    struct buffer line = {0};
    if (!*training->stopping.set)
        return STATUS_OK;
    cJSON *json = cJSON_CreateObject();
    const bool ok = json && json_add_int(json, "step", training->step) &&
                    json_add_number(json, "epoch", (double)training->step / training->trainer.steps_per_epoch) &&
                    stopping_add(training, json) && json_add_int(json, "saved_step", training->kept_step);
    int status = ok ? json_print(json, &line, error) : error_set(error, STATUS_MEMORY, "out of host memory");
    if (!status)
        status = buffer_append(&line, "\n", 1, error);
    if (!status)
        status = run_log_add(&training->log, &line, error);
    buffer_free(&line);
    cJSON_Delete(json);
    return status;
}

void stopping_show(const struct training *training)
{
    const struct early_stopping *stopping = &training->stopping;
    const struct early_stopping_options *options = stopping->options;
    struct log *log = &training->run->log;
    char why[300];
    if (stopping->reason && training->step < training->trainer.total_steps) {
        early_stopping_describe(stopping, why, sizeof why);
        log_info(log, "ended after step %lld of %lld: %s", (long long)training->step, (long long)training->trainer.total_steps, why);
    } else if (options->threshold >= 0 && !early_stopping_passes(stopping, stopping->last)) {
        log_warning(log, "early_stopping_threshold: %s has not come to %.4g, it is %.4g at the end; more steps or a higher "
                    "learning_rate", options->metric, options->threshold, stopping->last);
    }
    if (options->load_best && stopping->best_step)
        log_info(log, "what is saved is the model of step %lld, the best: %s %.4g", (long long)training->kept_step,
                 options->metric, stopping->best);
}
