/* checkpoint_check.c - which checkpoint a run goes on from, and whether it may; see checkpoint.h. */
#include <stdio.h>
#include <string.h>

#include "checkpoint.h"

/* Whether a folder is a checkpoint that is complete, and its number. */
static int64_t checkpoint_number(const char *directory, const char *name)
{
    char path[FOLDER_PATH_BYTES];
    const int64_t number = folder_checkpoint(name);
    const int n = snprintf(path, sizeof path, "%s/%s/trainer/state.json", directory, name);
    return n > 0 && (size_t)n < sizeof path && file_exists(path) ? number : -1;
}

static int find_in(const char *directory, int64_t *most, char path[FOLDER_PATH_BYTES], struct error *error)
{
    struct file_list list;
    int status = file_list_read(&list, directory, error);
    for (size_t i = 0; i < list.count && !status; i++) {
        const int64_t number = checkpoint_number(directory, list.name[i]);
        if (number <= *most)
            continue;
        *most = number;
        status = file_join(path, FOLDER_PATH_BYTES, directory, list.name[i], error);
    }
    file_list_free(&list);
    return status;
}

/* Whether a run's record has what the run came to, which is noted when its model is saved. A run.json that is none says no. */
static int result_is_noted(const char *output_dir, bool *is_noted, struct error *error)
{
    char path[FOLDER_PATH_BYTES];
    struct error unread;
    *is_noted = false;
    int status = file_join(path, sizeof path, output_dir, "run.json", error);
    cJSON *run = status || !file_exists(path) ? NULL : json_read(path, &unread);
    *is_noted = json_member(run, "result") != NULL;
    cJSON_Delete(run);
    return status;
}

int checkpoint_find_last(const char *output_dir, char path[FOLDER_PATH_BYTES], bool *finished, struct error *error)
{
    struct file_list list;
    char aside[FOLDER_PATH_BYTES];
    int64_t most = -1;
    *path = 0;
    *finished = false;
    if (!file_is_directory(output_dir))
        return STATUS_OK;
    int status = file_list_read(&list, output_dir, error);
    for (size_t i = 0; i < list.count && !status; i++) { /* a run that was to replace what stands here comes first */
        if (!file_is_unique_name(list.name[i], FOLDER_RUN_PREFIX))
            continue;
        status = file_join(aside, sizeof aside, output_dir, list.name[i], error);
        if (!status)
            status = find_in(aside, &most, path, error);
    }
    file_list_free(&list);
    if (!status && !*path) {
        status = result_is_noted(output_dir, finished, error);
        if (!status)
            status = find_in(output_dir, &most, path, error);
    }
    return status;
}

/* The first value that differs between two trees of options, with its dotted name. */
static bool difference_find(const cJSON *was, const cJSON *now, const char *prefix, char *out, size_t bytes)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, now)
    {
        char name[200];
        const cJSON *old = json_member(was, item->string);
        snprintf(name, sizeof name, "%s%s%s", prefix, *prefix ? "." : "", item->string);
        if (cJSON_IsObject(item) && cJSON_IsObject(old) && difference_find(old, item, name, out, bytes))
            return true;
        if (cJSON_IsObject(item) && cJSON_IsObject(old))
            continue;
        if (!old || !cJSON_Compare(old, item, true)) {
            char *before = old ? cJSON_PrintUnformatted(old) : NULL, *after = cJSON_PrintUnformatted(item);
            snprintf(out, bytes, "%s was %s and is %s now", name, before ? before : "not given", after ? after : "");
            cJSON_free(before);
            cJSON_free(after);
            return true;
        }
    }
    return false;
}

/* What was read: by content, whatever it is called. */
static const char *input_that_differs(const cJSON *was, const cJSON *now)
{
    const cJSON *a = was ? was->child : NULL, *b = now ? now->child : NULL;
    for (; a && b; a = a->next, b = b->next)
        if (!cJSON_Compare(a, b, true))
            return b->string;
    return a ? a->string : b ? b->string : NULL;
}

