/* json.h - strict JSON over cJSON, with the path of every offending key in the error.
 *
 * Stricter than cJSON: valid UTF-8, no bytes after the value, no duplicate keys in an object, no \u0000, no
 * lone surrogate, no leading zeros or bare dots in numbers, depth <= 64, numbers read as integers must be
 * integers below 2^53.
 * A NaN or infinity is never written: json_add_number turns it into null.
 */
#ifndef FLAT_IO_JSON_H
#define FLAT_IO_JSON_H
#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../util/error.h"
#include "../../util/memory.h"

/* Parses text[0..length). `name` (a file, or "file:line") begins every error, with the byte offset.
 * The tree is freed with cJSON_Delete. Malformed: NULL, STATUS_INPUT. */
cJSON *json_parse(const char *text, size_t length, const char *name, struct error *error);
cJSON *json_read(const char *path, struct error *error);

/* json_parse for texts of Python's json module, which writes NaN, Infinity and -Infinity bare: numbers of the tree with
 * those values. Offsets in errors count two quotes for each of them. */
cJSON *json_parse_python(const char *text, size_t length, const char *name, struct error *error);
cJSON *json_read_python(const char *path, size_t max_bytes, struct error *error);
/* Appends a number as Python's repr and json module write it: the shortest digits that read back equal, 1.0 and not 1,
 * NaN, Infinity. */
int json_python_print_number(double value, struct buffer *out, struct error *error);
/* Appends what json.dumps(value, indent=4) gives, every number being a float: ASCII only. */
int json_python_print(const cJSON *value, struct buffer *out, struct error *error);

/* Members of an object. Missing or of the wrong type: STATUS_INPUT naming `name` and the key. The _or forms
 * leave *value at its present content when the key is absent or null. Strings belong to the tree. */
int json_get_string(const cJSON *object, const char *name, const char *key, const char **value, struct error *error);
int json_get_string_or(const cJSON *object, const char *name, const char *key, const char **value, struct error *error);
int json_get_int_or(const cJSON *object, const char *name, const char *key, int64_t min, int64_t max, int64_t *value,
                    struct error *error);
int json_get_double_or(const cJSON *object, const char *name, const char *key, double *value, struct error *error);
int json_get_bool_or(const cJSON *object, const char *name, const char *key, bool *value, struct error *error);
/* Member by exact (case-sensitive) name, or NULL. */
const cJSON *json_member(const cJSON *object, const char *key);
/* True when the value is a number that is an integer below 2^53 in magnitude (from there on doubles skip some). */
bool json_integer(const cJSON *value, int64_t *out);

/* Text of a value on one line, numbers as the shortest form that reads back equal; appended to *out. */
int json_print(const cJSON *value, struct buffer *out, struct error *error);
/* The same with two-space indentation. */
int json_print_pretty(const cJSON *value, struct buffer *out, struct error *error);
/* A file of that, written whole or not at all. */
int json_write(const cJSON *value, const char *path, struct error *error);
/* Appends a JSON string literal of text (valid UTF-8 assumed) with quotes. */
int json_print_string(const char *text, size_t length, struct buffer *out, struct error *error);

/* Appends the object text[0..length), which json_parse has accepted, on one line and as it is written there, without the
 * members that `members` has too, and then those of `members`. */
int json_edit(const char *text, size_t length, const cJSON *members, struct buffer *out, struct error *error);

/* Builders: add to an object; return false when memory ran out. */
bool json_add_number(cJSON *object, const char *key, double value);
bool json_add_int(cJSON *object, const char *key, int64_t value);
bool json_add_string(cJSON *object, const char *key, const char *value);
bool json_add_bool(cJSON *object, const char *key, bool value);
/* Puts a value under a key, instead of what is there; takes it over, also where it returns false. value NULL: false. (cJSON's
 * own replacement leaves a member without a name where memory runs out.) */
bool json_set(cJSON *object, const char *key, cJSON *value);

#endif
