/* tokenizer.c - see tokenizer.h. Encoding is the pipeline of tokenizer_internal.h, linear in the text but for BPE's n log n
 * on one long piece. Loading: tokenizer_load.c.
 */
#include "tokenizer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../util/utf8.h"
#include "tokenizer_internal.h"

int tokenizer_warn(struct tokenizer *tokenizer, struct error *error, const char *format, ...)
{
    char line[1024];
    va_list list;
    va_start(list, format);
    vsnprintf(line, sizeof line, format, list);
    va_end(list);
    if (tokenizer->warnings.data && strstr(tokenizer->warnings.data, line))
        return STATUS_OK;
    return buffer_printf(&tokenizer->warnings, error, "%s\n", line);
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
    buffer_free(&tokenizer->warnings);
    free(tokenizer);
}

/* What happens to the text between added tokens: normalization after the first search, ids after the second. */
typedef int gap_function(struct tokenizer *tokenizer, struct span text, size_t head, struct token_list *ids,
                         struct error *error);

static int added_split(struct tokenizer *tokenizer, const struct trie *trie, struct span text, size_t head,
                       gap_function *gap, struct token_list *ids, struct error *error)
{
    struct added_match match = {0};
    int status = STATUS_OK;
    while (!status && added_next(&tokenizer->added, trie, text, &match)) {
        if (match.emitted < match.start)
            status = gap(tokenizer, (struct span){text.text + match.emitted, match.start - match.emitted},
                         head > match.emitted ? head - match.emitted : 0, ids, error);
        if (!status && match.start < match.stop)
            status = token_list_append(ids, tokenizer->added.token[match.token].id, error);
        match.emitted = match.stop;
    }
    if (!status && match.emitted < text.length)
        status = gap(tokenizer, (struct span){text.text + match.emitted, text.length - match.emitted},
                     head > match.emitted ? head - match.emitted : 0, ids, error);
    return status;
}

static int normalized_gap(struct tokenizer *tokenizer, struct span text, size_t head, struct token_list *ids,
                          struct error *error)
{
    return pretokenizer_encode(&tokenizer->pretokenizer, &tokenizer->bpe, text, head, ids, error);
}

static int raw_gap(struct tokenizer *tokenizer, struct span text, size_t head, struct token_list *ids,
                   struct error *error)
{
    struct span normalized;
    int status = normalizer_apply(&tokenizer->normalizer, text, &head, &normalized, error);
    return status ? status : added_split(tokenizer, &tokenizer->added.normalized, normalized, head, normalized_gap,
                                         ids, error);
}

static int outside(const struct tokenizer *tokenizer, int32_t id, struct error *error)
{
    const int32_t index = id < tokenizer->added.limit ? tokenizer->added.index_of_id[id] : -1;
    return error_set(error, STATUS_INPUT, "the token '%.64s' has id %d, and the model's vocab_size is %d; leave it out of "
                     "the text, or give the model a row for it", index >= 0 ? tokenizer->added.token[index].content : "",
                     (int)id, (int)tokenizer->limit);
}

void tokenizer_limit(struct tokenizer *tokenizer, int64_t vocab_size)
{
    tokenizer->limit = (int32_t)vocab_size;
    tokenizer->bos = tokenizer->bos < vocab_size ? tokenizer->bos : -1;
    tokenizer->eos = tokenizer->eos < vocab_size ? tokenizer->eos : -1;
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
        status = added_split(tokenizer, &tokenizer->added.raw, (struct span){text, length},
                             length ? (size_t)utf8_length(text) : 0, raw_gap, ids, error);
    for (size_t i = 0; add_special && i < tokenizer->after.length && !status; i++)
        status = token_list_append(ids, tokenizer->after.id[i], error);
    for (size_t i = count; tokenizer->limit && i < ids->length && !status; i++)
        if (ids->id[i] >= tokenizer->limit)
            status = outside(tokenizer, ids->id[i], error);
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

const char *tokenizer_warnings(const struct tokenizer *tokenizer)
{
    return tokenizer->warnings.data ? tokenizer->warnings.data : "";
}

int32_t tokenizer_token_id(const struct tokenizer *tokenizer, const char *text)
{
    size_t length = strlen(text);
    int32_t index = vocabulary_find(&tokenizer->added.names, text, length);
    return index >= 0 ? tokenizer->added.token[index].id : vocabulary_find(&tokenizer->bpe.vocabulary, text, length);
}
