/* matmul_picks.c - see matmul_picks.h. */
#include "matmul_picks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../util/file.h"

enum { FILE_BYTES_MAX = MATMUL_PICKS_KEPT * ENGINE_PICK_BYTES + 1024, HEADER_BYTES = 300 };

static void header_print(const struct device *device, char header[HEADER_BYTES])
{
    snprintf(header, HEADER_BYTES, "flat.c picks of matrix products, %s\n", device->engine->pick_scope(device->context));
}

bool matmul_picks_path(const struct device *device, char *path, size_t bytes)
{
    char folder[3072], header[HEADER_BYTES];
    if (!file_cache_folder(folder, sizeof folder))
        return false;
    header_print(device, header);
    const unsigned long long hash = checksum_of(header, strlen(header)).xxh3;
    return (size_t)snprintf(path, bytes, "%s/matmul-%016llx.txt", folder, hash) < bytes;
}

/* One line of a text to the device, which may refuse it. */
static int line_add(struct device *device, const char *begin, size_t length, int *refused, char *why, size_t why_bytes)
{
    char line[ENGINE_PICK_BYTES];
    int status = OP_CONTRACT;
    if (length < sizeof line) {
        memcpy(line, begin, length);
        line[length] = 0;
        status = device->engine->pick_add(device->context, line);
    }
    if (status == OP_OK || status == OP_MEMORY)
        return status;
    if (!(*refused)++)
        snprintf(why, why_bytes, "%.200s", length < sizeof line ? device->engine->error(device->context) : "a line too long");
    return OP_OK;
}

static int lines_add(struct device *device, const char *text, int *lines, int *refused, char *why, size_t why_bytes,
                     struct error *error)
{
    int status = OP_OK;
    *why = 0;
    *lines = *refused = 0;
    for (const char *next; *text && status == OP_OK; text = next) {
        const char *end = strchr(text, '\n');
        next = end ? end + 1 : text + strlen(text);
        status = line_add(device, text, (size_t)(next - text) - (end != NULL), refused, why, why_bytes);
        ++*lines;
    }
    return device_status(device, "pick_add", status, error);
}

int matmul_picks_load(struct device *device, const char *path, int *added, char *note, size_t note_bytes, struct error *error)
{
    char header[HEADER_BYTES], why[240], *text;
    size_t length;
    int lines = 0, refused = 0;
    struct error unread = {0};
    *added = 0;
    *note = 0;
    if (!file_exists(path))
        return STATUS_OK;
    if (file_read(path, FILE_BYTES_MAX, &text, &length, &unread)) {
        snprintf(note, note_bytes, "%.400s; it is left out", unread.text);
        return STATUS_OK;
    }
    header_print(device, header);
    int status = STATUS_OK;
    if (strncmp(text, header, strlen(header)) || strlen(text) != length)
        snprintf(note, note_bytes, "%.300s: no picks of matrix products of this device and library; it is left out", path);
    else
        status = lines_add(device, text + strlen(header), &lines, &refused, why, sizeof why, error);
    free(text);
    *added = lines - refused;
    if (!status && refused)
        snprintf(note, note_bytes, "%.300s: %d of %d picks are left out; the first: %s", path, refused, lines, why);
    return status;
}

int matmul_picks_save(struct device *device, const char *path, struct error *error)
{
    char header[HEADER_BYTES], folder[4096];
    struct buffer lines = {0}, text = {0};
    int count = 0;
    header_print(device, header);
    int status = matmul_picks_list(device, false, &lines, &count, error);
    const char *kept = lines.data;
    for (; count > MATMUL_PICKS_KEPT; count--)
        kept = strchr(kept, '\n') + 1;
    if (!status)
        status = buffer_printf(&text, error, "%s%s", header, kept ? kept : "");
    snprintf(folder, sizeof folder, "%s", path);
    *strrchr(folder, '/') = 0;
    if (!status)
        status = file_make_directory(folder, error);
    if (!status)
        status = file_write(path, text.data, text.length, error);
    buffer_free(&lines);
    buffer_free(&text);
    return status;
}

int matmul_picks_list(struct device *device, bool used, struct buffer *lines, int *count, struct error *error)
{
    int status = STATUS_OK;
    const char *line;
    bool taken;
    *count = 0;
    for (int i = 0; !status && (line = device->engine->pick_get(device->context, i, &taken)); i++)
        if (taken || !used) {
            status = buffer_printf(lines, error, "%s\n", line);
            ++*count;
        }
    return status;
}

int matmul_picks_set(struct device *device, const char *text, int *refused, char *why, size_t why_bytes, struct error *error)
{
    int lines;
    int status = device_status(device, "picks_clear", device->engine->picks_clear(device->context), error);
    return status ? status : lines_add(device, text, &lines, refused, why, why_bytes, error);
}
