/* text.c - see text.h. */
#include "text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <zlib.h>

#include "../../util/file.h"
#include "../../util/utf8.h"

static const size_t max_file_bytes = (size_t)1 << 30;

/* A device may give bytes without end, and a directory none. What a pipe gives is read once, up to the bound. */
static int file_check(const char *path, struct error *error)
{
    struct stat info;
    if (stat(path, &info))
        return error_set(error, STATUS_INPUT, "%s: cannot be opened: %s", path, strerror(errno));
    if (S_ISDIR(info.st_mode))
        return error_set(error, STATUS_INPUT, "%s: is a directory; expected a file of rows", path);
    if (S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode) || S_ISSOCK(info.st_mode))
        return error_set(error, STATUS_INPUT, "%s: is a device or a socket; expected a file, a pipe, or - for the standard "
                         "input", path);
    return STATUS_OK;
}

/* Formats that are no text, by their first bytes. */
static int format_check(const struct text *text, struct error *error)
{
    static const struct {
        const char *magic, *what;
    } formats[] = {
        {"PAR1", "is Parquet; convert it: tools/parquet_to_jsonl.py FILE > rows.jsonl"},
        {"PK\3\4", "is a ZIP archive or a spreadsheet; expected JSON, CSV, TSV or text, as it is or through gzip"},
        {"\x28\xb5\x2f\xfd", "is compressed by zstd; expected a file as it is or through gzip"},
        {"\xfd" "7zXZ", "is compressed by xz; expected a file as it is or through gzip"},
        {"BZh", "is compressed by bzip2; expected a file as it is or through gzip"},
        {"ARROW1", "is Arrow; write the rows as JSON lines"},
        {"\xff\xfe", "is UTF-16; expected UTF-8"},
        {"\xfe\xff", "is UTF-16; expected UTF-8"},
    };
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (text->length >= strlen(formats[i].magic) && !memcmp(text->data, formats[i].magic, strlen(formats[i].magic)))
            return error_set(error, STATUS_INPUT, "%s: %s", text->name, formats[i].what);
    return STATUS_OK;
}

/* Appends what one stream of gzip holds, and leaves *stream behind it. */
static int member_inflate(const struct text *text, z_stream *stream, struct buffer *out, struct error *error)
{
    unsigned char block[1 << 16];
    int result = Z_OK, status = STATUS_OK;
    while (result == Z_OK && !status) {
        stream->next_out = block;
        stream->avail_out = sizeof block;
        result = inflate(stream, Z_NO_FLUSH);
        const size_t got = sizeof block - stream->avail_out;
        if (result != Z_OK && result != Z_STREAM_END)
            return error_set(error, STATUS_INPUT, "%s: offset %lu: the gzip data is %s", text->name, stream->total_in,
                             result == Z_BUF_ERROR ? "cut off" : "damaged");
        if (out->length + got > max_file_bytes)
            return error_set(error, STATUS_INPUT, "%s: holds more than the %zu bytes that are accepted here", text->name,
                             max_file_bytes);
        status = buffer_append(out, block, got, error);
    }
    return status;
}

static int text_inflate(struct text *text, struct error *error)
{
    struct buffer out = {0};
    z_stream stream = {.next_in = (unsigned char *)text->data, .avail_in = (unsigned)text->length};
    if (inflateInit2(&stream, 16 + MAX_WBITS) != Z_OK)
        return error_set(error, STATUS_MEMORY, "%s: out of host memory for gzip", text->name);
    int status = STATUS_OK;
    do { /* several streams behind each other are one file */
        status = member_inflate(text, &stream, &out, error);
    } while (!status && stream.avail_in && inflateReset(&stream) == Z_OK);
    inflateEnd(&stream);
    if (!status)
        status = buffer_append(&out, "", 0, error);
    if (status) {
        buffer_free(&out);
        return status;
    }
    free(text->data);
    text->data = out.data;
    text->length = out.length;
    return STATUS_OK;
}

static int text_check(const struct text *text, struct error *error)
{
    size_t bad = 0;
    const char *zero = memchr(text->data, 0, text->length);
    if (zero)
        return error_set(error, STATUS_INPUT, "%s: offset %td: expected text, found a zero byte", text->name,
                         zero - text->data);
    if (!utf8_valid(text->data, text->length, &bad))
        return error_set(error, STATUS_INPUT, "%s: offset %zu: expected UTF-8, found an invalid sequence", text->name, bad);
    return STATUS_OK;
}

