/* before_after.h - what unlearning did to a model, as a small table: two logs of the suite qa side by side, example
 * answers, and what looks wrong about the second.
 */
#ifndef FLAT_EVAL_SUITE_BEFORE_AFTER_H
#define FLAT_EVAL_SUITE_BEFORE_AFTER_H
#include <stdbool.h>

#include "eval_log.h"

struct before_after {
    const struct eval_log *before, *after;
    const char *const *set; /* [sets] the sets of both logs, forget first */
    int sets;
};

/* What the table shows of a set: its metric is the set's name, an underscore and the suffix. */
struct before_after_figure {
    const char *suffix, *label;
    bool percent;
};
enum { BEFORE_AFTER_FIGURES = 7 };
extern const struct before_after_figure before_after_figure[BEFORE_AFTER_FIGURES];

/* A figure of a set; NAN where the log has none. */
double before_after_value(const struct eval_log *log, const char *set, const char *suffix);
/* The questions of a set with their answers by index, as eval_log.h has them; NULL where the log has none. */
const cJSON *before_after_rows(const struct eval_log *log, const char *set);

/* Appends the table and a few questions with both answers. */
int before_after_print(const struct before_after *logs, struct buffer *out, struct error *error);
/* What looks wrong, a line each: distributions of the next token that have collapsed onto one token or become flat outside the
 * forget set, answers that are noise to the model before (fluency.h), that repeat themselves, that are all alike or empty outside the forget set, sets
 * that refuse now, and that nothing outside the forget set was measured. */
int before_after_findings(const struct before_after *logs, struct buffer *out, struct error *error);

#endif
