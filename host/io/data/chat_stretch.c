/* chat_stretch.c - what a stretch of a pattern (chat_format.h) does to the text in it: trimming, line ends, thoughts. */
#include <string.h>

#include "../../util/utf8.h"
#include "chat_format.h"

static void cut_front(struct buffer *out, size_t begin, size_t bytes)
{
    if (!bytes)
        return;
    memmove(out->data + begin, out->data + begin + bytes, out->length - begin - bytes + 1);
    out->length -= bytes;
}

static void strip_back(struct buffer *out, size_t begin)
{
    out->length = begin + utf8_trimmed_length(out->data + begin, out->length - begin);
    out->data[out->length] = 0;
}

static void strip(struct buffer *out, size_t begin)
{
    strip_back(out, begin);
    size_t front = begin;
    for (int bytes; (bytes = utf8_space(out->data + front, out->length - front));)
        front += (size_t)bytes;
    cut_front(out, begin, front - begin);
}

static void strip_newlines(struct buffer *out, size_t begin)
{
    cut_front(out, begin, strspn(out->data + begin, "\n"));
}

void chat_replace(struct buffer *out, size_t begin, const char *from, const char *to)
{
    const size_t old = strlen(from), new = strlen(to);
    size_t write = begin;
    for (size_t read = begin; read < out->length;) {
        const bool found = !strncmp(out->data + read, from, old);
        memmove(out->data + write, found ? to : out->data + read, found ? new : 1);
        write += found ? new : 1;
        read += found ? old : 1;
    }
    out->length = write;
    if (out->data)
        out->data[write] = 0;
}

/* What follows the last </think> of a text; NULL when there is none. */
static const char *thought_end(const char *text)
{
    const char *after = NULL;
    for (const char *at = text; (at = strstr(at, "</think>")); after = at)
        at += strlen("</think>");
    return after;
}

size_t chat_thought_find(const char *text, const char **thought)
{
    const char *end = strstr(text, "</think>");
    *thought = text;
    if (!end)
        return 0;
    while (end > text && end[-1] == '\n')
        end--;
    for (const char *at = text; (at = strstr(at, "<think>")) && at + strlen("<think>") <= end;)
        *thought = at += strlen("<think>");
    while (*thought < end && **thought == '\n')
        ++*thought;
    return (size_t)(end - *thought);
}

void chat_stretch_apply(struct buffer *out, size_t begin, enum chat_mark mark)
{
    if (out->length == begin)
        return;
    const char *after = thought_end(out->data + begin), *thought;
    size_t length;
    switch ((int)mark) {
    case MARK_TRIM: strip(out, begin); break;
    case MARK_LSTRIP: strip_newlines(out, begin); break;
    case MARK_JOIN_LINES: chat_replace(out, begin, "\r\n", "\n"); break;
    case MARK_HALVE_LINES: chat_replace(out, begin, "\n\n", "\n"); break;
    case MARK_AFTER_THOUGHT:
    case MARK_CUT_THOUGHT:
        if (after)
            cut_front(out, begin, (size_t)(after - (out->data + begin)));
        if (after && mark == MARK_CUT_THOUGHT)
            strip_newlines(out, begin);
        break;
    case MARK_THOUGHT:
        length = chat_thought_find(out->data + begin, &thought);
        memmove(out->data + begin, thought, length);
        out->length = begin + length;
        out->data[out->length] = 0;
        break;
    }
}
