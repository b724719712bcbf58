/* tokenizer_split.c - the pre-tokenizer: each step cuts a piece into smaller ones and hands them to the next step,
 * the last step to BPE. Depth first, so nothing but one buffer per step is kept. Linear for the known patterns.
 */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "../../util/utf8.h"
#include "tokenizer_internal.h"

const char gpt2_expression[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const char qwen2_expression[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
                                "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

uint32_t byte_level_character(unsigned char byte)
{
    if (byte <= 32)
        return 256u + byte;
    if (byte >= 127 && byte <= 160)
        return 256u + 33u + (byte - 127u);
    return byte == 173 ? 256u + 67u : byte;
}

int byte_level_byte(uint32_t character)
{
    if (character <= 255)
        return byte_level_character((unsigned char)character) == character ? (int)character : -1;
    if (character <= 256 + 32)
        return (int)character - 256;
    if (character <= 256 + 66)
        return (int)character - 256 - 33 + 127;
    return character == 256 + 67 ? 173 : -1;
}

struct pretokenizer_step *pretokenizer_add(struct pretokenizer *pretokenizer, enum pretokenizer_kind kind,
                                           struct error *error)
{
    if (memory_grow(&pretokenizer->step, &pretokenizer->capacity, pretokenizer->count + 1, sizeof *pretokenizer->step,
                    error))
        return NULL;
    struct pretokenizer_step *step = &pretokenizer->step[pretokenizer->count++];
    *step = (struct pretokenizer_step){.kind = kind};
    return step;
}

/* One encoding on its way through the steps. */
struct walk {
    struct pretokenizer *pretokenizer;
    struct bpe *bpe;
    struct token_list *ids;
    struct error *error;
};

/* Takes the alternation of matches and gaps in one text and hands on the pieces that the behavior makes of it. */
struct cutter {
    const struct walk *walk;
    size_t step; /* the one that cuts */
    struct span text;
    size_t head; /* bytes of text that stem from the user's first character */
    enum split_behavior behavior;
    bool pending, previous; /* previous: whether the last part was a match */
    size_t start, stop;     /* of the pending piece */
};

static int step_encode(const struct walk *walk, size_t step, struct span text, size_t head);

/* What is left of the head in a part that begins at start. */
static size_t head_after(size_t head, size_t start)
{
    return head > start ? head - start : 0;
}

static int piece_pass(const struct cutter *cutter, size_t start, size_t stop)
{
    if (start == stop)
        return STATUS_OK;
    return step_encode(cutter->walk, cutter->step + 1, (struct span){cutter->text.text + start, stop - start},
                       head_after(cutter->head, start));
}

static int pending_pass(struct cutter *cutter)
{
    bool pending = cutter->pending;
    cutter->pending = false;
    return pending ? piece_pass(cutter, cutter->start, cutter->stop) : STATUS_OK;
}

static int part_add(struct cutter *cutter, size_t start, size_t stop, bool match)
{
    bool join = false;
    if (cutter->behavior == SPLIT_REMOVED || cutter->behavior == SPLIT_ISOLATED)
        return match && cutter->behavior == SPLIT_REMOVED ? STATUS_OK : piece_pass(cutter, start, stop);
    if (cutter->behavior == SPLIT_CONTIGUOUS)
        join = match == cutter->previous;
    else if (cutter->behavior == SPLIT_MERGED_WITH_PREVIOUS)
        join = match && !cutter->previous;
    else
        join = !match && cutter->previous;
    cutter->previous = match;
    if (join && cutter->pending) {
        cutter->stop = stop;
        return STATUS_OK;
    }
    int status = pending_pass(cutter);
    cutter->pending = true;
    cutter->start = start;
    cutter->stop = stop;
    return status;
}

/* Matches of a pattern, none of them overlapping. An empty match right after the last match does not count. */
static int pattern_cut(struct cutter *cutter, const struct pattern *pattern, bool invert)
{
    size_t length = cutter->text.length, from = 0, last = 0, start, stop;
    bool found = true, matched = false;
    int status = STATUS_OK;
    while (from <= length && !status) {
        status = pattern_search(pattern, cutter->text, from, &found, &start, &stop, cutter->walk->error);
        if (status || !found)
            break;
        if (start == stop && matched && stop == last) {
            from += from < length ? (size_t)utf8_length(cutter->text.text + from) : 1;
            continue;
        }
        if (start != last)
            status = part_add(cutter, last, start, invert);
        if (!status)
            status = part_add(cutter, start, stop, !invert);
        matched = true;
        from = last = stop;
    }
    if (!status && last != length)
        status = part_add(cutter, last, length, invert);
    return status ? status : pending_pass(cutter);
}

static bool is_numeric(uint32_t code)
{
    if (code < 0x80)
        return code >= '0' && code <= '9';
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)code);
    return category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL || category == UTF8PROC_CATEGORY_NO;
}

