/* memory.h - allocation that reports instead of crashing, and a growing byte buffer. */
#ifndef FLAT_UTIL_MEMORY_H
#define FLAT_UTIL_MEMORY_H
#include <stddef.h>

#include "error.h"

/* Zeroed array of count elements, overflow checked. NULL with STATUS_MEMORY in *error when it cannot be had;
 * count 0 gives a valid pointer. Free with free(). */
void *memory_array(size_t count, size_t element_bytes, struct error *error);
/* Makes *array (of *capacity elements) hold at least `needed` by doubling. Returns a status; on failure the
 * array is unchanged. */
int memory_grow(void *array, size_t *capacity, size_t needed, size_t element_bytes, struct error *error);
/* Copy of a string; NULL with STATUS_MEMORY. */
char *memory_string(const char *text, struct error *error);

/* A byte buffer that is always zero-terminated. Start with {0}; free with buffer_free. */
struct buffer {
    char *data;
    size_t length, capacity;
};
int buffer_append(struct buffer *buffer, const void *bytes, size_t length, struct error *error);
int buffer_printf(struct buffer *buffer, struct error *error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void buffer_free(struct buffer *buffer);

#endif
