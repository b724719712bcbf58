/* memory.c - see memory.h. */
#include "memory.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int out_of_memory(struct error *error, size_t bytes)
{
    return error_set(error, STATUS_MEMORY, "out of host memory: %zu more bytes were refused", bytes);
}

void *memory_array(size_t count, size_t element_bytes, struct error *error)
{
    void *array = calloc(count ? count : 1, element_bytes ? element_bytes : 1);
    if (!array)
        out_of_memory(error, count * element_bytes);
    return array;
}

int memory_grow(void *array, size_t *capacity, size_t needed, size_t element_bytes, struct error *error)
{
    if (needed <= *capacity)
        return STATUS_OK;
    size_t more = *capacity ? *capacity : 16;
    while (more < needed) {
        if (more > SIZE_MAX / 2)
            return out_of_memory(error, needed);
        more *= 2;
    }
    size_t bytes;
    if (__builtin_mul_overflow(more, element_bytes, &bytes))
        return out_of_memory(error, needed);
    void *old, *bigger;
    memcpy(&old, array, sizeof old);
    bigger = realloc(old, bytes);
    if (!bigger)
        return out_of_memory(error, bytes);
    memcpy(array, &bigger, sizeof bigger);
    *capacity = more;
    return STATUS_OK;
}

char *memory_string(const char *text, struct error *error)
{
    size_t bytes = strlen(text) + 1;
    char *copy = malloc(bytes);
    if (!copy) {
        out_of_memory(error, bytes);
        return NULL;
    }
    return memcpy(copy, text, bytes);
}

int buffer_append(struct buffer *buffer, const void *bytes, size_t length, struct error *error)
{
    size_t needed;
    if (__builtin_add_overflow(buffer->length, length, &needed) || __builtin_add_overflow(needed, 1, &needed))
        return out_of_memory(error, length);
    int status = memory_grow(&buffer->data, &buffer->capacity, needed, 1, error);
    if (status)
        return status;
    if (length)
        memcpy(buffer->data + buffer->length, bytes, length);
    buffer->length += length;
    buffer->data[buffer->length] = 0;
    return STATUS_OK;
}

int buffer_printf(struct buffer *buffer, struct error *error, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    int n = vsnprintf(NULL, 0, format, list);
    va_end(list);
    if (n < 0)
        return error_set(error, STATUS_RUNTIME, "text could not be formatted");
    int status = memory_grow(&buffer->data, &buffer->capacity, buffer->length + (size_t)n + 1, 1, error);
    if (status)
        return status;
    va_start(list, format);
    vsnprintf(buffer->data + buffer->length, (size_t)n + 1, format, list);
    va_end(list);
    buffer->length += (size_t)n;
    return STATUS_OK;
}

void buffer_free(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer){0};
}
