/* tokenizer_files.c - vocab.json + merges.txt. The files hold no pipeline: the class that tokenizer_config.json
 * names does (GPT-2's without one), as transformers converts it.
 */
#include <stdlib.h>
#include <string.h>

#include "../../util/file.h"
#include "../../util/utf8.h"
#include "../json/json.h"
#include "tokenizer_internal.h"

static int vocabulary_read(struct vocabulary *vocabulary, const char *path, struct error *error)
{
    cJSON *tree = json_read(path, error);
    if (!tree)
        return error->status;
    int status = STATUS_OK;
    if (!cJSON_IsObject(tree))
        status = error_set(error, STATUS_INPUT, "%s: expected an object of token to id", path);
    for (const cJSON *token = status ? NULL : tree->child; token && !status; token = token->next) {
        int64_t id;
        if (!json_integer(token, &id))
            status = error_set(error, STATUS_INPUT, "%s: the id of '%.64s' is not an integer", path, token->string);
        else if ((status = vocabulary_add(vocabulary, (struct span){token->string, strlen(token->string)}, id, error)))
            error_prefix(error, "%s", path);
    }
    cJSON_Delete(tree);
    return status;
}

/* Lines "left right"; those that begin with #version do not count. */
static int merges_read(struct bpe *bpe, const char *path, struct error *error)
{
    enum { MERGES_MAX_BYTES = 256 << 20 };
    char *text;
    size_t length, bad, rank = 0, number = 1;
    int status = file_read(path, MERGES_MAX_BYTES, &text, &length, error);
    if (status)
        return status;
    if (!utf8_valid(text, length, &bad))
        status = error_set(error, STATUS_INPUT, "%s: not UTF-8 at byte %zu", path, bad);
    for (size_t start = 0, next; start < length && !status; start = next, number++) {
        const char *line = text + start, *newline = memchr(line, '\n', length - start);
        size_t bytes = newline ? (size_t)(newline - line) : length - start;
        next = start + bytes + 1;
        if (bytes > 0 && newline && line[bytes - 1] == '\r')
            bytes--;
        if (bytes >= 8 && memcmp(line, "#version", 8) == 0)
            continue;
        const char *space = memchr(line, ' ', bytes);
        size_t left = space ? (size_t)(space - line) : 0, right = space ? bytes - left - 1 : 0;
        if (!space || memchr(space + 1, ' ', right))
            status = error_set(error, STATUS_INPUT, "%s: line %zu: expected two parts with one space between", path,
                               number);
        else if ((status = bpe_add_merge(bpe, (struct span){line, left}, (struct span){space + 1, right}, rank++,
                                         error)))
            error_prefix(error, "%s: line %zu", path, number);
    }
    free(text);
    return status;
}

/* GPT2Tokenizer or Qwen2Tokenizer, "Fast" or not. */
static int class_read(const struct tokenizer_config *config, bool *qwen2, struct error *error)
{
    const char *class = "GPT2Tokenizer";
    if (config->tree) {
        int status = json_get_string_or(config->tree, config->path, "tokenizer_class", &class, error);
        if (status)
            return status;
    }
    size_t length = strlen(class);
    if (length > 4 && strcmp(class + length - 4, "Fast") == 0)
        length -= 4;
    *qwen2 = strncmp(class, "Qwen2Tokenizer", length) == 0 && length == strlen("Qwen2Tokenizer");
    if (*qwen2 || (strncmp(class, "GPT2Tokenizer", length) == 0 && length == strlen("GPT2Tokenizer")) ||
        (strncmp(class, "CodeGenTokenizer", length) == 0 && length == strlen("CodeGenTokenizer")))
        return STATUS_OK;
    return error_set(error, STATUS_INPUT, "%s: tokenizer_class '%.64s' is not supported for vocab.json + merges.txt "
                     "(supported: GPT2Tokenizer, CodeGenTokenizer, Qwen2Tokenizer); save it as tokenizer.json",
                     config->path, class);
}

static int pipeline_make(struct tokenizer *tokenizer, const struct tokenizer_config *config, bool qwen2,
                         struct error *error)
{
    bool add_prefix_space = false;
    struct pretokenizer_step *step;
    int status = tokenizer_config_flag(config, "add_prefix_space", &add_prefix_space, error);
    if (!status && qwen2) {
        status = normalizer_add(&tokenizer->normalizer, NORMALIZER_NFC, NULL, NULL, error);
        step = status ? NULL : pretokenizer_add(&tokenizer->pretokenizer, PRETOKENIZER_SPLIT, error);
        if (!step)
            return STATUS_MEMORY;
        step->behavior = SPLIT_ISOLATED;
        status = pattern_compile_regex(&step->pattern, qwen2_expression, error);
    }
    if (status)
        return status;
    step = pretokenizer_add(&tokenizer->pretokenizer, PRETOKENIZER_BYTE_LEVEL, error);
    if (!step || !decoder_add(&tokenizer->decoder, DECODER_BYTE_LEVEL, error))
        return STATUS_MEMORY;
    step->add_prefix_space = add_prefix_space;
    step->use_regex = !qwen2;
    return step->use_regex ? pattern_compile_regex(&step->pattern, gpt2_expression, error) : STATUS_OK;
}

int tokenizer_files_load(struct tokenizer *tokenizer, const char *vocabulary_path, const char *merges_path,
                         const struct tokenizer_config *config, struct error *error)
{
    static const char end_of_text[] = "<|endoftext|>";
    bool qwen2;
    int status = class_read(config, &qwen2, error);
    if (!status)
        status = vocabulary_read(&tokenizer->bpe.vocabulary, vocabulary_path, error);
    if (!status)
        status = merges_read(&tokenizer->bpe, merges_path, error);
    if (!status)
        status = pipeline_make(tokenizer, config, qwen2, error);
    if (!status)
        status = tokenizer_config_add_tokens(tokenizer, config, error);
    /* The classes' own default, for folders whose small files are gone. */
    if (!status && !config->tree && !config->special_tokens &&
        vocabulary_find(&tokenizer->added.names, end_of_text, strlen(end_of_text)) < 0) {
        struct added_token token = {.content = (char *)end_of_text, .special = true};
        status = added_add(&tokenizer->added, &tokenizer->bpe.vocabulary, &token, -1, error);
    }
    return status;
}
