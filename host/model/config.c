/* config.c - config.json to struct model_config, driven by the family's table of keys. */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "../io/json/json.h"
#include "../util/file.h"
#include "config_read.h"
#include "family.h"
#include "tied_head.h"

static int family_find(const cJSON *json, const char *path, const struct family **out, struct error *error)
{
    const char *model_type = NULL;
    int status = json_get_string(json, path, "model_type", &model_type, error);
    if (status)
        return status;
    char known[256] = "";
    for (const struct family *const *family = families; *family; family++) {
        if (!strcmp((*family)->model_type, model_type)) {
            *out = *family;
            return STATUS_OK;
        }
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", *known ? ", " : "", (*family)->model_type);
    }
    return error_set(error, STATUS_INPUT, "%s: model_type: \"%s\" is not supported; expected one of %s", path, model_type,
                     known);
}

/* The number that a key stands for: the family's where it is absent, null or 0. */
static int key_read(const struct config_key *key, const cJSON *value, const char *path, double *out, struct error *error)
{
    const bool truth = key->type == CONFIG_BOOL || key->type == CONFIG_NOT;
    int64_t whole = 0;
    if (!value)
        *out = key->absent;
    else if (cJSON_IsNull(value))
        *out = key->null;
    else if (truth ? !cJSON_IsBool(value) : !cJSON_IsNumber(value))
        return error_set(error, STATUS_INPUT, "%s: %s: expected %s", path, key->name, truth ? "true or false" : "a number");
    else if (truth)
        *out = cJSON_IsTrue(value);
    else if (key->type == CONFIG_INT && (!json_integer(value, &whole) || whole < 0 || whole > 1 << 28))
        return error_set(error, STATUS_INPUT, "%s: %s: expected a whole number from 0 to %d", path, key->name, 1 << 28);
    else
        *out = value->valuedouble == 0 ? key->zero : value->valuedouble;
    if (*out == CONFIG_REFUSED)
        return error_set(error, STATUS_INPUT, "%s: %s: %s is not accepted; leave the key out or give a value", path, key->name,
                         cJSON_IsNull(value) ? "null" : "0");
    return STATUS_OK;
}

static int keys_read(struct model_config *config, const cJSON *json, const char *path, struct error *error)
{
    config->num_key_value_heads = config->head_dim = CONFIG_DERIVED;
    config->norm_eps = config->family->norm_eps;
    for (const struct config_key *key = config->family->key; key->name; key++) {
        double number = 0;
        int status = key_read(key, json_member(json, key->name), path, &number, error);
        if (status)
            return status;
        char *field = (char *)config + key->offset;
        /* Only a whole number was checked to fit: a double may be 1e300, and that as an integer is undefined. */
        const int64_t whole = key->type == CONFIG_INT ? (int64_t)number : 0;
        const bool truth = (number != 0) != (key->type == CONFIG_NOT);
        if (number == CONFIG_KEPT)
            continue;
        if (key->type == CONFIG_INT)
            memcpy(field, &whole, sizeof whole);
        else if (key->type == CONFIG_DOUBLE)
            memcpy(field, &number, sizeof number);
        else
            memcpy(field, &truth, sizeof truth);
    }
    return STATUS_OK;
}

static bool numbers_equal(const cJSON *a, const cJSON *b)
{
    int64_t left, right;
    return json_integer(a, &left) && json_integer(b, &right) && left == right;
}

static int refusals_check(const struct family *family, const cJSON *json, const char *path, struct error *error)
{
    for (const struct config_refusal *refusal = family->refusal; refusal->name; refusal++) {
        const cJSON *value = json_member(json, refusal->name);
        bool fine = !value || (refusal->allow_null && cJSON_IsNull(value)) ||
                    (refusal->allow_false && cJSON_IsFalse(value)) || (refusal->allow_true && cJSON_IsTrue(value)) ||
                    (refusal->allow_equal && numbers_equal(value, json_member(json, refusal->allow_equal)));
        if (!fine)
            return error_set(error, STATUS_INPUT, "%s: %s: %s", path, refusal->name, refusal->reason);
    }
    return STATUS_OK;
}

