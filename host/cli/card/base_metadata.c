/* base_metadata.c - what a base model's README.md says that holds of its children; see model_card.h. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../util/utf8.h"
#include "model_card.h"

enum { README_BYTES_MAX = 1 << 22 };

/* Whether a line of front matter begins one of the keys that are carried over. */
static bool is_carried(const char *line, size_t length)
{
    static const char *const key[] = {"license", "license_name", "license_link", "language", "pipeline_tag"};
    for (size_t i = 0; i < sizeof key / sizeof *key; i++) {
        const size_t name = strlen(key[i]);
        if (length > name && !strncmp(line, key[i], name) && line[name] == ':')
            return true;
    }
    return false;
}

static bool is_fence(const char *line, size_t length)
{
    return length >= 3 && !strncmp(line, "---", 3) && utf8_trimmed_length(line, length) == 3;
}

/* Top-level keys with the lines that belong to them: those that are indented, or items of a list. */
static int lines_take(const char *text, size_t end, struct buffer *out, struct error *error)
{
    bool taking = false;
    int status = STATUS_OK;
    for (size_t at = 0; at < end && !status;) {
        const char *line = text + at, *stop = memchr(line, '\n', end - at);
        const size_t length = stop ? (size_t)(stop - line) : end - at;
        const bool continues = length && (isspace((unsigned char)*line) || *line == '-');
        taking = continues ? taking : is_carried(line, length);
        if (taking && length)
            status = buffer_append(out, line, utf8_trimmed_length(line, length), error);
        if (taking && length && !status)
            status = buffer_append(out, "\n", 1, error);
        at += length + 1;
    }
    return status;
}

int base_metadata_read(const char *directory, struct buffer *out, struct error *error)
{
    char path[FOLDER_PATH_BYTES], *text;
    size_t length, first = 0;
    struct error unread;
    int status = file_join(path, sizeof path, directory, "README.md", error);
    if (status || !file_exists(path) || file_read(path, README_BYTES_MAX, &text, &length, &unread))
        return status;
    if (utf8_valid(text, length, NULL) && !memchr(text, 0, length) && length > 3) {
        const char *stop = memchr(text, '\n', length);
        first = stop && is_fence(text, (size_t)(stop - text)) ? (size_t)(stop - text) + 1 : 0;
    }
    for (size_t at = first; first && at < length;) {
        const char *line = text + at, *stop = memchr(line, '\n', length - at);
        const size_t bytes = stop ? (size_t)(stop - line) : length - at;
        if (is_fence(line, bytes)) {
            status = lines_take(text + first, at - first, out, error);
            break;
        }
        at += bytes + 1;
    }
    free(text);
    return status;
}

bool base_hub_name(const char *path, char *out, size_t out_bytes)
{
    static const char mark[] = "models--";
    const char *at = strstr(path, mark), *name = at ? at + sizeof mark - 1 : NULL, *split = name ? strstr(name, "--") : NULL;
    const size_t length = name ? strcspn(name, "/") : 0;
    if (!split || (at != path && at[-1] != '/') || split == name || split + 2 >= name + length ||
        strncmp(name + length, "/snapshots/", 11))
        return false;
    return snprintf(out, out_bytes, "%.*s/%.*s", (int)(split - name), name, (int)(name + length - split - 2), split + 2) <
           (int)out_bytes;
}
