/* progress.h - how far a loop is: on a terminal one line that is redrawn, in a pipe a plain line every few steps.
 *
 *   unlearn  12/40  30%  loss 0.3332  P(template) 0.0500  P(forget) 0.9000  1.2k tok/s  ETA 0:42
 *
 * What does not fit the terminal's width is left out, from the last metric on; the time left always stays.
 */
#ifndef FLAT_UTIL_PROGRESS_H
#define FLAT_UTIL_PROGRESS_H
#include <stddef.h>
#include <stdint.h>

#include "log.h"

struct progress_metric {
    const char *name; /* before the value; NULL when the unit says it all */
    double value;
    const char *unit; /* behind the value; NULL for none */
};

struct progress {
    struct log *log;
    const char *label;
    int64_t total, every;
    int64_t first;         /* steps that were done before this process */
    double started, drawn; /* clock_seconds */
    char line[512];        /* the last line, to be finished by progress_end */
};

/* first: steps done already (a resumed run), 0 else; every: steps between two lines of a pipe. log and label must
 * outlive the progress. Nothing is printed when the log is quiet. */
void progress_begin(struct progress *progress, struct log *log, const char *label, int64_t first, int64_t total,
                    int64_t every);
/* step: steps done now, 1..total. */
void progress_step(struct progress *progress, int64_t step, const struct progress_metric *metric, size_t count);
/* Leaves the last line standing. */
void progress_end(struct progress *progress);

#endif
