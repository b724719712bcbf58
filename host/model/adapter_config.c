/* adapter_config.c - see adapter_config.h. */
#include "adapter_config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../io/json/json.h"
#include "../util/file.h"
#include "../util/memory.h"

/* PEFT's own defaults, for a config that leaves the keys out. */
#define PEFT_RANK 8
#define PEFT_ALPHA 8

/* Keys that are read below, and those that change nothing of what a finished adapter computes. */
static const char *const harmless[] = {
    "alpha_pattern",    "auto_mapping",      "base_model_name_or_path", "bias",           "corda_config",
    "ensure_weight_tying", "eva_config",     "exclude_modules",         "fan_in_fan_out", "inference_mode",
    "init_lora_weights", "layers_pattern",   "layers_to_transform",     "loftq_config",   "lora_alpha",
    "lora_dropout",     "lora_ga_config",    "megatron_core",           "peft_type",      "peft_version",
    "qalora_group_size", "r",                "rank_pattern",            "revision",       "runtime_config",
    "target_modules",   "task_type",         "use_rslora",
};

/* Keys with which an adapter computes something else, unless they are off. */
static const char *const refused[] = {
    "alora_invocation_tokens", "arrow_config", "kasa_config",       "layer_replication",       "lora_bias",
    "megatron_config",         "modules_to_save", "monteclora_config", "target_parameters",    "trainable_token_indices",
    "use_bdlora",              "use_dora",     "use_qalora",        "velora_config",
};

static bool is_among(const char *key, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!strcmp(key, list[i]))
            return true;
    return false;
}
#define AMONG(key, list) is_among(key, list, sizeof list / sizeof *list)

/* null, false, {} and []: a feature that is not used. */
static bool is_off(const cJSON *value)
{
    return cJSON_IsNull(value) || cJSON_IsFalse(value) || ((cJSON_IsObject(value) || cJSON_IsArray(value)) && !value->child);
}

/* A key that, where it is given, must be one of two texts. */
static int text_check(const cJSON *json, const char *path, const char *key, const char *allowed, const char *or_allowed,
                      struct error *error)
{
    const char *text = NULL;
    int status = json_get_string_or(json, path, key, &text, error);
    if (!status && text && strcmp(text, allowed) && (!or_allowed || strcmp(text, or_allowed)))
        status = error_set(error, STATUS_INPUT, "%s: %s: expected \"%s\", found \"%.60s\", which is not supported", path, key,
                           allowed, text);
    return status;
}

/* pissa, olora, corda and loftq change the base weights too: their adapters do not belong to the model as it is. */
static int initialisation_check(const cJSON *json, const char *path, struct error *error)
{
    const cJSON *value = json_member(json, "init_lora_weights");
    return cJSON_IsString(value) ? text_check(json, path, "init_lora_weights", "gaussian", "eva", error) : STATUS_OK;
}

static int features_check(const cJSON *json, const char *path, struct buffer *warnings, struct error *error)
{
    const char *type = NULL;
    int status = json_get_string(json, path, "peft_type", &type, error);
    if (!status)
        status = text_check(json, path, "peft_type", "LORA", NULL, error);
    if (!status)
        status = text_check(json, path, "task_type", "CAUSAL_LM", NULL, error);
    if (!status)
        status = text_check(json, path, "bias", "none", NULL, error);
    if (!status)
        status = initialisation_check(json, path, error);
    for (const cJSON *item = json->child; item && !status; item = item->next)
        if (is_off(item) || AMONG(item->string, harmless))
            continue;
        else if (AMONG(item->string, refused))
            status = error_set(error, STATUS_INPUT, "%s: %.80s: not supported; only null, false or an empty value is "
                               "accepted", path, item->string);
        else
            status = buffer_printf(warnings, error, "%s: %.80s: not known, and ignored (as PEFT does with keys that are newer "
                                   "than it)\n", path, item->string);
    return status;
}

/* A list of names, or "all-linear", of all layers. */
static bool is_plain(const cJSON *json)
{
    const cJSON *targets = json_member(json, "target_modules");
    return (!cJSON_IsString(targets) || !strcmp(targets->valuestring, "all-linear")) &&
           (!json_member(json, "exclude_modules") || is_off(json_member(json, "exclude_modules"))) &&
           (!json_member(json, "layers_to_transform") || is_off(json_member(json, "layers_to_transform")));
}

