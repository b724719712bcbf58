/* before_after.h - what unlearning did to a model, as a small table: two logs of the suite qa side by side, example
 * answers, and what looks wrong about the second.
 */
#ifndef FLAT_EVAL_SUITE_BEFORE_AFTER_H
#define FLAT_EVAL_SUITE_BEFORE_AFTER_H
#include "eval_log.h"

struct before_after {
    const struct eval_log *before, *after;
    const char *const *set; /* [sets] the sets of both logs, forget first */
    int sets;
};

/* Appends the table and a few questions with both answers. */
int before_after_print(const struct before_after *logs, struct buffer *out, struct error *error);
/* Warnings, one line each: answers that repeat themselves, that are all alike or empty outside the forget set, sets that
 * refuse now, and that nothing outside the forget set was measured. */
void before_after_warn(const struct before_after *logs, struct log *messages);

#endif
