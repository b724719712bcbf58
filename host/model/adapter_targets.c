/* adapter_targets.c - which modules of a model an adapter_config.json adapts, as PEFT matches them, and with which rank and
 * alpha: target_modules (names or a regular expression), exclude_modules, layers_to_transform with layers_pattern,
 * rank_pattern and alpha_pattern.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../io/json/json.h"
#include "../util/expression.h"
#include "../util/memory.h"
#include "adapter_config.h"

#define PATH_BYTES 192 /* as struct model_tensor's name */
#define ALL_LINEAR "all-linear"

static bool is_given(const cJSON *value)
{
    return value && !cJSON_IsNull(value) && !(cJSON_IsArray(value) && !value->child) &&
           !(cJSON_IsString(value) && !*value->valuestring);
}

/* The module of a weight; false for biases. */
static bool path_of(const struct model_tensor *tensor, char path[PATH_BYTES])
{
    const size_t length = strlen(tensor->name), tail = strlen(".weight");
    if (length <= tail || strcmp(tensor->name + length - tail, ".weight"))
        return false;
    snprintf(path, PATH_BYTES, "%.*s", (int)(length - tail), tensor->name);
    return true;
}

/* True when a name is the path or its end after a dot. */
static bool name_fits(const char *path, const char *name)
{
    const size_t whole = strlen(path), length = strlen(name);
    return length && length <= whole && !strcmp(path + whole - length, name) &&
           (length == whole || path[whole - length - 1] == '.');
}

/* Names or a regular expression of a key against a module. */
static int targets_match(const cJSON *json, const char *key, const char *path, bool *matches, struct error *error)
{
    const cJSON *targets = json_member(json, key), *item;
    *matches = false;
    if (cJSON_IsString(targets)) {
        int status = expression_matches(targets->valuestring, path, matches, error);
        return status ? error_prefix(error, "%s", key) : STATUS_OK;
    }
    cJSON_ArrayForEach(item, targets)
        *matches |= cJSON_IsString(item) && name_fits(path, item->valuestring);
    return STATUS_OK;
}

/* Whether the layers that are to be adapted have a module of this layer. */
static int layer_chosen(const cJSON *json, const char *path, int layer, bool *chosen, struct error *error)
{
    const cJSON *layers = json_member(json, "layers_to_transform"), *pattern = json_member(json, "layers_pattern"), *item;
    bool fits = !is_given(pattern);
    item = cJSON_IsArray(pattern) ? pattern->child : pattern;
    for (; item && !fits; item = cJSON_IsArray(pattern) ? item->next : NULL) {
        char expression[256];
        if (!cJSON_IsString(item) ||
            snprintf(expression, sizeof expression, "(?:.*?\\.)?(?:%s)\\.\\d+\\..*", item->valuestring) >= 256)
            return error_set(error, STATUS_INPUT, "layers_pattern: expected names of the lists that layers are in");
        int status = expression_matches(expression, path, &fits, error);
        if (status)
            return status;
    }
    *chosen = false;
    for (item = cJSON_IsArray(layers) ? layers->child : layers; item; item = cJSON_IsArray(layers) ? item->next : NULL) {
        int64_t number;
        if (!json_integer(item, &number))
            return error_set(error, STATUS_INPUT, "layers_to_transform: expected a layer's number or a list of them");
        *chosen |= fits && number == layer;
    }
    return STATUS_OK;
}

static int module_chosen(const cJSON *json, const struct model_tensor *tensor, const char *path, bool *chosen,
                         struct error *error)
{
    static const char target_key[] = "target_modules", exclude_key[] = "exclude_modules";
    const cJSON *targets = json_member(json, target_key);
    const bool projection = lora_is_projection(tensor);
    bool matches = false;
    int status = is_given(json_member(json, exclude_key)) ? targets_match(json, exclude_key, path, &matches, error) : STATUS_OK;
    *chosen = false;
    if (status || matches)
        return status;
    if (cJSON_IsString(targets) && !strcmp(targets->valuestring, ALL_LINEAR))
        *chosen = projection;
    else
        status = targets_match(json, target_key, path, chosen, error);
    if (!status && *chosen && !projection)
        return error_set(error, STATUS_INPUT, "target_modules: '%s' is no projection of a layer; adapters of others are not "
                         "supported", path);
    if (!status && *chosen && is_given(json_member(json, "layers_to_transform")))
        status = layer_chosen(json, path, tensor->layer, chosen, error);
    return status;
}

