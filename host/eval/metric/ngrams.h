/* ngrams.h - the n-grams of a list of numbers, sorted, so that equal ones of every order up to four stand together. */
#ifndef FLAT_EVAL_METRIC_NGRAMS_H
#define FLAT_EVAL_METRIC_NGRAMS_H
#include <stddef.h>
#include <stdint.h>

#include "../../util/error.h"

enum { NGRAM_ORDERS = 4 };

struct ngram {
    int32_t id[NGRAM_ORDERS]; /* the four numbers from one position on; NGRAM_END after the last */
};
enum { NGRAM_END = INT32_MAX };

/* Sorts the 4-grams that begin at each of `count` positions: by the first number, then the second, and so on. The first
 * n numbers of the entries are thus sorted too, and those that hold no NGRAM_END are the n-grams of order n. ids must
 * be below NGRAM_END. *out has `count` entries; free(). O(n log n). */
int ngrams_sort(const int32_t *ids, size_t count, struct ngram **out, struct error *error);
/* <0, 0 or >0 by the first `order` numbers. */
int ngram_compare(const struct ngram *a, const struct ngram *b, int order);
/* The end of the run of entries from `begin` on that share their first `order` numbers. */
size_t ngram_run(const struct ngram *ngram, size_t count, size_t begin, int order);
/* Whether the entry is an n-gram of that order, not one cut off by the end of the text. */
static inline int ngram_is_whole(const struct ngram *ngram, int order)
{
    return ngram->id[order - 1] != NGRAM_END;
}

#endif
