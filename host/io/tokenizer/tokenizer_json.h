/* tokenizer_json.h - readers of the components of tokenizer.json, each from its JSON object. `name` is the file,
 * for messages. An unsupported component is STATUS_INPUT with its name.
 */
#ifndef FLAT_IO_TOKENIZER_JSON_H
#define FLAT_IO_TOKENIZER_JSON_H
#include <cjson/cJSON.h>

#include "tokenizer_internal.h"

int normalizer_read(struct normalizer *normalizer, const cJSON *object, const char *name, struct error *error);
int pretokenizer_read(struct pretokenizer *pretokenizer, const cJSON *object, const char *name, struct error *error);
/* Refuses combinations of supported components whose effect on each other we do not copy. */
int pretokenizer_check(const struct tokenizer *tokenizer, const char *name, struct error *error);
int decoder_read(struct decoder *decoder, const cJSON *object, const char *name, struct error *error);
/* The flags and the content (borrowed from the tree) of one added token. special: whatever the object says. */
int added_token_read(const cJSON *object, const char *name, bool special, struct added_token *token,
                     struct error *error);

#endif
