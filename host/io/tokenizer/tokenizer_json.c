/* tokenizer_json.c - tokenizer.json into a tokenizer. What is not in the supported subset is refused by the
 * component's name; truncation and padding are left to max_length and the batch, as transformers does.
 */
#include <stdlib.h>
#include <string.h>

#include "../json/json.h"
#include "tokenizer_json.h"

/* A required member that is an object or an array. */
static int member_container(const cJSON *object, const char *name, const char *key, bool array, const cJSON **value,
                            struct error *error)
{
    *value = json_member(object, key);
    if (array ? cJSON_IsArray(*value) : cJSON_IsObject(*value))
        return STATUS_OK;
    return error_set(error, STATUS_INPUT, "%s: %s: expected %s", name, key, array ? "an array" : "an object");
}

static struct span string_span(const cJSON *string)
{
    return (struct span){string->valuestring, strlen(string->valuestring)};
}

static int vocabulary_read(struct bpe *bpe, const cJSON *model, const char *name, struct error *error)
{
    const cJSON *vocabulary, *token;
    int status = member_container(model, name, "vocab", false, &vocabulary, error);
    for (token = status ? NULL : vocabulary->child; token && !status; token = token->next) {
        int64_t id;
        if (!json_integer(token, &id))
            return error_set(error, STATUS_INPUT, "%s: vocab: the id of '%.64s' is not an integer", name,
                             token->string);
        status = vocabulary_add(&bpe->vocabulary, (struct span){token->string, strlen(token->string)}, id, error);
        if (status)
            error_prefix(error, "%s: vocab", name);
    }
    return status;
}

/* "left right" or ["left", "right"]. */
static int merge_split(const cJSON *merge, struct span *left, struct span *right)
{
    if (cJSON_IsString(merge)) {
        const char *space = strchr(merge->valuestring, ' ');
        if (!space || strchr(space + 1, ' '))
            return STATUS_INPUT;
        *left = (struct span){merge->valuestring, (size_t)(space - merge->valuestring)};
        *right = (struct span){space + 1, strlen(space + 1)};
        return STATUS_OK;
    }
    if (!cJSON_IsArray(merge) || cJSON_GetArraySize(merge) != 2 || !cJSON_IsString(merge->child) ||
        !cJSON_IsString(merge->child->next))
        return STATUS_INPUT;
    *left = string_span(merge->child);
    *right = string_span(merge->child->next);
    return STATUS_OK;
}

static int merges_read(struct bpe *bpe, const cJSON *model, const char *name, struct error *error)
{
    const cJSON *merges, *merge;
    size_t rank = 0;
    int status = member_container(model, name, "merges", true, &merges, error);
    for (merge = status ? NULL : merges->child; merge && !status; merge = merge->next) {
        struct span left, right;
        /* The list can carry the first line of a merges.txt. */
        if (cJSON_IsString(merge) && strncmp(merge->valuestring, "#version", 8) == 0)
            continue;
        if (merge->type != merges->child->type || merge_split(merge, &left, &right))
            return error_set(error, STATUS_INPUT, "%s: merges: number %zu is not two parts (a string \"left right\" or "
                             "[\"left\", \"right\"], the same form throughout)", name, rank);
        status = bpe_add_merge(bpe, left, right, rank++, error);
        if (status)
            error_prefix(error, "%s: merges", name);
    }
    return status;
}

