/* tokenizer_files.c - vocab.json + merges.txt. The files hold no pipeline: the class does (GPT-2's, where no file names
 * one).
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

int tokenizer_files_load(struct tokenizer *tokenizer, const char *vocabulary_path, const char *merges_path,
                         const struct tokenizer_config *config, struct error *error)
{
    struct tokenizer_config plain = *config;
    if (!config->class_stated) /* folders whose small files are gone */
        plain.class = CLASS_GPT2;
    if (plain.class == CLASS_FILE || plain.class == CLASS_LLAMA)
        return error_set(error, STATUS_INPUT, "%s: vocab.json and merges.txt are read for GPT2Tokenizer, CodeGenTokenizer and "
                         "Qwen2Tokenizer; tokenizer_class is %.64s; save it as tokenizer.json", config->path,
                         config->class_name ? config->class_name : "not given");
    int status = vocabulary_read(&tokenizer->bpe.vocabulary, vocabulary_path, error);
    if (!status)
        status = merges_read(&tokenizer->bpe, merges_path, error);
    if (!status)
        status = tokenizer_pipeline_make(tokenizer, &plain, error);
    if (!status)
        status = tokenizer_tokens_add(tokenizer, &plain, &(struct vocabulary_tokens){0}, error);
    return status ? status : tokenizer_template_make(tokenizer, config, error);
}
