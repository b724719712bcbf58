/* config_file.c - see config_file.h. */
#include "config_file.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../io/json/json.h"
#include "../util/file.h"

enum { PATH_BYTES = 4096 };

/* A value as a person would write it, for an error. */
static void value_describe(const cJSON *value, char *out, size_t out_bytes)
{
    if (cJSON_IsString(value))
        snprintf(out, out_bytes, "the string \"%.60s\"", value->valuestring);
    else if (cJSON_IsNumber(value))
        snprintf(out, out_bytes, "the number %.10g", value->valuedouble);
    else
        snprintf(out, out_bytes, "%s",
                 cJSON_IsBool(value) ? cJSON_IsTrue(value) ? "true" : "false"
                 : cJSON_IsNull(value) ? "null"
                 : cJSON_IsArray(value) ? "an array"
                                        : "an object");
}

/* The strings of an array with commas between them; false when it holds anything else. */
static bool list_join(const cJSON *array, struct buffer *out)
{
    const cJSON *item;
    struct error unused;
    bool ok = cJSON_IsArray(array) && !buffer_append(out, "", 0, &unused);
    cJSON_ArrayForEach(item, array)
        ok = ok && cJSON_IsString(item) && *item->valuestring && !strchr(item->valuestring, ',') &&
             !buffer_printf(out, &unused, "%s%s", out->length ? "," : "", item->valuestring);
    return ok;
}

/* The text that option_set_text takes, when the value is of the option's type; it may lie in number or list. */
static bool value_text(const struct option *option, const cJSON *value, char *number, size_t number_bytes,
                       struct buffer *list, const char **text)
{
    int64_t integer;
    *text = number;
    switch (option->type) {
    case OPTION_BOOL:
        *text = cJSON_IsTrue(value) ? "true" : "false";
        return cJSON_IsBool(value);
    case OPTION_INT:
        if (!json_integer(value, &integer))
            return false;
        snprintf(number, number_bytes, "%lld", (long long)integer);
        return true;
    case OPTION_DOUBLE:
        if (!cJSON_IsNumber(value))
            return false;
        snprintf(number, number_bytes, "%.17g", value->valuedouble);
        return true;
    case OPTION_STRING:
    case OPTION_CHOICE:
        *text = value->valuestring;
        return cJSON_IsString(value);
    case OPTION_LIST:
        if (!cJSON_IsString(value) && !list_join(value, list))
            return false;
        *text = cJSON_IsString(value) ? value->valuestring : list->data;
        return true;
    }
    return false;
}

/* A file that is being read. */
struct reading {
    struct option_set *set;
    const char *path;
    bool of_run;  /* keys that only other commands have are passed over */
    bool record;  /* it is the record of a run: what was said of that run alone is passed over */
    const char **seen; /* [count] names of the options that were there */
    size_t count, capacity;
};

static int seen_add(struct reading *reading, const char *name, struct error *error)
{
    for (size_t i = 0; i < reading->count; i++)
        if (!strcmp(reading->seen[i], name))
            return error_set(error, STATUS_USAGE, "%s: %s: given twice; keep one", reading->path, name);
    int status = memory_grow(&reading->seen, &reading->capacity, reading->count + 1, sizeof *reading->seen, error);
    if (!status)
        reading->seen[reading->count++] = name;
    return status;
}

static bool known_elsewhere(const struct option_set *set, const char *name)
{
    char unused[16];
    return set->elsewhere && set->elsewhere(set->user, name, unused, sizeof unused);
}

int config_value_store(struct option_set *set, const struct option *option, const cJSON *value, const char *path,
                       struct error *error)
{
    char number[64], expected[512], found[128];
    const char *text;
    struct buffer list = {0};
    int status;
    if (value_text(option, value, number, sizeof number, &list, &text)) {
        status = option_set_text(set, option, text, OPTION_FROM_FILE, path, error);
    } else {
        option_describe(option, expected, sizeof expected);
        value_describe(value, found, sizeof found);
        status = error_set(error, STATUS_USAGE, "%s: %s: expected %s, found %s", path, option->name, expected, found);
    }
    buffer_free(&list);
    return status;
}

