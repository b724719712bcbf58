/* tokenizer_sentencepiece.c - tokenizer.model, a SentencePiece model of the BPE kind, as transformers 5 reads it. It holds no
 * merges: every piece that is two pieces put together is one. LlamaTokenizer takes them in the order of ids, with the class's
 * pipeline; every other class in the order of falling score, with what normalizer_spec says.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../util/file.h"
#include "../../util/utf8.h"
#include "../json/json.h"
#include "sentencepiece.h"

static const char mark[] = "\xe2\x96\x81"; /* U+2581, SentencePiece's space */

/* ---- merges ---- */

struct piece_merge {
    float score;
    uint32_t piece, left_bytes;
};

/* Higher score, then the earlier piece, then the left part as text. */
static int score_compare(const void *a, const void *b)
{
    const struct piece_merge *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    if (x->piece != y->piece)
        return x->piece < y->piece ? -1 : 1;
    return (x->left_bytes > y->left_bytes) - (x->left_bytes < y->left_bytes); /* one is a prefix of the other */
}

/* The earlier piece, then the shorter left part. */
static int id_compare(const void *a, const void *b)
{
    const struct piece_merge *x = a, *y = b;
    if (x->piece != y->piece)
        return x->piece < y->piece ? -1 : 1;
    return (x->left_bytes > y->left_bytes) - (x->left_bytes < y->left_bytes);
}

struct merge_list {
    struct piece_merge *merge;
    size_t count, capacity;
};

static bool is_part(const struct vocabulary *vocabulary, const struct sentencepiece *model, bool normal_only, const char *text,
                    size_t length)
{
    int32_t id = vocabulary_find(vocabulary, text, length);
    return id >= 0 && (!normal_only || model->piece[id].type == PIECE_NORMAL);
}

/* All ways to put a piece together from two. */
static int piece_merges_find(const struct vocabulary *vocabulary, const struct sentencepiece *model, bool normal_only, size_t id,
                             struct merge_list *list, struct error *error)
{
    struct span text = model->piece[id].text;
    if (normal_only && model->piece[id].type != PIECE_NORMAL)
        return STATUS_OK;
    for (size_t cut = (size_t)utf8_length(text.text); cut < text.length; cut += (size_t)utf8_length(text.text + cut)) {
        if (!is_part(vocabulary, model, normal_only, text.text, cut) ||
            !is_part(vocabulary, model, normal_only, text.text + cut, text.length - cut))
            continue;
        int status = memory_grow(&list->merge, &list->capacity, list->count + 1, sizeof *list->merge, error);
        if (status)
            return status;
        list->merge[list->count++] =
            (struct piece_merge){model->piece[id].score, (uint32_t)id, (uint32_t)cut};
    }
    return STATUS_OK;
}

/* by_score: of normal pieces only, as SentencePiece itself merges; else by id, of all. */
static int merges_make(struct bpe *bpe, const struct sentencepiece *model, bool by_score, struct error *error)
{
    struct merge_list list = {0};
    int status = STATUS_OK;
    for (size_t id = 0; id < model->count && !status; id++)
        status = piece_merges_find(&bpe->vocabulary, model, by_score, id, &list, error);
    if (!status && list.count > 0)
        qsort(list.merge, list.count, sizeof *list.merge, by_score ? score_compare : id_compare);
    for (size_t i = 0; i < list.count && !status; i++) {
        struct span text = model->piece[list.merge[i].piece].text;
        size_t cut = list.merge[i].left_bytes;
        status = bpe_add_merge(bpe, (struct span){text.text, cut}, (struct span){text.text + cut, text.length - cut}, i,
                               error);
    }
    free(list.merge);
    return status;
}

/* ---- the pipeline of normalizer_spec ---- */

