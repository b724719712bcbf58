/* text.h - text files by lines, and JSON files by rows. Private to this folder. */
#ifndef FLAT_IO_TEXT_H
#define FLAT_IO_TEXT_H
#include <stdbool.h>
#include <stddef.h>

#include "../json/json.h"

/* A whole text file: UTF-8 without a zero byte, its byte-order mark skipped. */
struct text {
    const char *path;
    char *data;        /* what to free */
    const char *begin; /* zero-terminated after length bytes */
    size_t length;
};
int text_read(struct text *text, const char *path, struct error *error);
void text_free(struct text *text);

/* Steps through the lines that are not blank. Start with {0}. */
struct text_line {
    const char *begin;
    size_t length; /* without surrounding spaces, tabs and carriage returns */
    size_t next;   /* offset in the text where the search goes on */
    int number;    /* 1-based */
};
bool text_next_line(const struct text *text, struct text_line *line);

/* Calls row() with each value of a file of JSON lines, or, when the text begins with '[', with each element of the
 * array. name is "path:line" or "path: element N" for messages, number the line or the element's 1-based number.
 * Stops at the first status that is not 0 and returns it. */
typedef int (*json_row)(void *user, const cJSON *value, const char *name, int number, struct error *error);
int text_each_json(const struct text *text, json_row row, void *user, struct error *error);

#endif
