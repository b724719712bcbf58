/* partial.h - what an evaluation has measured so far, as lines of a file, so that one that was interrupted goes on.
 *
 * The first line names what is evaluated, by checksum: {"evaluation": "..."}. Every further line is a piece of work done,
 * flushed when it is. A line that was cut off is dropped. A file of another evaluation is begun anew.
 */
#ifndef FLAT_EVAL_PARTIAL_H
#define FLAT_EVAL_PARTIAL_H
#include <stdint.h>
#include <stdio.h>

#include "../util/log.h"
#include "../util/memory.h"

struct partial {
    char path[4096];
    FILE *file;
};

/* Calls line() with each whole line of a file of the same evaluation. */
typedef int (*partial_line)(void *user, const char *text, size_t length, struct error *error);
int partial_open(struct partial *partial, const char *path, uint64_t evaluation, partial_line line, void *user,
                 struct log *log, struct error *error);
int partial_add(struct partial *partial, const char *text, size_t length, struct error *error);
/* done: the results are written elsewhere, and the file is removed. */
void partial_close(struct partial *partial, bool done);

#endif
