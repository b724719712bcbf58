/* config.c - config.json to struct model_config, driven by the family's table of keys. */
#include "config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../io/json/json.h"
#include "../util/file.h"
#include "family.h"

#define LAYERS_MAX 10000 /* a typing error, not a model */

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

static int keys_read(struct model_config *config, const cJSON *json, const char *path, struct error *error)
{
    for (const struct config_key *key = config->family->key; key->name; key++) {
        const cJSON *value = json_member(json, key->name);
        const char *name = key->name;
        if ((!value || cJSON_IsNull(value)) && key->older_name)
            value = json_member(json, name = key->older_name);
        if (key->required && (!value || cJSON_IsNull(value)))
            return error_set(error, STATUS_INPUT, "%s: %s: missing; a %s model needs it", path, key->name,
                             config->family->model_type);
        char *field = (char *)config + key->offset;
        int status = STATUS_OK;
        if (key->type == CONFIG_INT) {
            int64_t number = (int64_t)key->fallback;
            status = json_get_int_or(json, path, name, 0, 1 << 28, &number, error);
            memcpy(field, &number, sizeof number);
        } else if (key->type == CONFIG_DOUBLE) {
            double number = key->fallback;
            status = json_get_double_or(json, path, name, &number, error);
            memcpy(field, &number, sizeof number);
        } else {
            bool truth = key->fallback != 0;
            status = json_get_bool_or(json, path, name, &truth, error);
            memcpy(field, &truth, sizeof truth);
        }
        if (status)
            return status;
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
    int status = json_get_string_or(json, path, family->activation_key, &name, error);
    if (status)
        return status;
    if (family->gated && (!strcmp(name, "silu") || !strcmp(name, "swish"))) {
        config->activation = ACTIVATION_SWIGLU;
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

/* Scaling written as transformers v4 (rope_scaling) or v5 (rope_parameters). */
static int rope_scaling_read(struct model_config *config, const cJSON *scaling, const char *name, struct error *error)
{
    const char *type = "default";
    int status = json_get_string_or(scaling, name, "type", &type, error);
    if (!status)
        status = json_get_string_or(scaling, name, "rope_type", &type, error);
    if (!status)
        status = json_get_double_or(scaling, name, "factor", &config->rope_factor, error);
    if (!status)
        status = json_get_double_or(scaling, name, "low_freq_factor", &config->rope_low_freq_factor, error);
    if (!status)
        status = json_get_double_or(scaling, name, "high_freq_factor", &config->rope_high_freq_factor, error);
    if (!status)
        status = json_get_double_or(scaling, name, "original_max_position_embeddings",
                                    &config->rope_original_max_positions, error);
    if (status)
        return status;
    if (!strcmp(type, "default"))
        return STATUS_OK;
    if (strcmp(type, "llama3") && strcmp(type, "linear"))
        return error_set(error, STATUS_INPUT, "%s: rope_type: \"%s\" is not supported; expected default, linear or "
                         "llama3", name, type);
    config->rope_scaling = !strcmp(type, "linear") ? ROPE_LINEAR : ROPE_LLAMA3;
    if (!(config->rope_factor > 0) ||
        (config->rope_scaling == ROPE_LLAMA3 &&
         !(config->rope_low_freq_factor > 0 && config->rope_high_freq_factor > config->rope_low_freq_factor &&
           config->rope_original_max_positions > 0)))
        return error_set(error, STATUS_INPUT, "%s: %s scaling needs factor > 0, and llama3 also 0 < low_freq_factor < "
                         "high_freq_factor and original_max_position_embeddings", name, type);
    return STATUS_OK;
}

static int rope_read(struct model_config *config, const cJSON *json, const char *path, struct error *error)
{
    double partial = config->family->partial_rotary_fallback > 0 ? config->family->partial_rotary_fallback : 1;
    config->rope_theta = 10000;
    int status = json_get_double_or(json, path, "rope_theta", &config->rope_theta, error);
    if (!status)
        status = json_get_double_or(json, path, "partial_rotary_factor", &partial, error);
    static const char *const member[] = {"rope_scaling", "rope_parameters"};
    for (int i = 0; i < 2 && !status; i++) {
        const cJSON *object = json_member(json, member[i]);
        if (!object || cJSON_IsNull(object))
            continue;
        char name[4200];
        snprintf(name, sizeof name, "%s: %s", path, member[i]);
        if (!cJSON_IsObject(object))
            return error_set(error, STATUS_INPUT, "%s: expected an object or null", name);
        status = json_get_double_or(object, name, "rope_theta", &config->rope_theta, error);
        if (!status)
            status = json_get_double_or(object, name, "partial_rotary_factor", &partial, error);
        if (!status)
            status = rope_scaling_read(config, object, name, error);
    }
    if (status)
        return status;
    config->rotary_dim = (int64_t)((double)config->head_dim * partial);
    if (!(config->rope_theta > 1) || !(partial > 0 && partial <= 1) || config->rotary_dim % 2 || !config->rotary_dim)
        return error_set(error, STATUS_INPUT, "%s: rope_theta must be above 1, and partial_rotary_factor within (0, 1] "
                         "with an even number of rotated dimensions", path);
    return STATUS_OK;
}

static int sizes_check(struct model_config *config, const char *path, struct error *error)
{
    if (!config->num_key_value_heads)
        config->num_key_value_heads = config->num_attention_heads;
    if (!config->intermediate_size)
        config->intermediate_size = config->hidden_size * config->family->intermediate_factor;
    const struct {
        const char *name;
        int64_t value;
    } positive[] = {{"vocab_size", config->vocab_size},
                    {"hidden_size", config->hidden_size},
                    {"intermediate_size", config->intermediate_size},
                    {"num_hidden_layers", config->num_hidden_layers},
                    {"num_attention_heads", config->num_attention_heads},
                    {"max_position_embeddings", config->max_position_embeddings}};
    for (size_t i = 0; i < sizeof positive / sizeof *positive; i++)
        if (positive[i].value < 1)
            return error_set(error, STATUS_INPUT, "%s: %s: must be at least 1", path, positive[i].name);
    if (config->num_hidden_layers > LAYERS_MAX)
        return error_set(error, STATUS_INPUT, "%s: num_hidden_layers: %lld; at most %d are accepted", path,
                         (long long)config->num_hidden_layers, LAYERS_MAX);
    if (config->num_attention_heads % config->num_key_value_heads)
        return error_set(error, STATUS_INPUT, "%s: num_attention_heads (%lld) must be a multiple of num_key_value_heads "
                         "(%lld)", path, (long long)config->num_attention_heads, (long long)config->num_key_value_heads);
    if (!config->head_dim) {
        if (config->hidden_size % config->num_attention_heads)
            return error_set(error, STATUS_INPUT, "%s: hidden_size (%lld) must be a multiple of num_attention_heads "
                             "(%lld), or head_dim be given", path, (long long)config->hidden_size,
                             (long long)config->num_attention_heads);
        config->head_dim = config->hidden_size / config->num_attention_heads;
    }
    if (config->head_dim % 8 || config->head_dim > 256)
        return error_set(error, STATUS_INPUT, "%s: head_dim: %lld is not supported; expected a multiple of 8 up to 256",
                         path, (long long)config->head_dim);
    return STATUS_OK;
}

static int tied_read(struct model_config *config, const cJSON *json, const char *path, struct error *error)
{
    bool tied = config->family->tied_fallback;
    int status = json_get_bool_or(json, path, "tie_word_embeddings", &tied, error);
    config->untied = !tied;
    return status;
}

static int dtype_read(struct model_config *config, const cJSON *json, const char *path, struct error *error)
{
    const char *name = "float32";
    int status = json_get_string_or(json, path, "torch_dtype", &name, error);
    if (!status)
        status = json_get_string_or(json, path, "dtype", &name, error);
    if (status)
        return status;
    for (int i = DTYPE_F32; i <= DTYPE_F16; i++)
        if (!strcmp(name, dtype_name((enum dtype)i))) {
            config->torch_dtype = (enum dtype)i;
            return STATUS_OK;
        }
    return error_set(error, STATUS_INPUT, "%s: torch_dtype: \"%s\" is not supported; expected float32, bfloat16 or "
                     "float16", path, name);
}

/* Beginning and end of sequence; generation_config.json wins over config.json, as in transformers. */
static int special_tokens_read(struct model_config *config, const cJSON *json, const char *path, struct error *error)
{
    int64_t bos = config->bos_token_id;
    int status = json_get_int_or(json, path, "bos_token_id", 0, config->vocab_size - 1, &bos, error);
    if (status)
        return status;
    config->bos_token_id = (int32_t)bos;
    const cJSON *eos = json_member(json, "eos_token_id");
    if (!eos || cJSON_IsNull(eos))
        return STATUS_OK;
    config->eos_token_ids = 0;
    const cJSON *one = cJSON_IsArray(eos) ? eos->child : eos;
    for (; one; one = cJSON_IsArray(eos) ? one->next : NULL) {
        int64_t id;
        if (!json_integer(one, &id) || id < 0 || id >= config->vocab_size || config->eos_token_ids == 8)
            return error_set(error, STATUS_INPUT, "%s: eos_token_id: expected an id below vocab_size, or up to 8 of them",
                             path);
        config->eos_token_id[config->eos_token_ids++] = (int32_t)id;
    }
    return STATUS_OK;
}

static int generation_config_read(struct model_config *config, const char *directory, struct error *error)
{
    char path[4096];
    int status = file_join(path, sizeof path, directory, "generation_config.json", error);
    if (status || !file_exists(path))
        return status;
    cJSON *json = json_read(path, error);
    if (!json)
        return error ? error->status : STATUS_INPUT;
    status = special_tokens_read(config, json, path, error);
    cJSON_Delete(json);
    return status;
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
    if (!status)
        status = activation_read(config, json, path, error);
    if (!status)
        status = tied_read(config, json, path, error);
    if (!status)
        status = dtype_read(config, json, path, error);
    config->norm_eps = config->family ? config->family->norm_eps_fallback : 0;
    if (!status && config->family->norm_eps_key)
        status = json_get_double_or(json, path, config->family->norm_eps_key, &config->norm_eps, error);
    config->initializer_range = 0.02;
    if (!status)
        status = json_get_double_or(json, path, "initializer_range", &config->initializer_range, error);
    if (!status && config->family->rotary)
        status = rope_read(config, json, path, error);
    if (!status)
        status = special_tokens_read(config, json, path, error);
    if (!status) {
        config->norm = config->family->norm;
        config->head_bias = config->family->head_bias;
    }
    return status;
}

int model_config_read(struct model_config *config, const char *directory, struct error *error)
{
    *config = (struct model_config){.bos_token_id = -1};
    char path[4096];
    int status = file_join(path, sizeof path, directory, "config.json", error);
    if (status)
        return status;
    if (!file_is_directory(directory))
        return error_set(error, STATUS_INPUT, "%s: no such model folder; expected a Hugging Face folder with config.json",
                         directory);
    cJSON *json = json_read(path, error);
    if (!json)
        return error ? error->status : STATUS_INPUT;
    status = config_fill(config, json, path, error);
    cJSON_Delete(json);
    if (!status)
        status = generation_config_read(config, directory, error);
    return status;
}

/* Llama-3's scaling: long wavelengths divided by the factor, short ones kept, interpolated in between. */
static double frequency_scaled(const struct model_config *config, double frequency)
{
    if (config->rope_scaling == ROPE_LINEAR)
        return frequency / config->rope_factor;
    if (config->rope_scaling != ROPE_LLAMA3)
        return frequency;
    const double turns = config->rope_original_max_positions * frequency / (2 * 3.14159265358979323846);
    if (turns < config->rope_low_freq_factor)
        return frequency / config->rope_factor;
    if (turns > config->rope_high_freq_factor)
        return frequency;
    double smooth = (turns - config->rope_low_freq_factor) /
                    (config->rope_high_freq_factor - config->rope_low_freq_factor);
    return (1 - smooth) * frequency / config->rope_factor + smooth * frequency;
}

void model_config_rope_tables(const struct model_config *config, int64_t positions, double *cos_table, double *sin_table)
{
    int64_t half = config->rotary_dim / 2;
    for (int64_t j = 0; j < half; j++) {
        double frequency = frequency_scaled(config, pow(config->rope_theta, -2.0 * (double)j / (double)config->rotary_dim));
        for (int64_t position = 0; position < positions; position++) {
            cos_table[position * half + j] = cos((double)position * frequency);
            sin_table[position * half + j] = sin((double)position * frequency);
        }
    }
}
