/* text.c - see text.h. */
#include "text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../util/file.h"
#include "../../util/utf8.h"

static const size_t max_file_bytes = (size_t)1 << 30;

int text_read(struct text *text, const char *path, struct error *error)
{
    *text = (struct text){.path = path};
    int status = file_read(path, max_file_bytes, &text->data, &text->length, error);
    if (status)
        return status;
    size_t bad = 0, mark = text->length >= 3 && !memcmp(text->data, "\xef\xbb\xbf", 3) ? 3 : 0;
    const char *zero = memchr(text->data, 0, text->length);
    if (zero)
        status = error_set(error, STATUS_INPUT, "%s: offset %td: expected text, found a zero byte", path,
                           zero - text->data);
    else if (!utf8_valid(text->data, text->length, &bad))
        status = error_set(error, STATUS_INPUT, "%s: offset %zu: expected UTF-8, found an invalid sequence", path, bad);
    text->begin = text->data + mark;
    text->length -= mark;
    if (status)
        text_free(text);
    return status;
}

void text_free(struct text *text)
{
    free(text->data);
    *text = (struct text){0};
}

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

static int each_line(const struct text *text, json_row row, void *user, struct error *error)
{
    struct text_line line = {0};
    char name[1024];
    int status = STATUS_OK;
    while (!status && text_next_line(text, &line)) {
        snprintf(name, sizeof name, "%s:%d", text->path, line.number);
        cJSON *value = json_parse(line.begin, line.length, name, error);
        if (!value)
            return error ? error->status : STATUS_INPUT;
        status = row(user, value, name, line.number, error);
        cJSON_Delete(value);
    }
    return status;
}

static int each_element(const struct text *text, json_row row, void *user, struct error *error)
{
    char name[1024];
    int number = 0, status = STATUS_OK;
    cJSON *array = json_parse(text->begin, text->length, text->path, error);
    if (!array)
        return error ? error->status : STATUS_INPUT;
    for (const cJSON *element = array->child; element && !status; element = element->next) {
        snprintf(name, sizeof name, "%s: element %d", text->path, ++number);
        status = row(user, element, name, number, error);
    }
    cJSON_Delete(array);
    return status;
}

int text_each_json(const struct text *text, json_row row, void *user, struct error *error)
{
    struct text_line first = {0};
    bool array = text_next_line(text, &first) && first.begin[0] == '[';
    return array ? each_element(text, row, user, error) : each_line(text, row, user, error);
}
