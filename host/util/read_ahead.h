/* read_ahead.h - items made in order by a thread of their own, one ahead of who takes them: what is read from a disk and
 * what is done with it take the time of the slower of the two, not of both.
 */
#ifndef FLAT_UTIL_READ_AHEAD_H
#define FLAT_UTIL_READ_AHEAD_H
#include <stddef.h>
#include <stdint.h>

#include "error.h"

struct read_ahead;

/* Makes item `index` in a buffer; called for 0, 1, 2, .. on another thread. After a failure it is not called again. */
typedef int (*read_ahead_fill)(void *user, int64_t index, void *buffer, struct error *error);

/* Begins with the first of `items`, each at most `bytes` long; allocates two of them. */
int read_ahead_open(struct read_ahead **reader, int64_t items, size_t bytes, read_ahead_fill fill, void *user,
                    struct error *error);
/* The next item, which stays until the next call; a failure of fill arrives with the item that it failed on. Not to be
 * called more than `items` times. */
int read_ahead_next(struct read_ahead *reader, const void **buffer, struct error *error);
/* Waits for the item at hand, if any, and leaves out the rest. NULL is allowed. */
void read_ahead_close(struct read_ahead *reader);

#endif
