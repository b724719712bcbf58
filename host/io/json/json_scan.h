/* json_scan.h - strict JSON syntax (RFC 8259) without a tree. Private to host/io: json_parse checks a text with
 * it before cJSON sees it, and the safetensors header is read with its cursor.
 */
#ifndef FLAT_IO_JSON_SCAN_H
#define FLAT_IO_JSON_SCAN_H
#include <stddef.h>

#include "../../util/error.h"

/* STATUS_OK when text[0..length) is exactly one JSON value under the limits that json.h states. Otherwise
 * STATUS_INPUT with "name: offset N: ..." or STATUS_MEMORY. Time O(n log n), extra memory O(keys). */
int json_scan(const char *text, size_t length, const char *name, struct error *error);

/* A place in a text. Every function below starts at the cursor, leaves it behind what it read, and fails with
 * STATUS_INPUT and "name: offset N: expected ..., found ...". */
struct json_cursor {
    const char *text, *name;
    size_t length, at;
    struct error *error;
};
/* The byte at the cursor, -1 at the end. Does not move. */
int json_cursor_peek(const struct json_cursor *cursor);
/* Fails: `what` was expected. */
int json_cursor_expected(const struct json_cursor *cursor, const char *what);
void json_cursor_skip_space(struct json_cursor *cursor);
/* The one byte `byte` with the space around it. */
int json_cursor_punctuation(struct json_cursor *cursor, char byte);
/* A string with its quotes. out (NULL: only check) receives *bytes bytes without quotes, escapes decoded, no
 * terminating zero: never more than there are between the quotes. */
int json_cursor_string(struct json_cursor *cursor, char *out, size_t *bytes);
/* A number, of any kind. */
int json_cursor_number(struct json_cursor *cursor);

#endif
