/* config_rope.c - rotary positions of config.json, as transformers' configs (modeling_rope_utils) take them, and their tables. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../io/json/json.h"
#include "config_read.h"
#include "family.h"

#define DEFAULT_THETA 10000

/* A number that must be there, and above 0. */
static int positive_get(const cJSON *object, const char *name, const char *key, double *value, struct error *error)
{
    const cJSON *member;
    int status = config_member(object, name, key, &member, error);
    if (!status && (!cJSON_IsNumber(member) || !(member->valuedouble > 0)))
        status = error_set(error, STATUS_INPUT, "%s: %s: expected a number above 0", name, key);
    if (!status)
        *value = member->valuedouble;
    return status;
}

/* The context of the pretraining, from three places: beside the scaling (not where the scaling is of one type of layer), in
 * it, or the whole of it. */
static int original_positions_get(const struct model_config *config, struct rope_config *rope, const cJSON *json,
                                  const cJSON *scaling, const char *name, struct error *error)
{
    static const char key[] = "original_max_position_embeddings";
    const cJSON *member;
    int status = config_member(config->family->rope_theta_sliding > 0 ? scaling : json, name, key, &member, error);
    if (!status && !member)
        status = config_member(scaling, name, key, &member, error);
    if (status)
        return status;
    if (member && (!cJSON_IsNumber(member) || member->valuedouble < 0))
        return error_set(error, STATUS_INPUT, "%s: %s: expected a number that is not below 0", name, key);
    rope->original_max_positions = member ? member->valuedouble : (double)config->max_position_embeddings;
    return STATUS_OK;
}

/* Longrope, up to the context of the pretraining: a divisor for every frequency, and a factor for cos and sin that grows
 * with how much longer the model's context is. */
static int long_read(const struct model_config *config, struct rope_config *rope, const cJSON *scaling, const char *name,
                     struct error *error)
{
    const cJSON *list = json_member(scaling, "short_factor"), *item, *stated = json_member(scaling, "attention_factor");
    const cJSON *ratio = json_member(scaling, "factor");
    const double original = rope->original_max_positions;
    double factor = (double)config->max_position_embeddings / original;
    int count = 0;
    cJSON_ArrayForEach(item, list) {
        if (!cJSON_IsNumber(item) || !(item->valuedouble > 0) || count == 128)
            return error_set(error, STATUS_INPUT, "%s: short_factor: expected numbers above 0, at most 128", name);
        rope->short_factor[count++] = item->valuedouble;
    }
    if (!cJSON_IsArray(list) || !cJSON_IsArray(json_member(scaling, "long_factor")))
        return error_set(error, STATUS_INPUT, "%s: expected the lists short_factor and long_factor", name);
    if (!(original > 1))
        return error_set(error, STATUS_INPUT, "%s: original_max_position_embeddings: expected a number above 1, of which "
                         "longrope takes the logarithm", name);
    int status = ratio && !cJSON_IsNull(ratio) ? positive_get(scaling, name, "factor", &factor, error) : STATUS_OK;
    rope->attention_factor = factor > 1 ? sqrt(1 + log(factor) / log(original)) : 1;
    if (!status && stated && !cJSON_IsNull(stated))
        status = positive_get(scaling, name, "attention_factor", &rope->attention_factor, error);
    rope->scaling = ROPE_LONG;
    rope->factor = count; /* of the list; checked when the rotated dimensions are known */
    return status;
}

static int scaling_read(const struct model_config *config, struct rope_config *rope, const cJSON *json, const cJSON *scaling,
                        const char *name, struct error *error)
{
    const cJSON *type;
    if (cJSON_IsObject(json_member(scaling, "full_attention")) || cJSON_IsObject(json_member(scaling, "sliding_attention")))
        return error_set(error, STATUS_INPUT, "%s: positions by type of layer are not supported in a %s model", name,
                         config->family->model_type);
    int status = config_member(scaling, name, "rope_type", &type, error);
    const bool older = !status && !type;
    if (older)
        status = config_member(scaling, name, "type", &type, error);
    if (older && !status && type && config->family->rope_theta_sliding > 0)
        return error_set(error, STATUS_INPUT, "%s: type: transformers does not read this key in a %s model and scales nothing; "
                         "write rope_type if it is meant, or leave the scaling out", name, config->family->model_type);
    if (status || !type || (cJSON_IsString(type) && !strcmp(type->valuestring, "default")))
        return status;
    /* "su" and "yarn" are older names of it in these folders */
    const bool su = cJSON_IsString(type) && !strcmp(type->valuestring, "su");
    if (config->family->rope_long && su && !json_member(scaling, "original_max_position_embeddings"))
        return error_set(error, STATUS_INPUT, "%s: rope_type: transformers fails on \"su\" without an "
                         "original_max_position_embeddings beside it; write \"longrope\", its newer name", name);
    if (config->family->rope_long && cJSON_IsString(type) &&
        (su || !strcmp(type->valuestring, "longrope") || !strcmp(type->valuestring, "yarn")))
        return long_read(config, rope, scaling, name, error);
    if (config->family->rope_long)
        return error_set(error, STATUS_INPUT, "%s: rope_type: expected default or longrope in a %s model", name,
                         config->family->model_type);
    if (!cJSON_IsString(type) || (strcmp(type->valuestring, "llama3") && strcmp(type->valuestring, "linear")))
        return error_set(error, STATUS_INPUT, "%s: rope_type: \"%.60s\" is not supported; expected default, linear or "
                         "llama3", name, cJSON_IsString(type) ? type->valuestring : "(not a string)");
    rope->scaling = !strcmp(type->valuestring, "linear") ? ROPE_LINEAR : ROPE_LLAMA3;
    status = positive_get(scaling, name, "factor", &rope->factor, error);
    if (status || rope->scaling == ROPE_LINEAR)
        return status;
    status = positive_get(scaling, name, "low_freq_factor", &rope->low_freq_factor, error);
    if (!status)
        status = positive_get(scaling, name, "high_freq_factor", &rope->high_freq_factor, error);
    return status ? status : original_positions_get(config, rope, json, scaling, name, error);
}

