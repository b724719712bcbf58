/* tokenizer_components.c - normalizer, pre_tokenizer, decoder and added tokens of tokenizer.json. */
#include <string.h>

#include "../../util/utf8.h"
#include "../json/json.h"
#include "tokenizer_json.h"

static int not_supported(const char *name, const char *component, const char *type, const char *supported,
                         struct error *error)
{
    return error_set(error, STATUS_INPUT, "%s: %s '%.64s' is not supported (supported: %s)", name, component, type,
                     supported);
}

/* The list of a Sequence. */
static int list_get(const cJSON *object, const char *name, const char *key, const cJSON **list, struct error *error)
{
    *list = json_member(object, key);
    if (!cJSON_IsArray(*list))
        return error_set(error, STATUS_INPUT, "%s: Sequence: %s: expected an array", name, key);
    return STATUS_OK;
}

/* A pattern: {"String": text} or {"Regex": text}; *regex stays NULL for the former and the other way round. */
static int pattern_get(const cJSON *object, const char *name, const char **string, const char **regex,
                       struct error *error)
{
    const cJSON *pattern = json_member(object, "pattern");
    *string = *regex = NULL;
    int status = STATUS_INPUT;
    if (cJSON_IsString(json_member(pattern, "String")))
        status = json_get_string(pattern, name, "String", string, error);
    else if (cJSON_IsString(json_member(pattern, "Regex")))
        status = json_get_string(pattern, name, "Regex", regex, error);
    else
        error_set(error, STATUS_INPUT, "%s: pattern: expected {\"String\": text} or {\"Regex\": text}", name);
    return status;
}

/* The pattern and content of a decoder's Replace. */
static int replace_get(const cJSON *object, const char *name, const char **string, const char **content,
                       struct error *error)
{
    const char *regex;
    int status = pattern_get(object, name, string, &regex, error);
    if (!status && (!*string || !**string))
        return not_supported(name, "Replace with pattern", regex ? "Regex" : "", "String, not empty", error);
    return status ? status : json_get_string(object, name, "content", content, error);
}

/* One character, as a string of its own. */
static int character_get(const cJSON *object, const char *name, const char *key, char *out, struct error *error)
{
    const char *text;
    uint32_t code;
    int status = json_get_string(object, name, key, &text, error);
    if (status)
        return status;
    size_t length = strlen(text);
    if (length == 0 || (size_t)utf8_decode(text, length, &code) != length)
        return error_set(error, STATUS_INPUT, "%s: %s '%.64s': expected one character", name, key, text);
    memcpy(out, text, length + 1);
    return STATUS_OK;
}

static int replace_read(struct normalizer *normalizer, const cJSON *object, const char *name, struct error *error)
{
    const char *string, *regex, *content;
    int status = pattern_get(object, name, &string, &regex, error);
    if (!status)
        status = json_get_string(object, name, "content", &content, error);
    struct normalizer_step *step = status ? NULL : normalizer_add(normalizer, NORMALIZER_REPLACE, content, error);
    if (!step)
        return status ? status : STATUS_MEMORY;
    status = regex ? pattern_compile_regex(&step->pattern, regex, error)
                   : pattern_compile_literal(&step->pattern, string, error);
    if (status)
        error_prefix(error, "%s: normalizer Replace", name);
    return status;
}

int normalizer_read(struct normalizer *normalizer, const cJSON *object, const char *name, struct error *error)
{
    const char *type, *content = NULL;
    const cJSON *list, *item;
    int status = json_get_string(object, name, "type", &type, error);
    if (status)
        return status;
    if (strcmp(type, "NFC") == 0)
        return normalizer_add(normalizer, NORMALIZER_NFC, NULL, error) ? STATUS_OK : STATUS_MEMORY;
    if (strcmp(type, "Prepend") == 0) {
        status = json_get_string(object, name, "prepend", &content, error);
        return status ? status : normalizer_add(normalizer, NORMALIZER_PREPEND, content, error) ? STATUS_OK : STATUS_MEMORY;
    }
    if (strcmp(type, "Replace") == 0)
        return replace_read(normalizer, object, name, error);
    if (strcmp(type, "Sequence") != 0)
        return not_supported(name, "normalizer", type, "NFC, Prepend, Replace, Sequence", error);
    status = list_get(object, name, "normalizers", &list, error);
    for (item = status ? NULL : list->child; item && !status; item = item->next)
        status = normalizer_read(normalizer, item, name, error);
    return status;
}

