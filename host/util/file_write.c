/* file_write.c - the writing half of file.h. Bytes go through a buffer of our own and write(2), so that every failure is seen
 * where it happens.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "file.h"

enum { BUFFER_BYTES = 1 << 20, COPY_BYTES = 1 << 20, ATTEMPTS = 8, UNIQUE_DIGITS = 16 };

/* ---- names ------------------------------------------------------------------------------------------------------- */

int file_unique_name(char *out, size_t out_bytes, const char *prefix, struct error *error)
{
    uint64_t random;
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != sizeof random) { /* early at boot; O_EXCL stands in any case */
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        random = (uint64_t)now.tv_nsec * 0x9e3779b97f4a7c15u ^ (uint64_t)now.tv_sec;
    }
    int n = snprintf(out, out_bytes, "%s%ld-%016llx", prefix, (long)getpid(), (unsigned long long)random);
    if (n < 0 || (size_t)n >= out_bytes)
        return error_set(error, STATUS_RUNTIME, "%.64s...: the path is longer than %zu bytes", prefix, out_bytes - 1);
    return STATUS_OK;
}

bool file_is_unique_name(const char *name, const char *prefix)
{
    const size_t length = strlen(prefix);
    if (strncmp(name, prefix, length))
        return false;
    const char *process = name + length, *random = process + strspn(process, "0123456789");
    return random > process && *random == '-' && strspn(random + 1, "0123456789abcdef") == UNIQUE_DIGITS &&
           !random[1 + UNIQUE_DIGITS];
}

/* Whether a path is a temporary of this process: its last name ends in prefix<pid>-<random>. */
static bool is_own(const char *path, const char *prefix)
{
    char own[32];
    const char *name = strrchr(path, '/');
    snprintf(own, sizeof own, "%s%ld-", prefix, (long)getpid());
    name = name ? strstr(name, own) : NULL;
    return name && file_is_unique_name(name, prefix);
}

void file_remove_temporaries(void)
{
    struct error unsaid;
    char link[32], path[4200];
    long limit = sysconf(_SC_OPEN_MAX);
    for (int fd = 0; fd < (limit > 0 && limit < 4096 ? limit : 4096); fd++) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t used = readlink(link, path, sizeof path - 1);
        if (used <= 0 || (size_t)used >= sizeof path - 1)
            continue;
        path[used] = 0;
        if (is_own(path, ".tmp-"))
            unlink(path);
        else if (is_own(path, FILE_NEW_FOLDER))
            (void)file_remove_tree(path, &unsaid); /* what stays is removed by the next run there */
    }
}

/* ---- one file ---------------------------------------------------------------------------------------------------- */

static int write_failed(const struct file_writer *writer, int failure, struct error *error)
{
    return error_set(error, STATUS_RUNTIME, "%s: cannot be written: %s", writer->shown, strerror(failure));
}

/* Opens what bytes go into: `name` made anew. */
static int writer_make(struct file_writer *writer, const char *name, mode_t mode)
{
    writer->fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    return writer->fd < 0 ? errno : 0;
}

static int writer_begin(struct file_writer *writer, const char *path, struct error *error)
{
    *writer = (struct file_writer){0};
    if ((size_t)snprintf(writer->path, sizeof writer->path, "%s", path) >= sizeof writer->path)
        return error_set(error, STATUS_RUNTIME, "%.64s...: the path is longer than %zu bytes", path,
                         sizeof writer->path - 1);
    memcpy(writer->shown, writer->path, sizeof writer->shown);
    writer->buffer = malloc(BUFFER_BYTES);
    writer->checksum = checksum_open(error);
    return writer->buffer && writer->checksum ? STATUS_OK
                                              : error_set(error, STATUS_MEMORY, "%s: out of host memory", path);
}

static void writer_free(struct file_writer *writer)
{
    free(writer->buffer);
    checksum_close(writer->checksum);
    writer->buffer = NULL;
    writer->checksum = NULL;
}

int file_writer_open(struct file_writer *writer, const char *path, mode_t mode, struct error *error)
{
    char prefix[4110];
    int failure = EEXIST, status = writer_begin(writer, path, error);
    if (!status && file_is_directory(path)) /* rename would say so only after everything was written */
        status = write_failed(writer, EISDIR, error);
    snprintf(prefix, sizeof prefix, "%s.tmp-", writer->path);
    for (int i = 0; i < ATTEMPTS && failure == EEXIST && !status; i++) {
        status = file_unique_name(writer->temporary, sizeof writer->temporary, prefix, error);
        failure = status ? 0 : writer_make(writer, writer->temporary, mode);
    }
    if (!status && failure)
        status = write_failed(writer, failure, error);
    if (status)
        writer_free(writer);
    return status;
}

int file_writer_create(struct file_writer *writer, const char *path, mode_t mode, struct error *error)
{
    int status = writer_begin(writer, path, error), failure;
    if (!status && (failure = writer_make(writer, path, mode)))
        status = write_failed(writer, failure, error);
    if (status)
        writer_free(writer);
    return status;
}