static int activation_read(struct model_config *config, const cJSON *json, const char *path, struct error *error)
{
    static const struct {
        const char *name;
        enum activation_kind kind;
    } known[] = {{"gelu_new", ACTIVATION_GELU_TANH}, {"gelu_pytorch_tanh", ACTIVATION_GELU_TANH},
                 {"gelu", ACTIVATION_GELU},          {"relu", ACTIVATION_RELU}};
    const struct family *family = config->family;
    const char *name = family->activation_fallback;
    const cJSON *value;
    int status = config_member(json, path, family->activation_key, &value, error);
    if (!status && value)
        status = json_get_string(json, path, family->activation_key, &name, error);
    if (status)
        return status;
    if (family->gated && (!strcmp(name, "silu") || !strcmp(name, "swish"))) {
        config->activation = ACTIVATION_SWIGLU;
        return STATUS_OK;
    }
    if (family->gated && (!strcmp(name, "gelu_pytorch_tanh") || !strcmp(name, "gelu_new") ||
                          (family->gelu_is_tanh && !strcmp(name, "gelu")))) {
        config->activation = ACTIVATION_GEGLU_TANH;
        return STATUS_OK;
    }
    for (size_t i = 0; !family->gated && i < sizeof known / sizeof *known; i++)
        if (!strcmp(name, known[i].name)) {
            config->activation = known[i].kind;
            return STATUS_OK;
        }
    return error_set(error, STATUS_INPUT, "%s: %s: \"%s\" is not supported in a %s model", path, family->activation_key,
                     name, family->model_type);
}

/* Layers without rotary positions: those with a 0 in no_rope_layers or, without a list, every no_rope_layer_interval-th. */
static int unrotated_layers_read(struct model_config *config, const cJSON *json, const char *path, struct error *error)
{
    static const struct config_key every = {"no_rope_layer_interval", CONFIG_INT, 0, 4, CONFIG_REFUSED, CONFIG_REFUSED};
    const cJSON *list = json_member(json, "no_rope_layers");
    double interval = 0;
    int status = key_read(&every, json_member(json, every.name), path, &interval, error);
    const bool listed = list && !cJSON_IsNull(list);
    if (!status && listed && (!cJSON_IsArray(list) || cJSON_GetArraySize(list) < config->num_hidden_layers))
        status = error_set(error, STATUS_INPUT, "%s: no_rope_layers: expected null or one for each of num_hidden_layers", path);
    const cJSON *item = status || !listed ? NULL : list->child;
    for (int l = 0; l < config->num_hidden_layers && !status; l++) {
        if (listed && !cJSON_IsNumber(item))
            return error_set(error, STATUS_INPUT, "%s: no_rope_layers: expected 0 or 1 for each layer", path);
        const bool rotated = listed ? item->valuedouble != 0 : (l + 1) % (int64_t)interval != 0;
        config->layer[l] |= rotated ? 0 : LAYER_UNROTATED;
        item = listed ? item->next : NULL;
    }
    return status;
}

/* Which layers have a window by layer_types, which has one for each layer, or null; whether any. */
static int layer_types_read(struct model_config *config, const cJSON *types, const char *path, bool *sliding,
                            struct error *error)
{
    const cJSON *type;
    int layer = 0;
    *sliding = false;
    if (!cJSON_IsArray(types) || cJSON_GetArraySize(types) != config->num_hidden_layers)
        return error_set(error, STATUS_INPUT, "%s: layer_types: expected null or one for each of num_hidden_layers", path);
    cJSON_ArrayForEach(type, types) {
        const bool slides = cJSON_IsString(type) && !strcmp(type->valuestring, "sliding_attention");
        if (!slides && !(cJSON_IsString(type) && !strcmp(type->valuestring, "full_attention")))
            return error_set(error, STATUS_INPUT, "%s: layer_types: expected full_attention or sliding_attention", path);
        *sliding |= slides;
        config->layer[layer] = (unsigned char)((config->layer[layer] & ~LAYER_SLIDING) | (slides ? LAYER_SLIDING : 0));
        layer++;
    }
    return STATUS_OK;
}

