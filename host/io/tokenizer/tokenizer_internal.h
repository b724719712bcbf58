/* tokenizer_internal.h - the parts a tokenizer is made of, shared by this folder only.
 *
 * The pipeline is Hugging Face's: added tokens cut out of the raw text -> normalizer -> added tokens cut out of
 * the normalized text -> pre-tokenizer steps -> BPE -> template; and decoder steps the other way. Where their
 * Rust code has a peculiarity that changes ids, the comment beside ours says so.
 */
#ifndef FLAT_IO_TOKENIZER_INTERNAL_H
#define FLAT_IO_TOKENIZER_INTERNAL_H
#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../util/error.h"
#include "../../util/memory.h"
#include "tokenizer.h"

enum {
    TOKEN_ID_LIMIT = 1 << 24, /* ids at or above this are refused: no vocabulary comes near */
    CHARACTER_BYTES = 5       /* one UTF-8 character and a zero */
};

/* Bytes that belong to somebody else. */
struct span {
    const char *text;
    size_t length;
};

/* ---- vocabulary: text <-> id (tokenizer_vocabulary.c) ---- */

struct vocabulary_entry {
    size_t start;
    uint32_t length;
    bool present;
};

struct vocabulary {
    struct buffer text;             /* all tokens back to back */
    struct vocabulary_entry *entry; /* by id */
    size_t entry_capacity;
    int32_t limit; /* largest id + 1 */
    size_t count;
    int32_t *slot; /* open addressing, -1 empty */
    size_t slot_count;
};

uint64_t hash_bytes(const char *text, size_t length);
/* STATUS_INPUT for an id outside [0, TOKEN_ID_LIMIT), a text or an id that is there already. */
int vocabulary_add(struct vocabulary *vocabulary, struct span text, int64_t id, struct error *error);
int32_t vocabulary_find(const struct vocabulary *vocabulary, const char *text, size_t length); /* -1: none */
bool vocabulary_has(const struct vocabulary *vocabulary, int32_t id);
struct span vocabulary_text(const struct vocabulary *vocabulary, int32_t id); /* of an id that is there */
void vocabulary_free(struct vocabulary *vocabulary);

/* ---- BPE model (tokenizer_bpe.c, tokenizer_cache.c) ---- */

struct merge {
    uint64_t pair; /* left id << 32 | right id; UINT64_MAX empty */
    uint32_t rank;
    int32_t id; /* of the result */
};

struct symbol {
    int32_t id; /* -1: merged into the one before */
    int32_t previous, next;
};

struct candidate {
    uint64_t order; /* rank << 32 | position */
    int32_t id;
};

/* Ids of short pieces met before; emptied when full, so its size is bounded. */
struct piece_cache {
    uint32_t *slot; /* entry + 1, 0 empty */
    struct piece_cache_entry *entry;
    size_t entry_count;
    struct buffer text;
    struct token_list ids;
};

struct bpe {
    struct vocabulary vocabulary;
    struct merge *merge; /* open addressing */
    size_t merge_slots, merge_count;
    char *unk_token; /* NULL: characters outside the vocabulary are dropped */
    int32_t unk_id;  /* -1: unk_token is not in the vocabulary */
    bool fuse_unk, byte_fallback, ignore_merges;
    int32_t byte_token[256]; /* <0xHH>, -1 when absent */
    struct symbol *symbol;   /* scratch of one piece */
    size_t symbol_count, symbol_capacity;
    struct candidate *heap;
    size_t heap_count, heap_capacity;
    struct piece_cache cache;
};

/* Adds merge number `rank`. STATUS_INPUT when a part or the result is not in the vocabulary. */
int bpe_add_merge(struct bpe *bpe, struct span left, struct span right, size_t rank, struct error *error);
/* Call once when vocabulary, merges and flags are complete. */
int bpe_prepare(struct bpe *bpe, struct error *error);
/* Appends the ids of one piece (valid UTF-8). */
int bpe_encode(struct bpe *bpe, struct span piece, struct token_list *ids, struct error *error);
void bpe_free(struct bpe *bpe);