/* All of it, however little the system takes at a time. */
static int write_fully(struct file_writer *writer, const char *bytes, size_t length, struct error *error)
{
    while (length) {
        const ssize_t done = write(writer->fd, bytes, length);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return write_failed(writer, done < 0 ? errno : EIO, error);
        bytes += done, length -= (size_t)done;
    }
    return STATUS_OK;
}

static int writer_flush(struct file_writer *writer, struct error *error)
{
    const size_t used = writer->used;
    writer->used = 0;
    return write_fully(writer, writer->buffer, used, error);
}

int file_writer_write(struct file_writer *writer, const void *bytes, size_t length, struct error *error)
{
    int status = STATUS_OK;
    if (!length)
        return status;
    checksum_add(writer->checksum, bytes, length);
    if (length > BUFFER_BYTES - writer->used)
        status = writer_flush(writer, error);
    if (!status && length >= BUFFER_BYTES)
        return write_fully(writer, bytes, length, error);
    if (!status) {
        memcpy(writer->buffer + writer->used, bytes, length);
        writer->used += length;
    }
    return status;
}

int file_sync_directory(const char *directory, struct error *error)
{
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_set(error, STATUS_RUNTIME, "%s: cannot be opened: %s", directory, strerror(errno));
    /* some network file systems refuse to sync a directory; the data are on disk all the same */
    int failure = fsync(fd) && errno != EINVAL && errno != ENOTSUP ? errno : 0;
    close(fd);
    return failure ? error_set(error, STATUS_RUNTIME, "%s: cannot be written: %s", directory, strerror(failure))
                   : STATUS_OK;
}

/* The rename itself survives a crash only when the directory is on disk too. */
static int parent_sync(const char *path, struct error *error)
{
    char directory[4096];
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 0;
    if (slash)
        memcpy(directory, path, length ? length : ++length);
    else
        directory[length++] = '.';
    directory[length] = 0;
    return file_sync_directory(directory, error);
}

int file_writer_commit(struct file_writer *writer, struct error *error)
{
    int failure = 0, status = writer_flush(writer, error);
    if (!status && fsync(writer->fd))
        failure = errno;
    /* renamed while it is open, so that file_remove_temporaries finds it until then */
    if (!status && !failure && *writer->temporary && rename(writer->temporary, writer->path))
        failure = errno;
    const bool renamed = !status && !failure && *writer->temporary;
    if (close(writer->fd) && !failure)
        failure = errno;
    writer->digest = checksum_digest(writer->checksum);
    writer_free(writer);
    if (!status && failure)
        status = write_failed(writer, failure, error);
    if (status && !renamed)
        unlink(*writer->temporary ? writer->temporary : writer->path);
    return !status && renamed ? parent_sync(writer->path, error) : status;
}

void file_writer_abort(struct file_writer *writer)
{
    if (!writer->buffer)
        return;
    close(writer->fd);
    unlink(*writer->temporary ? writer->temporary : writer->path);
    writer_free(writer);
}

int file_write(const char *path, const void *bytes, size_t length, struct error *error)
{
    struct file_writer writer;
    int status = file_writer_open(&writer, path, FILE_MODE, error);
    if (!status)
        status = file_writer_write(&writer, bytes, length, error);
    if (!status)
        return file_writer_commit(&writer, error);
    file_writer_abort(&writer);
    return status;
}

/* ---- copies ------------------------------------------------------------------------------------------------------ */

mode_t file_copy_mode(mode_t source)
{
    return (source & FILE_MODE) | S_IRUSR | S_IWUSR;
}

int file_writer_copy(struct file_writer *writer, int source, const char *from, struct error *error)
{
    char *piece = malloc(COPY_BYTES);
    if (!piece)
        return error_set(error, STATUS_MEMORY, "%s: out of host memory: %d bytes were refused", from, COPY_BYTES);
    int status = STATUS_OK;
    while (!status) {
        const ssize_t got = read(source, piece, COPY_BYTES);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            status = error_set(error, STATUS_INPUT, "%s: cannot be read: %s", from, strerror(errno));
        if (got <= 0)
            break;
        status = file_writer_write(writer, piece, (size_t)got, error);
    }
    free(piece);
    return status;
}

int file_copy(const char *from, const char *to, struct error *error)
{
    struct file_writer writer = {0};
    struct stat info;
    int source = open(from, O_RDONLY | O_CLOEXEC);
    if (source < 0)
        return error_set(error, STATUS_INPUT, "%s: cannot be opened: %s", from, strerror(errno));
    int status = STATUS_OK;
    if (fstat(source, &info))
        status = error_set(error, STATUS_INPUT, "%s: cannot be read: %s", from, strerror(errno));
    if (!status)
        status = file_writer_open(&writer, to, file_copy_mode(info.st_mode), error);
    if (!status && !(status = file_writer_copy(&writer, source, from, error)))
        status = file_writer_commit(&writer, error);
    file_writer_abort(&writer);
    close(source);
    return status;
}