/* A normalizer's Replace: of a regular expression, or of one character. */
static int replace_add(struct normalizer *normalizer, const char *pattern, bool regex, const char *content,
                       struct error *error)
{
    struct normalizer_step *step = normalizer_add(normalizer, NORMALIZER_REPLACE, content, error);
    if (!step)
        return STATUS_MEMORY;
    return regex ? pattern_compile_regex(&step->pattern, pattern, error)
                 : pattern_compile_literal(&step->pattern, pattern, error);
}

static int normalizer_make(struct tokenizer *tokenizer, const struct sentencepiece *model, bool legacy, struct error *error)
{
    struct normalizer *normalizer = &tokenizer->normalizer;
    int status = STATUS_OK;
    if (model->remove_extra_whitespaces)
        status = replace_add(normalizer, "\\A +| +\\z", true, "", error);
    if (!status && model->remove_extra_whitespaces)
        status = replace_add(normalizer, " {2,}", true, " ", error);
    if (!status && model->escape_whitespaces)
        status = replace_add(normalizer, " ", false, mark, error);
    if (!status && model->add_dummy_prefix && legacy) /* Metaspace puts no mark before a mark, SentencePiece does */
        status = replace_add(normalizer, "\\A\xe2\x96\x81", true, "\xe2\x96\x81\xe2\x96\x81", error);
    return status;
}

static int longer_first(const void *a, const void *b)
{
    const struct span *x = a, *y = b;
    return (x->length < y->length) - (x->length > y->length);
}

/* User-defined pieces are never part of a merge: they are cut out of the text, the longest first. */
static int user_pieces_split(struct tokenizer *tokenizer, const struct sentencepiece *model, struct error *error)
{
    struct buffer expression = {0};
    size_t count = 0;
    int status = STATUS_OK;
    struct span *text = memory_array(model->count, sizeof *text, error);
    if (!text)
        return STATUS_MEMORY;
    for (size_t id = 0; id < model->count; id++)
        if (model->piece[id].type == PIECE_USER_DEFINED)
            text[count++] = model->piece[id].text;
    qsort(text, count, sizeof *text, longer_first);
    for (size_t i = 0; i < count && !status; i++) {
        status = buffer_append(&expression, "|", i > 0, error);
        for (size_t b = 0; b < text[i].length && !status; b++) {
            const bool special = strchr("\\.^$*+?()[]{}|-#&~ ", text[i].text[b]) != NULL;
            status = buffer_append(&expression, "\\", special, error);
            if (!status)
                status = buffer_append(&expression, &text[i].text[b], 1, error);
        }
    }
    struct pretokenizer_step *step =
        count && !status ? pretokenizer_add(&tokenizer->pretokenizer, PRETOKENIZER_SPLIT, error) : NULL;
    if (step) {
        step->behavior = SPLIT_ISOLATED;
        status = pattern_compile_regex(&step->pattern, expression.data, error);
    } else if (count && !status) {
        status = STATUS_MEMORY;
    }
    tokenizer->bpe.ignore_merges = count > 0;
    buffer_free(&expression);
    free(text);
    return status;
}

static int decoder_make(struct tokenizer *tokenizer, const struct sentencepiece *model, struct error *error)
{
    const struct {
        enum decoder_kind kind;
        bool used;
    } steps[] = {{DECODER_REPLACE, true},
                 {DECODER_BYTE_FALLBACK, model->byte_fallback},
                 {DECODER_FUSE, model->add_dummy_prefix || model->byte_fallback},
                 {DECODER_STRIP, model->add_dummy_prefix}};
    tokenizer->decoder.present = true;
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        struct decoder_step *step = steps[i].used ? decoder_add(&tokenizer->decoder, steps[i].kind, error) : NULL;
        if (!steps[i].used)
            continue;
        if (!step || (steps[i].kind == DECODER_REPLACE && (!(step->pattern = memory_string(mark, error)) ||
                                                           !(step->content = memory_string(" ", error)))))
            return STATUS_MEMORY;
        if (steps[i].kind == DECODER_STRIP) {
            step->character[0] = ' ';
            step->start = 1;
        }
    }
    return STATUS_OK;
}