static int model_read(struct bpe *bpe, const cJSON *model, const char *name, struct error *error)
{
    static const char *const empty_only[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const char *type = "BPE", *text = NULL; /* old files have no type */
    double dropout = 0;
    int status = json_get_string_or(model, name, "type", &type, error);
    if (!status && strcmp(type, "BPE") != 0)
        return error_set(error, STATUS_INPUT, "%s: model '%.64s' is not supported (supported: BPE)", name, type);
    for (size_t i = 0; i < 2 && !status; i++) {
        text = NULL;
        status = json_get_string_or(model, name, empty_only[i], &text, error);
        if (!status && text && *text)
            return error_set(error, STATUS_INPUT, "%s: %s '%.64s' is not supported (supported: none)", name,
                             empty_only[i], text);
    }
    if (!status)
        status = json_get_double_or(model, name, "dropout", &dropout, error);
    if (!status && dropout != 0)
        return error_set(error, STATUS_INPUT, "%s: dropout is %g: ids would be random; set it to null", name, dropout);
    text = NULL;
    if (!status)
        status = json_get_string_or(model, name, "unk_token", &text, error);
    if (!status && text && !(bpe->unk_token = memory_string(text, error)))
        status = STATUS_MEMORY;
    if (!status)
        status = json_get_bool_or(model, name, "fuse_unk", &bpe->fuse_unk, error);
    if (!status)
        status = json_get_bool_or(model, name, "byte_fallback", &bpe->byte_fallback, error);
    if (!status)
        status = json_get_bool_or(model, name, "ignore_merges", &bpe->ignore_merges, error);
    if (!status)
        status = vocabulary_read(bpe, model, name, error);
    return status ? status : merges_read(bpe, model, name, error);
}

static int added_tokens_read(struct tokenizer *tokenizer, const cJSON *list, const char *name, struct error *error)
{
    int status = STATUS_OK;
    for (const cJSON *item = list ? list->child : NULL; item && !status; item = item->next) {
        struct added_token token;
        int64_t id = -1;
        int32_t given = -1;
        status = added_token_read(item, name, false, &token, error);
        if (!status && (!json_integer(json_member(item, "id"), &id) || id < 0))
            return error_set(error, STATUS_INPUT, "%s: added_tokens: the id of '%.64s' is not a whole number", name,
                             token.content);
        if (!status && !*token.content)
            return error_set(error, STATUS_INPUT, "%s: added_tokens: an added token is empty", name);
        if (!status && vocabulary_find(&tokenizer->added.names, token.content, strlen(token.content)) >= 0)
            return error_set(error, STATUS_INPUT, "%s: added_tokens: added token '%.64s' appears twice", name,
                             token.content);
        if (!status && (status = added_add(&tokenizer->added, &tokenizer->bpe.vocabulary, &token, &given, error)))
            error_prefix(error, "%s: added_tokens", name);
        if (!status && given != id)
            return error_set(error, STATUS_INPUT, "%s: added_tokens: added token '%.64s' has id %lld in the file, but %d is "
                             "its id in the vocabulary or the next free one", name, token.content, (long long)id,
                             (int)given);
    }
    return status;
}

/* Ids of one special token of the template. */
static int template_special(struct tokenizer *tokenizer, const cJSON *processor, const cJSON *piece, const char *name,
                            struct token_list *out, struct error *error)
{
    const char *text;
    const cJSON *tokens, *token, *ids, *item;
    int status = json_get_string(piece, name, "id", &text, error);
    if (!status)
        status = member_container(processor, name, "special_tokens", false, &tokens, error);
    if (status)
        return status;
    token = json_member(tokens, text);
    ids = json_member(token, "ids");
    if (!cJSON_IsArray(ids))
        return error_set(error, STATUS_INPUT, "%s: special_tokens: '%.64s' of the template has no ids", name, text);
    for (item = ids->child; item && !status; item = item->next) {
        int64_t id;
        if (!json_integer(item, &id) || id < 0 || id >= tokenizer_vocab_size(tokenizer))
            return error_set(error, STATUS_INPUT, "%s: special_tokens: '%.64s' has an id outside the vocabulary", name,
                             text);
        status = token_list_append(out, (int32_t)id, error);
    }
    return status;
}

/* One $A with special tokens around it. */
static int template_read(struct tokenizer *tokenizer, const cJSON *processor, const char *name, struct error *error)
{
    const cJSON *single, *piece;
    int sequences = 0;
    if (tokenizer->before.length > 0 || tokenizer->after.length > 0)
        return error_set(error, STATUS_INPUT, "%s: two TemplateProcessing in a row are not supported", name);
    int status = member_container(processor, name, "single", true, &single, error);
    for (piece = status ? NULL : single->child; piece && !status; piece = piece->next) {
        const cJSON *sequence = json_member(piece, "Sequence"), *special = json_member(piece, "SpecialToken");
        const char *id = "";
        if (special) {
            status = template_special(tokenizer, processor, special, name,
                                      sequences ? &tokenizer->after : &tokenizer->before, error);
        } else if (sequence) {
            status = json_get_string(sequence, name, "id", &id, error);
            if (!status && (strcmp(id, "A") != 0 || ++sequences > 1))
                status = error_set(error, STATUS_INPUT, "%s: template 'single' is not supported: expected $A once",
                                   name);
        } else {
            status = error_set(error, STATUS_INPUT, "%s: template 'single': expected SpecialToken or Sequence", name);
        }
    }
    if (!status && sequences == 0)
        status = error_set(error, STATUS_INPUT, "%s: template 'single' has no $A: the text would be lost", name);
    return status;
}

static int processor_read(struct tokenizer *tokenizer, const cJSON *processor, const char *name, struct error *error)
{
    const char *type;
    const cJSON *list, *item;
    int status = json_get_string(processor, name, "type", &type, error);
    if (status || strcmp(type, "ByteLevel") == 0) /* moves offsets only */
        return status;
    if (strcmp(type, "TemplateProcessing") == 0)
        return template_read(tokenizer, processor, name, error);
    if (strcmp(type, "Sequence") != 0)
        return error_set(error, STATUS_INPUT, "%s: post_processor '%.64s' is not supported (supported: "
                         "TemplateProcessing, ByteLevel, Sequence)", name, type);
    status = member_container(processor, name, "processors", true, &list, error);
    for (item = status ? NULL : list->child; item && !status; item = item->next)
        status = processor_read(tokenizer, item, name, error);
    return status;
}

static bool is_set(const cJSON *tree, const char *key)
{
    const cJSON *value = json_member(tree, key);
    return value && !cJSON_IsNull(value);
}

/* Normalizer, pre_tokenizer and decoder of a file, or of a class that is spelt like one. */
static int components_read(struct tokenizer *tokenizer, const cJSON *tree, const char *name, struct error *error)
{
    int status = STATUS_OK;
    if (is_set(tree, "normalizer"))
        status = normalizer_read(&tokenizer->normalizer, json_member(tree, "normalizer"), name, error);
    if (!status && is_set(tree, "pre_tokenizer"))
        status = pretokenizer_read(&tokenizer->pretokenizer, json_member(tree, "pre_tokenizer"), name, error);
    if (!status)
        status = pretokenizer_check(tokenizer, name, error);
    if (!status && is_set(tree, "decoder")) {
        tokenizer->decoder.present = true;
        status = decoder_read(&tokenizer->decoder, json_member(tree, "decoder"), name, error);
    }
    return status;
}

/* What the class's model has whatever the file says. */
static void model_flags_set(struct bpe *bpe, enum tokenizer_class class)
{
    free(bpe->unk_token);
    bpe->unk_token = NULL;
    bpe->ignore_merges = false;
    bpe->fuse_unk = bpe->byte_fallback = class == CLASS_LLAMA;
}

int tokenizer_pipeline_make(struct tokenizer *tokenizer, const struct tokenizer_config *config, struct error *error)
{
    cJSON *components;
    int status = tokenizer_class_components(config, &components, error);
    if (!status)
        status = components_read(tokenizer, components, config->path, error);
    model_flags_set(&tokenizer->bpe, config->class);
    cJSON_Delete(components);
    return status;
}

/* Where version 4 of transformers, which reads the file, gives other ids than 5, which builds the class. */
static int versions_compare(struct tokenizer *tokenizer, const struct tokenizer_config *config, const cJSON *tree,
                            struct error *error)
{
    cJSON *components;
    int status = tokenizer_class_components(config, &components, error);
    if (status)
        return status;
    if (tokenizer_class_differs(tree, components))
        status = tokenizer_warn(tokenizer, error, "%s: transformers 5 splits texts as the class does, version 4 as "
                                "tokenizer.json says, which differs; the ids are those of 5",
                                tokenizer_class_name(config->class));
    cJSON_Delete(components);
    bool bos = true, eos = false;
    if (!status && config->class == CLASS_LLAMA)
        status = tokenizer_config_flag(config, "add_bos_token", &bos, error);
    if (!status && config->class == CLASS_LLAMA)
        status = tokenizer_config_flag(config, "add_eos_token", &eos, error);
    if (!status && config->class == CLASS_LLAMA &&
        (bos != (tokenizer->before.length > 0) || eos != (tokenizer->after.length > 0)))
        status = tokenizer_warn(tokenizer, error, "LlamaTokenizer: transformers 5 puts around a text what tokenizer.json's "
                                "post_processor says, version 4 what add_bos_token and add_eos_token say; the ids are those of 5");
    return status;
}

static int tree_read(struct tokenizer *tokenizer, const cJSON *tree, const char *path,
                     const struct tokenizer_config *config, struct error *error)
{
    const char *version = "1.0";
    const cJSON *model, *tokens = json_member(tree, "added_tokens");
    int status = json_get_string_or(tree, path, "version", &version, error);
    if (!status && strcmp(version, "1.0") != 0)
        return error_set(error, STATUS_INPUT, "%s: version '%.64s' is not supported (supported: 1.0)", path, version);
    if (!status)
        status = member_container(tree, path, "model", false, &model, error);
    if (!status)
        status = model_read(&tokenizer->bpe, model, path, error);
    if (!status && tokens && !cJSON_IsNull(tokens))
        status = member_container(tree, path, "added_tokens", true, &tokens, error);
    if (!status && config->class == CLASS_FILE)
        status = components_read(tokenizer, tree, path, error);
    else if (!status)
        status = tokenizer_pipeline_make(tokenizer, config, error);
    if (!status && config->class == CLASS_FILE)
        status = added_tokens_read(tokenizer, tokens, path, error);
    if (!status)
        status = tokenizer_tokens_add(tokenizer, config, &(struct vocabulary_tokens){.file = tokens}, error);
    if (!status && is_set(tree, "post_processor"))
        status = processor_read(tokenizer, json_member(tree, "post_processor"), path, error);
    if (!status && config->class != CLASS_FILE)
        status = versions_compare(tokenizer, config, tree, error);
    else if (!status && !config->class_known)
        status = tokenizer_warn(tokenizer, error, "tokenizer_class '%.64s' is read as its tokenizer.json says; transformers 5 may "
                                "give the class a pipeline of its own", config->class_name);
    return status;
}

int tokenizer_json_load(struct tokenizer *tokenizer, const char *path, const struct tokenizer_config *config,
                        struct error *error)
{
    cJSON *tree = json_read(path, error);
    if (!tree)
        return error->status;
    int status = tree_read(tokenizer, tree, path, config, error);
    cJSON_Delete(tree);
    return status;
}
