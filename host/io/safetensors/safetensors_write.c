/* safetensors_write.c - the writing half of safetensors.h. */
#include <stdlib.h>
#include <string.h>

#include "../../util/file.h"
#include "../../util/memory.h"
#include "../json/json.h"
#include "safetensors_header.h"

enum { PIECE_BYTES = 4 << 20 };

static int header_entry(const struct safetensors_entry *entry, uint64_t begin, struct buffer *out,
                        struct error *error)
{
    const char *dtype = entry->dtype == SAFETENSORS_OTHER ? entry->dtype_text : safetensors_dtype_text(entry->dtype);
    int status = buffer_append(out, ",", 1, error);
    if (!status)
        status = json_print_string(entry->name, strlen(entry->name), out, error);
    if (!status)
        status = buffer_printf(out, error, ":{\"dtype\":\"%s\",\"shape\":[", dtype ? dtype : "");
    for (int i = 0; i < entry->dims && i < SAFETENSORS_MAX_DIMS && !status; i++)
        status = buffer_printf(out, error, "%s%lld", i ? "," : "", (long long)entry->shape[i]);
    if (status)
        return status;
    return buffer_printf(out, error, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)begin,
                         (unsigned long long)(begin + entry->bytes));
}

/* The header with its length in front, checked as a reader would check it. */
static int header_build(const char *path, const char *run_id, const struct safetensors_entry *entries, int count,
                        struct buffer *out, struct error *error)
{
    unsigned char length[8] = {0};
    uint64_t data_bytes = 0;
    int status = buffer_append(out, length, sizeof length, error);
    if (!status)
        status = buffer_printf(out, error, "{\"__metadata__\":{\"format\":\"pt\""); /* transformers 4 insists on it */
    if (!status && run_id && *run_id) {
        status = buffer_printf(out, error, ",\"%s\":", SAFETENSORS_RUN_ID);
        if (!status)
            status = json_print_string(run_id, strlen(run_id), out, error);
    }
    if (!status)
        status = buffer_append(out, "}", 1, error);
    for (int i = 0; i < count && !status; i++) {
        status = header_entry(&entries[i], data_bytes, out, error);
        data_bytes += entries[i].bytes;
    }
    if (!status)
        status = buffer_append(out, "}", 1, error);
    while (!status && out->length % 8)
        status = buffer_append(out, " ", 1, error);
    if (status)
        return status;
    uint64_t bytes = out->length - sizeof length;
    if (bytes > SAFETENSORS_MAX_HEADER)
        return error_set(error, STATUS_RUNTIME, "%s: the header of %d tensors would exceed %d bytes", path, count,
                         SAFETENSORS_MAX_HEADER);
    for (int i = 0; i < 8; i++)
        out->data[i] = (char)(bytes >> (8 * i));
    struct safetensors_list list = {0};
    status = safetensors_header_parse(path, out->data + 8, bytes, 8 + bytes + data_bytes, 0, &list, error);
    safetensors_list_free(&list);
    if (status == STATUS_INPUT) { /* the caller's tensors are at fault, not a file */
        status = STATUS_RUNTIME;
        if (error)
            error->status = status;
    }
    return status;
}

static int data_write(struct file_writer *writer, const struct safetensors_entry *entries, int count,
                      safetensors_fill fill, void *user, struct error *error)
{
    char *piece = memory_array(PIECE_BYTES, 1, error);
    int status = piece ? STATUS_OK : STATUS_MEMORY;
    for (int i = 0; i < count && !status; i++) {
        for (uint64_t first = 0; first < entries[i].bytes && !status; first += PIECE_BYTES) {
            uint64_t left = entries[i].bytes - first, now = left < PIECE_BYTES ? left : PIECE_BYTES;
            status = fill(user, i, first, now, piece, error);
            if (!status)
                status = file_writer_write(writer, piece, now, error);
        }
    }
    free(piece);
    return status;
}

int safetensors_write_to(struct file_writer *writer, const char *run_id, const struct safetensors_entry *entries, int count,
                         safetensors_fill fill, void *user, struct error *error)
{
    struct buffer header = {0};
    int status = header_build(writer->path, run_id, entries, count, &header, error);
    if (!status)
        status = file_writer_write(writer, header.data, header.length, error);
    if (!status)
        status = data_write(writer, entries, count, fill, user, error);
    buffer_free(&header);
    return status;
}

int safetensors_write(const char *path, const struct safetensors_entry *entries, int count, safetensors_fill fill,
                      void *user, struct error *error)
{
    struct file_writer writer;
    int status = file_writer_open(&writer, path, FILE_MODE, error);
    if (!status)
        status = safetensors_write_to(&writer, NULL, entries, count, fill, user, error);
    if (!status)
        status = file_writer_commit(&writer, error);
    file_writer_abort(&writer);
    return status;
}