static int spec_pipeline_make(struct tokenizer *tokenizer, const struct sentencepiece *model, bool legacy, const char *path,
                              struct error *error)
{
    if (model->has_charsmap)
        return error_set(error, STATUS_INPUT, "%s: precompiled_charsmap (a normalizer other than identity) is not "
                         "supported", path);
    int status = normalizer_make(tokenizer, model, legacy, error);
    struct pretokenizer_step *step =
        model->add_dummy_prefix && !status
            ? pretokenizer_add(&tokenizer->pretokenizer, PRETOKENIZER_METASPACE, error) : NULL;
    if (step) {
        memcpy(step->replacement, mark, sizeof mark);
        step->prepend_scheme = legacy ? PREPEND_ALWAYS : PREPEND_FIRST;
    } else if (model->add_dummy_prefix && !status) {
        status = STATUS_MEMORY;
    }
    if (!status)
        status = user_pieces_split(tokenizer, model, error);
    return status ? status : decoder_make(tokenizer, model, error);
}

/* ---- the whole ---- */

/* Id and text of an entry of added_tokens_decoder or of added_tokens.json; false where it is none of a piece. */
static bool entry_get(const struct sentencepiece *model, const cJSON *item, int64_t *id, const char **text)
{
    char *end = NULL;
    if (cJSON_IsObject(item)) {
        const cJSON *content = json_member(item, "content");
        *id = strtoll(item->string, &end, 10);
        *text = cJSON_IsString(content) && !*end ? content->valuestring : "";
    } else {
        *text = json_integer(item, id) ? item->string : "";
    }
    return **text && *id >= 0 && *id < (int64_t)model->count;
}

/* The lists of added tokens may give pieces other names, unless a piece that keeps its own has that name. */
static int pieces_rename(struct sentencepiece *model, const struct tokenizer_config *config, struct error *error)
{
    const cJSON *list = json_member(config->tree, "added_tokens_decoder"), *item;
    struct span *name = memory_array(model->count, sizeof *name, error);
    if (!name)
        return STATUS_MEMORY;
    list = list ? list : config->added_tokens;
    cJSON_ArrayForEach(item, list) {
        const char *text;
        int64_t id;
        if (entry_get(model, item, &id, &text))
            name[id] = (struct span){text, strlen(text)};
    }
    for (size_t id = 0; id < model->count; id++)
        for (size_t i = 0; i < model->count && name[id].length; i++)
            if (!name[i].text && model->piece[i].text.length == name[id].length &&
                memcmp(model->piece[i].text.text, name[id].text, name[id].length) == 0)
                name[id].length = 0; /* taken */
    for (size_t id = 0; id < model->count; id++)
        if (name[id].length)
            model->piece[id].text = name[id];
    free(name);
    return STATUS_OK;
}

/* The control and user-defined pieces, under the names that the file has for them. */
static int own_tokens_list(const struct sentencepiece *model, bool user_defined, struct added_token **list, size_t *count,
                           struct error *error)
{
    *count = 0;
    if (!(*list = memory_array(model->count, sizeof **list, error)))
        return STATUS_MEMORY;
    for (size_t id = 0; id < model->count; id++) {
        const struct piece *piece = &model->piece[id];
        if (piece->type != PIECE_CONTROL && !(user_defined && piece->type == PIECE_USER_DEFINED))
            continue;
        char *content = memory_array(piece->text.length + 1, 1, error);
        if (!content)
            return STATUS_MEMORY;
        memcpy(content, piece->text.text, piece->text.length);
        (*list)[(*count)++] = (struct added_token){.content = content, .special = piece->type == PIECE_CONTROL};
    }
    return STATUS_OK;
}

static int vocabulary_make(struct tokenizer *tokenizer, const struct sentencepiece *model, bool by_score, const char *path,
                           struct error *error)
{
    struct bpe *bpe = &tokenizer->bpe;
    int status = STATUS_OK;
    for (size_t id = 0; id < model->count && !status; id++)
        if ((status = vocabulary_add(&bpe->vocabulary, model->piece[id].text, (int64_t)id, error)))
            error_prefix(error, "%s", path);
    return status ? status : merges_make(bpe, model, by_score, error);
}

