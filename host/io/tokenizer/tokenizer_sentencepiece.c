/* tokenizer_sentencepiece.c - tokenizer.model, a SentencePiece model of the BPE kind, as transformers converts it
 * for LlamaTokenizer. The file is a protobuf of which three fields matter: 1 pieces {1 text, 2 score, 3 type},
 * 2 trainer_spec {3 model_type}, 3 normalizer_spec {2 precompiled_charsmap, 3 add_dummy_prefix}.
 *
 * It holds no merges: every piece that is two pieces put together is one, in the order of falling score. (By id
 * would be wrong: runs of spaces have early ids and the lowest scores.)
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../util/file.h"
#include "../../util/utf8.h"
#include "../json/json.h"
#include "tokenizer_internal.h"

enum {
    PIECE_NORMAL = 1,
    PIECE_UNKNOWN = 2,
    PIECE_CONTROL = 3,
    PIECE_USER_DEFINED = 4,
    PIECE_UNUSED = 5,
    PIECE_BYTE = 6
};
enum { MODEL_UNIGRAM = 1, MODEL_BPE = 2 };
enum { PIECE_MAX_BYTES = 1024 };

static const char mark[] = "\xe2\x96\x81"; /* U+2581, SentencePiece's space */

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

struct piece {
    struct span text;
    float score;
    uint64_t type;
};

struct model {
    struct piece *piece;
    size_t count, capacity;
    uint64_t type;
    bool has_charsmap, add_dummy_prefix;
};

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