/* The same of a family in which by default every so many layers one has no window. */
static int pattern_windows_read(struct model_config *config, const cJSON *json, const char *path, struct error *error)
{
    const struct family *family = config->family;
    const struct config_key every = {family->window_pattern_key, CONFIG_INT, 0, family->window_pattern, CONFIG_REFUSED,
                                     CONFIG_REFUSED};
    const struct config_key window = {"sliding_window", CONFIG_INT, 0, 4096, 0, CONFIG_REFUSED};
    const cJSON *types = json_member(json, "layer_types");
    double pattern = family->window_pattern, length = 0;
    bool sliding = false;
    int status = every.name ? key_read(&every, json_member(json, every.name), path, &pattern, error) : STATUS_OK;
    if (!status)
        status = key_read(&window, json_member(json, window.name), path, &length, error);
    for (int l = 0; !status && l < config->num_hidden_layers; l++)
        if ((l + 1) % (int64_t)pattern) {
            config->layer[l] |= LAYER_SLIDING;
            sliding = true;
        }
    if (!status && types && !cJSON_IsNull(types))
        status = layer_types_read(config, types, path, &sliding, error);
    if (!status && sliding && !length)
        status = error_set(error, STATUS_INPUT, "%s: sliding_window: null, but there are layers with sliding_attention", path);
    config->sliding_window = sliding ? (int64_t)length : 0;
    return status;
}

/* Windows of some layers: of those that layer_types names or, without it, of the layers from max_window_layers on; where
 * layers differ in their positions, of those without rotary ones. One length for all. */
static int layer_windows_read(struct model_config *config, const cJSON *json, const char *path, struct error *error)
{
    static const struct config_key use = {"use_sliding_window", CONFIG_BOOL, 0, false, CONFIG_REFUSED, 0},
                                   first = {"max_window_layers", CONFIG_INT, 0, 28, CONFIG_REFUSED, 0};
    const bool unrotated = config->family->unrotated_layers;
    const struct config_key window = {"sliding_window", CONFIG_INT, 0, unrotated ? 0 : 4096, 0, CONFIG_DERIVED};
    const cJSON *types = json_member(json, "layer_types");
    double used = 0, length = 0, first_layer = 0;
    int status = key_read(&use, json_member(json, use.name), path, &used, error);
    if (!status)
        status = key_read(&window, json_member(json, window.name), path, &length, error);
    if (!status)
        status = key_read(&first, json_member(json, first.name), path, &first_layer, error);
    if (status)
        return status;
    used = used && length; /* null: no window */
    bool sliding = false;
    for (int l = 0; l < config->num_hidden_layers; l++) {
        const bool slides = used && (unrotated ? config->layer[l] & LAYER_UNROTATED : l >= first_layer);
        config->layer[l] |= slides ? LAYER_SLIDING : 0;
        sliding |= slides;
    }
    if (types && !cJSON_IsNull(types))
        status = layer_types_read(config, types, path, &sliding, error);
    if (status)
        return status;
    if (sliding && (!used || length == CONFIG_DERIVED))
        return error_set(error, STATUS_INPUT, "%s: layer_types: sliding_attention without a sliding_window that is used", path);
    config->sliding_window = sliding ? (int64_t)length : 0;
    return STATUS_OK;
}

