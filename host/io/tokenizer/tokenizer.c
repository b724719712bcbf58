/* tokenizer.c - see tokenizer.h. Loading picks the reader by the files that are there; encoding is the pipeline of
 * tokenizer_internal.h. Linear in the text but for BPE's n log n on one long piece.
 */
#include "tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "../../util/file.h"
#include "../../util/utf8.h"
#include "tokenizer_internal.h"

enum { PATH_BYTES = 4096 };

/* The normalized forms of the added tokens that are looked for in normalized text. */
static int added_normalize(struct tokenizer *tokenizer, struct error *error)
{
    for (size_t i = 0; i < tokenizer->added.count; i++) {
        struct added_token *token = &tokenizer->added.token[i];
        struct span normalized, content = {token->content, strlen(token->content)};
        if (!token->normalized)
            continue;
        int status = normalizer_apply(&tokenizer->normalizer, content, &normalized, error);
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

/* The id of a token that the small files name, or else of the first known name that there is. */
static int special_find(const struct tokenizer *tokenizer, const struct tokenizer_config *config, const char *key,
                        const char *const *known, int32_t *id, struct error *error)
{
    const char *text;
    bool stated;
    *id = -1;
    int status = tokenizer_config_special(config, key, &text, &stated, error);
    if (status)
        return status;
    if (text) {
        *id = tokenizer_token_id(tokenizer, text);
        if (*id < 0)
            return error_set(error, STATUS_INPUT, "%s: %s '%.64s' is not in the vocabulary", config->path, key, text);
    }
    for (size_t i = 0; !stated && *id < 0 && known[i]; i++)
        *id = tokenizer_token_id(tokenizer, known[i]);
    return STATUS_OK;
}

/* Without a post-processor of its own, a text gets what the add_ flags say. */
static int template_make(struct tokenizer *tokenizer, const struct tokenizer_config *config, bool add_bos,
                         struct error *error)
{
    bool add_eos = false;
    int status = tokenizer_config_flag(config, "add_bos_token", &add_bos, error);
    if (!status)
        status = tokenizer_config_flag(config, "add_eos_token", &add_eos, error);
    if (!status && ((add_bos && tokenizer->bos < 0) || (add_eos && tokenizer->eos < 0)))
        return error_set(error, STATUS_INPUT, "%s: %s is on, but there is no such token", config->path,
                         add_bos && tokenizer->bos < 0 ? "add_bos_token" : "add_eos_token");
    if (!status && add_bos)
        status = token_list_append(&tokenizer->before, tokenizer->bos, error);
    if (!status && add_eos)
        status = token_list_append(&tokenizer->after, tokenizer->eos, error);
    return status;
}

/* Reads the vocabulary. *templated: the file says what goes around a text; *add_bos: the default otherwise. */
static int vocabulary_load(struct tokenizer *tokenizer, const char *directory, const struct tokenizer_config *config,
                           bool *templated, bool *add_bos, struct error *error)
{
    char path[PATH_BYTES], merges[PATH_BYTES];
    int status = file_join(path, sizeof path, directory, "tokenizer.json", error);
    if (!status && file_exists(path))
        return tokenizer_json_load(tokenizer, path, templated, error);
    if (!status)
        status = file_join(path, sizeof path, directory, "vocab.json", error);
    if (!status)
        status = file_join(merges, sizeof merges, directory, "merges.txt", error);
    if (!status && file_exists(path) && file_exists(merges))
        return tokenizer_files_load(tokenizer, path, merges, config, error);
    if (!status)
        status = file_join(path, sizeof path, directory, "tokenizer.model", error);
    if (!status && file_exists(path)) {
        *add_bos = true;
        return tokenizer_sentencepiece_load(tokenizer, path, config, error);
    }
    if (!status)
        status = error_set(error, STATUS_INPUT, "%s: no tokenizer: expected tokenizer.json, vocab.json with "
                           "merges.txt, or tokenizer.model", directory);
    return status;
}

static int parts_load(struct tokenizer *tokenizer, const char *directory, const struct tokenizer_config *config,
                      struct error *error)
{
    static const char *const bos[] = {"<s>", "<|begin_of_text|>", "<|endoftext|>", NULL};
    static const char *const eos[] = {"</s>", "<|end_of_text|>", "<|endoftext|>", "<|im_end|>", NULL};
    bool templated = false, add_bos = false;
    int status = vocabulary_load(tokenizer, directory, config, &templated, &add_bos, error);
    if (!status)
        status = bpe_prepare(&tokenizer->bpe, error);
    if (!status)
        status = added_normalize(tokenizer, error);
    if (!status && (status = added_prepare(&tokenizer->added, error)))
        error_prefix(error, "%s", directory);
    if (!status && tokenizer_vocab_size(tokenizer) == 0)
        status = error_set(error, STATUS_INPUT, "%s: the tokenizer's vocabulary is empty", directory);
    if (!status)
        status = special_find(tokenizer, config, "bos_token", bos, &tokenizer->bos, error);
    if (!status)
        status = special_find(tokenizer, config, "eos_token", eos, &tokenizer->eos, error);
    if (!status && !templated)
        status = template_make(tokenizer, config, add_bos, error);
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
    int status = tokenizer_config_read(&config, directory, error);
    if (!status)
        status = parts_load(loaded, directory, &config, error);
    tokenizer_config_free(&config);
    if (status)
        tokenizer_free(loaded);
    else
        *tokenizer = loaded;
    return status;
}

void tokenizer_free(struct tokenizer *tokenizer)
{
    if (!tokenizer)
        return;
    bpe_free(&tokenizer->bpe);
    added_free(&tokenizer->added);
    normalizer_free(&tokenizer->normalizer);
    pretokenizer_free(&tokenizer->pretokenizer);
    decoder_free(&tokenizer->decoder);
    free(tokenizer->before.id);
    free(tokenizer->after.id);
    free(tokenizer);
}

/* What happens to the text between added tokens: normalization after the first search, ids after the second. */
typedef int gap_function(struct tokenizer *tokenizer, struct span text, bool at_start, struct token_list *ids,
                         struct error *error);

static int added_split(struct tokenizer *tokenizer, const struct trie *trie, struct span text, bool at_start,
                       gap_function *gap, struct token_list *ids, struct error *error)
{
    struct added_match match = {0};
    int status = STATUS_OK;
    while (!status && added_next(&tokenizer->added, trie, text, &match)) {
        if (match.emitted < match.start)
            status = gap(tokenizer, (struct span){text.text + match.emitted, match.start - match.emitted},
                         at_start && match.emitted == 0, ids, error);
        if (!status)
            status = token_list_append(ids, tokenizer->added.token[match.token].id, error);
        match.emitted = match.stop;
    }
    if (!status && match.emitted < text.length)
        status = gap(tokenizer, (struct span){text.text + match.emitted, text.length - match.emitted},
                     at_start && match.emitted == 0, ids, error);
    return status;
}

static int normalized_gap(struct tokenizer *tokenizer, struct span text, bool at_start, struct token_list *ids,
                          struct error *error)
{
    return pretokenizer_encode(&tokenizer->pretokenizer, &tokenizer->bpe, text, at_start, ids, error);
}

static int raw_gap(struct tokenizer *tokenizer, struct span text, bool at_start, struct token_list *ids,
                   struct error *error)
{
    struct span normalized;
    int status = normalizer_apply(&tokenizer->normalizer, text, &normalized, error);
    return status ? status : added_split(tokenizer, &tokenizer->added.normalized, normalized, at_start, normalized_gap,
                                         ids, error);
}

int tokenizer_encode(struct tokenizer *tokenizer, const char *text, size_t length, bool add_special,
                     struct token_list *ids, struct error *error)
{
    size_t bad, count = ids->length;
    if (!utf8_valid(text, length, &bad))
        return error_set(error, STATUS_INPUT, "the text is not UTF-8 at byte %zu", bad);
    int status = STATUS_OK;
    for (size_t i = 0; add_special && i < tokenizer->before.length && !status; i++)
        status = token_list_append(ids, tokenizer->before.id[i], error);
    if (!status)
        status = added_split(tokenizer, &tokenizer->added.raw, (struct span){text, length}, true, raw_gap, ids, error);
    for (size_t i = 0; add_special && i < tokenizer->after.length && !status; i++)
        status = token_list_append(ids, tokenizer->after.id[i], error);
    if (status)
        ids->length = count;
    return status;
}

int32_t tokenizer_bos(const struct tokenizer *tokenizer)
{
    return tokenizer->bos;
}

int32_t tokenizer_eos(const struct tokenizer *tokenizer)
{
    return tokenizer->eos;
}

bool tokenizer_appends_eos(const struct tokenizer *tokenizer)
{
    const struct token_list *after = &tokenizer->after;
    return after->length && after->id[after->length - 1] == tokenizer->eos;
}

int32_t tokenizer_token_id(const struct tokenizer *tokenizer, const char *text)
{
    size_t length = strlen(text);
    int32_t index = vocabulary_find(&tokenizer->added.names, text, length);
    return index >= 0 ? tokenizer->added.token[index].id : vocabulary_find(&tokenizer->bpe.vocabulary, text, length);
}
