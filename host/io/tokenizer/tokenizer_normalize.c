/* tokenizer_normalize.c - what happens to a text before it is split: NFC, Prepend, Replace. All linear. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "../../util/utf8.h"
#include "tokenizer_internal.h"

struct normalizer_step *normalizer_add(struct normalizer *normalizer, enum normalizer_kind kind, const char *content,
                                       struct error *error)
{
    if (memory_grow(&normalizer->step, &normalizer->capacity, normalizer->count + 1, sizeof *normalizer->step, error))
        return NULL;
    struct normalizer_step *step = &normalizer->step[normalizer->count++];
    *step = (struct normalizer_step){.kind = kind};
    return !content || (step->content = memory_string(content, error)) ? step : NULL;
}

int text_replace(struct span text, const char *pattern, const char *content, struct buffer *out, struct error *error)
{
    size_t pattern_length = strlen(pattern), content_length = strlen(content);
    const char *at = text.text, *end = text.text + text.length;
    int status = STATUS_OK;
    while (!status) {
        const char *found = memmem(at, (size_t)(end - at), pattern, pattern_length);
        status = buffer_append(out, at, (size_t)((found ? found : end) - at), error);
        if (!found || status)
            break;
        status = buffer_append(out, content, content_length, error);
        at = found + pattern_length;
    }
    return status;
}

/* Sorts a run of combining marks by class, keeping the order within a class: counting sort, since a hostile run
 * can be as long as the text. */
static void marks_sort(utf8proc_int32_t *mark, size_t count, utf8proc_int32_t *scratch)
{
    size_t first[257] = {0};
    for (size_t i = 0; i < count; i++)
        first[(unsigned)utf8proc_get_property(mark[i])->combining_class + 1]++;
    for (size_t c = 0; c < 256; c++)
        first[c + 1] += first[c];
    for (size_t i = 0; i < count; i++)
        scratch[first[(unsigned)utf8proc_get_property(mark[i])->combining_class]++] = mark[i];
    memcpy(mark, scratch, count * sizeof *mark);
}

static void marks_order(utf8proc_int32_t *code, size_t count, utf8proc_int32_t *scratch)
{
    for (size_t i = 0, end; i < count; i = end) {
        end = i + 1;
        if (utf8proc_get_property(code[i])->combining_class == 0)
            continue;
        bool sorted = true;
        for (; end < count && utf8proc_get_property(code[end])->combining_class != 0; end++)
            sorted = sorted && utf8proc_get_property(code[end])->combining_class >=
                                   utf8proc_get_property(code[end - 1])->combining_class;
        if (!sorted)
            marks_sort(code + i, end - i, scratch);
    }
}

/* Characters below U+0300 are in NFC whatever their neighbours. */
static bool needs_composition(struct span text)
{
    for (size_t i = 0; i < text.length; i++)
        if ((unsigned char)text.text[i] >= 0xcc)
            return true;
    return false;
}

/* Decompose, order the marks, compose. utf8proc_map would do it all, but orders marks in quadratic time.
 * Known difference: tokenizers 0.23 uses Unicode 9 here, utf8proc a newer one, so 98 marks assigned since then, next
 * to other marks, and U+11935 U+11930 compose differently. */
static int text_compose(struct span text, struct buffer *out, struct error *error)
{
    const utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    utf8proc_int32_t *code = NULL, *scratch = NULL;
    size_t count = 0, capacity = 0;
    int status = STATUS_OK, bytes, boundary = 0;
    for (size_t i = 0; i < text.length && !status; i += (size_t)bytes) {
        uint32_t character = 0;
        bytes = utf8_decode(text.text + i, text.length - i, &character);
        status = memory_grow(&code, &capacity, count + 8, sizeof *code, error);
        if (!status)
            count += (size_t)utf8proc_decompose_char((utf8proc_int32_t)character, code + count, 8, options, &boundary);
    }
    if (!status && !(scratch = memory_array(count, sizeof *scratch, error)))
        status = STATUS_MEMORY;
    if (!status) {
        marks_order(code, count, scratch);
        count = (size_t)utf8proc_normalize_utf32(code, (utf8proc_ssize_t)count, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    }
    for (size_t i = 0; i < count && !status; i++) {
        char character[4];
        int length = utf8_encode((uint32_t)code[i], character);
        status = buffer_append(out, character, (size_t)length, error);
    }
    free(code);
    free(scratch);
    return status;
}

static size_t overlap(size_t start, size_t stop, size_t head)
{
    return (stop < head ? stop : head) - (start < head ? start : head);
}

/* Every match becomes content, which stems from where the last character of the match does. An empty match right after
 * another does not count. */
static int text_substitute(const struct pattern *pattern, const char *content, struct span text, size_t *head,
                           struct buffer *out, struct error *error)
{
    size_t last = 0, from = 0, start = 0, stop = 0, new_head = 0;
    bool found = true, matched = false;
    int status = STATUS_OK;
    while (!status && from <= text.length) {
        status = pattern_search(pattern, text, from, &found, &start, &stop, error);
        if (status || !found)
            break;
        if (start == stop && matched && stop == last) {
            from += from < text.length ? (size_t)utf8_length(text.text + from) : 1;
            continue;
        }
        new_head += overlap(last, start, *head) + (stop <= *head ? strlen(content) : 0);
        status = buffer_append(out, text.text + last, start - last, error);
        if (!status)
            status = buffer_append(out, content, strlen(content), error);
        matched = true;
        from = last = stop;
    }
    if (!status)
        status = buffer_append(out, text.text + last, text.length - last, error);
    *head = new_head + overlap(last, text.length, *head);
    return status;
}

int normalizer_apply(struct normalizer *normalizer, struct span text, size_t *head, struct span *out,
                     struct error *error)
{
    int status = STATUS_OK;
    for (size_t i = 0; i < normalizer->count && !status; i++) {
        const struct normalizer_step *step = &normalizer->step[i];
        struct buffer *to = &normalizer->scratch[i % 2];
        if (text.length == 0 || (step->kind == NORMALIZER_NFC && !needs_composition(text)))
            continue;
        to->length = 0;
        if (step->kind == NORMALIZER_NFC) {
            status = text_compose(text, to, error);
            *head = *head && to->length ? (size_t)utf8_length(to->data) : 0;
        } else if (step->kind == NORMALIZER_PREPEND) {
            status = buffer_append(to, step->content, strlen(step->content), error);
            if (!status)
                status = buffer_append(to, text.text, text.length, error);
            *head += *head ? strlen(step->content) : 0;
        } else {
            status = text_substitute(&step->pattern, step->content, text, head, to, error);
        }
        text = (struct span){to->data, to->length};
    }
    *out = text;
    return status;
}

void normalizer_free(struct normalizer *normalizer)
{
    for (size_t i = 0; i < normalizer->count; i++) {
        pattern_free(&normalizer->step[i].pattern);
        free(normalizer->step[i].content);
    }
    free(normalizer->step);
    buffer_free(&normalizer->scratch[0]);
    buffer_free(&normalizer->scratch[1]);
}
