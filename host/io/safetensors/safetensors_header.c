/* safetensors_header.c - see safetensors_header.h. The header looks like
 *     {"__metadata__": {"format": "pt"}, "name": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}, ...}
 * json_scan first settles syntax, UTF-8 and duplicate keys; what follows checks what the words mean. Nothing is
 * believed: a file is accepted only when its tensors tile the data area exactly.
 */
#include "safetensors_header.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../util/memory.h"
#include "../json/json_scan.h"

static const struct {
    const char *text;
    int bits;
    enum safetensors_dtype dtype;
} dtypes[] = {
    {"F32", 32, SAFETENSORS_F32},       {"F16", 16, SAFETENSORS_F16},       {"BF16", 16, SAFETENSORS_BF16},
    {"F64", 64, SAFETENSORS_F64},       {"I64", 64, SAFETENSORS_I64},       {"I32", 32, SAFETENSORS_I32},
    {"BOOL", 8, SAFETENSORS_OTHER},     {"U8", 8, SAFETENSORS_OTHER},       {"I8", 8, SAFETENSORS_OTHER},
    {"I16", 16, SAFETENSORS_OTHER},     {"U16", 16, SAFETENSORS_OTHER},     {"U32", 32, SAFETENSORS_OTHER},
    {"U64", 64, SAFETENSORS_OTHER},     {"C64", 64, SAFETENSORS_OTHER},     {"F4", 4, SAFETENSORS_OTHER},
    {"F6_E2M3", 6, SAFETENSORS_OTHER},  {"F6_E3M2", 6, SAFETENSORS_OTHER},  {"F8_E4M3", 8, SAFETENSORS_OTHER},
    {"F8_E5M2", 8, SAFETENSORS_OTHER},  {"F8_E8M0", 8, SAFETENSORS_OTHER},  {"F8_E4M3FNUZ", 8, SAFETENSORS_OTHER},
    {"F8_E5M2FNUZ", 8, SAFETENSORS_OTHER},
};
enum { DTYPES = sizeof dtypes / sizeof *dtypes };

const char *safetensors_dtype_text(enum safetensors_dtype dtype)
{
    for (int i = 0; dtype != SAFETENSORS_OTHER && i < DTYPES; i++)
        if (dtypes[i].dtype == dtype)
            return dtypes[i].text;
    return NULL;
}

void safetensors_list_free(struct safetensors_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->tensor[i].name);
    free(list->tensor);
    *list = (struct safetensors_list){0};
}

struct header {
    struct json_cursor cursor;
    const char *path;
    char where[1024]; /* "path: header" or "path: tensor "name"", the start of every error */
    char *scratch;    /* a decoded string; as long as the header */
    struct safetensors_list *list;
};

