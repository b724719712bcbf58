/* safetensors_index.h - which tensor is where: lookup by name, and model.safetensors.index.json. Private to
 * this folder.
 */
#ifndef FLAT_IO_SAFETENSORS_INDEX_H
#define FLAT_IO_SAFETENSORS_INDEX_H
#include "safetensors.h"

/* Fills file->shards and shard_name (sorted, without repetition) from the index file. */
int safetensors_index_read(struct safetensors *file, const char *path, struct error *error);
/* Builds file->index from file->tensor. A name in two shards is an error. */
int safetensors_index_build(struct safetensors *file, struct error *error);
/* The index file's map must be exactly what the shards hold. */
int safetensors_index_check(const struct safetensors *file, const char *path, struct error *error);
void safetensors_index_free(struct safetensors_index *index);

#endif