int adapter_targets_read(const struct model *model, const cJSON *json, struct buffer *list, struct error *error)
{
    int status = STATUS_OK;
    if (cJSON_IsString(json_member(json, "target_modules")) && is_given(json_member(json, "layers_to_transform")))
        return error_set(error, STATUS_INPUT, "layers_to_transform: expected a list of names as target_modules beside it; "
                         "write the layers' numbers into the expression");
    for (int t = 0; t < model->tensors && !status; t++) {
        char path[PATH_BYTES];
        bool chosen = false;
        if (!path_of(&model->tensor[t], path))
            continue;
        status = module_chosen(json, &model->tensor[t], path, &chosen, error);
        if (!status && chosen)
            status = buffer_printf(list, error, "%s%s", list->length ? "," : "", path);
    }
    return status || list->length ? status : error_set(error, STATUS_INPUT, "target_modules: no module of the model fits");
}

/* The number that a pattern has for a module: of its first key that fits, as PEFT looks. */
static int pattern_look(const cJSON *patterns, const char *key, const char *path, double *value, struct error *error)
{
    for (const cJSON *item = cJSON_IsObject(patterns) ? patterns->child : NULL; item; item = item->next) {
        struct buffer expression = {0};
        bool matches = false;
        int status = buffer_printf(&expression, error, "(?:.*\\.)?(?:%s)", item->string);
        if (!status)
            status = expression_matches(expression.data, path, &matches, error);
        buffer_free(&expression);
        if (status)
            return error_prefix(error, "%s", key);
        if (matches && !cJSON_IsNumber(item))
            return error_set(error, STATUS_INPUT, "%s: '%.60s': expected a number", key, item->string);
        if (matches) {
            *value = item->valuedouble;
            return STATUS_OK;
        }
    }
    return STATUS_OK;
}

int adapter_overrides_read(struct lora_options *options, const struct model *model, const cJSON *json, struct error *error)
{
    static const char rank_key[] = "rank_pattern", alpha_key[] = "alpha_pattern";
    const cJSON *ranks = json_member(json, rank_key), *alphas = json_member(json, alpha_key);
    if ((is_given(ranks) && !cJSON_IsObject(ranks)) || (is_given(alphas) && !cJSON_IsObject(alphas)))
        return error_set(error, STATUS_INPUT, "%s: expected an object of patterns and numbers",
                         is_given(ranks) && !cJSON_IsObject(ranks) ? rank_key : alpha_key);
    struct lora_override *override = memory_array((size_t)model->tensors, sizeof *override, error);
    int status = override ? STATUS_OK : STATUS_MEMORY;
    options->override = override;
    for (int t = 0; t < model->tensors && !status; t++) {
        char path[PATH_BYTES];
        double rank = (double)options->rank, alpha = options->alpha;
        if (!lora_is_projection(&model->tensor[t]) || !path_of(&model->tensor[t], path))
            continue;
        status = pattern_look(ranks, rank_key, path, &rank, error);
        if (!status)
            status = pattern_look(alphas, alpha_key, path, &alpha, error);
        if (!status && !(rank >= 1 && rank <= LORA_RANK_MAX && rank == (double)(int64_t)rank))
            status = error_set(error, STATUS_INPUT, "%s: expected ranks from 1 to %d, found %g", rank_key, LORA_RANK_MAX, rank);
        if (status || (rank == (double)options->rank && alpha == options->alpha))
            continue;
        override[options->overrides] = (struct lora_override){memory_string(path, error), (int64_t)rank, alpha};
        status = override[options->overrides].module ? STATUS_OK : STATUS_MEMORY;
        options->overrides += !status;
    }
    return status;
}
