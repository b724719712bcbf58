/* safetensors_index.c - see safetensors_index.h. The index file looks like
 *     {"metadata": {"total_size": 123}, "weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors", ...}}
 * total_size is not checked: several tools are known to write it wrong.
 */
#include "safetensors_index.h"

#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "../../util/memory.h"
#include "../json/json.h"

struct safetensors_index {
    cJSON *file; /* the index file's tree; NULL for a single file */
    int count;
    const struct safetensors_tensor **by_name;
};

void safetensors_index_free(struct safetensors_index *index)
{
    if (!index)
        return;
    cJSON_Delete(index->file);
    free(index->by_name);
    free(index);
}

static int text_compare(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

/* A shard must lie in the model's own folder: no path, and nothing hidden or "..". */
static bool shard_name_valid(const char *name)
{
    size_t length = strlen(name);
    return length > 0 && length <= NAME_MAX && name[0] != '.' && !strchr(name, '/');
}

/* The weight_map's values: count strings of the tree, unsorted. */
static int shard_names_collect(const cJSON *map, const char *path, const char **name, struct error *error)
{
    int count = 0;
    for (const cJSON *item = map->child; item; item = item->next) {
        if (!cJSON_IsString(item))
            return error_set(error, STATUS_INPUT, "%s: weight_map: \"%.200s\": expected a shard's file name", path,
                             item->string);
        if (!shard_name_valid(item->valuestring))
            return error_set(error, STATUS_INPUT,
                             "%s: weight_map: \"%.200s\": \"%.200s\" is not the name of a file in this folder", path,
                             item->string, item->valuestring);
        name[count++] = item->valuestring;
    }
    return STATUS_OK;
}

int safetensors_index_read(struct safetensors *file, const char *path, struct error *error)
{
    file->index = memory_array(1, sizeof *file->index, error);
    if (!file->index)
        return STATUS_MEMORY;
    file->index->file = json_read(path, error);
    if (!file->index->file)
        return error->status;
    const cJSON *map = json_member(file->index->file, "weight_map");
    int count = cJSON_IsObject(map) ? cJSON_GetArraySize(map) : 0;
    if (count == 0)
        return error_set(error, STATUS_INPUT, "%s: weight_map: expected an object of tensor names and shards", path);
    const char **name = memory_array((size_t)count, sizeof *name, error);
    file->shard_name = memory_array((size_t)count, sizeof *file->shard_name, error);
    int status = name && file->shard_name ? shard_names_collect(map, path, name, error) : STATUS_MEMORY;
    if (!status)
        qsort(name, (size_t)count, sizeof *name, text_compare);
    for (int i = 0; i < count && !status; i++) {
        if (i > 0 && !strcmp(name[i], name[i - 1]))
            continue;
        file->shard_name[file->shards] = memory_string(name[i], error);
        if (file->shard_name[file->shards])
            file->shards++;
        else
            status = STATUS_MEMORY;
    }
    free(name);
    return status;
}

static int tensor_compare(const void *left, const void *right)
{
    const struct safetensors_tensor *a = *(const struct safetensors_tensor *const *)left;
    const struct safetensors_tensor *b = *(const struct safetensors_tensor *const *)right;
    int order = strcmp(a->name, b->name);
    return order ? order : (a->shard > b->shard) - (a->shard < b->shard);
}

int safetensors_index_build(struct safetensors *file, struct error *error)
{
    struct safetensors_index *index = file->index;
    if (!index) /* a single file */
        index = file->index = memory_array(1, sizeof *index, error);
    if (!index)
        return STATUS_MEMORY;
    index->by_name = memory_array((size_t)file->tensors, sizeof *index->by_name, error);
    if (!index->by_name)
        return STATUS_MEMORY;
    index->count = file->tensors;
    for (int i = 0; i < index->count; i++)
        index->by_name[i] = &file->tensor[i];
    qsort(index->by_name, (size_t)index->count, sizeof *index->by_name, tensor_compare);
    for (int i = 1; i < index->count; i++) {
        const struct safetensors_tensor *a = index->by_name[i - 1], *b = index->by_name[i];
        if (!strcmp(a->name, b->name))
            return error_set(error, STATUS_INPUT, "%s/%s: tensor \"%.200s\": is also in %s; expected in one shard only",
                             file->directory, file->shard_name[b->shard], b->name, file->shard_name[a->shard]);
    }
    return STATUS_OK;
}

static int name_compare(const void *key, const void *element)
{
    return strcmp(key, (*(const struct safetensors_tensor *const *)element)->name);
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *file, const char *name)
{
    if (!file->index)
        return NULL;
    const struct safetensors_tensor **found = bsearch(name, file->index->by_name, (size_t)file->index->count,
                                                      sizeof *file->index->by_name, name_compare);
    return found ? *found : NULL;
}

int safetensors_index_check(const struct safetensors *file, const char *path, struct error *error)
{
    bool *listed = memory_array((size_t)file->tensors, sizeof *listed, error);
    if (!listed)
        return STATUS_MEMORY;
    int status = STATUS_OK;
    const cJSON *map = json_member(file->index->file, "weight_map");
    for (const cJSON *item = map->child; item && !status; item = item->next) {
        const struct safetensors_tensor *tensor = safetensors_find(file, item->string);
        if (!tensor || strcmp(file->shard_name[tensor->shard], item->valuestring))
            status = error_set(error, STATUS_INPUT, "%s: weight_map: tensor \"%.200s\" is not in %s, but %s%s", path,
                               item->string, item->valuestring, tensor ? "in " : "in no shard",
                               tensor ? file->shard_name[tensor->shard] : "");
        else
            listed[tensor - file->tensor] = true;
    }
    for (int i = 0; i < file->tensors && !status; i++)
        if (!listed[i])
            status = error_set(error, STATUS_INPUT, "%s/%s: tensor \"%.200s\": is missing in the weight_map of %s", file->directory,
                               file->shard_name[file->tensor[i].shard], file->tensor[i].name, path);
    free(listed);
    return status;
}
