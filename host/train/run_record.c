/* run_record.c - see run_record.h. */
#include "run_record.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../util/memory.h"
#include "../util/version.h"

static bool digest_add(cJSON *object, const char *name, struct digest digest)
{
    char text[32];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)digest.xxh3);
    cJSON *item = cJSON_AddObjectToObject(object, name);
    return item && json_add_int(item, "bytes", digest.bytes) && json_add_string(item, "xxh3", text);
}

/* Notes one input, and adds its content (not its path) to what the id is made of. One file may have several parts to play. */
static int input_add(cJSON *inputs, const char *path, const struct digest *known, struct checksum *id, struct error *error)
{
    struct digest digest = known ? *known : (struct digest){0};
    int status = known ? STATUS_OK : checksum_file(path, &digest, error);
    if (status)
        return status;
    checksum_add(id, &digest, sizeof digest);
    if (json_member(inputs, path) || digest_add(inputs, path, digest))
        return STATUS_OK;
    return error_set(error, STATUS_MEMORY, "out of host memory while writing run.json");
}

static int input_add_in(cJSON *inputs, const char *directory, const char *name, struct checksum *id, struct error *error)
{
    char path[4096];
    int status = file_join(path, sizeof path, directory, name, error);
    return status ? status : input_add(inputs, path, NULL, id, error);
}

static int inputs_add(cJSON *json, const struct trainer *trainer, struct checksum *id, struct error *error)
{
    const struct train_options *options = trainer->options;
    const struct safetensors *source = &trainer->weights.source;
    const char *model = options->model.model_name_or_path, *adapter = options->model.adapter;
    cJSON *inputs = cJSON_AddObjectToObject(json, "inputs");
    int status = input_add(inputs, trainer->examples.data.path, &trainer->examples.data.digest, id, error);
    if (!status && trainer->examples.retain.rows)
        status = input_add(inputs, trainer->examples.retain.path, &trainer->examples.retain.digest, id, error);
    if (!status && trainer->examples.answers.count)
        status = input_add(inputs, options->template_.file, &trainer->examples.answers.digest, id, error);
    if (!status)
        status = input_add_in(inputs, model, "config.json", id, error);
    for (int i = 0; i < source->shards && !status; i++)
        status = input_add_in(inputs, model, source->shard_name[i], id, error);
    if (!status && *adapter)
        status = input_add_in(inputs, adapter, "adapter_config.json", id, error);
    if (!status && *adapter)
        status = input_add_in(inputs, adapter, "adapter_model.safetensors", id, error);
    return status;
}

static bool ranks_add(cJSON *json, const struct trainer *trainer)
{
    bool ok = json_add_int(json, "world_size", trainer->parallel.ranks);
    cJSON *ranks = ok && trainer->parallel.ranks > 1 ? cJSON_AddArrayToObject(json, "ranks") : NULL;
    for (int rank = 0; ranks && rank < trainer->parallel.ranks; rank++)
        ok = ok && cJSON_AddItemToArray(ranks, cJSON_CreateString(comm_describe(trainer->shards.world.comm, rank)));
    return ok;
}

