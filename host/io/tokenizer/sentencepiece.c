/* sentencepiece.c - see sentencepiece.h. */
#include "sentencepiece.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../../util/utf8.h"

enum { MODEL_UNIGRAM = 1, MODEL_BPE = 2 };
enum { PIECE_MAX_BYTES = 1024 };

/* ---- protobuf ---- */

struct proto {
    const unsigned char *at, *end;
};

struct proto_field {
    uint64_t number, value; /* value: of a varint or a fixed number */
    struct span bytes;      /* of a length-delimited field */
};

static bool varint_read(struct proto *proto, uint64_t *value)
{
    *value = 0;
    for (int shift = 0; shift < 64 && proto->at < proto->end; shift += 7) {
        unsigned char byte = *proto->at++;
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

/* The next field; false at the end and, with *bad, where the bytes make no sense. */
static bool proto_next(struct proto *proto, struct proto_field *field, bool *bad)
{
    uint64_t tag, length = 0;
    *field = (struct proto_field){0};
    if (proto->at == proto->end || *bad)
        return false;
    *bad = !varint_read(proto, &tag);
    field->number = tag >> 3;
    unsigned wire = tag & 7;
    if (wire == 0)
        *bad = *bad || !varint_read(proto, &field->value);
    else if (wire == 2)
        *bad = *bad || !varint_read(proto, &length);
    else if (wire == 1 || wire == 5)
        length = wire == 1 ? 8 : 4;
    else
        *bad = true; /* groups: not used */
    if (*bad || length > (uint64_t)(proto->end - proto->at)) {
        *bad = true;
        return false;
    }
    if (wire == 2)
        field->bytes = (struct span){(const char *)proto->at, length};
    else if (wire != 0)
        memcpy(&field->value, proto->at, length); /* little-endian, as this program assumes everywhere */
    proto->at += length;
    return true;
}

static struct proto proto_of(struct span bytes)
{
    const unsigned char *text = (const unsigned char *)bytes.text; /* NULL of a field that is no text */
    return (struct proto){text, text ? text + bytes.length : NULL};
}

/* ---- the model ---- */

static int piece_read(struct span bytes, size_t id, const char *path, struct piece *piece, struct error *error)
{
    struct proto proto = proto_of(bytes);
    struct proto_field field;
    bool bad = false;
    *piece = (struct piece){.type = PIECE_NORMAL};
    while (proto_next(&proto, &field, &bad)) {
        uint32_t bits = (uint32_t)field.value;
        if (field.number == 1)
            piece->text = field.bytes;
        else if (field.number == 2)
            memcpy(&piece->score, &bits, sizeof bits);
        else if (field.number == 3)
            piece->type = field.value;
    }
    if (bad || piece->text.length == 0 || piece->text.length > PIECE_MAX_BYTES || isnan(piece->score) ||
        !utf8_valid(piece->text.text, piece->text.length, NULL) || memchr(piece->text.text, 0, piece->text.length))
        return error_set(error, STATUS_INPUT, "%s: piece %zu is malformed", path, id);
    if (piece->type < PIECE_NORMAL || piece->type > PIECE_BYTE || piece->type == PIECE_UNUSED)
        return error_set(error, STATUS_INPUT, "%s: piece %zu has type %llu, which is not supported (supported: normal, "
                         "unknown, control, user defined, byte)", path, id, (unsigned long long)piece->type);
    return STATUS_OK;
}

static void special_text_set(char out[SPECIAL_TEXT_BYTES], struct span text, bool *bad)
{
    if (text.length >= SPECIAL_TEXT_BYTES || (text.length && !utf8_valid(text.text, text.length, NULL)))
        *bad = true;
    else
        snprintf(out, SPECIAL_TEXT_BYTES, "%.*s", (int)text.length, text.length ? text.text : "");
}

static void trainer_read(struct proto *spec, struct sentencepiece *model, bool *bad)
{
    struct proto_field field;
    while (proto_next(spec, &field, bad)) {
        if (field.number == 3)
            model->type = field.value;
        else if (field.number == 35)
            model->byte_fallback = field.value != 0;
        else if (field.number >= 40 && field.number <= 42)
            model->special_id[field.number - 40] = (int32_t)field.value;
        else if (field.number >= 45 && field.number <= 47)
            special_text_set(model->special_text[field.number - 45], field.bytes, bad);
    }
}

static void normalizer_spec_read(struct proto *spec, struct sentencepiece *model, bool *bad)
{
    struct proto_field field;
    while (proto_next(spec, &field, bad)) {
        if (field.number == 2)
            model->has_charsmap = field.bytes.length > 0;
        else if (field.number == 3)
            model->add_dummy_prefix = field.value != 0;
        else if (field.number == 4)
            model->remove_extra_whitespaces = field.value != 0;
        else if (field.number == 5)
            model->escape_whitespaces = field.value != 0;
    }
}

int sentencepiece_read(struct span bytes, const char *path, struct sentencepiece *model, struct error *error)
{
    struct proto proto = proto_of(bytes);
    struct proto_field field;
    bool bad = false;
    int status = STATUS_OK;
    model->type = MODEL_UNIGRAM; /* defaults of the format */
    model->add_dummy_prefix = model->remove_extra_whitespaces = model->escape_whitespaces = true;
    model->special_id[1] = 1, model->special_id[2] = 2;
    while (!status && proto_next(&proto, &field, &bad)) {
        struct proto spec = proto_of(field.bytes);
        if (field.number == 1) {
            status = memory_grow(&model->piece, &model->capacity, model->count + 1, sizeof *model->piece, error);
            if (!status)
                status = piece_read(field.bytes, model->count, path, &model->piece[model->count], error);
            model->count++;
        } else if (field.number == 2) {
            trainer_read(&spec, model, &bad);
        } else if (field.number == 3) {
            normalizer_spec_read(&spec, model, &bad);
        }
    }
    if (status)
        return status;
    if (bad)
        return error_set(error, STATUS_INPUT, "%s: not a SentencePiece model: malformed at byte %zu of %zu", path,
                         (size_t)(proto.at - (const unsigned char *)bytes.text), bytes.length);
    if (model->count == 0)
        return error_set(error, STATUS_INPUT, "%s: not a SentencePiece model: no pieces", path);
    if (model->type != MODEL_BPE)
        return error_set(error, STATUS_INPUT, "%s: SentencePiece model type %llu%s is not supported (supported: BPE)",
                         path, (unsigned long long)model->type, model->type == MODEL_UNIGRAM ? " (unigram)" : "");
    return STATUS_OK;
}
