/* answer_list.c - lists of template answers: text, CSV or JSON. See answer_list_read in dataset.h. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "../../util/memory.h"
#include "dataset.h"
#include "text.h"

struct reading {
    struct answer_list *list;
    size_t capacity;
};

static int answer_add(struct reading *reading, const char *text, size_t length, struct error *error)
{
    struct answer_list *list = reading->list;
    int status = memory_grow(&list->text, &reading->capacity, (size_t)list->count + 1, sizeof *list->text, error);
    if (status)
        return status;
    char *copy = memory_array(length + 1, 1, error);
    if (!copy)
        return STATUS_MEMORY;
    memcpy(copy, text, length);
    list->text[list->count++] = copy;
    return STATUS_OK;
}

static int read_lines(const struct text *text, struct reading *reading, struct error *error)
{
    struct text_line line = {0};
    int status = STATUS_OK;
    while (!status && text_next_line(text, &line))
        status = answer_add(reading, line.begin, line.length, error);
    return status;
}

static int json_add(void *user, const cJSON *value, const char *name, int number, struct error *error)
{
    (void)number; /* name has it */
    const char *answer = value->valuestring;
    int status = cJSON_IsString(value) ? STATUS_OK : json_get_string(value, name, "answer", &answer, error);
    if (status)
        return status;
    if (!*answer)
        return error_set(error, STATUS_INPUT, "%s: answer: expected text, found an empty string", name);
    return answer_add(user, answer, strlen(answer), error);
}

/* A file of plain lines may bear a JSON name, as TOFU's idontknow.jsonl does. */
static int read_json(const struct text *text, struct reading *reading, struct error *error)
{
    struct text_line first = {0};
    if (text_next_line(text, &first) && !strchr("[{\"", first.begin[0]))
        return read_lines(text, reading, error);
    return text_each_json(text, json_add, reading, error);
}

/* Where a CSV reader is. */
struct csv {
    const struct text *text;
    size_t at;
    int line;            /* 1-based */
    struct buffer cell;  /* the cell read last */
};

static int csv_peek(const struct csv *csv)
{
    return csv->at < csv->text->length ? (unsigned char)csv->text->begin[csv->at] : -1;
}

/* A line's end, or the file's. Does not move. */
static bool csv_at_end(const struct csv *csv)
{
    const char *here = csv->text->begin + csv->at; /* zero-terminated, so here[1] may be looked at after a '\r' */
    return csv_peek(csv) < 0 || *here == '\n' || (*here == '\r' && (here[1] == '\n' || here[1] == 0));
}

static void csv_skip_end(struct csv *csv)
{
    if (csv_peek(csv) == '\r')
        csv->at++;
    if (csv_peek(csv) == '\n')
        csv->at++;
    csv->line++;
}

static int csv_fail(const struct csv *csv, int line, const char *what, struct error *error)
{
    return error_set(error, STATUS_INPUT, "%s:%d: %s", csv->text->path, line, what);
}

/* The inside of "..." with its quotes; "" stands for one quote. */
static int csv_read_quoted(struct csv *csv, struct error *error)
{
    int start = csv->line, status = STATUS_OK;
    csv->at++;
    while (!status) {
        int byte = csv_peek(csv);
        if (byte < 0)
            return csv_fail(csv, start, "the quote that begins here is never closed", error);
        csv->at++;
        if (byte == '"' && csv_peek(csv) != '"')
            break;
        if (byte == '"')
            csv->at++;
        if (byte == '\n')
            csv->line++;
        status = buffer_append(&csv->cell, &(char){(char)byte}, 1, error);
    }
    if (!status && csv_peek(csv) != ',' && !csv_at_end(csv))
        return csv_fail(csv, csv->line, "expected a comma or the end of the line after a closing quote", error);
    return status;
}

static int csv_read_cell(struct csv *csv, struct error *error)
{
    csv->cell.length = 0;
    int status = buffer_append(&csv->cell, "", 0, error);
    if (status || csv_peek(csv) == '"')
        return status ? status : csv_read_quoted(csv, error);
    size_t start = csv->at;
    for (; csv_peek(csv) != ',' && !csv_at_end(csv); csv->at++)
        if (csv_peek(csv) == '"')
            return csv_fail(csv, csv->line, "a quote inside a cell; quote the whole cell and double the quotes in it",
                            error);
    return buffer_append(&csv->cell, csv->text->begin + start, csv->at - start, error);
}

/* Counts a record's cells and takes the first as an answer, unless it is a column's title in the first record. */
static int csv_read_record(struct csv *csv, struct reading *reading, bool first, int *cells, struct error *error)
{
    int line = csv->line, status = csv_read_cell(csv, error);
    if (status)
        return status;
    const char *cell = csv->cell.data;
    bool title = first && (!strcmp(cell, "answer") || !strcmp(cell, "response") || !strcmp(cell, "Refusal Response"));
    if (!title && !*cell)
        return csv_fail(csv, line, "expected an answer in the first column, found an empty cell", error);
    if (!title)
        status = answer_add(reading, cell, csv->cell.length, error);
    *cells = 1;
    while (!status && csv_peek(csv) == ',') {
        csv->at++;
        ++*cells;
        status = csv_read_cell(csv, error);
    }
    csv_skip_end(csv);
    return status;
}

static int read_csv(const struct text *text, struct reading *reading, struct error *error)
{
    struct csv csv = {.text = text, .line = 1};
    int columns = 0, cells = 0, status = STATUS_OK;
    while (!status && csv.at < text->length) {
        if (csv_at_end(&csv)) { /* a blank line */
            csv_skip_end(&csv);
            continue;
        }
        int line = csv.line;
        status = csv_read_record(&csv, reading, columns == 0, &cells, error);
        if (columns == 0)
            columns = cells;
        if (!status && cells != columns)
            status = error_set(error, STATUS_INPUT,
                               "%s:%d: expected %d cells as in the first record, found %d; an answer with a comma in "
                               "it must be quoted",
                               text->path, line, columns, cells);
    }
    buffer_free(&csv.cell);
    return status;
}

int answer_list_read(struct answer_list *list, const char *path, struct error *error)
{
    struct reading reading = {.list = list};
    struct text text;
    *list = (struct answer_list){0};
    int status = text_read(&text, path, error);
    if (status)
        return status;
    const char *dot = strrchr(path, '.');
    if (dot && !strcasecmp(dot, ".txt"))
        status = read_lines(&text, &reading, error);
    else if (dot && !strcasecmp(dot, ".csv"))
        status = read_csv(&text, &reading, error);
    else if (dot && (!strcasecmp(dot, ".jsonl") || !strcasecmp(dot, ".json")))
        status = read_json(&text, &reading, error);
    else
        status = error_set(error, STATUS_INPUT, "%s: expected a name that ends in .txt, .csv, .json or .jsonl", path);
    text_free(&text);
    if (!status && list->count == 0)
        status = error_set(error, STATUS_INPUT, "%s: has no answers", path);
    if (status)
        answer_list_free(list);
    return status;
}

void answer_list_free(struct answer_list *list)
{
    for (int i = 0; i < list->count; i++)
        free(list->text[i]);
    free(list->text);
    *list = (struct answer_list){0};
}
