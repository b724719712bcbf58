/* json.c - see json.h. Parsing, members and builders; json_cursor.c and json_scan.c hold the grammar,
 * json_print.c the writer.
 *
 * Only cJSON's parser, case-sensitive lookup and constructors are used: its utilities, comparison and printer
 * have known faults (numbers of more than 15 digits among them).
 */
#include "json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../util/file.h"
#include "json_scan.h"

/* The largest known tokenizer.json is some 35 MB. */
static const size_t max_file_bytes = (size_t)256 << 20;

cJSON *json_parse(const char *text, size_t length, const char *name, struct error *error)
{
    if (json_scan(text, length, name, error))
        return NULL;
    cJSON *value = cJSON_ParseWithLengthOpts(text, length, NULL, false);
    if (!value)
        error_set(error, STATUS_MEMORY, "%s: out of host memory for the tree of %zu bytes of JSON", name, length);
    return value;
}

cJSON *json_read(const char *path, struct error *error)
{
    char *text;
    size_t length;
    if (file_read(path, max_file_bytes, &text, &length, error))
        return NULL;
    cJSON *value = json_parse(text, length, path, error);
    free(text);
    return value;
}

int json_write(const cJSON *value, const char *path, struct error *error)
{
    struct buffer text = {0};
    int status = json_print_pretty(value, &text, error);
    if (!status)
        status = buffer_append(&text, "\n", 1, error);
    if (!status)
        status = file_write(path, text.data, text.length, error);
    buffer_free(&text);
    return status;
}

const cJSON *json_member(const cJSON *object, const char *key)
{
    return cJSON_IsObject(object) ? cJSON_GetObjectItemCaseSensitive(object, key) : NULL;
}

bool json_integer(const cJSON *value, int64_t *out)
{
    /* valueint saturates at 2^31 - 1, and from 2^53 on a double no longer tells neighbours apart */
    if (!cJSON_IsNumber(value) || value->valuedouble != floor(value->valuedouble) ||
        fabs(value->valuedouble) >= 9007199254740992.0)
        return false;
    *out = (int64_t)value->valuedouble;
    return true;
}

static const char *type_name(const cJSON *value)
{
    if (cJSON_IsObject(value))
        return "an object";
    if (cJSON_IsArray(value))
        return "an array";
    if (cJSON_IsString(value))
        return "a string";
    if (cJSON_IsNumber(value))
        return "a number";
    return cJSON_IsBool(value) ? "true or false" : "null";
}

static int wrong_type(const cJSON *value, const char *name, const char *key, const char *wanted, struct error *error)
{
    return error_set(error, STATUS_INPUT, "%s: %s: expected %s, found %s", name, key, wanted, type_name(value));
}

/* *member = the value of key, NULL when it is absent. */
static int member_find(const cJSON *object, const char *name, const char *key, const cJSON **member,
                       struct error *error)
{
    if (!cJSON_IsObject(object))
        return error_set(error, STATUS_INPUT, "%s: expected an object with the key %s, found %s", name, key,
                         type_name(object));
    *member = json_member(object, key);
    return STATUS_OK;
}

/* The same, with null as good as absent. */
static int member_find_or(const cJSON *object, const char *name, const char *key, const cJSON **member,
                          struct error *error)
{
    int status = member_find(object, name, key, member, error);
    if (!status && cJSON_IsNull(*member))
        *member = NULL;
    return status;
}

int json_get_string(const cJSON *object, const char *name, const char *key, const char **value, struct error *error)
{
    const cJSON *member = NULL;
    int status = member_find(object, name, key, &member, error);
    if (status)
        return status;
    if (!member)
        return error_set(error, STATUS_INPUT, "%s: %s: the key is missing; expected a string", name, key);
    if (!cJSON_IsString(member))
        return wrong_type(member, name, key, "a string", error);
    *value = member->valuestring;
    return STATUS_OK;
}

int json_get_string_or(const cJSON *object, const char *name, const char *key, const char **value, struct error *error)
{
    const cJSON *member = NULL;
    int status = member_find_or(object, name, key, &member, error);
    if (status || !member)
        return status;
    if (!cJSON_IsString(member))
        return wrong_type(member, name, key, "a string", error);
    *value = member->valuestring;
    return STATUS_OK;
}

int json_get_int_or(const cJSON *object, const char *name, const char *key, int64_t min, int64_t max, int64_t *value,
                    struct error *error)
{
    const cJSON *member = NULL;
    int status = member_find_or(object, name, key, &member, error);
    if (status || !member)
        return status;
    if (!cJSON_IsNumber(member))
        return wrong_type(member, name, key, "an integer", error);
    int64_t integer;
    if (!json_integer(member, &integer) || integer < min || integer > max)
        return error_set(error, STATUS_INPUT, "%s: %s: expected an integer from %lld to %lld, found %.17g", name, key,
                         (long long)min, (long long)max, member->valuedouble);
    *value = integer;
    return STATUS_OK;
}

int json_get_double_or(const cJSON *object, const char *name, const char *key, double *value, struct error *error)
{
    const cJSON *member = NULL;
    int status = member_find_or(object, name, key, &member, error);
    if (status || !member)
        return status;
    if (!cJSON_IsNumber(member))
        return wrong_type(member, name, key, "a number", error);
    *value = member->valuedouble;
    return STATUS_OK;
}

int json_get_bool_or(const cJSON *object, const char *name, const char *key, bool *value, struct error *error)
{
    const cJSON *member = NULL;
    int status = member_find_or(object, name, key, &member, error);
    if (status || !member)
        return status;
    if (!cJSON_IsBool(member))
        return wrong_type(member, name, key, "true or false", error);
    *value = cJSON_IsTrue(member);
    return STATUS_OK;
}

bool json_add_number(cJSON *object, const char *key, double value)
{
    return isfinite(value) ? cJSON_AddNumberToObject(object, key, value) : cJSON_AddNullToObject(object, key);
}

bool json_add_int(cJSON *object, const char *key, int64_t value)
{
    return cJSON_AddNumberToObject(object, key, (double)value);
}

bool json_add_string(cJSON *object, const char *key, const char *value)
{
    return cJSON_AddStringToObject(object, key, value);
}

bool json_add_bool(cJSON *object, const char *key, bool value)
{
    return cJSON_AddBoolToObject(object, key, value);
}

bool json_set(cJSON *object, const char *key, cJSON *value)
{
    cJSON *old = cJSON_GetObjectItemCaseSensitive(object, key);
    const size_t bytes = strlen(key) + 1;
    bool done = value != NULL;
    if (done && old) {
        done = (value->string = cJSON_malloc(bytes)) != NULL;
        if (done)
            memcpy(value->string, key, bytes);
        done = done && cJSON_ReplaceItemViaPointer(object, old, value);
    } else if (done) {
        done = cJSON_AddItemToObject(object, key, value);
    }
    if (!done)
        cJSON_Delete(value);
    return done;
}
