/* run_log.c - see run_log.h. */
#include "run_log.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../io/json/json.h"

static cJSON *record_json(const struct step_record *record, const struct trainer *trainer, struct error *error)
{
    cJSON *json = cJSON_CreateObject();
    bool ok = json && json_add_int(json, "step", record->step) && json_add_number(json, "epoch", record->epoch) &&
              json_add_number(json, "loss", record->loss);
    for (int i = 0; i < trainer->logged_count; i++)
        ok = ok && json_add_number(json, trainer->logged[i].key, record->logged[i]);
    if (trainer->method->multiplier)
        ok = ok && json_add_number(json, "multiplier", record->multiplier);
    ok = ok && json_add_number(json, "grad_norm", record->grad_norm) &&
         json_add_number(json, "learning_rate", record->learning_rate) &&
         (trainer->method->hidden || (json_add_number(json, "share_low", record->share_low) &&
                                      json_add_number(json, "share_high", record->share_high))) &&
         json_add_int(json, "pairs", record->pairs) &&
         json_add_int(json, "answer_tokens", record->answer_tokens) && json_add_int(json, "tokens", record->tokens);
    if (ok && record->skipped)
        ok = json_add_bool(json, "skipped", true);
    if (!ok) {
        error_set(error, STATUS_MEMORY, "out of host memory while logging a step");
        cJSON_Delete(json);
        return NULL;
    }
    return json;
}

/* Time is kept apart: two runs of one seed differ in nothing else. */
static bool timing_add(cJSON *json, const struct step_record *record, const struct trainer *trainer)
{
    const double sol = step_record_sol(record, trainer);
    return json_add_number(json, "seconds", record->seconds) &&
           json_add_number(json, "tokens_per_second",
                           record->seconds > 0 ? (double)record->tokens / record->seconds : 0) &&
           (sol <= 0 || json_add_number(json, "sol", sol)) && json_add_number(json, "time", (double)time(NULL));
}

double step_record_sol(const struct step_record *record, const struct trainer *trainer)
{
    const double least = trainer->peak_flops > 0 ? record->flops / trainer->peak_flops : 0;
    return record->seconds > 0 ? least / record->seconds : 0;
}

int step_record_print(const struct step_record *record, const struct trainer *trainer, struct buffer *out,
                      struct error *error)
{
    cJSON *json = record_json(record, trainer, error);
    if (!json)
        return STATUS_MEMORY;
    int status = json_print(json, out, error);
    cJSON_Delete(json);
    return status ? status : buffer_append(out, "\n", 1, error);
}

/* ---- windows ----------------------------------------------------------------------------------------------------- */

/* What is averaged over the steps of a window. */
enum { AVERAGED = METHOD_LOGGED + 4 };
static void averaged(struct step_record *record, double *list[AVERAGED])
{
    for (int i = 0; i < METHOD_LOGGED; i++)
        list[i] = &record->logged[i];
    list[METHOD_LOGGED] = &record->loss, list[METHOD_LOGGED + 1] = &record->grad_norm;
    list[METHOD_LOGGED + 2] = &record->share_low, list[METHOD_LOGGED + 3] = &record->share_high;
}

static void window_add(struct run_log *log, const struct step_record *record)
{
    struct step_record *sum = &log->window, step = *record;
    double *to[AVERAGED], *from[AVERAGED];
    averaged(sum, to);
    averaged(&step, from);
    for (int i = 0; i < AVERAGED && !record->skipped; i++)
        *to[i] += *from[i];
    sum->step = record->step, sum->total_steps = record->total_steps, sum->epoch = record->epoch;
    sum->learning_rate = record->learning_rate;
    sum->multiplier = record->multiplier;
    sum->pairs += record->pairs, sum->tokens += record->tokens, sum->answer_tokens += record->answer_tokens;
    sum->seconds += record->seconds, sum->flops += record->flops;
    log->in_window++;
    log->skipped_in_window += record->skipped;
    log->pairs += record->pairs;
    log->loss_sum += record->skipped ? 0 : record->loss;
    log->steps += !record->skipped;
}

static struct step_record window_mean(const struct run_log *log)
{
    struct step_record mean = log->window;
    const double steps = (double)(log->in_window - log->skipped_in_window);
    double *list[AVERAGED];
    averaged(&mean, list);
    for (int i = 0; i < AVERAGED; i++)
        *list[i] = steps > 0 ? *list[i] / steps : NAN; /* null in the file */
    mean.skipped = log->skipped_in_window > 0;
    return mean;
}

int run_log_add(struct run_log *log, const struct buffer *lines, struct error *error)
{
    int status = STATUS_OK;
    for (size_t done = 0; done < lines->length && !status;) {
        const ssize_t n = write(log->metrics, lines->data + done, lines->length - done);
        if (n < 0 && errno != EINTR)
            status = error_set(error, STATUS_RUNTIME, "%s: cannot be written: %s", log->path, strerror(errno));
        done += n > 0 ? (size_t)n : 0;
    }
    if (!status && log->events.fd >= 0)
        status = run_events_add(&log->events, lines->data, lines->length, error);
    return status;
}

