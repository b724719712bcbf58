/* csv.h - tables of text: CSV and TSV with a title above each column, as Python's csv.DictReader reads them.
 *
 * RFC 4180: cells in double quotes may hold separators, line ends and doubled quotes; a quote inside a cell that begins
 * without one is itself. The separator is a tab where the file is named .tsv, and otherwise the one of , ; tab and | by
 * which the first record has a title that is looked for. Blank lines are passed over; a record of more or fewer cells than
 * there are titles is an error, and so is a title that is there twice.
 */
#ifndef FLAT_IO_CSV_H
#define FLAT_IO_CSV_H
#include "text.h"

struct csv {
    struct text *text;
    char separator;
    size_t at;
    int next_line;     /* 1-based, at `at` */
    int columns;
    char **title;      /* [columns] */
    int line;          /* where the record begins that was read last */
    char **cell;       /* [columns] */
    struct buffer all; /* the cells' storage */
    size_t *offset;    /* [columns] where each begins in it */
    size_t capacity;
};

/* Reads the titles. wanted: NULL-terminated, any case; without one of them the table is refused with the titles it has.
 * Close after a failure too. */
int csv_open(struct csv *csv, struct text *text, const char *const *wanted, struct error *error);
void csv_close(struct csv *csv);
/* The next record; false in *more after the last. */
int csv_next(struct csv *csv, bool *more, struct error *error);
/* The column of a title, -1 when there is none. Exact, or in any case. */
int csv_column(const struct csv *csv, const char *title, bool any_case);

#endif
