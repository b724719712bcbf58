/* spaces.h - white space as Python's str.split, str.strip and the \s of its regular expressions see it. */
#ifndef FLAT_EVAL_METRIC_SPACES_H
#define FLAT_EVAL_METRIC_SPACES_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../util/utf8.h"

static inline bool space_is(uint32_t code)
{
    return (code >= 0x09 && code <= 0x0d) || (code >= 0x1c && code <= 0x20) || code == 0x85 || code == 0xa0 ||
           code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 || code == 0x2029 || code == 0x202f ||
           code == 0x205f || code == 0x3000;
}

/* Bytes of the white-space character at text[0..length), 0 when there is none (or no valid character). */
static inline size_t space_at(const char *text, size_t length)
{
    uint32_t code;
    int bytes = utf8_decode(text, length, &code);
    return bytes && space_is(code) ? (size_t)bytes : 0;
}

#endif
