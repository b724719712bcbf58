/* perplexity.c - see perplexity.h. */
#include "perplexity.h"

#include <math.h>

#include "spaces.h"

double perplexity(double logprob_sum, size_t count)
{
    return count ? exp(-logprob_sum / (double)count) : NAN;
}

size_t perplexity_words(const char *text, size_t length)
{
    size_t pieces = 1;
    bool in_run = false;
    for (size_t at = 0; at < length;) {
        size_t space = space_at(text + at, length - at);
        pieces += space && !in_run;
        in_run = space > 0;
        at += space ? space : 1;
    }
    return pieces;
}
