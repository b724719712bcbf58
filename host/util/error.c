/* error.c - see error.h. */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "utf8.h"

int error_set(struct error *error, int status, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(error->text, sizeof error->text, format, list);
    va_end(list);
    error->status = status;
    utf8_clean_line(error->text); /* what came from a hostile file must stay one line */
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
    utf8_clean_line(error->text);
    return error->status;
}