/* Where version 4 of transformers gives other ids than 5. */
static int versions_compare(struct tokenizer *tokenizer, const struct tokenizer_config *config, const struct sentencepiece *model,
                            bool legacy, struct error *error)
{
    int status = STATUS_OK;
    if (config->class == CLASS_LLAMA ? legacy : model->remove_extra_whitespaces)
        status = tokenizer_warn(tokenizer, error, "tokenizer.model: versions 4 and 5 of transformers treat spaces at the start "
                                "of a text or in a row differently here; the ids are those of 5");
    if (!status && !cJSON_IsBool(json_member(config->tree, "add_bos_token")))
        status = tokenizer_warn(tokenizer, error, "tokenizer.model without add_bos_token: transformers 4 puts the beginning of "
                                "sequence before a text, 5 does not; it is not put here");
    return status;
}

static const char *special_text(const struct sentencepiece *model, int index)
{
    static const char *const usual[] = {"<unk>", "<s>", "</s>"};
    return model->special_id[index] < 0 ? NULL
           : *model->special_text[index] ? model->special_text[index] : usual[index];
}

static int model_load(struct tokenizer *tokenizer, struct sentencepiece *model, const char *path,
                      const struct tokenizer_config *config, struct error *error)
{
    const bool llama = config->class == CLASS_LLAMA;
    struct vocabulary_tokens own = {0};
    struct added_token *list = NULL;
    bool legacy = !llama;
    int status = tokenizer_config_flag(config, "legacy", &legacy, error);
    if (!status)
        status = own_tokens_list(model, llama, &list, &own.pieces, error);
    own.piece = list;
    if (!status && !llama) {
        own.unk = special_text(model, 0), own.bos = special_text(model, 1), own.eos = special_text(model, 2);
        own.raw = model->add_dummy_prefix;
        tokenizer->bpe.fuse_unk = true;
        tokenizer->bpe.byte_fallback = model->byte_fallback;
        tokenizer->bpe.unk_token = memory_string(*model->special_text[0] ? model->special_text[0] : "<unk>", error);
        status = tokenizer->bpe.unk_token ? pieces_rename(model, config, error) : STATUS_MEMORY;
    }
    if (!status)
        status = vocabulary_make(tokenizer, model, !llama, path, error);
    if (!status)
        status = llama ? tokenizer_pipeline_make(tokenizer, config, error)
                       : spec_pipeline_make(tokenizer, model, legacy, path, error);
    if (!status)
        status = tokenizer_tokens_add(tokenizer, config, &own, error);
    if (!status)
        status = tokenizer_template_make(tokenizer, config, error);
    if (!status)
        status = versions_compare(tokenizer, config, model, legacy, error);
    for (size_t i = 0; i < own.pieces; i++)
        free(list[i].content);
    free(list);
    return status;
}

int tokenizer_sentencepiece_load(struct tokenizer *tokenizer, const char *path, const struct tokenizer_config *config,
                                 struct error *error)
{
    enum { MODEL_MAX_BYTES = 256 << 20 };
    struct sentencepiece model = {0};
    char *bytes = NULL;
    size_t length;
    if (config->class != CLASS_FILE && config->class != CLASS_LLAMA)
        return error_set(error, STATUS_INPUT, "%s: tokenizer_class '%.64s' is not supported for tokenizer.model "
                         "(supported: LlamaTokenizer, or none of its own); save it as tokenizer.json", config->path,
                         tokenizer_class_name(config->class));
    int status = file_read(path, MODEL_MAX_BYTES, &bytes, &length, error);
    if (!status)
        status = sentencepiece_read((struct span){bytes, length}, path, &model, error);
    if (!status)
        status = model_load(tokenizer, &model, path, config, error);
    free(model.piece);
    free(bytes);
    return status;
}
