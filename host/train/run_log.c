/* run_log.c - see run_log.h. */
#include "run_log.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../io/json/json.h"
#include "../util/checksum.h"
#include "../util/file.h"
#include "../util/version.h"

static cJSON *record_json(const struct step_record *record, const struct method *method, struct error *error)
{
    cJSON *json = cJSON_CreateObject();
    bool ok = json && json_add_int(json, "step", record->step) && json_add_number(json, "epoch", record->epoch) &&
              json_add_number(json, "loss", record->loss);
    for (int i = 0; i < METHOD_LOGGED && method->logged[i].key; i++)
        ok = ok && json_add_number(json, method->logged[i].key, record->logged[i]);
    ok = ok && json_add_number(json, "grad_norm", record->grad_norm) &&
         json_add_number(json, "learning_rate", record->learning_rate) &&
         json_add_number(json, "share_low", record->share_low) &&
         json_add_number(json, "share_high", record->share_high) && json_add_int(json, "pairs", record->pairs) &&
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
static bool timing_add(cJSON *json, const struct step_record *record)
{
    return json_add_number(json, "seconds", record->seconds) &&
           json_add_number(json, "tokens_per_second",
                           record->seconds > 0 ? (double)record->tokens / record->seconds : 0) &&
           json_add_number(json, "time", (double)time(NULL));
}

int step_record_print(const struct step_record *record, const struct method *method, struct buffer *out,
                      struct error *error)
{
    cJSON *json = record_json(record, method, error);
    if (!json)
        return STATUS_MEMORY;
    int status = json_print(json, out, error);
    cJSON_Delete(json);
    return status ? status : buffer_append(out, "\n", 1, error);
}

int run_log_open(struct run_log *log, const char *directory, struct error *error)
{
    *log = (struct run_log){0};
    char path[4096];
    int status = file_make_directory(directory, error);
    if (!status)
        status = file_join(path, sizeof path, directory, "metrics.jsonl", error);
    if (status)
        return status;
    snprintf(log->directory, sizeof log->directory, "%s", directory);
    log->metrics = fopen(path, "w");
    return log->metrics ? STATUS_OK
                        : error_set(error, STATUS_RUNTIME, "%s: cannot be written: %s", path, strerror(errno));
}

int run_log_step(struct run_log *log, const struct trainer *trainer, const struct step_record *record, bool keep,
                 struct error *error)
{
    struct buffer line = {0};
    cJSON *json = record_json(record, trainer->method, error);
    int status = json && timing_add(json, record)
                     ? json_print(json, &line, error)
                     : error_set(error, STATUS_MEMORY, "out of host memory while logging a step");
    cJSON_Delete(json);
    if (!status && (fprintf(log->metrics, "%s\n", line.data) < 0 || fflush(log->metrics)))
        status = error_set(error, STATUS_RUNTIME, "%s/metrics.jsonl: cannot be written: %s", log->directory,
                           strerror(errno));
    buffer_free(&line);
    if (!status && keep)
        status = memory_grow(&log->history, &log->capacity, log->records + 1, sizeof *log->history, error);
    if (!status && keep)
        log->history[log->records++] = *record;
    return status;
}

static int file_in_write(const cJSON *json, const char *directory, const char *name, struct error *error)
{
    char path[4096];
    int status = file_join(path, sizeof path, directory, name, error);
    return status ? status : json_write(json, path, error);
}

int run_log_finish(struct run_log *log, const struct trainer *trainer, double seconds, struct error *error)
{
    const struct train_options *options = trainer->options;
    cJSON *json = cJSON_CreateObject(), *history = cJSON_AddArrayToObject(json, "log_history");
    double loss = 0;
    int status = STATUS_OK;
    for (size_t i = 0; i < log->records && !status; i++) {
        cJSON *entry = record_json(&log->history[i], trainer->method, error);
        loss += log->history[i].loss;
        if (!entry || !cJSON_AddItemToArray(history, entry))
            status = STATUS_MEMORY;
    }
    bool ok = !status && json_add_int(json, "global_step", trainer->total_steps) &&
              json_add_int(json, "max_steps", trainer->total_steps) &&
              json_add_number(json, "epoch", (double)trainer->total_steps / trainer->steps_per_epoch) &&
              json_add_number(json, "num_train_epochs", options->trainer.num_train_epochs) &&
              json_add_int(json, "train_batch_size", options->trainer.per_device_train_batch_size) &&
              json_add_int(json, "logging_steps", options->output.logging_steps) &&
              json_add_int(json, "num_input_tokens_seen", trainer->tokens_seen) &&
              json_add_int(json, "skipped_steps", trainer->nonfinite) &&
              json_add_number(json, "train_loss", log->records ? loss / (double)log->records : 0) &&
              json_add_number(json, "train_runtime", seconds) &&
              json_add_number(json, "train_steps_per_second",
                              seconds > 0 ? (double)trainer->total_steps / seconds : 0) &&
              json_add_bool(json, "is_local_process_zero", true) && json_add_bool(json, "is_world_process_zero", true);
    if (!ok)
        status = error_set(error, STATUS_MEMORY, "out of host memory while writing trainer_state.json");
    if (!status)
        status = file_in_write(json, log->directory, "trainer_state.json", error);
    cJSON_Delete(json);
    return status;
}

static int checksum_add(cJSON *inputs, const char *path, struct error *error)
{
    int64_t bytes;
    uint64_t xxh3;
    char text[32];
    int status = file_checksum(path, &bytes, &xxh3, error);
    if (status)
        return status;
    snprintf(text, sizeof text, "%016llx", (unsigned long long)xxh3);
    cJSON *item = cJSON_AddObjectToObject(inputs, path);
    if (!item || !json_add_int(item, "bytes", bytes) || !json_add_string(item, "xxh3", text))
        return error_set(error, STATUS_MEMORY, "out of host memory while writing run.json");
    return STATUS_OK;
}

static int checksum_add_in(cJSON *inputs, const char *directory, const char *name, struct error *error)
{
    char path[4096];
    int status = file_join(path, sizeof path, directory, name, error);
    return status ? status : checksum_add(inputs, path, error);
}

static int inputs_add(cJSON *json, const struct trainer *trainer, struct error *error)
{
    const struct train_options *options = trainer->options;
    const struct safetensors *source = &trainer->weights.source;
    cJSON *inputs = cJSON_AddObjectToObject(json, "inputs");
    int status = checksum_add(inputs, trainer->data_path, error);
    if (!status && trainer->method->needs_template)
        status = checksum_add(inputs, options->template_.file, error);
    if (!status)
        status = checksum_add_in(inputs, options->model.model_name_or_path, "config.json", error);
    for (int i = 0; i < source->shards && !status; i++)
        status = checksum_add_in(inputs, options->model.model_name_or_path, source->shard_name[i], error);
    if (!status && *options->model.adapter)
        status = checksum_add_in(inputs, options->model.adapter, "adapter_config.json", error);
    if (!status && *options->model.adapter)
        status = checksum_add_in(inputs, options->model.adapter, "adapter_model.safetensors", error);
    return status;
}

int run_log_describe(const struct run_log *log, struct trainer *trainer, const char *resolved_config, int argc,
                     char **argv, struct error *error)
{
    char host[256] = "", started[64] = "";
    time_t now = time(NULL);
    struct tm utc;
    gethostname(host, sizeof host - 1);
    if (gmtime_r(&now, &utc))
        strftime(started, sizeof started, "%Y-%m-%dT%H:%M:%SZ", &utc);
    cJSON *json = cJSON_CreateObject(), *command = cJSON_AddArrayToObject(json, "command");
    for (int i = 0; i < argc; i++)
        cJSON_AddItemToArray(command, cJSON_CreateString(argv[i]));
    cJSON *config = json_parse(resolved_config, strlen(resolved_config), "resolved config", error);
    struct device *device = &trainer->device;
    bool ok = config && cJSON_AddItemToObject(json, "config", config) && json_add_string(json, "version", FLAT_VERSION) &&
              json_add_string(json, "commit", version_commit()) && json_add_string(json, "host", host) &&
              json_add_string(json, "started", started) && json_add_string(json, "engine", device->engine->name) &&
              json_add_string(json, "device", device->engine->describe(device->context)) &&
              json_add_string(json, "model_type", trainer->model.config.family->model_type) &&
              json_add_int(json, "rows", trainer->examples.data.rows) &&
              json_add_int(json, "total_steps", trainer->total_steps) &&
              json_add_int(json, "world_size", trainer->parallel.ranks);
    for (int rank = 0; ok && rank < trainer->parallel.ranks && trainer->parallel.ranks > 1; rank++)
        cJSON_AddItemToArray(rank ? cJSON_GetObjectItem(json, "ranks") : cJSON_AddArrayToObject(json, "ranks"),
                             cJSON_CreateString(comm_describe(trainer->shards.world.comm, rank)));
    int status = ok ? inputs_add(json, trainer, error)
                    : error_set(error, STATUS_MEMORY, "out of host memory while writing run.json");
    if (!status)
        status = file_in_write(json, log->directory, "run.json", error);
    cJSON_Delete(json);
    return status;
}

void run_log_close(struct run_log *log)
{
    if (log->metrics)
        fclose(log->metrics);
    free(log->history);
    *log = (struct run_log){0};
}