static int model_read(struct span bytes, const char *path, struct model *model, struct error *error)
{
    struct proto proto = proto_of(bytes);
    struct proto_field field, inner;
    bool bad = false;
    int status = STATUS_OK;
    model->type = MODEL_UNIGRAM; /* defaults of the format */
    model->add_dummy_prefix = true;
    while (!status && proto_next(&proto, &field, &bad)) {
        struct proto spec = proto_of(field.bytes);
        if (field.number == 1) {
            status = memory_grow(&model->piece, &model->capacity, model->count + 1, sizeof *model->piece, error);
            if (!status)
                status = piece_read(field.bytes, model->count, path, &model->piece[model->count], error);
            model->count++;
        } else if (field.number == 2) {
            while (proto_next(&spec, &inner, &bad))
                if (inner.number == 3)
                    model->type = inner.value;
        } else if (field.number == 3) {
            while (proto_next(&spec, &inner, &bad)) {
                if (inner.number == 2)
                    model->has_charsmap = inner.bytes.length > 0;
                else if (inner.number == 3)
                    model->add_dummy_prefix = inner.value != 0;
            }
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
    if (model->has_charsmap)
        return error_set(error, STATUS_INPUT, "%s: precompiled_charsmap (a normalizer other than identity) is not "
                         "supported", path);
    return STATUS_OK;
}

/* ---- merges ---- */

struct piece_merge {
    float score;
    uint32_t piece;
    uint32_t left_bytes;
    uint32_t left_characters, right_characters;
};

/* Higher score, then longer left part, then longer right part, then the earlier piece. */
static int merge_compare(const void *a, const void *b)
{
    const struct piece_merge *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    if (x->left_characters != y->left_characters)
        return x->left_characters > y->left_characters ? -1 : 1;
    if (x->right_characters != y->right_characters)
        return x->right_characters > y->right_characters ? -1 : 1;
    return (x->piece > y->piece) - (x->piece < y->piece);
}

struct merge_list {
    struct piece_merge *merge;
    size_t count, capacity;
};

/* All ways to put a piece together from two. */
static int piece_merges_find(const struct vocabulary *vocabulary, const struct model *model, size_t id,
                             struct merge_list *list, struct error *error)
{
    struct span text = model->piece[id].text;
    uint32_t characters = 0, left = 0;
    for (size_t i = 0; i < text.length; i += (size_t)utf8_length(text.text + i))
        characters++;
    for (size_t cut = (size_t)utf8_length(text.text); cut < text.length; cut += (size_t)utf8_length(text.text + cut)) {
        left++;
        if (vocabulary_find(vocabulary, text.text, cut) < 0 ||
            vocabulary_find(vocabulary, text.text + cut, text.length - cut) < 0)
            continue;
        int status = memory_grow(&list->merge, &list->capacity, list->count + 1, sizeof *list->merge, error);
        if (status)
            return status;
        list->merge[list->count++] = (struct piece_merge){.score = model->piece[id].score,
                                                          .piece = (uint32_t)id,
                                                          .left_bytes = (uint32_t)cut,
                                                          .left_characters = left,
                                                          .right_characters = characters - left};
    }
    return STATUS_OK;
}

static int merges_make(struct bpe *bpe, const struct model *model, struct error *error)
{
    struct merge_list list = {0};
    int status = STATUS_OK;
    for (size_t id = 0; id < model->count && !status; id++)
        status = piece_merges_find(&bpe->vocabulary, model, id, &list, error);
    if (!status && list.count > 0)
        qsort(list.merge, list.count, sizeof *list.merge, merge_compare);
    for (size_t i = 0; i < list.count && !status; i++) {
        struct span text = model->piece[list.merge[i].piece].text;
        size_t cut = list.merge[i].left_bytes;
        status = bpe_add_merge(bpe, (struct span){text.text, cut}, (struct span){text.text + cut, text.length - cut}, i,
                               error);
    }
    free(list.merge);
    return status;
}

/* ---- the pipeline of LlamaTokenizer ---- */

static int class_check(const struct tokenizer_config *config, struct error *error)
{
    const char *class = "LlamaTokenizer";
    int status = config->tree ? json_get_string_or(config->tree, config->path, "tokenizer_class", &class, error) : 0;
    if (!status && strcmp(class, "LlamaTokenizer") != 0 && strcmp(class, "LlamaTokenizerFast") != 0)
        return error_set(error, STATUS_INPUT, "%s: tokenizer_class '%.64s' is not supported for tokenizer.model "
                         "(supported: LlamaTokenizer); save it as tokenizer.json", config->path, class);
    return status;
}

/* legacy: every stretch of text between special tokens gets a mark in front; else only the start of the text. */
static int pipeline_make(struct tokenizer *tokenizer, bool legacy, bool add_prefix_space, struct error *error)
{
    static const enum decoder_kind kinds[] = {DECODER_REPLACE, DECODER_BYTE_FALLBACK, DECODER_FUSE, DECODER_STRIP};
    int status = STATUS_OK;
    if (legacy && add_prefix_space)
        status = normalizer_add(&tokenizer->normalizer, NORMALIZER_PREPEND, NULL, mark, error);
    if (legacy && !status)
        status = normalizer_add(&tokenizer->normalizer, NORMALIZER_REPLACE, " ", mark, error);
    if (!legacy && !status) {
        struct pretokenizer_step *step = pretokenizer_add(&tokenizer->pretokenizer, PRETOKENIZER_METASPACE, error);
        if (!step)
            return STATUS_MEMORY;
        memcpy(step->replacement, mark, sizeof mark);
        step->prepend_scheme = add_prefix_space ? PREPEND_FIRST : PREPEND_NEVER;
    }
    size_t steps = add_prefix_space ? 4 : 3; /* only a mark that was put there is stripped */
    for (size_t i = 0; i < steps && !status; i++) {
        struct decoder_step *step = decoder_add(&tokenizer->decoder, kinds[i], error);
        if (!step)
            return STATUS_MEMORY;
        if (kinds[i] == DECODER_REPLACE &&
            (!(step->pattern = memory_string(mark, error)) || !(step->content = memory_string(" ", error))))
            status = STATUS_MEMORY;
        if (kinds[i] == DECODER_STRIP) {
            step->character[0] = ' ';
            step->start = 1;
        }
    }
    return status;
}

static int pieces_load(struct tokenizer *tokenizer, const struct model *model, const char *path,
                       const struct tokenizer_config *config, struct error *error)
{
    struct bpe *bpe = &tokenizer->bpe;
    int status = STATUS_OK;
    for (size_t id = 0; id < model->count && !status; id++) {
        const struct piece *piece = &model->piece[id];
        if ((status = vocabulary_add(&bpe->vocabulary, piece->text, (int64_t)id, error)))
            error_prefix(error, "%s", path);
        else if (piece->type == PIECE_UNKNOWN && !bpe->unk_token &&
                 !(bpe->unk_token = strndup(piece->text.text, piece->text.length)))
            status = error_set(error, STATUS_MEMORY, "out of host memory for the tokenizer");
    }
    bpe->fuse_unk = bpe->byte_fallback = true;
    if (!status)
        status = merges_make(bpe, model, error);
    if (!status)
        status = tokenizer_config_add_tokens(tokenizer, config, error);
    for (size_t id = 0; id < model->count && !status; id++) {
        const struct piece *piece = &model->piece[id];
        if (piece->type == PIECE_NORMAL || piece->type == PIECE_BYTE ||
            vocabulary_find(&tokenizer->added.names, piece->text.text, piece->text.length) >= 0)
            continue;
        char *content = strndup(piece->text.text, piece->text.length);
        struct added_token token = {.content = content, .special = piece->type != PIECE_USER_DEFINED};
        status = content ? added_add(&tokenizer->added, &bpe->vocabulary, &token, (int64_t)id, error)
                         : error_set(error, STATUS_MEMORY, "out of host memory for the tokenizer");
        free(content);
    }
    return status;
}

int tokenizer_sentencepiece_load(struct tokenizer *tokenizer, const char *path, const struct tokenizer_config *config,
                                 struct error *error)
{
    enum { MODEL_MAX_BYTES = 256 << 20 };
    struct model model = {0};
    char *bytes = NULL;
    size_t length;
    bool legacy = true;
    int status = class_check(config, error);
    if (!status)
        status = tokenizer_config_flag(config, "legacy", &legacy, error);
    if (!status)
        status = file_read(path, MODEL_MAX_BYTES, &bytes, &length, error);
    if (!status)
        status = model_read((struct span){bytes, length}, path, &model, error);
    bool add_prefix_space = model.add_dummy_prefix;
    if (!status)
        status = tokenizer_config_flag(config, "add_prefix_space", &add_prefix_space, error);
    if (!status)
        status = pipeline_make(tokenizer, legacy, add_prefix_space, error);
    if (!status)
        status = pieces_load(tokenizer, &model, path, config, error);
    free(model.piece);
    free(bytes);
    return status;
}
