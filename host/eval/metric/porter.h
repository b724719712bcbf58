/* porter.h - the stem of an English word, as NLTK's PorterStemmer in its default mode (NLTK_EXTENSIONS) forms it.
 *
 * Porter's own stemmer differs on one word in forty, so a Snowball "porter" gives other ROUGE values. rouge-score uses
 * NLTK's, for words of four characters or more.
 * Source: Porter 1980, "An algorithm for suffix stripping"; the extensions are NLTK 3.8.1's and 3.10.4's, which agree.
 */
#ifndef FLAT_EVAL_METRIC_PORTER_H
#define FLAT_EVAL_METRIC_PORTER_H
#include <stddef.h>

/* Replaces word[0..length) by its stem and returns the stem's length, which is never more. Letters are to be
 * lower-case; every byte that is no vowel, digits too, counts as a consonant. Time is linear in the length. */
size_t porter_stem(char *word, size_t length);

#endif