/* The window as an object of log_history, and as a line of metrics.jsonl, which has its time as well. */
static int window_write(struct run_log *log, const struct trainer *trainer, const struct step_record *mean,
                        struct error *error)
{
    struct buffer line = {0};
    cJSON *json = record_json(mean, trainer, error);
    int status = json ? STATUS_OK : STATUS_MEMORY;
    if (!status && log->history.length)
        status = buffer_append(&log->history, ",", 1, error);
    if (!status)
        status = json_print(json, &log->history, error);
    if (!status && !timing_add(json, mean, trainer))
        status = error_set(error, STATUS_MEMORY, "out of host memory while logging a step");
    if (!status)
        status = json_print(json, &line, error);
    if (!status)
        status = buffer_append(&line, "\n", 1, error);
    if (!status)
        status = run_log_add(log, &line, error);
    cJSON_Delete(json);
    buffer_free(&line);
    return status;
}

int run_log_open(struct run_log *log, const char *directory, struct error *error)
{
    *log = (struct run_log)RUN_LOG_CLOSED;
    int status = file_join(log->path, sizeof log->path, directory, "metrics.jsonl", error);
    if (status)
        return status;
    log->metrics = open(log->path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_APPEND | O_CLOEXEC, FILE_MODE);
    return log->metrics >= 0 ? STATUS_OK
                             : error_set(error, STATUS_RUNTIME, "%s: cannot be written: %s", log->path, strerror(errno));
}

int run_log_report(struct run_log *log, const char *directory, struct error *error)
{
    return run_events_open(&log->events, directory, log->path, error);
}

int run_log_step(struct run_log *log, const struct trainer *trainer, const struct step_record *record, bool ends,
                 struct step_record *mean, struct error *error)
{
    window_add(log, record);
    *mean = window_mean(log);
    if (!ends)
        return STATUS_OK;
    return run_log_end_window(log, trainer, error);
}

int run_log_end_window(struct run_log *log, const struct trainer *trainer, struct error *error)
{
    const struct step_record mean = window_mean(log);
    if (!log->in_window)
        return STATUS_OK;
    log->window = (struct step_record){0};
    log->in_window = log->skipped_in_window = 0;
    return window_write(log, trainer, &mean, error);
}

/* ---- trainer_state.json ------------------------------------------------------------------------------------------ */

/* What Trainer logs last. */
static bool summary_add(cJSON *history, const struct run_log *log, int64_t first_step, int64_t step, double epoch,
                        double seconds)
{
    cJSON *last = cJSON_CreateObject();
    return last && cJSON_AddItemToArray(history, last) && json_add_int(last, "step", step) &&
           json_add_number(last, "epoch", epoch) &&
           json_add_number(last, "train_loss", log->steps ? log->loss_sum / (double)log->steps : NAN) &&
           json_add_number(last, "train_runtime", seconds) &&
           json_add_number(last, "train_samples_per_second",
                           seconds > 0 ? (double)(log->pairs - log->pairs_before) / seconds : 0) &&
           json_add_number(last, "train_steps_per_second", seconds > 0 ? (double)(step - first_step) / seconds : 0);
}

int run_log_save_state(const struct run_log *log, const struct trainer *trainer, const struct early_stopping *stopping,
                       int64_t step, double seconds, struct folder *folder, struct error *error)
{
    const struct train_options *options = trainer->options;
    const double epoch = (double)step / trainer->steps_per_epoch;
    struct buffer text = {0};
    int status = buffer_printf(&text, error, "[%s]", log->history.data ? log->history.data : "");
    cJSON *json = cJSON_CreateObject(), *history = status ? NULL : json_parse(text.data, text.length, "log_history", error);
    text.length = 0;
    if (!status && !history)
        status = STATUS_MEMORY;
    bool ok = !status && json && cJSON_AddItemToObject(json, "log_history", history) &&
              json_add_int(json, "global_step", step) && json_add_int(json, "max_steps", trainer->total_steps) &&
              json_add_number(json, "epoch", epoch) &&
              json_add_number(json, "num_train_epochs", ceil(options->trainer.num_train_epochs)) &&
              json_add_int(json, "train_batch_size", options->trainer.per_device_train_batch_size) &&
              json_add_int(json, "logging_steps", options->output.logging_steps) &&
              json_add_int(json, "num_input_tokens_seen", trainer->tokens_seen) &&
              json_add_bool(json, "is_local_process_zero", true) && json_add_bool(json, "is_world_process_zero", true);
    if (ok && stopping->best_step)
        ok = json_add_number(json, "best_metric", stopping->best);
    if (ok && (step == trainer->total_steps || stopping->reason))
        ok = summary_add(history, log, trainer->first_step, step, epoch, seconds);
    if (!status && !ok)
        status = error_set(error, STATUS_MEMORY, "out of host memory while writing trainer_state.json");
    if (!status)
        status = json_print_pretty(json, &text, error);
    if (!status)
        status = folder_write(folder, "trainer_state.json", FILE_MODE, text.data, text.length, error);
    cJSON_Delete(json);
    buffer_free(&text);
    return status;
}

void run_log_close(struct run_log *log)
{
    if (log->metrics >= 0)
        close(log->metrics);
    event_file_close(&log->events);
    buffer_free(&log->history);
    *log = (struct run_log)RUN_LOG_CLOSED;
}
