/* json_python.c - see json.h: numbers as Python's json module writes them. */
#include "json.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const words[] = {"NaN", "Infinity", "-Infinity"};
enum { WORDS = sizeof words / sizeof *words };

/* Which of the three begins at text[0..length), WORDS for none. */
static int word_at(const char *text, size_t length)
{
    int i = 0;
    while (i < WORDS && (length < strlen(words[i]) || memcmp(text, words[i], strlen(words[i]))))
        i++;
    return i;
}

/* Copies the text with quotes around those words where they stand outside strings. */
static int quote_words(const char *text, size_t length, struct buffer *out, struct error *error)
{
    int status = STATUS_OK;
    bool in_string = false;
    size_t copied = 0;
    for (size_t at = 0; at < length && !status; at++) {
        if (text[at] == '"')
            in_string = !in_string;
        else if (in_string && text[at] == '\\')
            at++;
        if (in_string || (text[at] != 'N' && text[at] != 'I' && text[at] != '-'))
            continue;
        int word = word_at(text + at, length - at);
        if (word == WORDS)
            continue;
        status = buffer_append(out, text + copied, at - copied, error);
        if (!status)
            status = buffer_printf(out, error, "\"%s\"", words[word]);
        copied = at + strlen(words[word]);
        at = copied - 1;
    }
    return status ? status : buffer_append(out, text + copied, length - copied, error);
}

cJSON *json_parse_python(const char *text, size_t length, const char *name, struct error *error)
{
    struct buffer quoted = {0};
    cJSON *value = NULL;
    if (!quote_words(text, length, &quoted, error))
        value = json_parse(quoted.data, quoted.length, name, error);
    buffer_free(&quoted);
    return value;
}

bool json_python_number(const cJSON *value, double *out)
{
    static const double values[] = {NAN, INFINITY, -INFINITY};
    if (cJSON_IsNumber(value)) {
        *out = value->valuedouble;
        return true;
    }
    int word = cJSON_IsString(value) ? word_at(value->valuestring, strlen(value->valuestring)) : WORDS;
    if (word == WORDS || strlen(value->valuestring) != strlen(words[word]))
        return false;
    *out = values[word];
    return true;
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