int piece_cache_prepare(struct piece_cache *cache, struct error *error);
/* The ids kept for a piece: true with *ids and *count. */
bool piece_cache_find(const struct piece_cache *cache, struct span piece, const int32_t **ids, size_t *count);
/* Keeps ids[0..count) for a piece that was not found; long pieces are not kept. */
int piece_cache_add(struct piece_cache *cache, struct span piece, const int32_t *ids, size_t count,
                    struct error *error);
void piece_cache_free(struct piece_cache *cache);

/* ---- added tokens (tokenizer_added.c) ---- */

struct added_token {
    char *content;
    char *normalized_content; /* of a token that is or was normalized, when it differs; else NULL */
    int32_t id;
    bool single_word, lstrip, rstrip, normalized, special;
    bool once_normalized; /* in this or in an earlier form: it is decoded to its normalized text, as in the reference */
};

struct trie_node {
    unsigned char byte;
    int32_t child, sibling; /* -1: none */
    int32_t token;          /* index of the added token that ends here, -1: none */
};

struct trie {
    struct trie_node *node;
    size_t count, capacity;
    int32_t root[256]; /* -1: no token begins with this byte */
};

struct added_vocabulary {
    struct added_token *token;
    size_t count, capacity;
    struct vocabulary names;      /* content -> index */
    struct trie raw, normalized;  /* tokens to be found in raw and in normalized text */
    int32_t *index_of_id;         /* -1: not an added token */
    bool split_special;           /* special tokens in a text are text */
    int32_t limit;                /* largest id + 1 */
};

/* Adds a token as tokenizers.add_tokens does: its id, *given, is the model's id of that text, else the next free one; one
 * that is there gets the new flags. Copies *token's content, which must not be empty. */
int added_add(struct added_vocabulary *added, const struct vocabulary *vocabulary, const struct added_token *token,
              int32_t *given, struct error *error);
/* Call once after the last token, when normalized_content is set. */
int added_prepare(struct added_vocabulary *added, struct error *error);

/* The search for added tokens in one text; begin with {0}. */
struct added_match {
    size_t start, stop; /* the token with the whitespace it swallows */
    int32_t token;      /* index */
    size_t position;    /* where the search goes on */
    size_t emitted;     /* end of what the caller has used */
};
bool added_next(const struct added_vocabulary *added, const struct trie *trie, struct span text,
                struct added_match *match);
void added_free(struct added_vocabulary *added);

/* ---- patterns (tokenizer_regex.c) ---- */

/* A regular expression of the file, written for Oniguruma (Ruby syntax), run by PCRE2; or a literal string. */
struct pattern {
    char *literal;
    void *code, *match_data, *match_context, *jit_stack; /* pcre2 objects */
    bool jit;
};

/* STATUS_INPUT for an invalid expression or one whose meaning differs between the two engines. */
int pattern_compile_regex(struct pattern *pattern, const char *expression, struct error *error);
int pattern_compile_literal(struct pattern *pattern, const char *literal, struct error *error);
/* First match at or after `from`: *found, *start, *stop. */
int pattern_search(const struct pattern *pattern, struct span text, size_t from, bool *found, size_t *start,
                   size_t *stop, struct error *error);
void pattern_free(struct pattern *pattern);

/* ---- normalizer (tokenizer_normalize.c) ---- */

enum normalizer_kind { NORMALIZER_NFC, NORMALIZER_PREPEND, NORMALIZER_REPLACE };

struct normalizer_step {
    enum normalizer_kind kind;
    struct pattern pattern; /* Replace */
    char *content;          /* Replace, Prepend */
};

struct normalizer {
    struct normalizer_step *step;
    size_t count, capacity;
    struct buffer scratch[2];
};

/* Adds a step and returns it with no pattern yet; NULL when memory ran out. */
struct normalizer_step *normalizer_add(struct normalizer *normalizer, enum normalizer_kind kind, const char *content,
                                       struct error *error);
