/* tokenizer_decode.c - ids back to text: the texts of the tokens go through the decoder's steps as a list, as in
 * Hugging Face's decode_chain, and are joined at the end.
 */
#include <stdlib.h>
#include <string.h>

#include "../../util/utf8.h"
#include "tokenizer_internal.h"

static const char replacement_character[] = "\xef\xbf\xbd"; /* U+FFFD */

struct decoder_step *decoder_add(struct decoder *decoder, enum decoder_kind kind, struct error *error)
{
    if (memory_grow(&decoder->step, &decoder->capacity, decoder->count + 1, sizeof *decoder->step, error))
        return NULL;
    struct decoder_step *step = &decoder->step[decoder->count++];
    *step = (struct decoder_step){.kind = kind};
    decoder->present = true;
    return step;
}

void decoder_free(struct decoder *decoder)
{
    for (size_t i = 0; i < decoder->count; i++) {
        free(decoder->step[i].pattern);
        free(decoder->step[i].content);
    }
    free(decoder->step);
}

/* A list of texts, back to back. */
struct text_list {
    struct buffer text;
    size_t *end;
    size_t count, capacity;
};

/* Closes the text that was appended to list->text last. */
static int text_close(struct text_list *list, struct error *error)
{
    int status = memory_grow(&list->end, &list->capacity, list->count + 1, sizeof *list->end, error);
    if (!status)
        list->end[list->count++] = list->text.length;
    return status;
}

static int text_add(struct text_list *list, struct span text, struct error *error)
{
    int status = buffer_append(&list->text, text.text, text.length, error);
    return status ? status : text_close(list, error);
}

static struct span text_at(const struct text_list *list, size_t i)
{
    size_t start = i ? list->end[i - 1] : 0;
    return (struct span){list->text.data + start, list->end[i] - start};
}

static void text_list_free(struct text_list *list)
{
    buffer_free(&list->text);
    free(list->end);
}

/* Appends bytes, with U+FFFD for every maximal invalid sequence. */
static int lossy_append(struct span bytes, struct buffer *out, struct error *error)
{
    int status = STATUS_OK;
    while (bytes.length > 0 && !status) {
        size_t valid = bytes.length;
        utf8_valid(bytes.text, bytes.length, &valid);
        status = buffer_append(out, bytes.text, valid, error);
        bytes = (struct span){bytes.text + valid, bytes.length - valid};
        if (bytes.length > 0 && !status) {
            size_t invalid = utf8_invalid_length(bytes.text, bytes.length);
            status = buffer_append(out, replacement_character, 3, error);
            bytes = (struct span){bytes.text + invalid, bytes.length - invalid};
        }
    }
    return status;
}

