/* lower.h - lower case as Python's str.lower: BLEU's lower-case form and MUSE's loss of the lower-cased text need
 * it. */
#ifndef FLAT_EVAL_METRIC_LOWER_H
#define FLAT_EVAL_METRIC_LOWER_H
#include "../../util/memory.h"

/* Appends the lower-cased text to *out. One character may become two (a capital I with a dot), and a capital sigma
 * becomes a final one at the end of a word. Bytes that are no valid UTF-8 stay as they are. */
int text_lower(const char *text, size_t length, struct buffer *out, struct error *error);

#endif
