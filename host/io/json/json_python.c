/* json_python.c - see json.h: JSON as Python's json module reads and writes it. */
#include "json.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../util/file.h"
#include "../../util/utf8.h"

/* JSON has no such numbers. They are read as strings, whose ordinal among the strings of the text is noted, and become
 * numbers in the tree: the ordinal, not the text, tells them from real strings of that name. */
static const char *const words[] = {"NaN", "Infinity", "-Infinity"};
enum { WORDS = sizeof words / sizeof *words };

struct quoted {
    struct buffer text;
    size_t strings;  /* seen so far, keys among them */
    size_t *ordinal; /* of the words, ascending */
    size_t count, capacity, next;
};

/* Which of the three begins at text[0..length), WORDS for none. */
static int word_at(const char *text, size_t length)
{
    int i = 0;
    while (i < WORDS && (length < strlen(words[i]) || memcmp(text, words[i], strlen(words[i]))))
        i++;
    return i;
}

static int note_word(struct quoted *quoted, int word, struct error *error)
{
    int status = buffer_printf(&quoted->text, error, "\"%s\"", words[word]);
    if (!status)
        status = memory_grow(&quoted->ordinal, &quoted->capacity, quoted->count + 1, sizeof *quoted->ordinal, error);
    if (!status)
        quoted->ordinal[quoted->count++] = quoted->strings++;
    return status;
}

/* Copies the text with quotes around those words where they stand outside strings. */
static int quote_words(const char *text, size_t length, struct quoted *quoted, struct error *error)
{
    int status = STATUS_OK;
    bool in_string = false;
    size_t copied = 0;
    for (size_t at = 0; at < length && !status; at++) {
        if (text[at] == '"') {
            quoted->strings += in_string;
            in_string = !in_string;
        } else if (in_string && text[at] == '\\') {
            at++;
        }
        if (in_string || (text[at] != 'N' && text[at] != 'I' && text[at] != '-'))
            continue;
        int word = word_at(text + at, length - at);
        if (word == WORDS)
            continue;
        status = buffer_append(&quoted->text, text + copied, at - copied, error);
        if (!status)
            status = note_word(quoted, word, error);
        copied = at + strlen(words[word]);
        at = copied - 1;
    }
    return status ? status : buffer_append(&quoted->text, text + copied, length - copied, error);
}

/* Turns the noted strings below a value into numbers; *ordinal counts the strings in the order of the text. */
static void restore_numbers(cJSON *value, struct quoted *quoted, size_t *ordinal)
{
    static const double values[] = {NAN, INFINITY, -INFINITY};
    for (cJSON *child = value->child; child; child = child->next) {
        *ordinal += cJSON_IsObject(value);
        restore_numbers(child, quoted, ordinal);
    }
    if (!cJSON_IsString(value))
        return;
    if (quoted->next < quoted->count && quoted->ordinal[quoted->next] == *ordinal) {
        int word = word_at(value->valuestring, strlen(value->valuestring));
        cJSON_free(value->valuestring);
        value->valuestring = NULL;
        value->type = cJSON_Number;
        value->valuedouble = values[word];
        quoted->next++;
    }
    ++*ordinal;
}

cJSON *json_parse_python(const char *text, size_t length, const char *name, struct error *error)
{
    struct quoted quoted = {0};
    cJSON *value = NULL;
    size_t ordinal = 0;
    if (!quote_words(text, length, &quoted, error))
        value = json_parse(quoted.text.data, quoted.text.length, name, error);
    if (value)
        restore_numbers(value, &quoted, &ordinal);
    buffer_free(&quoted.text);
    free(quoted.ordinal);
    return value;
}

cJSON *json_read_python(const char *path, size_t max_bytes, struct error *error)
{
    char *text;
    size_t length;
    if (file_read(path, max_bytes, &text, &length, error))
        return NULL;
    cJSON *value = json_parse_python(text, length, path, error);
    free(text);
    return value;
}

int json_python_print_number(double value, struct buffer *out, struct error *error)
{
    if (!isfinite(value))
        return buffer_printf(out, error, "%s", isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity");
    char text[32];                               /* -d.ddde-ddd */
    int digits = fabs(value) < DBL_MIN ? 1 : 15; /* with fewer digits a normal number reads back equal at 15 too */
    while (snprintf(text, sizeof text, "%.*e", digits - 1, value), digits < 17 && strtod(text, NULL) != value)
        digits++;
    const char *letter = strchr(text, 'e');
    int exponent = atoi(letter + 1);
    for (const char *at = letter - 1; digits > 1 && *at == '0'; at--)
        digits--;
    if (exponent < -4 || exponent >= 16)
        return buffer_printf(out, error, "%.*e", digits - 1, value);
    int decimals = digits - 1 - exponent;
    return buffer_printf(out, error, "%.*f", decimals > 1 ? decimals : 1, value);
}

/* A character outside ASCII as \uXXXX, or as a pair of surrogates. */
static int print_escape(uint32_t code, struct buffer *out, struct error *error)
{
    if (code < 0x10000)
        return buffer_printf(out, error, "\\u%04x", code);
    return buffer_printf(out, error, "\\u%04x\\u%04x", 0xd800 + ((code - 0x10000) >> 10), 0xdc00 + (code & 0x3ff));
}

static int print_string(const char *text, struct buffer *out, struct error *error)
{
    static const char letters[] = "\"\\bfnrt", values[] = "\"\\\b\f\n\r\t";
    int status = buffer_append(out, "\"", 1, error);
    while (*text && !status) {
        size_t plain = 0;
        while (text[plain] >= ' ' && text[plain] <= '~' && text[plain] != '"' && text[plain] != '\\')
            plain++;
        const char *value = plain ? NULL : strchr(values, *text);
        uint32_t code = 0xfffd;
        int bytes = plain || value ? 1 : utf8_decode(text, strlen(text), &code);
        if (plain)
            status = buffer_append(out, text, plain, error);
        else if (value)
            status = buffer_printf(out, error, "\\%c", letters[value - values]);
        else
            status = print_escape(code, out, error);
        text += plain ? plain : bytes ? (size_t)bytes : 1;
    }
    return status ? status : buffer_append(out, "\"", 1, error);
}

static int print_value(const cJSON *value, int depth, struct buffer *out, struct error *error)
{
    if (cJSON_IsString(value))
        return print_string(value->valuestring, out, error);
    if (cJSON_IsNumber(value))
        return json_python_print_number(value->valuedouble, out, error);
    if (!cJSON_IsObject(value) && !cJSON_IsArray(value))
        return buffer_printf(out, error, "%s", cJSON_IsBool(value) ? cJSON_IsTrue(value) ? "true" : "false" : "null");
    bool object = cJSON_IsObject(value);
    int status = buffer_append(out, object ? "{" : "[", 1, error);
    for (const cJSON *child = value->child; child && !status; child = child->next) {
        status = buffer_printf(out, error, "%s\n%*s", child == value->child ? "" : ",", 4 * (depth + 1), "");
        if (!status && object && !(status = print_string(child->string, out, error)))
            status = buffer_append(out, ": ", 2, error);
        if (!status)
            status = print_value(child, depth + 1, out, error);
    }
    if (!status && value->child)
        status = buffer_printf(out, error, "\n%*s", 4 * depth, "");
    return status ? status : buffer_append(out, object ? "}" : "]", 1, error);
}

int json_python_print(const cJSON *value, struct buffer *out, struct error *error)
{
    return print_value(value, 0, out, error);
}