int text_read(struct text *text, const char *path, struct error *error)
{
    const bool standard = !strcmp(path, "-");
    *text = (struct text){.path = path, .name = standard ? "stdin" : path};
    int status = standard ? STATUS_OK : file_check(path, error);
    if (!status)
        status = file_read(standard ? "/dev/stdin" : path, max_file_bytes, &text->data, &text->length, error);
    if (status)
        return status;
    text->digest = checksum_of(text->data, text->length);
    if (text->length >= 2 && !memcmp(text->data, "\x1f\x8b", 2))
        status = text_inflate(text, error);
    if (!status)
        status = format_check(text, error);
    if (!status)
        status = text_check(text, error);
    const size_t mark = text->length >= 3 && !memcmp(text->data, "\xef\xbb\xbf", 3) ? 3 : 0;
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

bool text_is_named(const struct text *text, const char *suffix)
{
    size_t length = strlen(text->path), wanted = strlen(suffix);
    if (length > 3 && !strcasecmp(text->path + length - 3, ".gz"))
        length -= 3;
    return length > wanted && !strncasecmp(text->path + length - wanted, suffix, wanted);
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

char text_first_byte(const struct text *text)
{
    struct text_line first = {0};
    return text_next_line(text, &first) ? *first.begin : 0;
}

/* One value on its way from the text to row(). */
static int value_pass(const struct json_place *place, json_row row, void *user, struct error *error)
{
    cJSON *value = json_parse(place->text, place->length, place->name, error);
    if (!value)
        return error->status;
    int status = row(user, value, place, error);
    cJSON_Delete(value);
    return status;
}

static int each_line(const struct text *text, json_row row, void *user, struct error *error)
{
    struct text_line line = {0};
    char name[1024];
    int status = STATUS_OK;
    while (!status && text_next_line(text, &line)) {
        snprintf(name, sizeof name, "%s:%d", text->name, line.number);
        const struct json_place place = {name, line.number, line.begin, line.length};
        status = value_pass(&place, row, user, error);
    }
    return status;
}

/* In an array: where the scan is. */
struct elements {
    const struct text *text;
    size_t at;
    int line;
};

static void space_skip(struct elements *e)
{
    for (; e->at < e->text->length && (is_blank(e->text->begin[e->at]) || e->text->begin[e->at] == '\n'); e->at++)
        e->line += e->text->begin[e->at] == '\n';
}

/* Up to the comma or bracket that ends an element; what is in between is for json_parse to judge. */
static void element_skip(struct elements *e)
{
    bool quoted = false;
    for (int depth = 0; e->at < e->text->length; e->at++) {
        const char byte = e->text->begin[e->at];
        if (quoted && byte == '\\' && e->at + 1 < e->text->length)
            e->at++;
        else if (byte == '"')
            quoted = !quoted;
        else if (!quoted && !depth && (byte == ',' || byte == ']'))
            return;
        else if (!quoted)
            depth += (byte == '[' || byte == '{') - (byte == ']' || byte == '}');
        e->line += e->text->begin[e->at] == '\n';
    }
}

static int each_element(const struct text *text, json_row row, void *user, struct error *error)
{
    struct elements e = {.text = text, .line = 1};
    char name[1024], last = '[';
    int number = 0, status = STATUS_OK;
    space_skip(&e);
    e.at++; /* the bracket */
    while (!status && last != ']') {
        space_skip(&e);
        if (last == '[' && e.at < text->length && text->begin[e.at] == ']') {
            e.at++;
            break;
        }
        struct json_place place = {name, e.line, text->begin + e.at, e.at};
        snprintf(name, sizeof name, "%s:%d (element %d)", text->name, e.line, ++number);
        element_skip(&e);
        place.length = e.at - place.length;
        if (e.at == text->length)
            return error_set(error, STATUS_INPUT, "%s: expected ',' or ']' after it, found the end of the text", name);
        last = text->begin[e.at++];
        status = value_pass(&place, row, user, error);
    }
    space_skip(&e);
    if (!status && e.at < text->length)
        status = error_set(error, STATUS_INPUT, "%s:%d: expected the end of the text after the array", text->name, e.line);
    return status;
}

int text_each_json(const struct text *text, json_row row, void *user, struct error *error)
{
    return text_first_byte(text) == '[' ? each_element(text, row, user, error) : each_line(text, row, user, error);
}
