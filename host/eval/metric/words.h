/* words.h - texts as lists of numbered words, which ROUGE, BLEU and the repetition figures compare.
 *
 * Any bytes are accepted: invalid UTF-8, NUL, nothing at all. A text has at most 2^31 - 1 bytes (STATUS_INPUT beyond).
 */
#ifndef FLAT_EVAL_METRIC_WORDS_H
#define FLAT_EVAL_METRIC_WORDS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../util/error.h"

struct word {
    const char *text; /* not zero-terminated; within the list's bytes */
    size_t length;
};
struct word_list {
    size_t count, capacity;
    struct word *word;
    int32_t *id; /* [count], after words_number */
    char *bytes; /* what the words point into; the list's own */
};

/* rouge-score's tokens: lower-cased as Python does, split at every run of characters outside a-z and 0-9; with `stem`,
 * tokens of four characters or more go through porter_stem. Start with {0}; words_free, after a failure too. */
int words_of_rouge(struct word_list *list, const char *text, size_t length, bool stem, struct error *error);

/* Appends a word to a list whose `bytes` are set. */
int words_append(struct word_list *list, const char *text, size_t length, struct error *error);

/* Fills the ids of `lists` lists: equal words, in whichever list, have equal numbers from 0 to *distinct - 1.
 * O(n log n) in the number of words. */
int words_number(struct word_list *const *list, int lists, int32_t *distinct, struct error *error);

/* STATUS_INPUT when a text is longer than a metric takes. */
int words_check_length(size_t length, struct error *error);

void words_free(struct word_list *list);

#endif
