/* text.h - text files by lines, and JSON files by rows. Private to the readers of data in this folder.
 *
 * A file is read once, as it is or through gzip (told by its first bytes), from a path or, for "-", from the standard
 * input. UTF-8, a byte-order mark at its start is skipped. Directories and devices are refused, and so are the formats that
 * hold rows but no text (Parquet, archives), by name.
 */
#ifndef FLAT_IO_TEXT_H
#define FLAT_IO_TEXT_H
#include <stdbool.h>
#include <stddef.h>

#include "../../util/checksum.h"
#include "../json/json.h"

struct text {
    const char *path;  /* as given, for what the name says of the format; borrowed */
    const char *name;  /* for messages: the path, or "stdin"; borrowed */
    char *data;        /* what to free */
    const char *begin; /* zero-terminated after length bytes */
    size_t length;
    struct digest digest; /* of the file, mark and all */
};
int text_read(struct text *text, const char *path, struct error *error);
void text_free(struct text *text);
/* Whether the path ends in `suffix` (".csv"), any case, before an optional ".gz". */
bool text_is_named(const struct text *text, const char *suffix);

/* Steps through the lines that are not blank. Start with {0}. */
struct text_line {
    const char *begin;
    size_t length; /* without surrounding spaces, tabs and carriage returns */
    size_t next;   /* offset in the text where the search goes on */
    int number;    /* 1-based */
};
bool text_next_line(const struct text *text, struct text_line *line);
/* The first byte that is not blank, 0 when there is none. */
char text_first_byte(const struct text *text);

/* Where a value of a file of rows stands. */
struct json_place {
    const char *name;   /* "path:line", in an array "path:line (element N)" */
    int line;           /* 1-based */
    const char *text;   /* as it is written there */
    size_t length;
};
/* Calls row() with each value of a file of JSON lines or, when the text begins with '[', with each element of the array.
 * Stops at the first status that is not 0 and returns it. Only one value is held at a time. */
typedef int (*json_row)(void *user, const cJSON *value, const struct json_place *place, struct error *error);
int text_each_json(const struct text *text, json_row row, void *user, struct error *error);

#endif
