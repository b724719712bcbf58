/* csv.c - see csv.h. */
#include "csv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static int peek(const struct csv *csv)
{
    return csv->at < csv->text->length ? (unsigned char)csv->text->begin[csv->at] : -1;
}

/* A line's end, or the file's. Does not move. */
static bool at_end(const struct csv *csv)
{
    const char *here = csv->text->begin + csv->at; /* zero-terminated, so here[1] may be looked at after a '\r' */
    return peek(csv) < 0 || *here == '\n' || (*here == '\r' && (here[1] == '\n' || here[1] == 0));
}

static void skip_end(struct csv *csv)
{
    if (peek(csv) == '\r')
        csv->at++;
    if (peek(csv) == '\n')
        csv->at++;
    csv->next_line++;
}

static int fail(const struct csv *csv, int line, const char *what, struct error *error)
{
    return error_set(error, STATUS_INPUT, "%s:%d: %s", csv->text->name, line, what);
}

/* The inside of "..." with its quotes; "" stands for one quote. */
static int quoted_read(struct csv *csv, struct error *error)
{
    const int start = csv->next_line;
    int status = STATUS_OK;
    csv->at++;
    while (!status) {
        const int byte = peek(csv);
        if (byte < 0)
            return fail(csv, start, "the quote that begins here is never closed", error);
        csv->at++;
        if (byte == '"' && peek(csv) != '"')
            break;
        if (byte == '"')
            csv->at++;
        if (byte == '\n')
            csv->next_line++;
        status = buffer_append(&csv->all, &(char){(char)byte}, 1, error);
    }
    if (!status && peek(csv) != csv->separator && !at_end(csv))
        return fail(csv, csv->next_line, "expected a separator or the end of the line after a closing quote", error);
    return status;
}

static int cell_read(struct csv *csv, int column, struct error *error)
{
    size_t needed = csv->capacity;
    int status = memory_grow(&csv->offset, &csv->capacity, (size_t)column + 1, sizeof *csv->offset, error);
    if (!status && csv->capacity != needed) { /* the cells' pointers grow along */
        char **cells = realloc(csv->cell, csv->capacity * sizeof *cells);
        if (!cells)
            return error_set(error, STATUS_MEMORY, "out of host memory");
        csv->cell = cells;
    }
    if (status)
        return status;
    csv->offset[column] = csv->all.length;
    if (peek(csv) == '"') {
        status = quoted_read(csv, error);
    } else {
        const size_t start = csv->at;
        while (peek(csv) != csv->separator && !at_end(csv))
            csv->at++;
        status = buffer_append(&csv->all, csv->text->begin + start, csv->at - start, error);
    }
    return status ? status : buffer_append(&csv->all, "", 1, error);
}

/* The cells of the next record of the window that is not a blank line; *cells 0 at its end. */
static int record_take(struct csv *csv, int *cells, struct error *error)
{
    int status = STATUS_OK;
    *cells = 0;
    csv->all.length = 0;
    while (peek(csv) >= 0 && at_end(csv))
        skip_end(csv);
    csv->line = csv->next_line;
    if (peek(csv) < 0)
        return STATUS_OK;
    do {
        csv->at += *cells > 0;
        status = cell_read(csv, (*cells)++, error);
    } while (!status && peek(csv) == csv->separator);
    skip_end(csv);
    for (int i = 0; i < *cells && !status; i++)
        csv->cell[i] = csv->all.data + csv->offset[i];
    return status;
}

/* The same of the file: a record that meets the window's end is read again with more of it. */
static int record_read(struct csv *csv, int *cells, struct error *error)
{
    for (;;) {
        const size_t at = csv->at;
        const int line = csv->next_line;
        int status = record_take(csv, cells, error);
        if (csv->at < csv->text->length || csv->text->ended || (status && error->status != STATUS_INPUT))
            return status;
        status = text_more(csv->text, at, error);
        if (status)
            return status;
        csv->at = 0;
        csv->next_line = line;
    }
}

static bool has_title(const struct csv *csv, int cells, const char *const *wanted)
{
    for (int i = 0; i < cells; i++)
        for (const char *const *title = wanted; *title; title++)
            if (!strcasecmp(csv->cell[i], *title))
                return true;
    return false;
}

static int refuse_titles(const struct csv *csv, int cells, const char *const *wanted, struct error *error)
{
    char wants[200] = "", titles[400] = "";
    for (const char *const *title = wanted; *title; title++)
        snprintf(wants + strlen(wants), sizeof wants - strlen(wants), "%s%s", title == wanted ? "" : ", ", *title);
    for (int i = 0; i < cells; i++)
        snprintf(titles + strlen(titles), sizeof titles - strlen(titles), "%s\"%.60s\"", i ? ", " : "", csv->cell[i]);
    return error_set(error, STATUS_INPUT, "%s:%d: expected titles with one of %s above the columns, found %s; name the column "
                     "in the first line", csv->text->name, csv->line, wants, titles);
}

static int titles_take(struct csv *csv, int cells, struct error *error)
{
    csv->title = memory_array((size_t)cells, sizeof *csv->title, error);
    if (!csv->title)
        return STATUS_MEMORY;
    for (csv->columns = 0; csv->columns < cells; csv->columns++) {
        for (int i = 0; i < csv->columns; i++)
            if (*csv->cell[csv->columns] && !strcmp(csv->title[i], csv->cell[csv->columns]))
                return error_set(error, STATUS_INPUT, "%s:%d: the title \"%.100s\" is there twice", csv->text->name,
                                 csv->line, csv->title[i]);
        if (!(csv->title[csv->columns] = memory_string(csv->cell[csv->columns], error)))
            return STATUS_MEMORY;
    }
    return STATUS_OK;
}

int csv_open(struct csv *csv, struct text *text, const char *const *wanted, struct error *error)
{
    const char *separators = text_is_named(text, ".tsv") ? "\t" : ",;\t|";
    int cells = 0, status = STATUS_OK;
    *csv = (struct csv){.text = text};
    for (const char *separator = separators; *separator; separator++) {
        csv->separator = *separator;
        csv->at = 0;
        csv->next_line = 1;
        status = record_read(csv, &cells, error);
        if (!status && !cells)
            return error_set(error, STATUS_INPUT, "%s: has no rows", text->name);
        if (!status && has_title(csv, cells, wanted))
            return titles_take(csv, cells, error);
    }
    csv->separator = *separators; /* as the message shows it */
    csv->at = 0;
    csv->next_line = 1;
    status = record_read(csv, &cells, error);
    return status ? status : refuse_titles(csv, cells, wanted, error);
}

void csv_close(struct csv *csv)
{
    for (int i = 0; i < csv->columns; i++)
        free(csv->title[i]);
    free(csv->title);
    free(csv->cell);
    free(csv->offset);
    buffer_free(&csv->all);
    *csv = (struct csv){0};
}

int csv_next(struct csv *csv, bool *more, struct error *error)
{
    int cells, status = record_read(csv, &cells, error);
    *more = !status && cells > 0;
    if (*more && cells != csv->columns)
        status = error_set(error, STATUS_INPUT, "%s:%d: expected %d cells as there are titles, found %d; a cell with a "
                           "separator in it must be quoted", csv->text->name, csv->line, csv->columns, cells);
    return status;
}

int csv_column(const struct csv *csv, const char *title, bool any_case)
{
    for (int i = 0; i < csv->columns; i++)
        if (any_case ? !strcasecmp(csv->title[i], title) : !strcmp(csv->title[i], title))
            return i;
    return -1;
}
