/* text.c - the window on a text file: see text.h. Lines and rows of it are text_rows.c's. */
#include "text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include <zlib.h>

#include "../../util/file.h"
#include "../../util/utf8.h"

static const size_t max_bytes = (size_t)1 << 30; /* of a whole file, or of one row */
enum { PIECE_BYTES = 1 << 18, HEAD_BYTES = 16 };

/* Where the bytes come from. */
struct text_source {
    int fd;
    struct checksum *sum;
    bool ended;            /* all bytes are in raw */
    size_t at, length;     /* of raw: what was not passed on yet */
    bool gzip, in_member;  /* in_member: a stream of gzip has begun and not ended */
    z_stream stream;
    unsigned char raw[PIECE_BYTES];
};

static void source_close(struct text_source *source)
{
    if (!source)
        return;
    if (source->gzip)
        inflateEnd(&source->stream);
    checksum_close(source->sum);
    close(source->fd);
    free(source);
}

/* Reads until raw holds `least` bytes that were not passed on, or the file has ended. */
static int source_fill(struct text *text, size_t least, struct error *error)
{
    struct text_source *source = text->source;
    int status = STATUS_OK;
    if (source->at == source->length)
        source->at = source->length = 0;
    while (!status && !source->ended && source->length - source->at < least) {
        size_t got = 0;
        status = file_read_some(source->fd, text->name, source->raw + source->length, sizeof source->raw - source->length,
                                &got, error);
        checksum_add(source->sum, source->raw + source->length, got);
        source->length += got;
        source->ended = !status && !got;
    }
    return status;
}

/* Appends what the raw bytes hold, or as much of it as one piece takes. */
static int piece_inflate(struct text *text, struct error *error)
{
    struct text_source *source = text->source;
    unsigned char block[PIECE_BYTES / 4];
    source->stream.next_in = source->raw + source->at;
    source->stream.avail_in = (unsigned)(source->length - source->at);
    source->stream.next_out = block;
    source->stream.avail_out = sizeof block;
    if (!source->in_member && inflateReset(&source->stream) != Z_OK)
        return error_set(error, STATUS_RUNTIME, "%s: gzip cannot go on to the next stream", text->name);
    source->in_member = true;
    const int result = inflate(&source->stream, Z_NO_FLUSH);
    source->at = source->length - source->stream.avail_in;
    source->in_member = result != Z_STREAM_END;
    if (result == Z_MEM_ERROR)
        return error_set(error, STATUS_MEMORY, "%s: out of host memory for gzip", text->name);
    if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
        return error_set(error, STATUS_INPUT, "%s: offset %lu: the gzip data is damaged", text->name,
                         source->stream.total_in);
    const size_t got = sizeof block - source->stream.avail_out;
    if (source->in_member && source->ended && source->at == source->length && !got)
        return error_set(error, STATUS_INPUT, "%s: offset %lu: the gzip data is cut off", text->name,
                         source->stream.total_in);
    return buffer_append(&text->data, block, got, error);
}

/* Appends a piece, or sees the end. */
static int piece_append(struct text *text, struct error *error)
{
    struct text_source *source = text->source;
    int status = source_fill(text, 1, error);
    const size_t left = source->length - source->at;
    if (!status && !left && !source->in_member) {
        text->ended = true;
        text->digest = checksum_digest(source->sum);
    } else if (!status && source->gzip) {
        status = piece_inflate(text, error);
    } else if (!status) {
        status = buffer_append(&text->data, source->raw + source->at, left, error);
        source->at = source->length;
    }
    return status;
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
        if (text->length >= strlen(formats[i].magic) && !memcmp(text->begin, formats[i].magic, strlen(formats[i].magic)))
            return error_set(error, STATUS_INPUT, "%s: %s", text->name, formats[i].what);
    return STATUS_OK;
}

/* How much of data[0 .. length) does not end within a character that goes on. */
static size_t whole_characters(const char *data, size_t length)
{
    for (size_t back = 1; back <= 3 && back <= length; back++) {
        const unsigned char byte = (unsigned char)data[length - back];
        if (byte >= 0xc0)
            return back < (size_t)(byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2) ? length - back : length;
        if (byte < 0x80)
            break;
    }
    return length;
}