static int sizes_check(struct model_config *config, const char *path, struct error *error)
{
    if (config->num_key_value_heads == CONFIG_DERIVED)
        config->num_key_value_heads = config->num_attention_heads;
    if (config->intermediate_size == CONFIG_DERIVED)
        config->intermediate_size = 4 * config->hidden_size;
    if (config->num_hidden_layers > CONFIG_LAYERS_MAX)
        return error_set(error, STATUS_INPUT, "%s: num_hidden_layers: %lld; at most %d are accepted", path,
                         (long long)config->num_hidden_layers, CONFIG_LAYERS_MAX);
    if (config->num_attention_heads % config->num_key_value_heads)
        return error_set(error, STATUS_INPUT, "%s: num_attention_heads (%lld) must be a multiple of num_key_value_heads "
                         "(%lld)", path, (long long)config->num_attention_heads, (long long)config->num_key_value_heads);
    if (config->head_dim == CONFIG_DERIVED) {
        if (config->hidden_size % config->num_attention_heads)
            return error_set(error, STATUS_INPUT, "%s: hidden_size (%lld) must be a multiple of num_attention_heads "
                             "(%lld), or head_dim be given", path, (long long)config->hidden_size,
                             (long long)config->num_attention_heads);
        config->head_dim = config->hidden_size / config->num_attention_heads;
    }
    if (config->head_dim % 8 || !config->head_dim || config->head_dim > 256)
        return error_set(error, STATUS_INPUT, "%s: head_dim: %lld is not supported; expected a multiple of 8 up to 256",
                         path, (long long)config->head_dim);
    if (config->attention_cap < 0 || config->final_cap < 0)
        return error_set(error, STATUS_INPUT, "%s: %s: expected null or a number above 0", path,
                         config->attention_cap < 0 ? "attn_logit_softcapping" : "final_logit_softcapping");
    return STATUS_OK;
}

static int dtype_read(struct model_config *config, const cJSON *json, const char *path, struct error *error)
{
    const char *name = NULL;
    int status = json_get_string_or(json, path, "dtype", &name, error);
    if (!status && !name)
        status = json_get_string_or(json, path, "torch_dtype", &name, error);
    if (status)
        return status;
    name = name ? name : "float32";
    for (int i = DTYPE_F32; i <= DTYPE_F16; i++)
        if (!strcmp(name, dtype_name((enum dtype)i))) {
            config->torch_dtype = (enum dtype)i;
            return STATUS_OK;
        }
    return error_set(error, STATUS_INPUT, "%s: torch_dtype: \"%s\" is not supported; expected float32, bfloat16 or "
                     "float16", path, name);
}

/* An id, or -1 where it is null or absent. */
static int token_read(const cJSON *json, const char *path, const char *key, int32_t *id, struct error *error)
{
    const cJSON *value = json_member(json, key);
    int64_t number = -1;
    if (value && !cJSON_IsNull(value) && (!json_integer(value, &number) || number < -INT32_MAX || number > INT32_MAX))
        return error_set(error, STATUS_INPUT, "%s: %s: expected an id or null", path, key);
    *id = (int32_t)number;
    return STATUS_OK;
}

/* Ids that no token of the vocabulary has end nothing. */
static int eos_add(struct model_config *config, const cJSON *value, const char *path, struct error *error)
{
    int64_t id;
    if (!json_integer(value, &id) || id < 0)
        return error_set(error, STATUS_INPUT, "%s: eos_token_id: expected an id, a list of ids or null", path);
    if (id >= config->vocab_size)
        return STATUS_OK;
    if (config->eos_token_ids == EOS_IDS_MAX)
        return error_set(error, STATUS_INPUT, "%s: eos_token_id: more than %d ids", path, EOS_IDS_MAX);
    config->eos_token_id[config->eos_token_ids++] = (int32_t)id;
    return STATUS_OK;
}

/* Beginning and end of sequence. */
static int special_tokens_read(struct model_config *config, const cJSON *json, const char *path, struct error *error)
{
    const cJSON *eos = json_member(json, "eos_token_id");
    int status = token_read(json, path, "bos_token_id", &config->bos_token_id, error);
    if (config->bos_token_id < 0 || config->bos_token_id >= config->vocab_size)
        config->bos_token_id = -1;
    config->eos_token_ids = 0;
    if (cJSON_IsArray(eos))
        for (const cJSON *one = eos->child; one && !status; one = one->next)
            status = eos_add(config, one, path, error);
    else if (eos && !cJSON_IsNull(eos) && !status)
        status = eos_add(config, eos, path, error);
    return status;
}