/* A key within the scaling or, where it is absent there, beside it. */
static int either_get(const cJSON *json, const char *path, const cJSON *scaling, const char *name, const char *key,
                      double *value, struct error *error)
{
    const cJSON *member = NULL;
    int status = scaling ? config_member(scaling, name, key, &member, error) : STATUS_OK;
    if (!status && !member)
        status = config_member(json, name = path, key, &member, error);
    if (!status && member && !cJSON_IsNumber(member))
        status = error_set(error, STATUS_INPUT, "%s: %s: expected a number", name, key);
    if (!status && member)
        *value = member->valuedouble;
    return status;
}

/* How many dimensions of a head are rotated. A family without partial_rotary_factor rotates them all; transformers takes the
 * key there where the positions are scaled, and then fails unless it is 1. */
static int rotary_dim_read(struct model_config *config, const struct rope_config *rope, const cJSON *json, const char *path,
                           const cJSON *scaling, const char *name, struct error *error)
{
    static const char key[] = "partial_rotary_factor";
    const bool own = config->family->partial_rotary_factor > 0;
    double factor = own ? config->family->partial_rotary_factor : 1;
    int status = own || rope->scaling != ROPE_PLAIN ? either_get(json, path, scaling, name, key, &factor, error)
                                                           : STATUS_OK;
    config->rotary_dim = (int64_t)((double)config->head_dim * factor);
    if (!status && !own && factor != 1)
        status = error_set(error, STATUS_INPUT, "%s: %s: %g; a %s model rotates whole heads, and with scaled positions only 1 "
                           "is accepted", path, key, factor, config->family->model_type);
    if (!status && (!(factor > 0 && factor <= 1) || config->rotary_dim % 2 || !config->rotary_dim))
        status = error_set(error, STATUS_INPUT, "%s: %s: %g; expected a number within (0, 1] that gives an even number of "
                           "rotated dimensions", path, key, factor);
    if (!status && rope->scaling == ROPE_LONG && rope->factor != (double)(config->rotary_dim / 2))
        status = error_set(error, STATUS_INPUT, "%s: short_factor: expected %lld numbers, half the rotated dimensions of a "
                           "head, found %g", name, (long long)(config->rotary_dim / 2), rope->factor);
    return status;
}

static int scaling_find(const cJSON *json, const char *path, const cJSON **scaling, char *name, size_t name_bytes,
                        struct error *error)
{
    static const char *const keys[] = {"rope_scaling", "rope_parameters"};
    *scaling = NULL;
    for (int i = 0; i < 2 && !*scaling; i++) {
        const cJSON *member = json_member(json, keys[i]);
        snprintf(name, name_bytes, "%s: %s", path, keys[i]);
        if (member && !cJSON_IsNull(member) && !cJSON_IsObject(member))
            return error_set(error, STATUS_INPUT, "%s: expected an object or null", name);
        if (cJSON_IsObject(member) && member->child)
            *scaling = member;
    }
    return STATUS_OK;
}

/* theta and scaling of one set of positions. theta_key: beside the object `scaling`, which may be NULL and has its own. */
static int rope_read(const struct model_config *config, struct rope_config *rope, const cJSON *json, const char *path,
                     const cJSON *scaling, const char *name, const char *theta_key, struct error *error)
{
    const cJSON *theta = NULL;
    int status = scaling ? config_member(scaling, name, "rope_theta", &theta, error) : STATUS_OK;
    if (!status && !theta)
        status = config_member(json, path, theta_key, &theta, error);
    if (!status && theta && !(cJSON_IsNumber(theta) && theta->valuedouble > 0))
        status = error_set(error, STATUS_INPUT, "%s: %s: expected a number above 0", path, theta_key);
    if (!status && theta)
        rope->theta = theta->valuedouble;
    return status || !scaling ? status : scaling_read(config, rope, json, scaling, name, error);
}

