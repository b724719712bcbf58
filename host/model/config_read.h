/* config_read.h - readers of config.json's parts. Private to host/model/config*.c. */
#ifndef FLAT_MODEL_CONFIG_READ_H
#define FLAT_MODEL_CONFIG_READ_H
#include "../io/json/json.h"
#include "config.h"

/* The member of an object, NULL when it is absent. transformers raises on null here: STATUS_INPUT. */
static inline int config_member(const cJSON *object, const char *name, const char *key, const cJSON **value, struct error *error)
{
    *value = json_member(object, key);
    if (cJSON_IsNull(*value))
        return error_set(error, STATUS_INPUT, "%s: %s: null is not accepted; leave the key out or give a value", name, key);
    return STATUS_OK;
}
/* rope_theta, rope_scaling, rope_parameters and partial_rotary_factor, of which transformers takes rope_scaling whole where it
 * is an object that is not empty, and rope_parameters otherwise. Where layers with windows have positions of their own:
 * rope_parameters by type of layer, whose full_attention rope_scaling changes, rope_theta and rope_local_base_freq. */
int config_rope_read(struct model_config *config, const cJSON *json, const char *path, struct error *error);

#endif