/* Index of text in a list that ends with NULL, -1 when it is not there. */
static int index_of(const char *const *list, const char *text)
{
    for (int i = 0; list[i]; i++)
        if (strcmp(list[i], text) == 0)
            return i;
    return -1;
}

static int split_read(struct pretokenizer *pretokenizer, const cJSON *object, const char *name, struct error *error)
{
    static const char *const behaviors[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous",
                                            NULL}; /* in the order of enum split_behavior */
    const char *string, *regex, *behavior;
    struct pretokenizer_step *step = pretokenizer_add(pretokenizer, PRETOKENIZER_SPLIT, error);
    if (!step)
        return STATUS_MEMORY;
    int status = pattern_get(object, name, &string, &regex, error);
    if (!status)
        status = json_get_string(object, name, "behavior", &behavior, error);
    if (!status && index_of(behaviors, behavior) < 0)
        return not_supported(name, "Split with behavior", behavior, "Removed, Isolated, MergedWithPrevious, "
                             "MergedWithNext, Contiguous", error);
    if (!status)
        status = json_get_bool_or(object, name, "invert", &step->invert, error);
    if (status)
        return status;
    step->behavior = (enum split_behavior)index_of(behaviors, behavior);
    status = regex ? pattern_compile_regex(&step->pattern, regex, error)
                   : pattern_compile_literal(&step->pattern, string, error);
    if (status)
        error_prefix(error, "%s: pre_tokenizer Split", name);
    return status;
}

static int byte_level_read(struct pretokenizer *pretokenizer, const cJSON *object, const char *name,
                           struct error *error)
{
    struct pretokenizer_step *step = pretokenizer_add(pretokenizer, PRETOKENIZER_BYTE_LEVEL, error);
    if (!step)
        return STATUS_MEMORY;
    step->use_regex = true; /* files older than the key */
    step->add_prefix_space = true;
    int status = json_get_bool_or(object, name, "add_prefix_space", &step->add_prefix_space, error);
    if (!status)
        status = json_get_bool_or(object, name, "use_regex", &step->use_regex, error);
    if (!status && step->use_regex)
        status = pattern_compile_regex(&step->pattern, gpt2_expression, error);
    return status;
}

/* prepend_scheme, or add_prefix_space of older files. */
static int prepend_scheme_get(const cJSON *object, const char *name, enum prepend_scheme *scheme, struct error *error)
{
    static const char *const schemes[] = {"always", "first", "never", NULL}; /* as enum prepend_scheme */
    const char *text = NULL;
    bool add_prefix_space = true;
    int status = json_get_string_or(object, name, "prepend_scheme", &text, error);
    if (!status)
        status = json_get_bool_or(object, name, "add_prefix_space", &add_prefix_space, error);
    if (status)
        return status;
    if (text && index_of(schemes, text) < 0)
        return not_supported(name, "Metaspace with prepend_scheme", text, "always, first, never", error);
    *scheme = text ? (enum prepend_scheme)index_of(schemes, text) : PREPEND_ALWAYS;
    if (!add_prefix_space && text && *scheme != PREPEND_NEVER)
        return error_set(error, STATUS_INPUT, "%s: Metaspace: add_prefix_space false contradicts prepend_scheme '%s'",
                         name, text);
    if (!add_prefix_space)
        *scheme = PREPEND_NEVER;
    return STATUS_OK;
}

int pretokenizer_read(struct pretokenizer *pretokenizer, const cJSON *object, const char *name, struct error *error)
{
    const char *type;
    const cJSON *list, *item;
    struct pretokenizer_step *step;
    bool flag = false;
    int status = json_get_string(object, name, "type", &type, error);
    if (status)
        return status;
    if (strcmp(type, "Split") == 0)
        return split_read(pretokenizer, object, name, error);
    if (strcmp(type, "ByteLevel") == 0)
        return byte_level_read(pretokenizer, object, name, error);
    if (strcmp(type, "Digits") == 0) {
        status = json_get_bool_or(object, name, "individual_digits", &flag, error);
        step = status ? NULL : pretokenizer_add(pretokenizer, PRETOKENIZER_DIGITS, error);
        if (step)
            step->behavior = flag ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS;
        return status ? status : step ? STATUS_OK : STATUS_MEMORY;
    }
    if (strcmp(type, "Metaspace") == 0) {
        if (!(step = pretokenizer_add(pretokenizer, PRETOKENIZER_METASPACE, error)))
            return STATUS_MEMORY;
        step->split = true;
        status = character_get(object, name, "replacement", step->replacement, error);
        if (!status)
            status = json_get_bool_or(object, name, "split", &step->split, error);
        return status ? status : prepend_scheme_get(object, name, &step->prepend_scheme, error);
    }
    if (strcmp(type, "Sequence") != 0)
        return not_supported(name, "pre_tokenizer", type, "Split, ByteLevel, Digits, Metaspace, Sequence", error);
    status = list_get(object, name, "pretokenizers", &list, error);
    for (item = status ? NULL : list->child; item && !status; item = item->next)
        status = pretokenizer_read(pretokenizer, item, name, error);
    return status;
}

