/* json_print.c - the writing half of json.h. Spacing is that of Python's json module, so that files written here
 * and files written there compare equal.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"

enum { ONE_LINE = -1 }; /* as indentation: no line breaks */

int json_print_string(const char *text, size_t length, struct buffer *out, struct error *error)
{
    static const char letters[] = "\"\\bfnrt", values[] = "\"\\\b\f\n\r\t";
    int status = buffer_append(out, "\"", 1, error);
    size_t run = 0;
    for (size_t i = 0; i <= length && !status; i++) {
        unsigned char byte = i < length ? (unsigned char)text[i] : 0;
        if (i < length && byte >= 0x20 && byte != '"' && byte != '\\')
            continue;
        status = buffer_append(out, text + run, i - run, error);
        run = i + 1;
        if (status || i == length)
            break;
        const char *value = byte ? strchr(values, byte) : NULL;
        status = value ? buffer_printf(out, error, "\\%c", letters[value - values])
                       : buffer_printf(out, error, "\\u%04x", byte);
    }
    return status ? status : buffer_append(out, "\"", 1, error);
}

static int print_number(double value, struct buffer *out, struct error *error)
{
    if (!isfinite(value))
        return buffer_append(out, "null", 4, error);
    if (value == floor(value) && fabs(value) < 9007199254740992.0 && !(value == 0 && signbit(value)))
        return buffer_printf(out, error, "%.0f", value);
    char text[32];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    return buffer_append(out, text, strlen(text), error);
}

static int print_value(const cJSON *value, int indentation, struct buffer *out, struct error *error);

static int print_break(int indentation, struct buffer *out, struct error *error)
{
    return buffer_printf(out, error, "\n%*s", 2 * indentation, "");
}

static int print_container(const cJSON *value, int indentation, struct buffer *out, struct error *error)
{
    bool object = cJSON_IsObject(value), lines = indentation != ONE_LINE && value->child;
    int inner = indentation == ONE_LINE ? ONE_LINE : indentation + 1;
    int status = buffer_append(out, object ? "{" : "[", 1, error);
    for (const cJSON *child = value->child; child && !status; child = child->next) {
        if (child != value->child)
            status = buffer_append(out, ", ", lines ? 1 : 2, error);
        if (!status && lines)
            status = print_break(inner, out, error);
        if (!status && object && !(status = json_print_string(child->string, strlen(child->string), out, error)))
            status = buffer_append(out, ": ", 2, error);
        if (!status)
            status = print_value(child, inner, out, error);
    }
    if (!status && lines)
        status = print_break(indentation, out, error);
    return status ? status : buffer_append(out, object ? "}" : "]", 1, error);
}

static int print_value(const cJSON *value, int indentation, struct buffer *out, struct error *error)
{
    if (cJSON_IsObject(value) || cJSON_IsArray(value))
        return print_container(value, indentation, out, error);
    if (cJSON_IsString(value))
        return json_print_string(value->valuestring, strlen(value->valuestring), out, error);
    if (cJSON_IsNumber(value))
        return print_number(value->valuedouble, out, error);
    if (cJSON_IsBool(value))
        return buffer_printf(out, error, "%s", cJSON_IsTrue(value) ? "true" : "false");
    return buffer_append(out, "null", 4, error);
}

int json_print(const cJSON *value, struct buffer *out, struct error *error)
{
    return print_value(value, ONE_LINE, out, error);
}

int json_print_pretty(const cJSON *value, struct buffer *out, struct error *error)
{
    return print_value(value, 0, out, error);
}
