/* config_file.c - see config_file.h. */
#include "config_file.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../io/json/json.h"

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
    bool ok = cJSON_IsArray(array) && !buffer_append(out, "", 0, NULL);
    cJSON_ArrayForEach(item, array)
        ok = ok && cJSON_IsString(item) && *item->valuestring && !strchr(item->valuestring, ',') &&
             !buffer_printf(out, NULL, "%s%s", out->length ? "," : "", item->valuestring);
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

static int config_set(struct option_set *set, const char *name, const cJSON *value, const char *path, bool *seen,
                      struct error *error)
{
    const struct option *option;
    int status = option_set_find(set, name, path, &option, error);
    if (status)
        return status;
    if (seen[option - set->table])
        return error_set(error, STATUS_USAGE, "%s: %s: given twice; keep one", path, option->name);
    seen[option - set->table] = true;
    char number[64], expected[512], found[128];
    const char *text;
    struct buffer list = {0};
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

/* True when some option of the table lives inside an object of this name. */
static bool name_is_group(const struct option_set *set, const char *name)
{
    size_t length = strlen(name);
    for (size_t i = 0; i < set->count; i++)
        if (strncmp(set->table[i].name, name, length) == 0 && set->table[i].name[length] == '.')
            return true;
    return false;
}

/* A group that is nothing but an object, as "lora"; "prompt_template" is a name as well. */
static bool name_is_only_group(const struct option_set *set, const char *name)
{
    for (size_t i = 0; i < set->count; i++)
        if (strcmp(set->table[i].name, name) == 0)
            return false;
    return name_is_group(set, name);
}

int config_file_read(struct option_set *set, const char *path, struct error *error)
{
    cJSON *tree = json_read(path, error);
    if (!tree) {
        if (error && error->status == STATUS_INPUT)
            error->status = STATUS_USAGE; /* a config is part of the command line */
        return error ? error->status : STATUS_USAGE;
    }
    bool *seen = memory_array(set->count, sizeof *seen, error);
    int status = seen ? STATUS_OK : STATUS_MEMORY;
    if (!status && !cJSON_IsObject(tree))
        status = error_set(error, STATUS_USAGE, "%s: expected an object {\"key\": value, ...} at the top", path);
    for (const cJSON *item = tree->child; item && !status; item = item->next) {
        if (cJSON_IsNull(item) && name_is_only_group(set, item->string))
            continue;
        if (!cJSON_IsObject(item) || !name_is_group(set, item->string)) {
            status = config_set(set, item->string, item, path, seen, error);
            continue;
        }
        for (const cJSON *member = item->child; member && !status; member = member->next) {
            char name[256];
            snprintf(name, sizeof name, "%.100s.%.100s", item->string, member->string);
            status = config_set(set, name, member, path, seen, error);
        }
    }
    free(seen);
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

static bool add_value(cJSON *object, const char *key, const struct option *option, const void *field)
{
    switch (option->type) {
    case OPTION_BOOL: return json_add_bool(object, key, *(const bool *)field);
    case OPTION_INT: return json_add_int(object, key, *(const int64_t *)field);
    case OPTION_DOUBLE: return json_add_number(object, key, *(const double *)field);
    case OPTION_STRING:
    case OPTION_CHOICE: return json_add_string(object, key, *(const char *const *)field);
    case OPTION_LIST: return add_list(object, key, *(const char *const *)field);
    }
    return false;
}

/* prompt_template is a name or an object of tags: "custom" stands for the object, any other name hides it. */
static bool value_hidden(const struct option_set *set, const struct option *option)
{
    const char *dot = strchr(option->name, '.');
    for (size_t i = 0; i < set->count; i++) {
        const struct option *group = &set->table[i];
        char value[16];
        if (group->type != OPTION_CHOICE || !name_is_group(set, group->name))
            continue;
        option_set_value(set, group, value, sizeof value);
        bool custom = strcmp(value, "custom") == 0;
        size_t length = strlen(group->name);
        if (option == group)
            return custom;
        if (dot && (size_t)(dot - option->name) == length && strncmp(option->name, group->name, length) == 0)
            return !custom;
    }
    return false;
}

cJSON *config_file_write(const struct option_set *set, struct error *error)
{
    cJSON *tree = cJSON_CreateObject();
    bool ok = tree != NULL;
    for (size_t i = 0; i < set->count && ok; i++) {
        const struct option *option = &set->table[i];
        if (!(option->commands & set->command->bit) || value_hidden(set, option))
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
        ok = object && add_value(object, key, option, (const char *)set->settings + option->offset);
    }
    if (ok)
        return tree;
    cJSON_Delete(tree);
    error_set(error, STATUS_MEMORY, "out of host memory while writing the settings as JSON");
    return NULL;
}
