/* text_rows.c - lines and JSON rows of a text: see text.h. */
#include <stdio.h>
#include <string.h>

#include "text.h"

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r';
}

bool text_next_line(const struct text *text, struct text_line *line)
{
    while (line->next < text->length) {
        const char *begin = text->begin + line->next;
        const char *newline = memchr(begin, '\n', text->length - line->next);
        const char *end = newline ? newline : text->begin + text->length;
        line->next = (size_t)(end - text->begin) + 1;
        line->number++;
        while (begin < end && is_blank(*begin))
            begin++;
        while (begin < end && is_blank(end[-1]))
            end--;
        line->begin = begin;
        line->length = (size_t)(end - begin);
        if (line->length)
            return true;
    }
    return false;
}

int text_first_byte(struct text *text, char *first, struct error *error)
{
    struct text_line line = {0};
    int status = STATUS_OK;
    bool found;
    while (!(found = text_next_line(text, &line)) && !text->ended && !status) {
        line = (struct text_line){0};
        status = text_more(text, 0, error); /* blank lines are kept: they count */
    }
    *first = found ? *line.begin : 0;
    return status;
}

int json_rows_open(struct json_rows *rows, struct text *text, struct error *error)
{
    char first;
    int status = text_first_byte(text, &first, error);
    *rows = (struct json_rows){.text = text, .array = first == '[', .line = 1, .last = '['};
    if (status || !rows->array)
        return status;
    const char *bracket = memchr(text->begin, '[', text->length);
    for (const char *byte = text->begin; byte < bracket; byte++)
        rows->line += *byte == '\n';
    rows->at = (size_t)(bracket - text->begin) + 1;
    return STATUS_OK;
}

static void space_skip(struct json_rows *rows)
{
    const struct text *text = rows->text;
    for (; rows->at < text->length && (is_blank(text->begin[rows->at]) || text->begin[rows->at] == '\n'); rows->at++)
        rows->line += text->begin[rows->at] == '\n';
}

/* The end of the element at `at`: the comma or bracket behind it, or the window's; *lines: ends of lines in it. What is in
 * between is for json_parse to judge. */
static size_t element_end(const struct text *text, size_t at, int *lines)
{
    bool quoted = false;
    *lines = 0;
    for (int depth = 0; at < text->length; at++) {
        const char byte = text->begin[at];
        if (quoted && byte == '\\' && at + 1 < text->length)
            at++;
        else if (byte == '"')
            quoted = !quoted;
        else if (!quoted && !depth && (byte == ',' || byte == ']'))
            return at;
        else if (!quoted)
            depth += (byte == '[' || byte == '{') - (byte == ']' || byte == '}');
        *lines += text->begin[at] == '\n';
    }
    return at;
}

/* Skips space, reading on where it meets the window's end. */
static int space_pass(struct json_rows *rows, struct error *error)
{
    int status = STATUS_OK;
    for (space_skip(rows); !status && rows->at == rows->text->length && !rows->text->ended; space_skip(rows)) {
        status = text_more(rows->text, rows->at, error);
        rows->at = 0;
    }
    return status;
}

/* Finds the next element's place; *more false behind the last. */
static int element_find(struct json_rows *rows, struct json_place *place, bool *more, struct error *error)
{
    struct text *text = rows->text;
    int lines, status = rows->last == ']' ? STATUS_OK : space_pass(rows, error);
    if (status)
        return status;
    *more = rows->last != ']';
    if (*more && rows->last == '[' && rows->at < text->length && text->begin[rows->at] == ']') {
        *more = false;
        rows->last = text->begin[rows->at++];
    }
    if (!*more) {
        status = space_pass(rows, error);
        return status || rows->at == text->length
                   ? status
                   : error_set(error, STATUS_INPUT, "%s:%d: expected the end of the text after the array", text->name,
                               rows->line);
    }
    snprintf(rows->name, sizeof rows->name, "%s:%d (element %d)", text->name, rows->line, ++rows->number);
    size_t end = element_end(text, rows->at, &lines);
    while (!status && end == text->length && !text->ended) {
        status = text_more(text, rows->at, error);
        rows->at = 0;
        end = status ? 0 : element_end(text, 0, &lines);
    }
    if (!status && end == text->length)
        status = error_set(error, STATUS_INPUT, "%s: expected ',' or ']' after it, found the end of the text", rows->name);
    if (status)
        return status;
    *place = (struct json_place){rows->name, rows->line, text->begin + rows->at, end - rows->at};
    rows->line += lines;
    rows->last = text->begin[end];
    rows->at = end + 1;
    return STATUS_OK;
}

/* The same of a file of lines. */
static int line_find(struct json_rows *rows, struct json_place *place, bool *more, struct error *error)
{
    struct text *text = rows->text;
    struct text_line line = {.next = rows->at, .number = rows->line - 1};
    int status = STATUS_OK;
    while (!status && (!(*more = text_next_line(text, &line)) || line.next > text->length) && !text->ended) {
        status = text_more(text, rows->at, error); /* from the last line that was handed out: the number stays right */
        rows->at = 0;
        line = (struct text_line){.next = 0, .number = rows->line - 1};
    }
    if (status || !*more)
        return status;
    rows->at = line.next < text->length ? line.next : text->length;
    rows->line = line.number + 1;
    snprintf(rows->name, sizeof rows->name, "%s:%d", text->name, line.number);
    *place = (struct json_place){rows->name, line.number, line.begin, line.length};
    return STATUS_OK;
}

int json_rows_next(struct json_rows *rows, cJSON **value, struct json_place *place, struct error *error)
{
    bool more;
    *value = NULL;
    int status = rows->array ? element_find(rows, place, &more, error) : line_find(rows, place, &more, error);
    if (!status && more && !(*value = json_parse(place->text, place->length, place->name, error)))
        status = error->status;
    return status;
}