static int config_set(struct reading *reading, const char *name, const cJSON *value, struct error *error)
{
    struct option_set *set = reading->set;
    const struct option *option;
    int status = option_set_find(set, name, reading->path, &option, error);
    if (status && reading->of_run && known_elsewhere(set, name))
        return STATUS_OK;
    if (!status)
        status = seen_add(reading, option->name, error);
    if (status || (reading->record && option->once))
        return status;
    return config_value_store(set, option, value, reading->path, error);
}

/* True when the name lies in an object of that name. */
static bool in_group(const char *option, const char *object)
{
    size_t length = strlen(object);
    return !strncmp(option, object, length) && option[length] == '.';
}

/* True when some option lives inside an object of this name; *only: no option is called so itself. */
static bool name_is_group(const struct option_set *set, const char *name, bool *only)
{
    bool group = false;
    *only = !option_set_entry(set, name);
    for (size_t i = 0; i < set->count; i++)
        group = group || in_group(set->entry[i].option->name, name);
    return group;
}

/* An object of keys that only other commands have. */
static bool group_elsewhere(const struct reading *reading, const cJSON *object)
{
    char name[256];
    if (!reading->of_run || !cJSON_IsObject(object))
        return false;
    for (const cJSON *member = object->child; member; member = member->next) {
        snprintf(name, sizeof name, "%.100s.%.100s", object->string, member->string);
        if (!known_elsewhere(reading->set, name))
            return false;
    }
    return true;
}

static int item_set(struct reading *reading, const cJSON *item, struct error *error)
{
    bool only;
    const bool group = name_is_group(reading->set, item->string, &only);
    int status = STATUS_OK;
    if (cJSON_IsNull(item) && group && only)
        return STATUS_OK;
    if (!cJSON_IsObject(item) || (!group && !group_elsewhere(reading, item)))
        return config_set(reading, item->string, item, error);
    for (const cJSON *member = item->child; member && !status; member = member->next) {
        char name[256];
        snprintf(name, sizeof name, "%.100s.%.100s", item->string, member->string);
        status = config_set(reading, name, member, error);
    }
    return status;
}

/* The model that a run has made: its folder, or the adapter in there on the model that the run began with. Flags hold. */
static int run_model_choose(struct option_set *set, const cJSON *config, const char *folder, struct error *error)
{
    char whole[PATH_BYTES], adapter[PATH_BYTES];
    const struct option *model, *adapter_option;
    const cJSON *output = json_member(config, "output_dir");
    if (!*folder && cJSON_IsString(output))
        folder = output->valuestring;
    int status = option_set_find(set, "model_name_or_path", NULL, &model, error);
    if (!status)
        status = option_set_find(set, "adapter", NULL, &adapter_option, error);
    if (status || !*folder)
        return status;
    status = file_join(whole, sizeof whole, folder, "config.json", error);
    if (!status)
        status = file_join(adapter, sizeof adapter, folder, "adapter_config.json", error);
    if (status)
        return status;
    if (!file_exists(whole) && file_exists(adapter)) /* the base is what the config names */
        return option_set_text(set, adapter_option, folder, OPTION_FROM_FILE, folder, error);
    status = option_set_text(set, model, folder, OPTION_FROM_FILE, folder, error);
    /* the adapter that the run began with is in the model by now */
    return status ? status : option_set_text(set, adapter_option, "", OPTION_FROM_FILE, folder, error);
}

/* The JSON of a config file, of run.json, or of the run.json in a folder: *config is the part that holds the keys, file the
 * path that was read, and folder [PATH_BYTES] the run's, "" for a config file. */
