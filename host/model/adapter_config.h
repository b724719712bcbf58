/* adapter_config.h - adapter_config.json and the card of a PEFT folder. Private to host/model/adapter*.c. */
#ifndef FLAT_MODEL_ADAPTER_CONFIG_H
#define FLAT_MODEL_ADAPTER_CONFIG_H
#include "../io/folder/folder.h"
#include <cjson/cJSON.h>

#include "../util/memory.h"
#include "model.h"

/* Reads directory/adapter_config.json for a model's modules. A key that changes what a finished adapter computes beyond plain
 * LoRA is STATUS_INPUT by name; one that is not known is a line of *warnings, as in PEFT. Free options with
 * lora_options_free, after a failure too. */
int adapter_config_read(struct lora_options *options, const struct model *model, const char *directory,
                        struct buffer *warnings, struct error *error);
/* adapter_targets.c. The paths of the modules that a config adapts, between commas. */
int adapter_targets_read(const struct model *model, const cJSON *json, struct buffer *list, struct error *error);
/* The modules whose rank or alpha is another than the options'. */
int adapter_overrides_read(struct lora_options *options, const struct model *model, const cJSON *json, struct error *error);
/* Writes adapter_config.json into a folder that is being made. */
int adapter_config_write(const struct lora *lora, const struct model *model, const char *base,
                         struct folder *folder, struct error *error);

#endif
