/* adapter_config.h - adapter_config.json and the card of a PEFT folder. Private to host/model/adapter*.c. */
#ifndef FLAT_MODEL_ADAPTER_CONFIG_H
#define FLAT_MODEL_ADAPTER_CONFIG_H
#include "../io/folder/folder.h"
#include "model.h"

/* Reads directory/adapter_config.json. Whatever it holds beyond plain LoRA is STATUS_INPUT by key.
 * options->target_modules is the caller's to free (the names between commas). */
int adapter_config_read(struct lora_options *options, const char *directory, struct error *error);
/* Writes adapter_config.json and README.md into a folder that is being made. */
int adapter_config_write(const struct lora_options *options, const struct model *model, const char *base,
                         struct folder *folder, struct error *error);

#endif
