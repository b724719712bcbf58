/* expression.h - regular expressions that a file of somebody else's holds, matched against short names with PCRE2. */
#ifndef FLAT_UTIL_EXPRESSION_H
#define FLAT_UTIL_EXPRESSION_H
#include <stdbool.h>

#include "error.h"

/* Whether the whole of text matches, as Python's re.fullmatch. An expression that does not compile or takes too long is
 * STATUS_INPUT, with what is wrong and without a file's name. */
int expression_matches(const char *expression, const char *text, bool *matches, struct error *error);

#endif