/* The row of the embedding that is zero in a new model; a negative one counts from the end. */
static int padding_read(struct model_config *config, const cJSON *json, const char *path, struct error *error)
{
    config->pad_token_id = config->family->pad_token_id;
    int status = json_member(json, "pad_token_id") ? token_read(json, path, "pad_token_id", &config->pad_token_id, error)
                                                   : STATUS_OK;
    const cJSON *value = json_member(json, "pad_token_id");
    if (!status && cJSON_IsNumber(value) && config->pad_token_id < 0)
        config->pad_token_id += (int32_t)config->vocab_size;
    const bool inside = config->pad_token_id >= 0 && config->pad_token_id < config->vocab_size;
    const bool none = value ? cJSON_IsNull(value) : config->pad_token_id < 0;
    if (!status && config->family->padding_row && !inside && !none)
        status = error_set(error, STATUS_INPUT, "%s: pad_token_id: %s is %lld; expected null or an id below vocab_size (%lld)",
                           path, value ? "it" : "it is absent, and what a model of this type then has",
                           (long long)config->pad_token_id, (long long)config->vocab_size);
    return status;
}

/* Where there is a generation_config.json, its special tokens are the only ones. */
static int generation_tokens_read(struct model_config *config, const cJSON *json, const char *config_path,
                                  const char *directory, struct error *error)
{
    char path[4096];
    int status = special_tokens_read(config, json, config_path, error);
    if (!status)
        status = file_join(path, sizeof path, directory, "generation_config.json", error);
    if (status)
        return status;
    if (file_exists(path)) {
        cJSON *generation = json_read(path, error);
        if (!generation)
            return error->status;
        status = special_tokens_read(config, generation, path, error);
        cJSON_Delete(generation);
        return status;
    }
    if (!json_member(json, "bos_token_id") && config->family->bos_token_id < config->vocab_size)
        config->bos_token_id = config->family->bos_token_id;
    if (!json_member(json, "eos_token_id") && config->family->eos_token_id >= 0 &&
        config->family->eos_token_id < config->vocab_size)
        config->eos_token_id[config->eos_token_ids++] = config->family->eos_token_id;
    return STATUS_OK;
}

static int config_fill(struct model_config *config, const cJSON *json, const char *path, struct error *error)
{
    if (!cJSON_IsObject(json))
        return error_set(error, STATUS_INPUT, "%s: expected a JSON object", path);
    int status = family_find(json, path, &config->family, error);
    if (!status)
        status = keys_read(config, json, path, error);
    if (!status)
        status = refusals_check(config->family, json, path, error);
    if (!status)
        status = sizes_check(config, path, error);
    for (int l = 0; !status && config->sliding_window && l < config->num_hidden_layers; l++)
        config->layer[l] |= LAYER_SLIDING; /* the family's own key: of all layers */
    if (!status && config->family->unrotated_layers)
        status = unrotated_layers_read(config, json, path, error);
    if (!status && config->family->windows_by_layer)
        status = config->family->window_pattern ? pattern_windows_read(config, json, path, error)
                                                : layer_windows_read(config, json, path, error);
    if (!status)
        status = activation_read(config, json, path, error);
    if (!status)
        status = dtype_read(config, json, path, error);
    if (!status && config->family->rotary)
        status = config_rope_read(config, json, path, error);
    if (!status)
        status = padding_read(config, json, path, error);
    if (!status) {
        config->norm = config->family->norm;
        config->head_bias = config->family->head_bias;
    }
    return status;
}

int model_config_read(struct model_config *config, const char *directory, struct error *error)
{
    *config = (struct model_config){0};
    char path[4096];
    int status = file_join(path, sizeof path, directory, "config.json", error);
    if (status)
        return status;
    if (!file_is_directory(directory))
        return error_set(error, STATUS_INPUT, "%s: no such model folder; expected a Hugging Face folder with config.json",
                         directory);
    cJSON *json = json_read(path, error);
    if (!json)
        return error->status;
    status = config_fill(config, json, path, error);
    if (!status)
        status = generation_tokens_read(config, json, path, directory, error);
    cJSON_Delete(json);
    return status ? status : tied_head_find(config, directory, error);
}
