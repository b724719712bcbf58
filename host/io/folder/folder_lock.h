/* folder_lock.h - one writer per folder: a file .lock in it, locked by flock. A process that ends, however it ends, holds
 * nothing any more.
 */
#ifndef FLAT_IO_FOLDER_LOCK_H
#define FLAT_IO_FOLDER_LOCK_H
#include <stdbool.h>

#include "../../util/error.h"

struct folder_lock {
    int fd;               /* of .lock; -1: none */
    char directory[4096];
    bool is_unsupported;  /* the file system has no locks: nothing is held, and nobody is kept out */
};

/* STATUS_USAGE with the holder's name when another process has it. */
int folder_lock_take(struct folder_lock *lock, const char *directory, struct error *error);
/* Removes .lock and lets go. Safe on a lock that was not taken, {.fd = -1}, and twice. */
void folder_lock_release(struct folder_lock *lock);

#endif
