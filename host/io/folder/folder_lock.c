/* folder_lock.c - see folder_lock.h. */
#include "folder_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../util/file.h"

enum { ATTEMPTS = 16 };

/* Who holds it, as the holder wrote it: one printable line, for the error. */
static void holder_read(int fd, char *text, size_t bytes)
{
    const ssize_t got = pread(fd, text, bytes - 1, 0);
    text[got > 0 ? got : 0] = 0;
    if (!*text)
        snprintf(text, bytes, "another process");
}

static void holder_write(int fd)
{
    char host[200] = "", text[256];
    gethostname(host, sizeof host - 1);
    const int length = snprintf(text, sizeof text, "process %ld on %s", (long)getpid(), host);
    if (ftruncate(fd, 0) || pwrite(fd, text, (size_t)length, 0) != length)
        return; /* only the message of a second run is poorer */
}

/* Whether the file that was opened is still the one of that name: its holder may have removed it meanwhile, or another
 * folder may have taken this one's place. */
static bool is_current(int fd, const char *path)
{
    struct stat held, named;
    return !fstat(fd, &held) && !lstat(path, &named) && held.st_ino == named.st_ino && held.st_dev == named.st_dev;
}

static bool has_no_locks(int failure)
{
    return failure == ENOSYS || failure == EOPNOTSUPP || failure == ENOLCK || failure == EINVAL || failure == EBADF;
}

int folder_lock_take(struct folder_lock *lock, const char *directory, struct error *error)
{
    char path[4096], holder[256];
    *lock = (struct folder_lock){.fd = -1};
    snprintf(lock->directory, sizeof lock->directory, "%s", directory);
    int status = file_join(path, sizeof path, directory, ".lock", error);
    for (int i = 0; i < ATTEMPTS && !status; i++) {
        lock->fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
        if (lock->fd < 0)
            return error_set(error, STATUS_RUNTIME, "%s: cannot be opened: %s", path, strerror(errno));
        int failure = flock(lock->fd, LOCK_EX | LOCK_NB) ? errno : 0;
        if (failure && has_no_locks(failure)) {
            lock->is_unsupported = true;
            return STATUS_OK;
        }
        if (!failure && is_current(lock->fd, path)) {
            holder_write(lock->fd);
            return STATUS_OK;
        }
        if (failure == EWOULDBLOCK) {
            holder_read(lock->fd, holder, sizeof holder);
            status = error_set(error, STATUS_USAGE, "%s: another run is writing here (%s); choose another folder or wait "
                               "for it", directory, holder);
        } else if (failure && failure != EINTR) {
            status = error_set(error, STATUS_RUNTIME, "%s: cannot be locked: %s", path, strerror(failure));
        }
        close(lock->fd);
        lock->fd = -1;
    }
    if (!status)
        status = error_set(error, STATUS_RUNTIME, "%s: other runs begin and end here all the time; choose another folder",
                           directory);
    return status;
}

void folder_lock_release(struct folder_lock *lock)
{
    char path[4096];
    struct error unsaid;
    if (lock->fd < 0 || !*lock->directory)
        return;
    /* removed while it is held: whoever opened it meanwhile finds that it is not the one of that name */
    if (!file_join(path, sizeof path, lock->directory, ".lock", &unsaid) && is_current(lock->fd, path))
        unlink(path);
    close(lock->fd);
    *lock = (struct folder_lock){.fd = -1};
}
