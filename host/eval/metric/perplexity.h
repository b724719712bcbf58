/* perplexity.h - exp of the mean negative log-prob.
 *
 *   per token   exp(-sum of logprob / tokens)
 *   per word    exp(-sum of logprob / words), lm-evaluation-harness's word_perplexity; words of the original text
 */
#ifndef FLAT_EVAL_METRIC_PERPLEXITY_H
#define FLAT_EVAL_METRIC_PERPLEXITY_H
#include <stddef.h>

/* count: tokens or words; NAN for 0. */
double perplexity(double logprob_sum, size_t count);
/* Words as lm-evaluation-harness counts them: pieces of a split at runs of white space, empty first and last pieces
 * included, so the empty text has one. Any bytes are accepted. O(n). */
size_t perplexity_words(const char *text, size_t length);

#endif
