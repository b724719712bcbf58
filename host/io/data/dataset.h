/* dataset.h - rows of prompts and answers from JSON lines or a JSON array; template answers; prompt templates. */
#ifndef FLAT_IO_DATASET_H
#define FLAT_IO_DATASET_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../util/options.h"

struct dataset_row {
    char *question, *answer;
    int line; /* 1-based line of the file (JSON lines) or element (array) */
};
struct dataset {
    char *path;
    int rows;
    struct dataset_row *row;
};

/* Keys of a row. */
struct dataset_options {
    const char *question_key, *answer_key;
};
extern const struct option_group dataset_option_group;

/* Reads {question_key: text, answer_key: text, ...} rows; other keys are ignored. The format is told by the first
 * non-blank byte: '[' is an array, anything else JSON lines. Blank lines are skipped, texts are kept as they are.
 * Errors name path, line and key; an empty text or an empty file is one. */
int dataset_read(struct dataset *data, const char *path, const char *question_key, const char *answer_key,
                 struct error *error);
void dataset_free(struct dataset *data);

/* A list of answers: .txt (one a line), .csv (first column, RFC 4180 quotes, no header handling unless
 * the first cell is "answer", "response" or "Refusal Response"), .jsonl/.json (strings, objects with "answer",
 * or an array of either; a file of plain lines under these names, as TOFU's idontknow.jsonl, is read as text).
 * Plain lines lose the space around them; blank ones are skipped. All files: UTF-8, with or without a byte-order
 * mark, LF or CRLF. An empty list is an error. */
struct answer_list {
    int count;
    char **text;
};
int answer_list_read(struct answer_list *list, const char *path, struct error *error);
void answer_list_free(struct answer_list *list);

/* How a question and an answer become one text: user_start question user_end answer_start answer answer_end. The
 * prompt proper (what is not a target) is everything before the answer, except that one trailing space of
 * answer_start (of user_end when answer_start is empty) belongs to the answer: tokenizers join a space to the word
 * after it, so a prompt that ended in one would not be a prefix of the whole. */
struct prompt_template {
    const char *name;
    const char *user_start, *user_end, *answer_start, *answer_end;
};
/* "llama2_chat", "llama3_chat", "phi", "qa", "plain"; NULL when unknown. */
const struct prompt_template *prompt_template_find(const char *name);
/* Names for messages: "llama2_chat, llama3_chat, phi, qa, plain". */
const char *prompt_template_names(void);
/* The template that was chosen, by its place in the list of names, or PROMPT_CUSTOM tags. */
struct prompt_options {
    int prompt_template;
    const char *user_start, *user_end, *answer_start, *answer_end;
};
extern const struct option_group prompt_option_group;
struct prompt_template prompt_template_chosen(const struct prompt_options *options);

/* New strings (free) for the part before the answer and for prompt + answer. */
int prompt_template_apply(const struct prompt_template *template_, const char *question, const char *answer,
                          char **prompt, char **full, struct error *error);

/* Which of `count` template answers goes with a row: random is a counter-based function of (seed, epoch,
 * row), cycle is (row + epoch) mod count, fixed is 0. count must be positive. */
enum template_choice { TEMPLATE_RANDOM, TEMPLATE_CYCLE, TEMPLATE_FIXED };
enum template_every { TEMPLATE_EVERY_EPOCH, TEMPLATE_EVERY_RUN };
struct template_options {
    const char *file; /* "" when not given */
    enum template_choice choice;
    enum template_every every; /* when a row gets a new one */
};
extern const struct option_group template_option_group;
int template_pick(enum template_choice choice, uint64_t seed, int epoch, int64_t row, int count);

#endif
