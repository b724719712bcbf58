/* model_card.h - README.md of a folder that a run has saved: the model card, with front matter that the hub and transformers
 * read. It says what was done (base, method, options, checksums of the data) and what was measured, and nothing else.
 *
 * A card stands for its run only: the base's own README.md goes along as README.base.md (companions.h), and what it says of
 * licence, language and task is carried over. A README.md of somebody else in the output folder stays; the card is then
 * MODEL_CARD.md. Cards may be edited: `flat verify` says so and does not mind.
 */
#ifndef FLAT_CLI_CARD_MODEL_CARD_H
#define FLAT_CLI_CARD_MODEL_CARD_H
#include "../../eval/suite/before_after.h"
#include "../../io/folder/folder.h"

/* The name of the card in output_dir. */
int model_card_name(const char *output_dir, char name[32], struct error *error);
/* Appends the card of a run. record: its run.json; result: what was measured on what it saved (NULL: the record's); logs: the
 * answers before and after (NULL: not asked). */
int model_card_print(const cJSON *record, const cJSON *result, const struct before_after *logs, struct buffer *out,
                     struct error *error);
/* Writes the card of a saved run once more, with what the answers came to, and notes it in run.json. One that was edited in the
 * meantime stays as it is. */
int model_card_update(const char *output_dir, const struct before_after *logs, struct error *error);

/* base_metadata.c: the lines of the front matter of a model's README.md that hold of models made from it: license,
 * license_name, license_link, language, pipeline_tag. Nothing where there is no such file. */
int base_metadata_read(const char *directory, struct buffer *out, struct error *error);
/* "org/name" where a path is that of the hub's cache (models--org--name/snapshots/...); false otherwise. */
bool base_hub_name(const char *path, char *out, size_t out_bytes);

/* markdown.c: a text of others in a cell, as code: no line break, and nothing that ends cell or code. */
int markdown_code(const char *text, struct buffer *out, struct error *error);

#endif
