/* config_read.h - readers of config.json's parts. Private to host/model/config*.c. */
#ifndef FLAT_MODEL_CONFIG_READ_H
#define FLAT_MODEL_CONFIG_READ_H
#include <cjson/cJSON.h>

#include "config.h"

/* The member of an object, NULL when it is absent. transformers raises on null here: STATUS_INPUT. */
int config_member(const cJSON *object, const char *name, const char *key, const cJSON **value, struct error *error);
/* rope_theta, rope_scaling, rope_parameters and partial_rotary_factor, of which transformers takes rope_scaling whole where it
 * is an object that is not empty, and rope_parameters otherwise. */
int config_rope_read(struct model_config *config, const cJSON *json, const char *path, struct error *error);

#endif
