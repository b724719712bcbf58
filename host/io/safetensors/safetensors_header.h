/* safetensors_header.h - the JSON header of a safetensors file, checked. Private to this folder. */
#ifndef FLAT_IO_SAFETENSORS_HEADER_H
#define FLAT_IO_SAFETENSORS_HEADER_H
#include <stddef.h>
#include <stdint.h>

#include "safetensors.h"

enum { SAFETENSORS_MAX_HEADER = 100000000 }; /* the reference implementation's limit */

/* A growing table. Start with {0}; free with safetensors_list_free. */
struct safetensors_list {
    struct safetensors_tensor *tensor;
    size_t count, capacity;
    char run_id[SAFETENSORS_RUN_ID_BYTES]; /* of the header that was parsed last; "" without */
};
void safetensors_list_free(struct safetensors_list *list);

/* Appends the tensors of a header, in the order of their data, with .shard = shard. The file is `path`, its header
 * is text[0..length), and it has file_bytes bytes in all. On failure the list may hold some of them. */
int safetensors_header_parse(const char *path, const char *text, size_t length, uint64_t file_bytes, int shard,
                             struct safetensors_list *list, struct error *error);

/* Under which key of __metadata__ a file says which run wrote it. */
#define SAFETENSORS_RUN_ID "flat_run_id"

/* The format's name of a dtype, NULL for SAFETENSORS_OTHER. */
const char *safetensors_dtype_text(enum safetensors_dtype dtype);

#endif
