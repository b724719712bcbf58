/* utf8.h - strict UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF. U+0000 is a valid character. */
#ifndef FLAT_UTIL_UTF8_H
#define FLAT_UTIL_UTF8_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads the character at text[0..length). Returns its bytes (1..4), or 0 when they are invalid, cut off, or
 * length is 0; *code is set only on success. */
int utf8_decode(const char *text, size_t length, uint32_t *code);
/* Writes the character (a Unicode scalar value) to out[4] and returns its bytes, 0 for no scalar value. */
int utf8_encode(uint32_t code, char *out);
/* Bytes of the character that begins at *text, which must be inside valid UTF-8. */
int utf8_length(const char *text);
/* Whether all of text[0..length) is valid; otherwise *bad_offset (may be NULL) is the offset of the first
 * sequence that is not. */
bool utf8_valid(const char *text, size_t length, size_t *bad_offset);
/* Bytes of the invalid sequence at text[0..length), length > 0, where utf8_decode gave 0: the longest prefix of
 * a valid sequence, at least 1. This is what one U+FFFD stands for in a lossy conversion. */
size_t utf8_invalid_length(const char *text, size_t length);
/* Makes a zero-terminated text one printable line, in place: control characters, line separators and bytes that are no
 * valid UTF-8 become '?', one each byte. For what comes from files and other programs and goes to a terminal. */
void utf8_clean_line(char *text);

/* Bytes of the character at text[0..length) where it is white space as Python's str.isspace() and strip() see it (U+200B
 * and U+FEFF are not); 0 for any other. */
int utf8_space(const char *text, size_t length);
/* Length of text[0..length) without the white space at its end. */
size_t utf8_trimmed_length(const char *text, size_t length);

#endif
