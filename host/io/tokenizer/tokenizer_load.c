/* tokenizer_load.c - a folder's tokenizer: which reader it gets, by the files that are there. */
#include <stdlib.h>
#include <string.h>

#include "../../util/file.h"
#include "tokenizer_internal.h"

enum { PATH_BYTES = 4096 };

/* The normalized forms of the added tokens that are looked for in normalized text. */
static int added_normalize(struct tokenizer *tokenizer, struct error *error)
{
    for (size_t i = 0; i < tokenizer->added.count; i++) {
        struct added_token *token = &tokenizer->added.token[i];
        struct span normalized, content = {token->content, strlen(token->content)};
        if (!token->once_normalized)
            continue;
        size_t head = 0;
        int status = normalizer_apply(&tokenizer->normalizer, content, &head, &normalized, error);
        if (status)
            return status;
        if (normalized.length == content.length && memcmp(normalized.text, content.text, content.length) == 0)
            continue;
        token->normalized_content = memory_string(normalized.length ? normalized.text : "", error);
        if (!token->normalized_content)
            return STATUS_MEMORY;
    }
    return STATUS_OK;
}

static int vocabulary_load(struct tokenizer *tokenizer, const char *directory, const struct tokenizer_config *config,
                           struct error *error)
{
    char path[PATH_BYTES], merges[PATH_BYTES];
    int status = file_join(path, sizeof path, directory, "tokenizer.json", error);
    if (!status && file_exists(path))
        return tokenizer_json_load(tokenizer, path, config, error);
    if (!status)
        status = file_join(path, sizeof path, directory, "vocab.json", error);
    if (!status)
        status = file_join(merges, sizeof merges, directory, "merges.txt", error);
    if (!status && file_exists(path) && file_exists(merges))
        return tokenizer_files_load(tokenizer, path, merges, config, error);
    if (!status)
        status = file_join(path, sizeof path, directory, "tokenizer.model", error);
    if (!status && file_exists(path))
        return tokenizer_sentencepiece_load(tokenizer, path, config, error);
    if (!status)
        status = error_set(error, STATUS_INPUT, "%s: no tokenizer: expected tokenizer.json, vocab.json with "
                           "merges.txt, or tokenizer.model", directory);
    return status;
}

static int parts_load(struct tokenizer *tokenizer, const char *directory, const struct tokenizer_config *config,
                      struct error *error)
{
    int status = vocabulary_load(tokenizer, directory, config, error);
    if (!status)
        status = bpe_prepare(&tokenizer->bpe, error);
    if (!status)
        status = added_normalize(tokenizer, error);
    if (!status && (status = added_prepare(&tokenizer->added, error)))
        error_prefix(error, "%s", directory);
    if (!status && tokenizer_vocab_size(tokenizer) == 0)
        status = error_set(error, STATUS_INPUT, "%s: the tokenizer's vocabulary is empty", directory);
    return status;
}

int tokenizer_load(struct tokenizer **tokenizer, const char *directory, struct error *error)
{
    struct error local = {0};
    struct tokenizer_config config = {0};
    *tokenizer = NULL;
    if (!error)
        error = &local;
    struct tokenizer *loaded = memory_array(1, sizeof *loaded, error);
    if (!loaded)
        return STATUS_MEMORY;
    loaded->bos = loaded->eos = -1;
    int status = tokenizer_config_read(&config, directory, error);
    if (!status)
        status = tokenizer_class_find(&config, directory, error);
    if (!status)
        status = parts_load(loaded, directory, &config, error);
    tokenizer_config_free(&config);
    if (status)
        tokenizer_free(loaded);
    else
        *tokenizer = loaded;
    return status;
}
