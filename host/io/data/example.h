/* example.h - texts as ids: a prompt with its answer, a prompt alone, and running text in chunks.
 *
 * ids = encode(prompt + answer), with an end of sequence where none ends it; the targets are the ids after the first
 * len(encode(prompt)), an end of sequence that the tokenizer itself puts behind the prompt not counted. Tokens may merge
 * across the border. Longer than max_length: cut at the end. Nothing of this is silent: it is counted.
 */
#ifndef FLAT_IO_EXAMPLE_H
#define FLAT_IO_EXAMPLE_H
#include "prompt.h"

/* What was noticed, for one report per run. */
struct example_counts {
    int64_t sequences;
    int64_t cut, cut_tokens; /* at max_length */
    int64_t merged;          /* encode(prompt) is no prefix of the ids: tokens merge across the border */
    int64_t reopened;        /* what the chat template opens for an answer is not how it writes one: prompt_text.is_prefix */
    int64_t spelled;         /* what ends a turn in the chat template is no token of this tokenizer */
    int64_t doubled;         /* two beginnings of sequence: the tags have one, and the tokenizer adds one */
};

/* Appends the ids. eos ends them unless the answer is stopped by a special token; *answer_begin counts from the first
 * appended id. A text without an answer token is STATUS_INPUT. */
int example_encode(struct tokenizer *tokenizer, const struct prompt_text *text, int32_t eos, int64_t max_length,
                   struct token_list *ids, int32_t *answer_begin, struct example_counts *counts, struct error *error);
/* Appends the ids of a prompt to continue. */
int prompt_encode(struct tokenizer *tokenizer, const char *text, size_t length, bool special, struct token_list *ids,
                  struct error *error);

/* Turns each row of running text into rows of at most max_length ids that are all targets but the first: the text encoded
 * once, without special tokens, and cut into pieces with a beginning of sequence before each where the tokenizer has one. In
 * a .txt file the last of several pieces is filled up from the first, as MUSE does (DefaultDataset of muse_bench). */
int dataset_chunk(struct dataset *data, struct tokenizer *tokenizer, int64_t max_length, struct error *error);

/* Appends a chunk's ids, as example_encode does those of a text. */
int chunk_append(const struct dataset_row *row, struct token_list *ids, int32_t *answer_begin, struct example_counts *counts,
                 struct error *error);

/* Lines for the log on what was noticed, one per call in the caller's buffer of 400 bytes; NULL after the last. Start with
 * *next = 0. */
const char *example_counts_line(const struct example_counts *counts, int *next, char *line, size_t bytes);

#endif