/* *out belongs to the normalizer (or is the input) and lasts until the next call. *head, in and out: how many bytes at
 * the front stem from the first character of the user's text (0: text begins later in it). */
int normalizer_apply(struct normalizer *normalizer, struct span text, size_t *head, struct span *out,
                     struct error *error);
void normalizer_free(struct normalizer *normalizer);
/* Appends text with every occurrence of pattern (not empty) replaced by content. */
int text_replace(struct span text, const char *pattern, const char *content, struct buffer *out, struct error *error);

/* ---- pre-tokenizer (tokenizer_split.c) ---- */

enum split_behavior {
    SPLIT_REMOVED,
    SPLIT_ISOLATED,
    SPLIT_MERGED_WITH_PREVIOUS,
    SPLIT_MERGED_WITH_NEXT,
    SPLIT_CONTIGUOUS
};

enum prepend_scheme { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER };

enum pretokenizer_kind { PRETOKENIZER_SPLIT, PRETOKENIZER_DIGITS, PRETOKENIZER_BYTE_LEVEL, PRETOKENIZER_METASPACE };

struct pretokenizer_step {
    enum pretokenizer_kind kind;
    struct pattern pattern; /* Split; ByteLevel with use_regex */
    enum split_behavior behavior;
    bool invert;                       /* Split: the pattern finds what lies between */
    bool add_prefix_space, use_regex;  /* ByteLevel */
    char replacement[CHARACTER_BYTES]; /* Metaspace */
    enum prepend_scheme prepend_scheme;
    bool split;
    struct buffer scratch;
};

struct pretokenizer {
    struct pretokenizer_step *step;
    size_t count, capacity;
};

/* The GPT-2 expression that ByteLevel applies with use_regex, and the Qwen2 one. */
extern const char gpt2_expression[], qwen2_expression[];
/* Adds a step and returns it zeroed, to be filled; NULL when memory ran out. */
struct pretokenizer_step *pretokenizer_add(struct pretokenizer *pretokenizer, enum pretokenizer_kind kind,
                                           struct error *error);
/* Splits text and appends the ids of every piece. head: as normalizer_apply leaves it; a piece that begins in there is
 * at the start of the user's text. */
int pretokenizer_encode(struct pretokenizer *pretokenizer, struct bpe *bpe, struct span text, size_t head,
                        struct token_list *ids, struct error *error);
void pretokenizer_free(struct pretokenizer *pretokenizer);
/* The character that stands for a byte in byte-level vocabularies, and back (-1: none). */
uint32_t byte_level_character(unsigned char byte);
int byte_level_byte(uint32_t character);

/* ---- decoder (tokenizer_decode.c) ---- */

enum decoder_kind {
    DECODER_BYTE_LEVEL,
    DECODER_BYTE_FALLBACK,
    DECODER_FUSE,
    DECODER_STRIP,
    DECODER_REPLACE,
    DECODER_METASPACE
};

struct decoder_step {
    enum decoder_kind kind;
    char *pattern, *content;           /* Replace */
    char character[CHARACTER_BYTES];   /* Strip: what is cut; Metaspace: what becomes a space */
    size_t start, stop;                /* Strip: how many at each end, at most */
    enum prepend_scheme prepend_scheme; /* Metaspace */
};

struct decoder {
    bool present; /* without a decoder the tokens are joined by spaces */
    struct decoder_step *step;
    size_t count, capacity;
};

struct decoder_step *decoder_add(struct decoder *decoder, enum decoder_kind kind, struct error *error);
void decoder_free(struct decoder *decoder);

/* ---- the whole ---- */

struct tokenizer {
    struct bpe bpe;
    struct added_vocabulary added;
    struct normalizer normalizer;
    struct pretokenizer pretokenizer;
    struct decoder decoder;
    struct token_list before, after; /* what the post-processor puts around a text */
    int32_t bos, eos;
    int32_t limit;          /* ids from here on have no row in the model; 0: not known */
    struct buffer warnings; /* lines */
};

