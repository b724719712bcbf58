/* bleu.h - BLEU with 13a tokens, as sacrebleu 2.6.0 computes it.
 *
 *   precision_n = 100 matches_n / total_n for n = 1..4, matches clipped per n-gram to its count in the reference
 *   brevity penalty = 1 where the hypothesis is at least as long as the reference, else exp(1 - reference / hypothesis)
 *   score = brevity penalty * exp(mean of log precision_n)      0 to 100; a perfect pair gives 100.00000000000004
 *
 * No match of any order: 0. Fewer than four words: 0 without effective order, however many match. A zero among the
 * matches is smoothed (exponentially by default). The counts of several pairs are added before the score is formed for
 * BLEU of a corpus; the Harry Potter tables take the mean over items of BLEU of one pair.
 * Source: sacrebleu's corpus_bleu with its defaults; sentence_bleu is the same with effective order.
 * Cost: linear in the text but for sorting the words and n-grams.
 */
#ifndef FLAT_EVAL_METRIC_BLEU_H
#define FLAT_EVAL_METRIC_BLEU_H
#include <stdbool.h>
#include <stdint.h>

#include "ngrams.h"
#include "words.h"

struct bleu_counts {
    int64_t matches[NGRAM_ORDERS], total[NGRAM_ORDERS];
    int64_t hypothesis_words, reference_words;
};

enum bleu_smoothing {
    BLEU_EXPONENTIAL, /* the k-th order without a match has precision 100 / (2^k total) */
    BLEU_NONE,
    BLEU_FLOOR, /* smoothing_value counts as the matches of an order that has none (0.1 there) */
    BLEU_ADD_K  /* smoothing_value is added to matches and total of orders 2 to 4 (1 there) */
};
struct bleu_options {
    enum bleu_smoothing smoothing;
    double smoothing_value;
    bool effective_order; /* the mean is over the orders that the hypothesis is long enough for */
};

/* The 13a tokens of a line (its case is kept; text_lower first for the lower-case form). Start with {0}; words_free,
 * after a failure too. Any bytes are accepted. */
int bleu_words(struct word_list *list, const char *text, size_t length, struct error *error);
/* Adds the counts of one pair to *counts (start with {0}). */
int bleu_count(const char *hypothesis, size_t hypothesis_length, const char *reference, size_t reference_length,
               struct bleu_counts *counts, struct error *error);
/* The score of counts; options NULL: corpus_bleu's defaults. precision (may be NULL) gets the four precisions. */
double bleu_score(const struct bleu_counts *counts, const struct bleu_options *options, double *precision);

#endif