void run_record_keep_mathematics(cJSON *config)
{
    /* inputs are told apart by what they hold, which is noted beside */
    static const char *const others[] = {
        "model_name_or_path", "adapter", "forget_data", "train_data", "retain_data", "output_dir", "overwrite_output_dir",
        "models", "save_strategy", "save_steps", "save_total_limit", "resume_from_checkpoint", "save_dtype", "logging_steps", "report_to", "dump_step", "nproc_per_node", "device", "threads", "quiet",
        "verbose", "profile", "zero", "ddp_bucket_cap_mb", "gradient_checkpointing"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        cJSON_DeleteItemFromObjectCaseSensitive(config, others[i]);
    cJSON_DeleteItemFromObjectCaseSensitive(cJSON_GetObjectItemCaseSensitive(config, "template"), "file");
    cJSON_DeleteItemFromObjectCaseSensitive(cJSON_GetObjectItemCaseSensitive(config, "lora"), "output");
}

static void text_add(struct checksum *id, const char *text)
{
    checksum_add(id, text, strlen(text) + 1);
}

/* What every id is made of, but for the inputs. */
static int identity_add(const cJSON *config, struct checksum *id, struct error *error)
{
    struct buffer text = {0};
    cJSON *mathematics = cJSON_Duplicate(config, true);
    int status = mathematics ? STATUS_OK : error_set(error, STATUS_MEMORY, "out of host memory while writing run.json");
    if (!status) {
        run_record_keep_mathematics(mathematics);
        status = json_print(mathematics, &text, error);
    }
    if (!status) {
        text_add(id, FLAT_VERSION);
        text_add(id, version_commit());
        text_add(id, text.data);
    }
    cJSON_Delete(mathematics);
    buffer_free(&text);
    return status;
}

/* What every record begins with; takes config over. */
static int record_begin(struct run_record *record, cJSON *config, int argc, char **argv, struct error *error)
{
    char host[256] = "", started[64] = "";
    time_t now = time(NULL);
    struct tm utc;
    gethostname(host, sizeof host - 1);
    if (gmtime_r(&now, &utc))
        strftime(started, sizeof started, "%Y-%m-%dT%H:%M:%SZ", &utc);
    cJSON *json = record->json = cJSON_CreateObject(), *command = cJSON_AddArrayToObject(json, "command");
    bool ok = command != NULL;
    for (int i = 0; i < argc && ok; i++)
        ok = cJSON_AddItemToArray(command, cJSON_CreateString(argv[i]));
    if (!cJSON_AddItemToObject(json, "config", config)) {
        cJSON_Delete(config);
        ok = false;
    }
    ok = ok && json_add_string(json, "version", FLAT_VERSION) && json_add_string(json, "commit", version_commit()) &&
         json_add_string(json, "host", host) && json_add_string(json, "started", started);
    return ok ? STATUS_OK : error_set(error, STATUS_MEMORY, "out of host memory while writing run.json");
}

static int record_fill(struct run_record *record, struct trainer *trainer, cJSON *config, int argc, char **argv,
                       struct error *error)
{
    struct device *device = &trainer->device;
    int status = record_begin(record, config, argc, argv, error);
    cJSON *json = record->json;
    if (status)
        return status;
    const bool ok = json_add_string(json, "engine", device->engine->name) &&
                    json_add_string(json, "device", device->engine->describe(device->context)) &&
                    json_add_string(json, "model_type", trainer->model.config.family->model_type) &&
                    json_add_int(json, "rows", trainer->examples.data.rows) &&
                    json_add_int(json, "total_steps", trainer->total_steps) && ranks_add(json, trainer) &&
                    product_picks_add(&trainer->picks, json);
    return ok ? STATUS_OK : error_set(error, STATUS_MEMORY, "out of host memory while writing run.json");
}

/* Closes id: what it comes to becomes the run's. */
static int id_finish(struct run_record *record, struct checksum *id, int status, struct error *error)
{
    if (id)
        snprintf(record->run_id, sizeof record->run_id, "%016llx", (unsigned long long)checksum_digest(id).xxh3);
    checksum_close(id);
    if (!status && !json_add_string(record->json, "run_id", record->run_id))
        status = error_set(error, STATUS_MEMORY, "out of host memory while writing run.json");
    return status;
}

int run_record_make(struct run_record *record, struct trainer *trainer, cJSON *config, int argc, char **argv,
                    struct error *error)
{
    *record = (struct run_record){0};
    struct checksum *id = checksum_open(error);
    int status = id ? identity_add(config, id, error) : STATUS_MEMORY;
    if (status) {
        cJSON_Delete(config);
        checksum_close(id);
        return status;
    }
    text_add(id, trainer->device.engine->name);
    checksum_add(id, &trainer->parallel.ranks, sizeof trainer->parallel.ranks);
    status = record_fill(record, trainer, config, argc, argv, error);
    if (!status)
        status = inputs_add(record->json, trainer, id, error);
    return id_finish(record, id, status, error);
}

int run_record_make_of_models(struct run_record *record, const struct safetensors *const *model, int count, cJSON *config,
                              int argc, char **argv, struct error *error)
{
    *record = (struct run_record){0};
    struct checksum *id = checksum_open(error);
    int status = id ? identity_add(config, id, error) : STATUS_MEMORY;
    if (status) {
        cJSON_Delete(config);
        checksum_close(id);
        return status;
    }
    status = record_begin(record, config, argc, argv, error);
    cJSON *inputs = status ? NULL : cJSON_AddObjectToObject(record->json, "inputs");
    for (int i = 0; i < count && !status; i++) {
        status = input_add_in(inputs, model[i]->directory, "config.json", id, error);
        for (int shard = 0; shard < model[i]->shards && !status; shard++)
            status = input_add_in(inputs, model[i]->directory, model[i]->shard_name[shard], id, error);
    }
    return id_finish(record, id, status, error);
}

int run_record_write(const struct run_record *record, const char *directory, struct error *error)
{
    char path[4096];
    struct error unread = {0};
    int status = file_join(path, sizeof path, directory, "run.json", error);
    cJSON *before = status || !file_exists(path) ? NULL : json_read(path, &unread);
    cJSON *files = cJSON_DetachItemFromObjectCaseSensitive(before, "files");
    if (!status && (unread.status == STATUS_MEMORY || (files && !json_set(record->json, "files", files))))
        status = error_set(error, STATUS_MEMORY, "out of host memory while writing run.json");
    if (!status)
        status = json_write(record->json, path, error);
    cJSON_DeleteItemFromObjectCaseSensitive(record->json, "files");
    cJSON_Delete(before);
    return status;
}

int run_record_write_into(struct run_record *record, struct folder *folder, cJSON *result, struct error *error)
{
    struct buffer text = {0};
    bool ok = !result || json_set(record->json, "result", result);
    cJSON *files = cJSON_AddObjectToObject(record->json, "files");
    ok = ok && files;
    for (size_t i = 0; i < folder->files && ok; i++)
        ok = digest_add(files, folder->file[i].name, folder->file[i].digest);
    int status = ok ? json_print_pretty(record->json, &text, error)
                    : error_set(error, STATUS_MEMORY, "out of host memory while writing run.json");
    if (!status)
        status = buffer_append(&text, "\n", 1, error);
    if (!status)
        status = folder_write(folder, "run.json", FILE_MODE, text.data, text.length, error);
    cJSON_DeleteItemFromObjectCaseSensitive(record->json, "files");
    cJSON_DeleteItemFromObjectCaseSensitive(record->json, "result");
    buffer_free(&text);
    return status;
}

void run_record_free(struct run_record *record)
{
    cJSON_Delete(record->json);
    *record = (struct run_record){0};
}

void run_record_save_id(const struct run_record *record, int64_t step, char id[SAVE_ID_BYTES])
{
    snprintf(id, SAVE_ID_BYTES, "%s-%lld", record->run_id, (long long)step);
}