static void others_list(const cJSON *was, const cJSON *now, char *out, size_t bytes)
{
    static const char *const key[] = {"version", "commit", "engine", "device", "world_size"};
    size_t used = 0;
    *out = 0;
    for (size_t i = 0; i < sizeof key / sizeof *key && used < bytes; i++)
        if (!cJSON_Compare(json_member(was, key[i]), json_member(now, key[i]), true))
            used += (size_t)snprintf(out + used, bytes - used, "%s%s", used ? ", " : "", key[i]);
}

/* Micro-batches per step of the settings of a run, over all its ranks. */
static int64_t micro_batches_of(const cJSON *config, const cJSON *run)
{
    int64_t accumulation = 1, ranks = 1;
    json_integer(json_member(config, "gradient_accumulation_steps"), &accumulation);
    json_integer(json_member(run, "world_size"), &ranks);
    return accumulation * ranks;
}

/* What a step adds up is accumulation times ranks: either may change where the other makes up for it. */
static int micro_batches_check(cJSON *was, const cJSON *run, cJSON *now, const cJSON *record, const char *directory,
                               struct error *error)
{
    const int64_t before = micro_batches_of(was, run), after = micro_batches_of(now, record);
    if (before != after)
        return error_set(error, STATUS_USAGE, "resume_from_checkpoint: %s is of a run of %lld micro-batches per step, over all "
                         "ranks, and these settings make %lld: set gradient_accumulation_steps or the number of ranks so that "
                         "their product is %lld", directory, (long long)before, (long long)after, (long long)before);
    cJSON_DeleteItemFromObjectCaseSensitive(was, "gradient_accumulation_steps");
    cJSON_DeleteItemFromObjectCaseSensitive(now, "gradient_accumulation_steps");
    return STATUS_OK;
}

int checkpoint_check(struct run_record *record, const char *directory, char *other, size_t other_bytes, struct error *error)
{
    char path[FOLDER_PATH_BYTES], difference[500];
    const char *id = "";
    int status = file_join(path, sizeof path, directory, "run.json", error);
    cJSON *run = status ? NULL : json_read(path, error);
    if (!run)
        return status ? status : error->status;
    cJSON *was = cJSON_Duplicate(json_member(run, "config"), true), *now = cJSON_Duplicate(json_member(record->json, "config"), true);
    run_record_keep_mathematics(was);
    run_record_keep_mathematics(now);
    if (!cJSON_IsObject(json_member(run, "config")))
        status = error_set(error, STATUS_INPUT, "%s: config: expected an object", path);
    else if (!was || !now)
        status = error_set(error, STATUS_MEMORY, "%s: out of host memory", path);
    else
        status = micro_batches_check(was, run, now, record->json, directory, error);
    if (!status && difference_find(was, now, "", difference, sizeof difference))
        status = error_set(error, STATUS_USAGE, "resume_from_checkpoint: %s is of a run with other settings: %s", directory,
                           difference);
    const char *input = input_that_differs(json_member(run, "inputs"), json_member(record->json, "inputs"));
    if (!status && input)
        status = error_set(error, STATUS_USAGE, "resume_from_checkpoint: %s: %s is not what the run began with", directory,
                           input);
    if (!status)
        status = json_get_string(run, path, "run_id", &id, error);
    if (!status) {
        snprintf(record->run_id, sizeof record->run_id, "%s", id);
        cJSON_DeleteItemFromObjectCaseSensitive(record->json, "run_id");
        if (!json_add_string(record->json, "run_id", record->run_id))
            status = error_set(error, STATUS_MEMORY, "out of host memory while writing run.json");
    }
    others_list(run, record->json, other, other_bytes);
    cJSON_Delete(was);
    cJSON_Delete(now);
    cJSON_Delete(run);
    return status;
}