/* ---- the small files (tokenizer_config.c, tokenizer_class.c, tokenizer_tokens.c) ---- */

/* The classes of transformers 5 that bring a pipeline of their own. CLASS_FILE: tokenizer.json's. */
enum tokenizer_class { CLASS_FILE, CLASS_LLAMA, CLASS_GPT2, CLASS_CODEGEN, CLASS_QWEN2 };

/* What the small files beside the vocabulary say. The trees are NULL when there is no such file. */
struct tokenizer_config {
    char path[4096];       /* of tokenizer_config.json, for messages */
    cJSON *tree;           /* tokenizer_config.json */
    cJSON *special_tokens; /* special_tokens_map.json */
    cJSON *added_tokens;   /* added_tokens.json */
    cJSON *model;          /* config.json; NULL too when it is not valid */
    enum tokenizer_class class;
    const char *class_name; /* as a file has it, borrowed; NULL: none */
    bool class_stated;      /* a class or a model_type is given */
    bool class_known;       /* false: a class that may be more than tokenizer.json */
};
int tokenizer_config_read(struct tokenizer_config *config, const char *directory, struct error *error);
void tokenizer_config_free(struct tokenizer_config *config);
int tokenizer_config_flag(const struct tokenizer_config *config, const char *key, bool *value, struct error *error);

/* Fills class and what is about it, as AutoTokenizer chooses. */
int tokenizer_class_find(struct tokenizer_config *config, const char *directory, struct error *error);
const char *tokenizer_class_name(enum tokenizer_class class);
/* The class's own "bos_token" and the like, NULL: none. */
const char *tokenizer_class_token(enum tokenizer_class class, const char *key);
/* The class's normalizer, pre_tokenizer and decoder, spelt as in tokenizer.json. cJSON_Delete. */
int tokenizer_class_components(const struct tokenizer_config *config, cJSON **components, struct error *error);
/* Whether a tokenizer.json would split texts otherwise than the class does. */
bool tokenizer_class_differs(const cJSON *file, const cJSON *components);

/* Tokens that come with a vocabulary: the added_tokens of tokenizer.json, or a SentencePiece model's control and
 * user-defined pieces and its names for bos, eos and unk. All NULL: none. */
struct vocabulary_tokens {
    const cJSON *file;
    const struct added_token *piece;
    size_t pieces;
    const char *bos, *eos, *unk;
    bool raw; /* tokens of added_tokens_decoder are found in the raw text, whatever they say */
};
/* Adds all tokens that the files name, in transformers' order with its flags, and finds bos and eos. */
int tokenizer_tokens_add(struct tokenizer *tokenizer, const struct tokenizer_config *config,
                         const struct vocabulary_tokens *own, struct error *error);

/* Appends a line to the tokenizer's warnings unless it stands there. */
int tokenizer_warn(struct tokenizer *tokenizer, struct error *error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- the three forms of a vocabulary, each with its tokens and what goes around a text ---- */

int tokenizer_json_load(struct tokenizer *tokenizer, const char *path, const struct tokenizer_config *config,
                        struct error *error);
int tokenizer_files_load(struct tokenizer *tokenizer, const char *vocabulary_path, const char *merges_path,
                         const struct tokenizer_config *config, struct error *error);
/* tokenizer.model of SentencePiece, BPE kind. */
int tokenizer_sentencepiece_load(struct tokenizer *tokenizer, const char *path, const struct tokenizer_config *config,
                                 struct error *error);
/* Normalizer, pre_tokenizer and decoder of the class. */
int tokenizer_pipeline_make(struct tokenizer *tokenizer, const struct tokenizer_config *config, struct error *error);
/* Without a post-processor, a text gets what add_bos_token and add_eos_token say. */
int tokenizer_template_make(struct tokenizer *tokenizer, const struct tokenizer_config *config, struct error *error);

#endif
