/* error.c - see error.h. */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A line that came from a hostile file must stay one printable line. */
static void text_clean(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
}

int error_set(struct error *error, int status, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(error->text, sizeof error->text, format, list);
    va_end(list);
    error->status = status;
    text_clean(error->text);
    return status;
}

int error_prefix(struct error *error, const char *format, ...)
{
    char rest[sizeof error->text];
    memcpy(rest, error->text, sizeof rest);
    va_list list;
    va_start(list, format);
    int n = vsnprintf(error->text, sizeof error->text, format, list);
    va_end(list);
    size_t used = n < 0 ? 0 : (size_t)n;
    if (used + 2 < sizeof error->text) {
        size_t length = strnlen(rest, sizeof error->text - used - 3);
        memcpy(error->text + used, ": ", 2);
        memcpy(error->text + used + 2, rest, length);
        error->text[used + 2 + length] = 0;
    }
    text_clean(error->text);
    return error->status;
}
