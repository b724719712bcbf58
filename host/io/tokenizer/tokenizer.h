/* tokenizer.h - text to ids and back, equal to AutoTokenizer of transformers 5 on the supported subset.
 *
 * Loads, in this order of preference: tokenizer.json, vocab.json + merges.txt, tokenizer.model (SentencePiece
 * BPE), as the tokenizer class reads them that tokenizer_config.json or config.json names (tokenizer_class.c), with the
 * tokens of the small files beside them (tokenizer_tokens.c). The kinds supported are the Llama-2/Mistral kind (Prepend
 * or Metaspace, BPE with byte fallback) and the byte-level kind (GPT-2, Llama-3, Qwen2, SmolLM2 pre-tokenizers through
 * PCRE2). Anything else is refused by the component's name. Where version 4 of transformers gives other ids, there is a
 * warning.
 */
#ifndef FLAT_IO_TOKENIZER_H
#define FLAT_IO_TOKENIZER_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../util/error.h"
#include "../../util/memory.h"

struct tokenizer;

/* A growing list of ids. Start with {0}; free(ids.id). */
struct token_list {
    int32_t *id;
    size_t length, capacity;
};
int token_list_append(struct token_list *ids, int32_t id, struct error *error);

/* Loads the tokenizer of a model folder. Not thread-safe to share while encoding (it keeps a cache). */
int tokenizer_load(struct tokenizer **tokenizer, const char *directory, struct error *error);
void tokenizer_free(struct tokenizer *tokenizer);

/* Appends the ids of text[0..length), which must be UTF-8 (STATUS_INPUT with the byte offset otherwise).
 * add_special: apply the post-processor (beginning-of-sequence and the like). */
int tokenizer_encode(struct tokenizer *tokenizer, const char *text, size_t length, bool add_special,
                     struct token_list *ids, struct error *error);
/* Appends the text of ids. skip_special drops tokens flagged special. Unknown ids are an error. */
int tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t count, bool skip_special,
                     struct buffer *text, struct error *error);

/* Ids from vocab_size on have no row in the model: bos and eos are none then, and a text with such a token is STATUS_INPUT. */
void tokenizer_limit(struct tokenizer *tokenizer, int64_t vocab_size);

/* Largest id + 1, added tokens included. */
int32_t tokenizer_vocab_size(const struct tokenizer *tokenizer);
/* Special ids, -1 when the files name none. */
int32_t tokenizer_bos(const struct tokenizer *tokenizer);
int32_t tokenizer_eos(const struct tokenizer *tokenizer);
/* Whether encoding with add_special puts the end of sequence behind a text. */
bool tokenizer_appends_eos(const struct tokenizer *tokenizer);
/* What a user should know of how the files were read: lines, "" when there are none. */
const char *tokenizer_warnings(const struct tokenizer *tokenizer);
/* Id of an exact token text, -1 when there is none. */
int32_t tokenizer_token_id(const struct tokenizer *tokenizer, const char *text);

#endif