/* Cuts at every digit (character 0) or at every occurrence of one character. */
static int character_cut(struct cutter *cutter, uint32_t character)
{
    size_t last = 0;
    int status = STATUS_OK, bytes;
    for (size_t i = 0; i < cutter->text.length && !status; i += (size_t)bytes) {
        uint32_t code = 0;
        bytes = utf8_decode(cutter->text.text + i, cutter->text.length - i, &code);
        if (character ? code != character : !is_numeric(code))
            continue;
        if (last < i)
            status = part_add(cutter, last, i, false);
        last = i + (size_t)bytes;
        if (!status)
            status = part_add(cutter, i, last, true);
    }
    if (!status && last < cutter->text.length)
        status = part_add(cutter, last, cutter->text.length, false);
    return status ? status : pending_pass(cutter);
}

/* Pieces of a ByteLevel step, cut from the text with its prefix space, become byte-level characters here. */
static int byte_level_pass(const struct walk *walk, size_t index, struct span piece, size_t head)
{
    struct buffer *out = &walk->pretokenizer->step[index].scratch;
    int status = STATUS_OK;
    out->length = 0;
    status = memory_grow(&out->data, &out->capacity, 2 * piece.length + 1, 1, walk->error);
    if (status)
        return status;
    for (size_t i = 0; i < piece.length; i++) {
        uint32_t character = byte_level_character((unsigned char)piece.text[i]);
        if (character >= 0x80)
            out->data[out->length++] = (char)(0xc0 | character >> 6);
        out->data[out->length++] = (char)(character >= 0x80 ? 0x80 | (character & 0x3f) : character);
    }
    return step_encode(walk, index + 1, (struct span){out->data, out->length}, head);
}

static int byte_level_encode(const struct walk *walk, size_t index, struct span text, size_t head)
{
    const struct pretokenizer_step *step = &walk->pretokenizer->step[index];
    struct buffer prefixed = {0};
    size_t last = 0, start, stop;
    int status = STATUS_OK;
    if (step->add_prefix_space && text.text[0] != ' ') {
        status = buffer_append(&prefixed, " ", 1, walk->error);
        if (!status)
            status = buffer_append(&prefixed, text.text, text.length, walk->error);
        text = (struct span){prefixed.data, prefixed.length};
    }
    bool found = step->use_regex;
    while (found && last < text.length && !status) {
        /* Every character is matched by this expression, so there are no gaps. */
        status = pattern_search(&step->pattern, text, last, &found, &start, &stop, walk->error);
        if (!status && found)
            status = byte_level_pass(walk, index, (struct span){text.text + last, stop - last}, head_after(head, last));
        if (found)
            last = stop;
    }
    if (!status && last < text.length)
        status = byte_level_pass(walk, index, (struct span){text.text + last, text.length - last},
                                 head_after(head, last));
    buffer_free(&prefixed);
    return status;
}

static int metaspace_encode(const struct walk *walk, size_t index, struct span text, size_t head)
{
    struct pretokenizer_step *step = &walk->pretokenizer->step[index];
    struct buffer *out = &step->scratch;
    size_t replacement_length = strlen(step->replacement);
    bool starts = text.text[0] == ' ' ||
                  (text.length >= replacement_length && memcmp(text.text, step->replacement, replacement_length) == 0);
    bool prepend = step->prepend_scheme == PREPEND_ALWAYS || (step->prepend_scheme == PREPEND_FIRST && head);
    out->length = 0;
    int status = STATUS_OK;
    if (prepend && !starts)
        status = buffer_append(out, step->replacement, replacement_length, walk->error);
    if (!status)
        status = text_replace(text, " ", step->replacement, out, walk->error);
    if (status)
        return status;
    struct cutter cutter = {.walk = walk, .step = index, .text = {out->data, out->length}, .head = head,
                            .behavior = SPLIT_MERGED_WITH_NEXT};
    uint32_t character = 0;
    utf8_decode(step->replacement, replacement_length, &character);
    return step->split ? character_cut(&cutter, character) : piece_pass(&cutter, 0, out->length);
}

static int step_encode(const struct walk *walk, size_t index, struct span text, size_t head)
{
    if (index == walk->pretokenizer->count)
        return bpe_encode(walk->bpe, text, walk->ids, walk->error);
    struct pretokenizer_step *step = &walk->pretokenizer->step[index];
    struct cutter cutter = {.walk = walk, .step = index, .text = text, .head = head,
                            .behavior = step->behavior};
    switch (step->kind) {
    case PRETOKENIZER_SPLIT:
        return pattern_cut(&cutter, &step->pattern, step->invert);
    case PRETOKENIZER_DIGITS:
        return character_cut(&cutter, 0);
    case PRETOKENIZER_BYTE_LEVEL:
        return byte_level_encode(walk, index, text, head);
    case PRETOKENIZER_METASPACE:
        return metaspace_encode(walk, index, text, head);
    }
    return STATUS_OK;
}

int pretokenizer_encode(struct pretokenizer *pretokenizer, struct bpe *bpe, struct span text, size_t head,
                        struct token_list *ids, struct error *error)
{
    if (text.length == 0)
        return STATUS_OK;
    const struct walk walk = {pretokenizer, bpe, ids, error};
    return step_encode(&walk, 0, text, head);
}

void pretokenizer_free(struct pretokenizer *pretokenizer)
{
    for (size_t i = 0; i < pretokenizer->count; i++) {
        pattern_free(&pretokenizer->step[i].pattern);
        buffer_free(&pretokenizer->step[i].scratch);
    }
    free(pretokenizer->step);
}
