/* json_edit.c - an object as it was written, with some members taken out and others put in: the digits of its numbers and
 * the order of its keys stay. See json_edit in json.h.
 */
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "json_scan.h"

/* The bytes of the value at the cursor, which is known to be valid JSON. */
static void value_skip(struct json_cursor *cursor)
{
    bool quoted = false;
    for (int depth = 0; cursor->at < cursor->length; cursor->at++) {
        const char byte = cursor->text[cursor->at];
        if (quoted && byte == '\\')
            cursor->at++;
        else if (byte == '"')
            quoted = !quoted;
        else if (!quoted && !depth && (byte == ',' || byte == '}' || byte == ']'))
            return;
        else if (!quoted)
            depth += (byte == '[' || byte == '{') - (byte == ']' || byte == '}');
    }
}

/* Appends text[0..length) on one line, without the space at its end. */
static int flat_append(struct buffer *out, const char *text, size_t length, struct error *error)
{
    int status = STATUS_OK;
    while (length && strchr(" \t\r\n", text[length - 1]))
        length--;
    for (size_t i = 0; i < length && !status; i++) /* a line end stands between words, never in a string */
        if (text[i] != '\n' && text[i] != '\r')
            status = buffer_append(out, text + i, 1, error);
    return status;
}

static int members_copy(struct json_cursor *cursor, const cJSON *members, struct buffer *out, bool *any, char *key)
{
    int status = json_cursor_punctuation(cursor, '{');
    while (!status && json_cursor_peek(cursor) != '}') {
        const size_t begin = cursor->at;
        size_t bytes;
        status = json_cursor_string(cursor, key, &bytes);
        if (!status)
            status = json_cursor_punctuation(cursor, ':');
        if (status)
            return status;
        key[bytes] = 0;
        value_skip(cursor);
        if (!json_member(members, key)) {
            status = buffer_append(out, ", ", *any ? 2 : 0, cursor->error);
            if (!status)
                status = flat_append(out, cursor->text + begin, cursor->at - begin, cursor->error);
            *any = true;
        }
        if (json_cursor_peek(cursor) == ',')
            cursor->at++;
        json_cursor_skip_space(cursor);
    }
    return status;
}

int json_edit(const char *text, size_t length, const cJSON *members, struct buffer *out, struct error *error)
{
    struct json_cursor cursor = {.text = text, .name = "row", .length = length, .error = error};
    bool any = false;
    char *key = memory_array(length + 1, 1, error);
    int status = key ? buffer_append(out, "{", 1, error) : STATUS_MEMORY;
    if (!status)
        status = members_copy(&cursor, members, out, &any, key);
    for (const cJSON *member = members->child; member && !status; member = member->next, any = true) {
        status = buffer_append(out, ", ", any ? 2 : 0, error);
        if (!status)
            status = json_print_string(member->string, strlen(member->string), out, error);
        if (!status)
            status = buffer_append(out, ": ", 2, error);
        if (!status)
            status = json_print(member, out, error);
    }
    free(key);
    return status ? status : buffer_append(out, "}", 1, error);
}
