/* utf8.c - see utf8.h. The accepted sequences are those of the Unicode Standard's table 3-7. */
#include "utf8.h"

#include <string.h>

/* Bytes that a first byte announces (0: it cannot begin a character) and the range of the second byte, which
 * excludes overlong forms, surrogates and what is above U+10FFFF. */
static int sequence_length(unsigned char first, unsigned char *low, unsigned char *high)
{
    *low = 0x80;
    *high = 0xbf;
    if (first < 0x80)
        return 1;
    if (first < 0xc2 || first > 0xf4)
        return 0;
    if (first < 0xe0)
        return 2;
    if (first < 0xf0) {
        *low = first == 0xe0 ? 0xa0 : 0x80;
        *high = first == 0xed ? 0x9f : 0xbf;
        return 3;
    }
    *low = first == 0xf0 ? 0x90 : 0x80;
    *high = first == 0xf4 ? 0x8f : 0xbf;
    return 4;
}

int utf8_decode(const char *text, size_t length, uint32_t *code)
{
    const unsigned char *s = (const unsigned char *)text;
    unsigned char low, high;
    if (length == 0)
        return 0;
    int bytes = sequence_length(s[0], &low, &high);
    if (bytes == 0 || length < (size_t)bytes)
        return 0;
    if (bytes == 1) {
        *code = s[0];
        return 1;
    }
    if (s[1] < low || s[1] > high)
        return 0;
    uint32_t value = (uint32_t)(s[0] & (0x7f >> bytes)) << 6 | (s[1] & 0x3f);
    for (int i = 2; i < bytes; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        value = value << 6 | (s[i] & 0x3f);
    }
    *code = value;
    return bytes;
}

int utf8_encode(uint32_t code, char *out)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        if (code >= 0xd800 && code <= 0xdfff)
            return 0;
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    if (code > 0x10ffff)
        return 0;
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

int utf8_length(const char *text)
{
    unsigned char first = (unsigned char)*text;
    return first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

bool utf8_valid(const char *text, size_t length, size_t *bad_offset)
{
    for (size_t i = 0; i < length;) {
        uint64_t eight;
        if (length - i >= sizeof eight) { /* eight ASCII bytes at a time */
            memcpy(&eight, text + i, sizeof eight);
            if (!(eight & 0x8080808080808080u)) {
                i += sizeof eight;
                continue;
            }
        }
        uint32_t code;
        int bytes = utf8_decode(text + i, length - i, &code);
        if (bytes == 0) {
            if (bad_offset)
                *bad_offset = i;
            return false;
        }
        i += (size_t)bytes;
    }
    return true;
}

size_t utf8_invalid_length(const char *text, size_t length)
{
    const unsigned char *s = (const unsigned char *)text;
    unsigned char low, high;
    size_t bytes = (size_t)sequence_length(s[0], &low, &high);
    if (bytes < 2 || length < 2 || s[1] < low || s[1] > high)
        return 1;
    size_t valid = 2;
    while (valid < bytes && valid < length && (s[valid] & 0xc0) == 0x80)
        valid++;
    return valid;
}

int utf8_space(const char *text, size_t length)
{
    uint32_t c;
    const int bytes = utf8_decode(text, length, &c);
    const bool space = bytes && ((c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
                                 (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
                                 c == 0x3000);
    return space ? bytes : 0;
}

size_t utf8_trimmed_length(const char *text, size_t length)
{
    while (length) {
        size_t last = length - 1;
        while (last && ((unsigned char)text[last] & 0xc0) == 0x80)
            last--;
        if (!utf8_space(text + last, length - last))
            break;
        length = last;
    }
    return length;
}

void utf8_clean_line(char *text)
{
    for (size_t left = strlen(text); left;) {
        uint32_t code = 0;
        int bytes = utf8_decode(text, left, &code);
        const bool printable = bytes && code >= 0x20 && (code < 0x7f || code > 0x9f) && code != 0x2028 && code != 0x2029;
        if (!bytes)
            bytes = 1;
        if (!printable)
            memset(text, '?', (size_t)bytes);
        text += bytes;
        left -= (size_t)bytes;
    }
}
