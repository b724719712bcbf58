/* json_cursor.c - the words of JSON: strings and numbers, read at a cursor. See json_scan.h. */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../util/utf8.h"
#include "json_scan.h"

enum { MAX_NUMBER_LENGTH = 63 }; /* cJSON cuts numbers there */

int json_cursor_peek(const struct json_cursor *cursor)
{
    return cursor->at < cursor->length ? (unsigned char)cursor->text[cursor->at] : -1;
}

int json_cursor_expected(const struct json_cursor *cursor, const char *what)
{
    int byte = json_cursor_peek(cursor);
    if (byte < 0)
        return error_set(cursor->error, STATUS_INPUT, "%s: offset %zu: expected %s, found the end of the text",
                         cursor->name, cursor->at, what);
    if (byte > 0x20 && byte < 0x7f)
        return error_set(cursor->error, STATUS_INPUT, "%s: offset %zu: expected %s, found '%c'", cursor->name,
                         cursor->at, what, byte);
    return error_set(cursor->error, STATUS_INPUT, "%s: offset %zu: expected %s, found byte 0x%02X", cursor->name,
                     cursor->at, what, (unsigned)byte);
}

/* Fails at an earlier offset. */
static int fail_at(const struct json_cursor *cursor, size_t offset, const char *what)
{
    return error_set(cursor->error, STATUS_INPUT, "%s: offset %zu: %s", cursor->name, offset, what);
}

void json_cursor_skip_space(struct json_cursor *cursor)
{
    for (int byte; (byte = json_cursor_peek(cursor)) == ' ' || byte == '\t' || byte == '\n' || byte == '\r';)
        cursor->at++;
}

int json_cursor_punctuation(struct json_cursor *cursor, char byte)
{
    json_cursor_skip_space(cursor);
    if (json_cursor_peek(cursor) != byte)
        return json_cursor_expected(cursor, (char[]){'\'', byte, '\'', 0});
    cursor->at++;
    json_cursor_skip_space(cursor);
    return STATUS_OK;
}

static bool is_digit(int byte)
{
    return byte >= '0' && byte <= '9';
}

/* Value of a hexadecimal digit, -1 for another byte. */
static int hex_digit(int byte)
{
    if (is_digit(byte))
        return byte - '0';
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

static int read_hex4(struct json_cursor *cursor, uint32_t *unit)
{
    *unit = 0;
    for (int i = 0; i < 4; i++, cursor->at++) {
        int digit = hex_digit(json_cursor_peek(cursor));
        if (digit < 0)
            return json_cursor_expected(cursor, "four hexadecimal digits after \\u");
        *unit = *unit << 4 | (uint32_t)digit;
    }
    return STATUS_OK;
}

/* What follows "\u": one UTF-16 unit or a surrogate pair, as a character. */
static int read_code(struct json_cursor *cursor, uint32_t *code)
{
    size_t start = cursor->at - 2;
    int status = read_hex4(cursor, code);
    if (status)
        return status;
    if (*code == 0)
        return fail_at(cursor, start, "\\u0000 is not accepted in a string");
    if (*code < 0xd800 || *code > 0xdfff)
        return STATUS_OK;
    uint32_t low = 0;
    if (*code < 0xdc00 && cursor->length - cursor->at >= 2 && !memcmp(cursor->text + cursor->at, "\\u", 2)) {
        cursor->at += 2;
        if ((status = read_hex4(cursor, &low)))
            return status;
    }
    if (low < 0xdc00 || low > 0xdfff)
        return fail_at(cursor, start, "expected a pair of surrogates, found one alone");
    *code = 0x10000 + ((*code - 0xd800) << 10) + (low - 0xdc00);
    return STATUS_OK;
}

/* The escape whose backslash is at the cursor, as *bytes bytes of UTF-8. */
static int read_escape(struct json_cursor *cursor, char out[4], int *bytes)
{
    static const char letters[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    cursor->at++;
    int byte = json_cursor_peek(cursor);
    const char *letter = byte > 0 ? strchr(letters, byte) : NULL;
    if (letter) {
        cursor->at++;
        out[0] = values[letter - letters];
        *bytes = 1;
        return STATUS_OK;
    }
    if (byte != 'u')
        return json_cursor_expected(cursor, "one of \" \\ / b f n r t u after a backslash");
    cursor->at++;
    uint32_t code;
    int status = read_code(cursor, &code);
    if (!status)
        *bytes = utf8_encode(code, out);
    return status;
}

int json_cursor_string(struct json_cursor *cursor, char *out, size_t *bytes)
{
    if (json_cursor_peek(cursor) != '"')
        return json_cursor_expected(cursor, "a string in double quotes");
    size_t run = ++cursor->at, length = 0; /* run: start of the plain bytes not yet copied */
    for (int byte;;) {
        byte = json_cursor_peek(cursor);
        if (byte < 0)
            return json_cursor_expected(cursor, "a closing quote");
        if (byte < 0x20)
            return json_cursor_expected(cursor, "no bare control character in a string");
        if (byte != '"' && byte != '\\') {
            cursor->at++;
            continue;
        }
        size_t plain = cursor->at - run;
        if (out)
            memcpy(out + length, cursor->text + run, plain);
        length += plain;
        if (byte == '"')
            break;
        char escape[4];
        int escape_bytes = 0, status = read_escape(cursor, escape, &escape_bytes);
        if (status)
            return status;
        if (out)
            memcpy(out + length, escape, (size_t)escape_bytes);
        length += (size_t)escape_bytes;
        run = cursor->at;
    }
    cursor->at++;
    if (bytes)
        *bytes = length;
    return STATUS_OK;
}

static int read_digits(struct json_cursor *cursor, const char *what)
{
    if (!is_digit(json_cursor_peek(cursor)))
        return json_cursor_expected(cursor, what);
    while (is_digit(json_cursor_peek(cursor)))
        cursor->at++;
    return STATUS_OK;
}

/* [eE][+-]?[0-9]+ when there is one. */
static int read_exponent(struct json_cursor *cursor)
{
    int byte = json_cursor_peek(cursor);
    if (byte != 'e' && byte != 'E')
        return STATUS_OK;
    cursor->at++;
    byte = json_cursor_peek(cursor);
    if (byte == '+' || byte == '-')
        cursor->at++;
    return read_digits(cursor, "a digit of the exponent");
}

int json_cursor_number(struct json_cursor *cursor)
{
    size_t start = cursor->at;
    if (json_cursor_peek(cursor) == '-')
        cursor->at++;
    size_t first = cursor->at;
    int status = read_digits(cursor, "a digit");
    if (status)
        return status;
    if (cursor->text[first] == '0' && cursor->at - first > 1)
        return fail_at(cursor, start, "a number must not begin with a zero");
    if (json_cursor_peek(cursor) == '.') {
        cursor->at++;
        status = read_digits(cursor, "a digit after the decimal point");
    }
    if (status || (status = read_exponent(cursor)))
        return status;
    char copy[MAX_NUMBER_LENGTH + 1] = "";
    if (cursor->at - start > MAX_NUMBER_LENGTH)
        return fail_at(cursor, start, "a number of more than 63 characters");
    memcpy(copy, cursor->text + start, cursor->at - start);
    return isfinite(strtod(copy, NULL)) ? STATUS_OK : fail_at(cursor, start, "the number is beyond a double's range");
}