/* The reference tells the start of the text by offsets, which these steps blur. */
int pretokenizer_check(const struct tokenizer *tokenizer, const char *name, struct error *error)
{
    bool prefixed = false;
    for (size_t i = 0; i < tokenizer->pretokenizer.count; i++) {
        const struct pretokenizer_step *step = &tokenizer->pretokenizer.step[i];
        bool metaspace = step->kind == PRETOKENIZER_METASPACE;
        if (prefixed && metaspace && step->prepend_scheme == PREPEND_FIRST)
            return not_supported(name, "Metaspace with prepend_scheme", "first",
                                 "without ByteLevel or Metaspace before it", error);
        prefixed = prefixed || metaspace || step->kind == PRETOKENIZER_BYTE_LEVEL;
    }
    return STATUS_OK;
}

static int strip_read(struct decoder_step *step, const cJSON *object, const char *name, struct error *error)
{
    int64_t start = 0, stop = 0;
    int status = character_get(object, name, "content", step->character, error);
    if (!status)
        status = json_get_int_or(object, name, "start", 0, INT32_MAX, &start, error);
    if (!status)
        status = json_get_int_or(object, name, "stop", 0, INT32_MAX, &stop, error);
    step->start = (size_t)start;
    step->stop = (size_t)stop;
    return status;
}

int decoder_read(struct decoder *decoder, const cJSON *object, const char *name, struct error *error)
{
    static const char *const types[] = {"ByteLevel", "ByteFallback", "Fuse", "Strip", "Replace", "Metaspace",
                                        NULL}; /* in the order of enum decoder_kind */
    const char *type, *pattern, *content;
    const cJSON *list, *item;
    int status = json_get_string(object, name, "type", &type, error);
    if (status)
        return status;
    if (strcmp(type, "Sequence") == 0) {
        status = list_get(object, name, "decoders", &list, error);
        for (item = status ? NULL : list->child; item && !status; item = item->next)
            status = decoder_read(decoder, item, name, error);
        return status;
    }
    int kind = index_of(types, type);
    if (kind < 0)
        return not_supported(name, "decoder", type,
                             "ByteLevel, ByteFallback, Fuse, Strip, Replace, Metaspace, Sequence", error);
    struct decoder_step *step = decoder_add(decoder, (enum decoder_kind)kind, error);
    if (!step)
        return STATUS_MEMORY;
    if (kind == DECODER_STRIP)
        return strip_read(step, object, name, error);
    if (kind == DECODER_METASPACE) {
        status = character_get(object, name, "replacement", step->character, error);
        return status ? status : prepend_scheme_get(object, name, &step->prepend_scheme, error);
    }
    if (kind == DECODER_REPLACE) {
        status = replace_get(object, name, &pattern, &content, error);
        if (!status && (!(step->pattern = memory_string(pattern, error)) ||
                        !(step->content = memory_string(content, error))))
            status = STATUS_MEMORY;
    }
    return status;
}

int added_token_read(const cJSON *object, const char *name, bool special, struct added_token *token,
                     struct error *error)
{
    const char *content;
    int status = json_get_string(object, name, "content", &content, error);
    *token = (struct added_token){.special = special};
    if (!status && !special)
        status = json_get_bool_or(object, name, "special", &token->special, error);
    token->normalized = !token->special;
    if (!status)
        status = json_get_bool_or(object, name, "normalized", &token->normalized, error);
    if (!status)
        status = json_get_bool_or(object, name, "single_word", &token->single_word, error);
    if (!status)
        status = json_get_bool_or(object, name, "lstrip", &token->lstrip, error);
    if (!status)
        status = json_get_bool_or(object, name, "rstrip", &token->rstrip, error);
    token->content = status ? NULL : (char *)content; /* borrowed: added_add copies it */
    return status;
}