static int targets_read(const cJSON *json, const char *path, const struct model *model, struct buffer *list,
                        struct error *error)
{
    const cJSON *targets = json_member(json, "target_modules"), *item;
    int status = STATUS_OK;
    if (cJSON_IsString(targets) && is_plain(json))
        return buffer_printf(list, error, "all-linear");
    if (!cJSON_IsString(targets) && (!cJSON_IsArray(targets) || !targets->child))
        return error_set(error, STATUS_INPUT, "%s: target_modules: expected a list of module names or a regular expression",
                         path);
    if (!is_plain(json)) {
        status = adapter_targets_read(model, json, list, error);
        return status ? error_prefix(error, "%s", path) : STATUS_OK;
    }
    cJSON_ArrayForEach(item, targets) {
        if (status)
            break;
        status = cJSON_IsString(item) && *item->valuestring && !strpbrk(item->valuestring, ", ")
                     ? buffer_printf(list, error, "%s%s", list->length ? "," : "", item->valuestring)
                     : error_set(error, STATUS_INPUT, "%s: target_modules: expected a list of module names", path);
    }
    return status;
}

int adapter_config_read(struct lora_options *options, const struct model *model, const char *directory,
                        struct buffer *warnings, struct error *error)
{
    char path[4096];
    struct buffer list = {0};
    *options = (struct lora_options){.rank = PEFT_RANK, .alpha = PEFT_ALPHA};
    int status = file_join(path, sizeof path, directory, "adapter_config.json", error);
    if (status)
        return status;
    cJSON *json = json_read(path, error);
    if (!json)
        return error->status;
    status = features_check(json, path, warnings, error);
    if (!status)
        status = json_get_int_or(json, path, "r", 1, LORA_RANK_MAX, &options->rank, error);
    if (!status)
        status = json_get_double_or(json, path, "lora_alpha", &options->alpha, error);
    if (!status)
        status = json_get_bool_or(json, path, "use_rslora", &options->rslora, error);
    if (!status)
        status = targets_read(json, path, model, &list, error);
    options->target_modules = list.data;
    if (!status && (status = adapter_overrides_read(options, model, json, error)))
        error_prefix(error, "%s", path);
    cJSON_Delete(json);
    return status;
}

static bool targets_add(cJSON *json, const char *list)
{
    cJSON *array = cJSON_AddArrayToObject(json, "target_modules");
    bool ok = array != NULL;
    for (const char *name = list; ok && name; name = strchr(name, ',') ? strchr(name, ',') + 1 : NULL) {
        char text[256];
        snprintf(text, sizeof text, "%.*s", (int)strcspn(name, ","), name);
        ok = cJSON_AddItemToArray(array, cJSON_CreateString(text));
    }
    return ok;
}

/* True when the family's projections are stored [in, out], which PEFT must be told. */
static bool is_turned(const struct model *model)
{
    bool turned = false;
    for (int t = 0; t < model->tensors; t++)
        turned |= model->tensor[t].transposed;
    return turned;
}

/* rank_pattern and alpha_pattern: of the modules that have others, by their whole path. */
static bool patterns_add(cJSON *json, const struct lora *lora, const struct model *model)
{
    cJSON *rank = cJSON_AddObjectToObject(json, "rank_pattern"), *alpha = cJSON_AddObjectToObject(json, "alpha_pattern");
    bool ok = rank && alpha;
    for (int m = 0; m < lora->modules && ok; m++) {
        const struct lora_module *module = &lora->module[m];
        const char *name = model->tensor[module->tensor].name;
        char path[256];
        snprintf(path, sizeof path, "%.*s", (int)(strlen(name) - strlen(".weight")), name);
        if (module->rank != lora->options.rank)
            ok = json_add_int(rank, path, module->rank);
        if (ok && module->alpha != lora->options.alpha)
            ok = json_add_number(alpha, path, module->alpha);
    }
    return ok;
}

int adapter_config_write(const struct lora *lora, const struct model *model, const char *base, struct folder *folder,
                         struct error *error)
{
    const struct lora_options *options = &lora->options;
    struct buffer text = {0};
    cJSON *json = cJSON_CreateObject();
    bool ok = json && json_add_string(json, "base_model_name_or_path", base) && json_add_string(json, "bias", "none") &&
              json_add_bool(json, "fan_in_fan_out", is_turned(model)) && json_add_bool(json, "inference_mode", true) &&
              json_add_number(json, "lora_alpha", options->alpha) && json_add_number(json, "lora_dropout", 0) &&
              json_add_string(json, "peft_type", "LORA") && json_add_int(json, "r", options->rank) &&
              targets_add(json, options->target_modules) && (!options->overrides || patterns_add(json, lora, model)) &&
              json_add_string(json, "task_type", "CAUSAL_LM") &&
              json_add_bool(json, "use_rslora", options->rslora);
    int status = ok ? json_print_pretty(json, &text, error)
                    : error_set(error, STATUS_MEMORY, "out of host memory while writing adapter_config.json");
    if (!status)
        status = folder_write(folder, "adapter_config.json", FILE_MODE, text.data, text.length, error);
    buffer_free(&text);
    cJSON_Delete(json);
    return status;
}
