/* text.h - text files by lines, and JSON files by rows. Private to the readers of data in this folder.
 *
 * A file is read once, as it is or through gzip (told by its first bytes), from a path or, for "-", from the standard
 * input. UTF-8, a byte-order mark at its start is skipped. Directories and devices are refused, and so are the formats that
 * hold rows but no text (Parquet, archives), by name.
 *
 * A text is a window on the file: text_read opens it on the whole file, text_open on its beginning, and text_more moves it
 * on, so that rows can be taken from a file of any length. Readers of rows work on either: what ends beyond the window is
 * read again when there is more of it. Cost: linear; memory: the longest row, twice, and PIECE_BYTES.
 */
#ifndef FLAT_IO_TEXT_H
#define FLAT_IO_TEXT_H
#include <stdbool.h>
#include <stddef.h>

#include "../../util/checksum.h"
#include "../json/json.h"

struct text_source;

struct text {
    const char *path;  /* as given, for what the name says of the format; borrowed */
    const char *name;  /* for messages: the path, or "stdin"; borrowed */
    struct buffer data; /* the window, and what was in front of it */
    const char *begin; /* zero-terminated after length bytes */
    size_t length;
    size_t passed;     /* bytes of the file's text in front of begin */
    size_t checked;    /* of the window: valid UTF-8 without a zero */
    bool ended;        /* nothing comes behind the window */
    struct text_source *source;
    struct digest digest; /* of the file, mark and all, once it has ended */
};
/* The whole file, of at most a gigabyte. text_free after success. */
int text_read(struct text *text, const char *path, struct error *error);
/* The beginning of it. */
int text_open(struct text *text, const char *path, struct error *error);
/* Drops the first `done` bytes of the window and reads on: at least as much as is left of it, or to the file's end. */
int text_more(struct text *text, size_t done, struct error *error);
void text_free(struct text *text);
/* Whether the path ends in `suffix` (".csv"), any case, before an optional ".gz". */
bool text_is_named(const struct text *text, const char *suffix);

/* Steps through the lines of the window that are not blank. Start with {0}. */
struct text_line {
    const char *begin;
    size_t length; /* without surrounding spaces, tabs and carriage returns */
    size_t next;   /* offset in the window where the search goes on */
    int number;    /* 1-based */
};
bool text_next_line(const struct text *text, struct text_line *line);
/* The first byte that is not blank, 0 when there is none; reads on until it finds one. */
int text_first_byte(struct text *text, char *first, struct error *error);

/* Where a value of a file of rows stands. */
struct json_place {
    const char *name;   /* "path:line", in an array "path:line (element N)" */
    int line;           /* 1-based */
    const char *text;   /* as it is written there */
    size_t length;
};
/* The values of a file of JSON lines or, when the text begins with '[', the elements of the array. */
struct json_rows {
    struct text *text;
    bool array;
    size_t at;          /* in the window, where the next one begins */
    int line, number;   /* of the place at `at`; elements so far */
    char last;          /* the byte that ended the last element; '[' before the first */
    char name[1024];
};
int json_rows_open(struct json_rows *rows, struct text *text, struct error *error);
/* The next value, which the caller deletes; NULL behind the last. place is valid until the next call. */
int json_rows_next(struct json_rows *rows, cJSON **value, struct json_place *place, struct error *error);

#endif