/* All tokens become one text. A token with a character outside the byte alphabet stands for its own bytes. */
static int decode_byte_level(const struct text_list *in, struct text_list *out, struct error *error)
{
    struct buffer bytes = {0};
    int status = buffer_append(&bytes, "", 0, error);
    for (size_t i = 0; i < in->count && !status; i++) {
        struct span token = text_at(in, i);
        size_t start = bytes.length;
        for (size_t at = 0; at < token.length && !status;) {
            uint32_t code = 0;
            at += (size_t)utf8_decode(token.text + at, token.length - at, &code);
            int byte = byte_level_byte(code);
            if (byte < 0) {
                bytes.length = start;
                status = buffer_append(&bytes, token.text, token.length, error);
                break;
            }
            char value = (char)byte;
            status = buffer_append(&bytes, &value, 1, error);
        }
    }
    if (!status)
        status = lossy_append((struct span){bytes.data, bytes.length}, &out->text, error);
    buffer_free(&bytes);
    return status ? status : text_close(out, error);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The byte of a token <0xHH>, -1 for another one. A '+' is a digit of Rust's number syntax: <0x+A> is byte 10. */
static int byte_token_value(struct span token)
{
    if (token.length != 6 || memcmp(token.text, "<0x", 3) != 0 || token.text[5] != '>')
        return -1;
    int high = token.text[3] == '+' ? 0 : hex_digit(token.text[3]), low = hex_digit(token.text[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* A run of byte tokens: its text when it is valid UTF-8, else one U+FFFD a byte. */
static int bytes_close(struct buffer *bytes, struct text_list *out, struct error *error)
{
    int status = STATUS_OK;
    if (bytes->length > 0 && utf8_valid(bytes->data, bytes->length, NULL))
        status = text_add(out, (struct span){bytes->data, bytes->length}, error);
    else
        for (size_t i = 0; i < bytes->length && !status; i++)
            status = text_add(out, (struct span){replacement_character, 3}, error);
    bytes->length = 0;
    return status;
}

static int decode_byte_fallback(const struct text_list *in, struct text_list *out, struct error *error)
{
    struct buffer bytes = {0};
    int status = STATUS_OK;
    for (size_t i = 0; i < in->count && !status; i++) {
        struct span token = text_at(in, i);
        int value = byte_token_value(token);
        char byte = (char)value;
        if (value >= 0) {
            status = buffer_append(&bytes, &byte, 1, error);
            continue;
        }
        status = bytes_close(&bytes, out, error);
        if (!status)
            status = text_add(out, token, error);
    }
    if (!status)
        status = bytes_close(&bytes, out, error);
    buffer_free(&bytes);
    return status;
}

/* Whether text begins (or ends) with the character. */
static bool begins_with(struct span text, const char *character, size_t bytes, bool at_end)
{
    return text.length >= bytes && memcmp(at_end ? text.text + text.length - bytes : text.text, character, bytes) == 0;
}

static struct span text_strip(const struct decoder_step *step, struct span text)
{
    size_t bytes = strlen(step->character);
    for (size_t i = 0; i < step->start && begins_with(text, step->character, bytes, false); i++)
        text = (struct span){text.text + bytes, text.length - bytes};
    for (size_t i = 0; i < step->stop && begins_with(text, step->character, bytes, true); i++)
        text.length -= bytes;
    return text;
}

static int step_apply(const struct decoder_step *step, const struct text_list *in, struct text_list *out,
                      struct error *error)
{
    int status = STATUS_OK;
    if (step->kind == DECODER_BYTE_LEVEL)
        return decode_byte_level(in, out, error);
    if (step->kind == DECODER_BYTE_FALLBACK)
        return decode_byte_fallback(in, out, error);
    if (step->kind == DECODER_FUSE)
        return text_add(out, (struct span){in->text.data, in->text.length}, error);
    for (size_t i = 0; i < in->count && !status; i++) {
        struct span text = text_at(in, i);
        if (step->kind == DECODER_STRIP) {
            status = text_add(out, text_strip(step, text), error);
            continue;
        }
        if (step->kind == DECODER_REPLACE) {
            status = text_replace(text, step->pattern, step->content, &out->text, error);
        } else { /* Metaspace: in the first token the mark is the prefix, and all of them go, as in the reference */
            bool drop = i == 0 && step->prepend_scheme != PREPEND_NEVER;
            status = text_replace(text, step->character, drop ? "" : " ", &out->text, error);
        }
        if (!status)
            status = text_close(out, error);
    }
    return status;
}

static int decoder_apply(const struct decoder *decoder, struct text_list *list, struct error *error)
{
    int status = STATUS_OK;
    for (size_t i = 0; i < decoder->count && !status; i++) {
        struct text_list next = {0};
        status = buffer_append(&next.text, "", 0, error);
        if (!status)
            status = step_apply(&decoder->step[i], list, &next, error);
        text_list_free(list);
        *list = next;
    }
    return status;
}

/* The text a token is decoded from, and whether it counts as special. */
static bool token_text(const struct tokenizer *tokenizer, int32_t id, struct span *text, bool *special)
{
    const struct added_vocabulary *added = &tokenizer->added;
    *special = false;
    if (id >= 0 && id < added->limit && added->index_of_id[id] >= 0) {
        const struct added_token *token = &added->token[added->index_of_id[id]];
        text->text = token->normalized_content ? token->normalized_content : token->content;
        text->length = strlen(text->text);
        /* Special is a property of the text: a special token that normalizes to something else is not dropped. */
        int32_t index = vocabulary_find(&added->names, text->text, text->length);
        *special = index >= 0 && added->token[index].special;
        return true;
    }
    if (!vocabulary_has(&tokenizer->bpe.vocabulary, id))
        return false;
    *text = vocabulary_text(&tokenizer->bpe.vocabulary, id);
    return true;
}

int tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t count, bool skip_special,
                     struct buffer *text, struct error *error)
{
    struct text_list list = {0};
    int status = buffer_append(&list.text, "", 0, error);
    for (size_t i = 0; i < count && !status; i++) {
        struct span token;
        bool special;
        if (!token_text(tokenizer, ids[i], &token, &special))
            status = error_set(error, STATUS_INPUT, "id %d at position %zu is not in the vocabulary (largest id %d)",
                               (int)ids[i], i, (int)tokenizer_vocab_size(tokenizer) - 1);
        else if (!skip_special || !special)
            status = text_add(&list, token, error);
    }
    if (!status)
        status = decoder_apply(&tokenizer->decoder, &list, error);
    size_t length = text->length;
    if (!status)
        status = buffer_append(text, "", 0, error);
    for (size_t i = 0; i < list.count && !status; i++) {
        struct span piece = text_at(&list, i);
        if (i > 0 && !tokenizer->decoder.present)
            status = buffer_append(text, " ", 1, error);
        if (!status)
            status = buffer_append(text, piece.text, piece.length, error);
    }
    if (status && text->data)
        text->data[text->length = length] = 0;
    text_list_free(&list);
    return status;
}
