/* json_scan.c - see json_scan.h. A recursive descent that builds nothing but a stack of the keys of the objects
 * that are still open.
 *
 * Duplicate keys are found when an object closes, by sorting its keys: n log n whatever the keys are, where a
 * hash set could be driven to n^2 by a file made for it.
 */
#include "json_scan.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "../../util/memory.h"
#include "../../util/utf8.h"

enum { MAX_DEPTH = 64 };

struct key {
    const char *text; /* decoded, in scan.decoded */
    size_t length, offset;
};

struct scan {
    struct json_cursor cursor;
    int depth;
    struct key *key; /* keys of the open objects, outermost first */
    size_t keys, key_capacity;
    char *decoded; /* the text of those keys: as long as the whole text, so it never moves */
    size_t decoded_length;
};

static int scan_value(struct scan *scan);

static int scan_word(struct json_cursor *cursor, const char *word)
{
    size_t length = strlen(word);
    if (cursor->length - cursor->at < length || memcmp(cursor->text + cursor->at, word, length))
        return json_cursor_expected(cursor, "a JSON value (a misspelt true, false or null?)");
    cursor->at += length;
    return STATUS_OK;
}

static int key_compare(const void *left, const void *right)
{
    const struct key *a = left, *b = right;
    if (a->length != b->length)
        return a->length < b->length ? -1 : 1;
    int order = memcmp(a->text, b->text, a->length);
    return order ? order : (a->offset > b->offset) - (a->offset < b->offset);
}

/* The keys from `first` on are those of the object that closes: none may occur twice. */
static int keys_check(const struct scan *scan, size_t first)
{
    size_t count = scan->keys - first;
    if (count < 2)
        return STATUS_OK;
    struct key *key = scan->key + first;
    qsort(key, count, sizeof *key, key_compare);
    for (size_t i = 1; i < count; i++)
        if (key[i].length == key[i - 1].length && !memcmp(key[i].text, key[i - 1].text, key[i].length))
            return error_set(scan->cursor.error, STATUS_INPUT, "%s: offset %zu: duplicate key \"%.*s\"",
                             scan->cursor.name, key[i].offset, (int)(key[i].length < 100 ? key[i].length : 100),
                             key[i].text);
    return STATUS_OK;
}

/* `"key": value`. */
static int scan_member(struct scan *scan)
{
    struct json_cursor *cursor = &scan->cursor;
    if (json_cursor_peek(cursor) != '"')
        return json_cursor_expected(cursor, "a key in double quotes");
    struct key key = {scan->decoded + scan->decoded_length, 0, cursor->at};
    int status = memory_grow(&scan->key, &scan->key_capacity, scan->keys + 1, sizeof key, cursor->error);
    if (status || (status = json_cursor_string(cursor, scan->decoded + scan->decoded_length, &key.length)))
        return status;
    scan->decoded_length += key.length;
    scan->key[scan->keys++] = key;
    status = json_cursor_punctuation(cursor, ':');
    return status ? status : scan_value(scan);
}

/* An object or an array. */
static int scan_container(struct scan *scan)
{
    struct json_cursor *cursor = &scan->cursor;
    bool object = json_cursor_peek(cursor) == '{';
    int close = object ? '}' : ']', status;
    size_t first_key = scan->keys, decoded_length = scan->decoded_length;
    if (++scan->depth > MAX_DEPTH)
        return error_set(cursor->error, STATUS_INPUT, "%s: offset %zu: nested deeper than %d levels", cursor->name,
                         cursor->at, MAX_DEPTH);
    cursor->at++;
    json_cursor_skip_space(cursor);
    for (bool first = true; json_cursor_peek(cursor) != close; first = false) {
        if (!first) {
            if (json_cursor_peek(cursor) != ',')
                return json_cursor_expected(cursor, object ? "',' or '}'" : "',' or ']'");
            cursor->at++;
            json_cursor_skip_space(cursor);
        }
        if ((status = object ? scan_member(scan) : scan_value(scan)))
            return status;
    }
    cursor->at++;
    if (object && (status = keys_check(scan, first_key)))
        return status;
    scan->keys = first_key;
    scan->decoded_length = decoded_length;
    scan->depth--;
    return STATUS_OK;
}

/* A value with the space around it. */
static int scan_value(struct scan *scan)
{
    struct json_cursor *cursor = &scan->cursor;
    int status;
    json_cursor_skip_space(cursor);
    int byte = json_cursor_peek(cursor);
    if (byte == '{' || byte == '[')
        status = scan_container(scan);
    else if (byte == '"')
        status = json_cursor_string(cursor, NULL, NULL);
    else if (byte == 't')
        status = scan_word(cursor, "true");
    else if (byte == 'f')
        status = scan_word(cursor, "false");
    else if (byte == 'n')
        status = scan_word(cursor, "null");
    else if (byte == '-' || (byte >= '0' && byte <= '9'))
        status = json_cursor_number(cursor);
    else
        status = json_cursor_expected(cursor, "a JSON value");
    if (!status)
        json_cursor_skip_space(cursor);
    return status;
}

int json_scan(const char *text, size_t length, const char *name, struct error *error)
{
    size_t bad = 0;
    if (!utf8_valid(text, length, &bad))
        return error_set(error, STATUS_INPUT, "%s: offset %zu: expected UTF-8, found an invalid sequence", name, bad);
    struct scan scan = {.cursor = {.text = text, .name = name, .length = length, .error = error}};
    scan.decoded = memory_array(length, 1, error);
    if (!scan.decoded)
        return STATUS_MEMORY;
    int status = scan_value(&scan);
    if (!status && scan.cursor.at < length)
        status = json_cursor_expected(&scan.cursor, "the end of the text");
    free(scan.key);
    free(scan.decoded);
    return status;
}