static int pieces_check(struct text *text, struct error *error)
{
    const char *from = text->begin + text->checked;
    const size_t length = text->length - text->checked, whole = text->ended ? length : whole_characters(from, length);
    const char *zero = length ? memchr(from, 0, length) : NULL;
    size_t bad = 0;
    if (zero)
        return error_set(error, STATUS_INPUT, "%s: offset %td: expected text, found a zero byte", text->name,
                         (ptrdiff_t)text->passed + (zero - text->begin));
    if (whole && !utf8_valid(from, whole, &bad))
        return error_set(error, STATUS_INPUT, "%s: offset %zu: expected UTF-8, found an invalid sequence", text->name,
                         text->passed + text->checked + bad);
    text->checked += whole;
    return STATUS_OK;
}

int text_more(struct text *text, size_t done, struct error *error)
{
    const size_t left = text->length - done, front = (size_t)(text->begin - text->data.data) + done;
    memmove(text->data.data, text->data.data + front, left + 1); /* with the zero */
    text->data.length = left;
    text->passed += done;
    text->checked -= done < text->checked ? done : text->checked;
    int status = STATUS_OK;
    while (!status && !text->ended && (text->data.length == left || text->data.length < 2 * left)) {
        status = piece_append(text, error);
        if (!status && text->data.length > max_bytes)
            status = error_set(error, STATUS_INPUT, "%s: offset %zu: what begins here has more than the %zu bytes that are "
                               "accepted", text->name, text->passed, max_bytes);
    }
    text->begin = text->data.data;
    text->length = text->data.length;
    return status ? status : pieces_check(text, error);
}

static int source_open(struct text *text, struct error *error)
{
    struct text_source *source = memory_array(1, sizeof *source, error);
    int64_t bytes;
    if (!source)
        return STATUS_MEMORY;
    int status = file_open_read(strcmp(text->path, "-") ? text->path : "/dev/stdin", true, &source->fd, &bytes, error);
    if (status) {
        free(source);
        return status;
    }
    text->source = source;
    if (!(source->sum = checksum_open(error)))
        return STATUS_MEMORY;
    status = source_fill(text, HEAD_BYTES, error);
    source->gzip = !status && source->length >= 2 && !memcmp(source->raw, "\x1f\x8b", 2);
    if (source->gzip && inflateInit2(&source->stream, 16 + MAX_WBITS) != Z_OK) {
        source->gzip = false;
        return error_set(error, STATUS_MEMORY, "%s: out of host memory for gzip", text->name);
    }
    return status;
}

static int text_begin(struct text *text, struct error *error)
{
    int status = source_open(text, error);
    if (!status)
        status = buffer_append(&text->data, "", 0, error);
    while (!status && !text->ended && text->data.length < HEAD_BYTES)
        status = piece_append(text, error);
    if (status)
        return status;
    text->length = text->data.length;
    const bool mark = text->length >= 3 && !memcmp(text->data.data, "\xef\xbb\xbf", 3);
    text->begin = text->data.data + (mark ? 3 : 0);
    text->passed = mark ? 3 : 0;
    text->length -= text->passed;
    status = format_check(text, error);
    return status ? status : pieces_check(text, error);
}

int text_open(struct text *text, const char *path, struct error *error)
{
    *text = (struct text){.path = path, .name = strcmp(path, "-") ? path : "stdin"};
    int status = text_begin(text, error);
    if (status)
        text_free(text);
    return status;
}

int text_read(struct text *text, const char *path, struct error *error)
{
    int status = text_open(text, path, error);
    while (!status && !text->ended)
        if ((status = text_more(text, 0, error)))
            text_free(text);
    return status;
}

void text_free(struct text *text)
{
    source_close(text->source);
    buffer_free(&text->data);
    *text = (struct text){0};
}

bool text_is_named(const struct text *text, const char *suffix)
{
    size_t length = strlen(text->path), wanted = strlen(suffix);
    if (length > 3 && !strcasecmp(text->path + length - 3, ".gz"))
        length -= 3;
    return length > wanted && !strncasecmp(text->path + length - wanted, suffix, wanted);
}
