/* lower.c - see lower.h. */
#include "lower.h"

#include <stdbool.h>
#include <utf8proc.h>

#include "../../util/utf8.h"

enum { CAPITAL_SIGMA = 0x3a3, SMALL_SIGMA = 0x3c3, FINAL_SIGMA = 0x3c2, CAPITAL_I_WITH_DOT = 0x130 };

static bool is_cased(uint32_t code)
{
    utf8proc_int32_t c = (utf8proc_int32_t)code;
    return utf8proc_islower(c) || utf8proc_isupper(c) || utf8proc_category(c) == UTF8PROC_CATEGORY_LT;
}

/* The Unicode Standard's Case_Ignorable: marks, formats, modifiers, and the punctuation that may stand inside a
 * word. */
static bool is_ignored(uint32_t code)
{
    static const uint16_t inside[] = {0x27,   0x2e,   0x3a,   0xb7,   0x387,  0x55f,  0x5f4,  0x2018, 0x2019,
                                      0x2024, 0x2027, 0xfe13, 0xfe52, 0xfe55, 0xff07, 0xff0e, 0xff1a};
    for (size_t i = 0; i < sizeof inside / sizeof *inside; i++)
        if (code == inside[i])
            return true;
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
        return true;
    default:
        return false;
    }
}

/* Whether the characters from `text` on go on with a cased letter, those that are ignored left out. */
static bool letter_follows(const char *text, size_t length)
{
    uint32_t code;
    for (int bytes; (bytes = utf8_decode(text, length, &code)) > 0; text += bytes, length -= (size_t)bytes)
        if (!is_ignored(code))
            return is_cased(code);
    return false;
}

int text_lower(const char *text, size_t length, struct buffer *out, struct error *error)
{
    int status = STATUS_OK;
    bool after_letter = false; /* the last character that is not ignored is a cased letter */
    for (size_t at = 0; at < length && !status;) {
        uint32_t code;
        int bytes = utf8_decode(text + at, length - at, &code);
        if (bytes == 0) {
            status = buffer_append(out, text + at++, 1, error);
            after_letter = false;
            continue;
        }
        at += (size_t)bytes;
        uint32_t lower = (uint32_t)utf8proc_tolower((utf8proc_int32_t)code);
        if (code == CAPITAL_I_WITH_DOT)
            lower = 'i';
        else if (code == CAPITAL_SIGMA)
            lower = after_letter && !letter_follows(text + at, length - at) ? FINAL_SIGMA : SMALL_SIGMA;
        char put[4];
        status = buffer_append(out, put, (size_t)utf8_encode(lower, put), error);
        if (!status && code == CAPITAL_I_WITH_DOT)
            status = buffer_append(out, "\xcc\x87", 2, error); /* the combining dot */
        if (!is_ignored(code))
            after_letter = is_cased(code);
    }
    return status;
}