static int config_open(const char *path, char *file, cJSON **tree, const cJSON **config, char *folder, struct error *error)
{
    const bool is_folder = file_is_directory(path);
    int status = STATUS_OK;
    snprintf(folder, PATH_BYTES, "%s", is_folder ? path : "");
    if (is_folder)
        status = file_join(file, PATH_BYTES, path, "run.json", error);
    else
        snprintf(file, PATH_BYTES, "%s", path);
    if (status)
        return status;
    if (is_folder && !file_exists(file))
        return error_set(error, STATUS_USAGE, "%s: a folder without run.json; expected a config file, or the folder of a run",
                         path);
    if (!(*tree = json_read(file, error))) {
        if (error->status == STATUS_INPUT)
            error->status = STATUS_USAGE; /* a config is part of the command line */
        return error->status;
    }
    *config = *tree;
    if (!cJSON_IsObject(*tree))
        return error_set(error, STATUS_USAGE, "%s: expected an object {\"key\": value, ...} at the top", path);
    if (cJSON_IsObject(json_member(*tree, "config")) && cJSON_IsArray(json_member(*tree, "command"))) {
        *config = json_member(*tree, "config");
        const char *slash = strrchr(path, '/');
        if (!*folder)
            snprintf(folder, PATH_BYTES, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    } else if (*folder) {
        return error_set(error, STATUS_USAGE, "%s: holds no config of a run", file);
    }
    return STATUS_OK;
}

int config_file_read(struct option_set *set, const char *path, bool of_run, struct error *error)
{
    cJSON *tree = NULL;
    const cJSON *config = NULL;
    char folder[PATH_BYTES], file[PATH_BYTES];
    struct reading reading = {.set = set, .path = file, .of_run = of_run};
    int status = config_open(path, file, &tree, &config, folder, error);
    reading.record = config && config != tree;
    for (const cJSON *item = config ? config->child : NULL; item && !status; item = item->next)
        status = item_set(&reading, item, error);
    if (!status && of_run)
        status = run_model_choose(set, config, folder, error);
    free(reading.seen);
    cJSON_Delete(tree);
    return status;
}

/* One name as a string, several as an array. */
static bool add_list(cJSON *object, const char *key, const char *list)
{
    if (!strchr(list, ','))
        return json_add_string(object, key, list);
    cJSON *array = cJSON_AddArrayToObject(object, key);
    bool ok = array != NULL;
    for (const char *name = list; ok && name; name = strchr(name, ',') ? strchr(name, ',') + 1 : NULL) {
        char text[256];
        snprintf(text, sizeof text, "%.*s", (int)strcspn(name, ","), name);
        ok = cJSON_AddItemToArray(array, cJSON_CreateString(text));
    }
    return ok;
}

static bool add_value(cJSON *object, const char *key, const struct option_entry *entry)
{
    const void *field = (const char *)entry->values + entry->option->offset;
    switch (entry->option->type) {
    case OPTION_BOOL: return json_add_bool(object, key, *(const bool *)field);
    case OPTION_INT: return json_add_int(object, key, *(const int64_t *)field);
    case OPTION_DOUBLE: return json_add_number(object, key, *(const double *)field);
    case OPTION_CHOICE: return json_add_string(object, key, option_choice(entry->option, *(const int *)field));
    case OPTION_STRING: return json_add_string(object, key, *(const char *const *)field);
    case OPTION_LIST: return add_list(object, key, *(const char *const *)field);
    }
    return false;
}

/* prompt_template is a name or an object of tags: "custom" stands for the object, any other name hides it. */
static bool value_hidden(const struct option_set *set, const struct option *option)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct option_entry *group = &set->entry[i];
        char value[16];
        bool only;
        if (!name_is_group(set, group->option->name, &only))
            continue;
        option_value(group, value, sizeof value);
        bool custom = strcmp(value, "custom") == 0;
        if (option == group->option)
            return custom;
        if (in_group(option->name, group->option->name))
            return !custom;
    }
    return false;
}

cJSON *config_file_write(const struct option_set *set, bool shared, struct error *error)
{
    cJSON *tree = cJSON_CreateObject();
    bool ok = tree != NULL;
    for (size_t i = 0; i < set->count && ok; i++) {
        const struct option *option = set->entry[i].option;
        if (value_hidden(set, option) || (shared && option->local))
            continue;
        const char *key = option->name, *dot = strchr(key, '.');
        cJSON *object = tree;
        if (dot) {
            char group[64];
            snprintf(group, sizeof group, "%.*s", (int)(dot - key), key);
            object = cJSON_GetObjectItemCaseSensitive(tree, group);
            if (!object)
                object = cJSON_AddObjectToObject(tree, group);
            key = dot + 1;
        }
        ok = object && add_value(object, key, &set->entry[i]);
    }
    if (ok)
        return tree;
    cJSON_Delete(tree);
    error_set(error, STATUS_MEMORY, "out of host memory while writing the options as JSON");
    return NULL;
}