/* Positions by type of layer. */
static int ropes_read(struct model_config *config, const cJSON *json, const char *path, struct error *error)
{
    static const char *const type[ROPE_PLACES] = {"full_attention", "sliding_attention"};
    static const char *const theta_key[ROPE_PLACES] = {"rope_theta", "rope_local_base_freq"};
    const cJSON *parameters = json_member(json, "rope_parameters"), *scaling = json_member(json, "rope_scaling"), *item;
    char name[4200];
    if (scaling && !cJSON_IsNull(scaling) && !cJSON_IsObject(scaling))
        return error_set(error, STATUS_INPUT, "%s: rope_scaling: expected an object or null", path);
    if (parameters && !cJSON_IsNull(parameters) && !cJSON_IsObject(parameters))
        return error_set(error, STATUS_INPUT, "%s: rope_parameters: expected an object or null", path);
    cJSON_ArrayForEach(item, parameters)
        if (strcmp(item->string, type[0]) && strcmp(item->string, type[1]))
            return error_set(error, STATUS_INPUT, "%s: rope_parameters: %s: transformers does not read this key in a %s model; "
                             "write it within full_attention or sliding_attention if it is meant, or leave it out", path,
                             item->string, config->family->model_type);
    for (int p = 0; p < ROPE_PLACES; p++) {
        const cJSON *own = json_member(parameters, type[p]);
        snprintf(name, sizeof name, "%s: rope_parameters: %s", path, type[p]);
        if (own && !cJSON_IsNull(own) && !cJSON_IsObject(own))
            return error_set(error, STATUS_INPUT, "%s: expected an object or null", name);
        cJSON *merged = cJSON_IsObject(own) ? cJSON_Duplicate(own, true) : cJSON_CreateObject();
        const cJSON *changes = p == ROPE_EVERYWHERE ? scaling : NULL;
        cJSON_ArrayForEach(item, changes) {
            cJSON_DeleteItemFromObjectCaseSensitive(merged, item->string);
            cJSON_AddItemToObject(merged, item->string, cJSON_Duplicate(item, true));
        }
        int status = merged ? rope_read(config, &config->rope[p], json, path, merged, name, theta_key[p], error)
                            : error_set(error, STATUS_MEMORY, "out of memory");
        if (!status)
            status = rotary_dim_read(config, &config->rope[p], json, path, merged, name, error);
        cJSON_Delete(merged);
        if (status)
            return status;
    }
    return STATUS_OK;
}

int config_rope_read(struct model_config *config, const cJSON *json, const char *path, struct error *error)
{
    const cJSON *scaling = NULL;
    char name[4200] = "";
    config->rope[ROPE_EVERYWHERE].theta = config->family->rope_theta > 0 ? config->family->rope_theta : DEFAULT_THETA;
    config->rope[ROPE_SLIDING].theta = config->family->rope_theta_sliding;
    if (config->family->rope_theta_sliding > 0)
        return ropes_read(config, json, path, error);
    int status = scaling_find(json, path, &scaling, name, sizeof name, error);
    if (!status)
        status = rope_read(config, &config->rope[ROPE_EVERYWHERE], json, path, scaling, name, "rope_theta", error);
    return status ? status : rotary_dim_read(config, &config->rope[ROPE_EVERYWHERE], json, path, scaling, name, error);
}

/* Llama-3's scaling: long wavelengths divided by the factor, short ones kept, interpolated in between. */
static double frequency_scaled(const struct rope_config *rope, double frequency, int64_t j)
{
    if (rope->scaling == ROPE_LONG)
        return frequency / rope->short_factor[j];
    if (rope->scaling == ROPE_LINEAR)
        return frequency / rope->factor;
    if (rope->scaling != ROPE_LLAMA3)
        return frequency;
    const double turns = rope->original_max_positions * frequency / (2 * 3.14159265358979323846);
    if (turns < rope->low_freq_factor)
        return frequency / rope->factor;
    if (turns > rope->high_freq_factor)
        return frequency;
    double smooth = (turns - rope->low_freq_factor) / (rope->high_freq_factor - rope->low_freq_factor);
    return (1 - smooth) * frequency / rope->factor + smooth * frequency;
}

void model_config_rope_tables(const struct model_config *config, enum rope_place place, int64_t positions, double *cos_table,
                              double *sin_table)
{
    const struct rope_config *rope = &config->rope[place];
    int64_t half = config->rotary_dim / 2;
    const double length = rope->scaling == ROPE_LONG ? rope->attention_factor : 1;
    for (int64_t j = 0; j < half; j++) {
        double frequency = frequency_scaled(rope, pow(rope->theta, -2.0 * (double)j / (double)config->rotary_dim), j);
        for (int64_t position = 0; position < positions; position++) {
            cos_table[position * half + j] = length * cos((double)position * frequency);
            sin_table[position * half + j] = length * sin((double)position * frequency);
        }
    }
}