static int fail(const struct header *header, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int fail(const struct header *header, const char *format, ...)
{
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    return error_set(header->cursor.error, STATUS_INPUT, "%s: %s", header->where, text);
}

/* Reads a string into scratch, with a terminating zero; there is always room, as the quotes take two bytes. */
static int read_string(struct header *header)
{
    size_t bytes = 0;
    int status = json_cursor_string(&header->cursor, header->scratch, &bytes);
    header->scratch[bytes] = 0;
    return status;
}

static int read_unsigned(struct header *header, uint64_t *value)
{
    struct json_cursor *cursor = &header->cursor;
    size_t start = cursor->at;
    *value = 0;
    for (int byte; (byte = json_cursor_peek(cursor)) >= '0' && byte <= '9'; cursor->at++)
        if (__builtin_mul_overflow(*value, 10, value) || __builtin_add_overflow(*value, byte - '0', value))
            return fail(header, "offset %zu: an integer above 2^64 - 1", start);
    int byte = json_cursor_peek(cursor);
    if (cursor->at == start || byte == '.' || byte == 'e' || byte == 'E')
        return json_cursor_expected(cursor, "a non-negative integer");
    return STATUS_OK;
}

/* '[' unsigned, ... ']' of at most max numbers. */
static int read_list(struct header *header, const char *key, uint64_t *value, int max, int *count)
{
    struct json_cursor *cursor = &header->cursor;
    int status = json_cursor_punctuation(cursor, '[');
    *count = 0;
    while (!status && json_cursor_peek(cursor) != ']') {
        if (*count && (status = json_cursor_punctuation(cursor, ',')))
            break;
        if (*count == max)
            return fail(header, "offset %zu: %s has more than %d numbers", cursor->at, key, max);
        status = read_unsigned(header, &value[*count]);
        ++*count;
        json_cursor_skip_space(cursor);
    }
    return status ? status : json_cursor_punctuation(cursor, ']');
}

static int read_dtype(struct header *header, struct safetensors_tensor *tensor, int *bits)
{
    int status = read_string(header);
    for (int i = 0; !status && i < DTYPES; i++) {
        if (strcmp(header->scratch, dtypes[i].text))
            continue;
        tensor->dtype = dtypes[i].dtype;
        *bits = dtypes[i].bits;
        snprintf(tensor->dtype_text, sizeof tensor->dtype_text, "%s", dtypes[i].text);
        return STATUS_OK;
    }
    return status ? status : fail(header, "unknown dtype \"%.40s\"", header->scratch);
}

/* shape and dtype against data_offsets, without trusting any product. */
static int tensor_check(const struct header *header, struct safetensors_tensor *tensor, const uint64_t *shape,
                        int bits, const uint64_t *offsets)
{
    uint64_t elements = 1, total_bits;
    for (int i = 0; i < tensor->dims; i++) {
        if (shape[i] > INT64_MAX || __builtin_mul_overflow(elements, shape[i], &elements))
            return fail(header, "the shape's product overflows");
        tensor->shape[i] = (int64_t)shape[i];
    }
    if (elements > INT64_MAX || __builtin_mul_overflow(elements, (uint64_t)bits, &total_bits))
        return fail(header, "the size in bits overflows");
    if (total_bits % 8)
        return fail(header, "%llu elements of %d bits do not fill whole bytes", (unsigned long long)elements, bits);
    if (offsets[1] < offsets[0])
        return fail(header, "data_offsets [%llu, %llu] end before they begin", (unsigned long long)offsets[0],
                    (unsigned long long)offsets[1]);
    if (offsets[1] - offsets[0] != total_bits / 8)
        return fail(header, "data_offsets [%llu, %llu] hold %llu bytes, but dtype and shape need %llu",
                    (unsigned long long)offsets[0], (unsigned long long)offsets[1],
                    (unsigned long long)(offsets[1] - offsets[0]), (unsigned long long)(total_bits / 8));
    tensor->elements = (int64_t)elements;
    tensor->offset = offsets[0];
    tensor->bytes = total_bits / 8;
    return STATUS_OK;
}

/* The object of one tensor, whose name is in the table already. */
static int read_tensor(struct header *header, struct safetensors_tensor *tensor)
{
    static const char *const keys[] = {"dtype", "shape", "data_offsets"};
    struct json_cursor *cursor = &header->cursor;
    uint64_t shape[SAFETENSORS_MAX_DIMS], offsets[2] = {0};
    bool seen[3] = {false};
    int bits = 0, offset_count = 0, status = json_cursor_punctuation(cursor, '{');
    for (bool first = true; !status && json_cursor_peek(cursor) != '}'; first = false) {
        if (!first && (status = json_cursor_punctuation(cursor, ',')))
            return status;
        if ((status = read_string(header)))
            return status;
        int key = 0;
        while (key < 3 && strcmp(header->scratch, keys[key]))
            key++;
        if (key == 3)
            return fail(header, "unknown key \"%.40s\"; expected dtype, shape and data_offsets", header->scratch);
        seen[key] = true;
        if ((status = json_cursor_punctuation(cursor, ':')))
            return status;
        status = key == 0   ? read_dtype(header, tensor, &bits)
                 : key == 1 ? read_list(header, "shape", shape, SAFETENSORS_MAX_DIMS, &tensor->dims)
                            : read_list(header, "data_offsets", offsets, 2, &offset_count);
        json_cursor_skip_space(cursor);
    }
    if (status || (status = json_cursor_punctuation(cursor, '}')))
        return status;
    for (int key = 0; key < 3; key++)
        if (!seen[key])
            return fail(header, "the key \"%s\" is missing", keys[key]);
    if (offset_count != 2)
        return fail(header, "data_offsets must be two numbers, begin and end");
    return tensor_check(header, tensor, shape, bits, offsets);
}

/* The value of __metadata__: strings by name. One means something to us: who wrote the file. */
static int read_metadata(struct header *header)
{
    struct json_cursor *cursor = &header->cursor;
    int status = json_cursor_punctuation(cursor, '{');
    for (bool first = true; !status && json_cursor_peek(cursor) != '}'; first = false) {
        if (!first)
            status = json_cursor_punctuation(cursor, ',');
        if (status || (status = read_string(header)))
            return status;
        const bool is_run_id = !strcmp(header->scratch, SAFETENSORS_RUN_ID);
        if ((status = json_cursor_punctuation(cursor, ':')) || (status = read_string(header)))
            return status;
        if (is_run_id)
            snprintf(header->list->run_id, sizeof header->list->run_id, "%s", header->scratch);
        json_cursor_skip_space(cursor);
    }
    return status ? status : json_cursor_punctuation(cursor, '}');
}

static int read_entry(struct header *header, int shard)
{
    struct safetensors_list *list = header->list;
    struct error *error = header->cursor.error;
    snprintf(header->where, sizeof header->where, "%s: header", header->path);
    int status = read_string(header);
    if (status || (status = json_cursor_punctuation(&header->cursor, ':')))
        return status;
    if (!strcmp(header->scratch, "__metadata__")) {
        snprintf(header->where, sizeof header->where, "%s: header: __metadata__", header->path);
        return read_metadata(header);
    }
    snprintf(header->where, sizeof header->where, "%s: tensor \"%.200s\"", header->path, header->scratch);
    if ((status = memory_grow(&list->tensor, &list->capacity, list->count + 1, sizeof *list->tensor, error)))
        return status;
    struct safetensors_tensor *tensor = &list->tensor[list->count];
    *tensor = (struct safetensors_tensor){.name = memory_string(header->scratch, error), .shard = shard};
    if (!tensor->name)
        return STATUS_MEMORY;
    list->count++;
    return read_tensor(header, tensor);
}

/* By place in the data; tensors without bytes share one, and are put by name. */
static int offset_compare(const void *left, const void *right)
{
    const struct safetensors_tensor *a = left, *b = right;
    if (a->offset != b->offset)
        return a->offset < b->offset ? -1 : 1;
    if (a->bytes != b->bytes)
        return a->bytes < b->bytes ? -1 : 1;
    return strcmp(a->name, b->name);
}

/* The tensors must tile the data area without hole or overlap, and the file must end with it. Makes offsets
 * absolute. */
static int layout_check(struct header *header, struct safetensors_tensor *tensor, size_t count, uint64_t data_start,
                        uint64_t file_bytes)
{
    uint64_t end = 0;
    for (size_t i = 0; i < count; i++) {
        snprintf(header->where, sizeof header->where, "%s: tensor \"%.200s\"", header->path, tensor[i].name);
        if (tensor[i].offset > end)
            return fail(header, "begins at data offset %llu, but bytes from %llu on belong to no tensor",
                        (unsigned long long)tensor[i].offset, (unsigned long long)end);
        if (tensor[i].offset < end)
            return fail(header, "begins at data offset %llu, inside tensor \"%.200s\" that ends at %llu",
                        (unsigned long long)tensor[i].offset, tensor[i - 1].name, (unsigned long long)end);
        end += tensor[i].bytes; /* cannot overflow: it is a number of the header */
        tensor[i].offset += data_start;
    }
    uint64_t data_bytes = file_bytes - data_start;
    snprintf(header->where, sizeof header->where, "%s", header->path);
    if (end > data_bytes)
        return fail(header, "the header promises %llu bytes of data, the file has %llu; was it cut short?",
                    (unsigned long long)end, (unsigned long long)data_bytes);
    if (end < data_bytes)
        return fail(header, "%llu bytes after the last tensor's data belong to no tensor",
                    (unsigned long long)(data_bytes - end));
    return STATUS_OK;
}

static int read_entries(struct header *header, int shard)
{
    struct json_cursor *cursor = &header->cursor;
    int status = json_cursor_punctuation(cursor, '{');
    for (bool first = true; !status && json_cursor_peek(cursor) != '}'; first = false) {
        if (!first)
            status = json_cursor_punctuation(cursor, ',');
        if (!status)
            status = read_entry(header, shard);
        json_cursor_skip_space(cursor);
    }
    return status;
}

int safetensors_header_parse(const char *path, const char *text, size_t length, uint64_t file_bytes, int shard,
                             struct safetensors_list *list, struct error *error)
{
    struct header header = {.path = path, .list = list};
    header.cursor = (struct json_cursor){.text = text, .name = header.where, .length = length, .error = error};
    snprintf(header.where, sizeof header.where, "%s: header", path);
    if (length == 0 || text[0] != '{')
        return json_cursor_expected(&header.cursor, "'{' as the header's first byte");
    int status = json_scan(text, length, header.where, error);
    if (status)
        return status;
    header.scratch = memory_array(length, 1, error);
    if (!header.scratch)
        return STATUS_MEMORY;
    size_t first = list->count;
    *list->run_id = 0;
    status = read_entries(&header, shard);
    free(header.scratch);
    if (status)
        return status;
    size_t count = list->count - first;
    struct safetensors_tensor *tensor = count ? list->tensor + first : NULL;
    if (count)
        qsort(tensor, count, sizeof *tensor, offset_compare);
    return layout_check(&header, tensor, count, 8 + (uint64_t)length, file_bytes);
}
