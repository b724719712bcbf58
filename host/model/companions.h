/* companions.h - the files beside the weights: configs, tokenizer, chat templates, licence. A new model's folder gets all of
 * them, byte for byte, and nothing of what a run has left beside them. A README.md is of the model that it stands beside: it goes
 * along as README.base.md (and a README.base.md as README.base.base.md), and so does a MODEL_CARD.md.
 */
#ifndef FLAT_MODEL_COMPANIONS_H
#define FLAT_MODEL_COMPANIONS_H
#include "../io/folder/folder.h"

/* Copies a model folder's companions into another. dtype NULL, or what config.json then says the weights are stored in
 * ("float32"): transformers loads them as that. */
int companions_copy(const char *directory, const char *dtype, struct folder *folder, struct error *error);
/* The mode of a folder that may not be open to more people than `directory`. */
mode_t companions_mode(const char *directory);

#endif
