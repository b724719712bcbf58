/* file.c - see file.h. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STREAM_BYTES = 1 << 20, COPY_BYTES = 1 << 20 };

/* Reads to the end of the file. A size is only a hint: the file may be a pipe, or grow meanwhile. */
static int read_all(int fd, const char *path, size_t max_bytes, char **data, size_t *length, struct error *error)
{
    struct stat info;
    if (fstat(fd, &info))
        return error_set(error, STATUS_INPUT, "%s: cannot be read: %s", path, strerror(errno));
    if (S_ISDIR(info.st_mode))
        return error_set(error, STATUS_INPUT, "%s: is a directory; expected a file", path);
    size_t capacity = 4096, used = 0;
    if (info.st_size > 0 && (uint64_t)info.st_size <= max_bytes)
        capacity = (size_t)info.st_size + 2; /* the zero, and one byte more to see the end in one go */
    else if (info.st_size > 0)
        return error_set(error, STATUS_INPUT, "%s: has %lld bytes; at most %zu are accepted here", path,
                         (long long)info.st_size, max_bytes);
    char *text = malloc(capacity);
    while (text) {
        ssize_t got = read(fd, text + used, capacity - used - 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            error_set(error, STATUS_INPUT, "%s: offset %zu: cannot be read: %s", path, used, strerror(errno));
            free(text);
            return STATUS_INPUT;
        }
        used += (size_t)got;
        if (used > max_bytes) {
            free(text);
            return error_set(error, STATUS_INPUT, "%s: has more than the %zu bytes that are accepted here", path,
                             max_bytes);
        }
        if (got == 0) {
            text[used] = 0;
            *data = text;
            *length = used;
            return STATUS_OK;
        }
        if (used + 1 == capacity) {
            char *bigger = capacity <= SIZE_MAX / 2 ? realloc(text, capacity *= 2) : NULL;
            if (!bigger)
                free(text);
            text = bigger;
        }
    }
    return error_set(error, STATUS_MEMORY, "%s: out of host memory: %zu bytes were refused", path, capacity);
}

int file_read(const char *path, size_t max_bytes, char **data, size_t *length, struct error *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set(error, STATUS_INPUT, "%s: cannot be opened: %s", path, strerror(errno));
    int status = read_all(fd, path, max_bytes, data, length, error);
    close(fd);
    return status;
}

bool file_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

bool file_is_directory(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

void file_program_directory(char *out, size_t bytes)
{
    ssize_t length = readlink("/proc/self/exe", out, bytes - 1);
    if (length <= 0) {
        snprintf(out, bytes, ".");
        return;
    }
    out[length] = 0;
    char *slash = strrchr(out, '/');
    if (slash)
        *slash = 0;
}

int file_make_directory(const char *path, struct error *error)
{
    char part[4096];
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof part)
        return error_set(error, STATUS_RUNTIME, "\"%.64s\": a directory's name must have 1 to %zu bytes", path,
                         sizeof part - 1);
    memcpy(part, path, length + 1);
    for (size_t i = 1; i <= length; i++) {
        if (part[i] != '/' && part[i] != 0)
            continue;
        part[i] = 0;
        int failure = mkdir(part, 0777) ? errno : 0;
        if (failure && !file_is_directory(part))
            return error_set(error, STATUS_RUNTIME, "%s: the directory cannot be made: %s", part, strerror(failure));
        part[i] = path[i];
    }
    return STATUS_OK;
}

int file_join(char *out, size_t out_bytes, const char *directory, const char *name, struct error *error)
{
    size_t length = strlen(directory);
    const char *slash = length && directory[length - 1] != '/' ? "/" : "";
    int n = snprintf(out, out_bytes, "%s%s%s", directory, slash, name);
    if (n < 0 || (size_t)n >= out_bytes)
        return error_set(error, STATUS_USAGE, "%.64s...%s%.64s: the path is longer than %zu bytes", directory, slash,
                         name, out_bytes - 1);
    return STATUS_OK;
}

static int write_failed(const struct file_writer *writer, int failure, struct error *error)
{
    return error_set(error, STATUS_RUNTIME, "%s: cannot be written: %s", writer->path, strerror(failure));
}

int file_writer_open(struct file_writer *writer, const char *path, struct error *error)
{
    *writer = (struct file_writer){0};
    if ((size_t)snprintf(writer->path, sizeof writer->path, "%s", path) >= sizeof writer->path)
        return error_set(error, STATUS_RUNTIME, "%.64s...: the path is longer than %zu bytes", path,
                         sizeof writer->path - 1);
    if (file_is_directory(path)) /* rename would say so only after everything was written */
        return write_failed(writer, EISDIR, error);
    snprintf(writer->temporary, sizeof writer->temporary, "%s.tmp-%ld", path, (long)getpid());
    int fd = open(writer->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
    int failure = fd < 0 ? errno : 0;
    if (fd >= 0 && !(writer->stream = fdopen(fd, "w"))) {
        failure = errno;
        close(fd);
        unlink(writer->temporary);
    }
    if (failure)
        return write_failed(writer, failure, error);
    setvbuf(writer->stream, NULL, _IOFBF, STREAM_BYTES); /* a refusal only leaves the default buffer */
    return STATUS_OK;
}

int file_writer_write(struct file_writer *writer, const void *bytes, size_t length, struct error *error)
{
    errno = 0;
    if (length && fwrite(bytes, 1, length, writer->stream) != length)
        return write_failed(writer, errno ? errno : EIO, error);
    return STATUS_OK;
}

/* The rename itself survives a crash only when the directory is on disk too. */
static int directory_sync(const char *path)
{
    char directory[4096];
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 0;
    if (slash)
        memcpy(directory, path, length ? length : ++length);
    else
        directory[length++] = '.';
    directory[length] = 0;
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    /* some network file systems refuse to sync a directory; the data are on disk all the same */
    int failure = fsync(fd) && errno != EINVAL && errno != ENOTSUP ? errno : 0;
    close(fd);
    return failure;
}

int file_writer_commit(struct file_writer *writer, struct error *error)
{
    int failure = 0;
    errno = 0;
    if (ferror(writer->stream) || fflush(writer->stream) || fsync(fileno(writer->stream)))
        failure = errno ? errno : EIO;
    /* renamed while it is open, so that file_remove_temporaries finds it until then */
    if (!failure && rename(writer->temporary, writer->path))
        failure = errno;
    if (fclose(writer->stream) && !failure)
        failure = errno;
    writer->stream = NULL;
    if (failure) {
        unlink(writer->temporary);
        return write_failed(writer, failure, error);
    }
    failure = directory_sync(writer->path);
    return failure ? write_failed(writer, failure, error) : STATUS_OK;
}

void file_writer_abort(struct file_writer *writer)
{
    if (!writer->stream)
        return;
    fclose(writer->stream);
    writer->stream = NULL;
    unlink(writer->temporary);
}

void file_remove_temporaries(void)
{
    char suffix[32], link[32], path[4160];
    int length = snprintf(suffix, sizeof suffix, ".tmp-%ld", (long)getpid());
    long limit = sysconf(_SC_OPEN_MAX);
    for (int fd = 0; fd < (limit > 0 && limit < 4096 ? limit : 4096); fd++) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t used = readlink(link, path, sizeof path - 1);
        if (used <= length || (size_t)used >= sizeof path - 1 || memcmp(path + used - length, suffix, (size_t)length))
            continue;
        path[used] = 0;
        unlink(path);
    }
}

int file_write(const char *path, const void *bytes, size_t length, struct error *error)
{
    struct file_writer writer;
    int status = file_writer_open(&writer, path, error);
    if (!status)
        status = file_writer_write(&writer, bytes, length, error);
    if (!status)
        return file_writer_commit(&writer, error);
    file_writer_abort(&writer);
    return status;
}

/* Every byte of an open file into a writer. */
static int copy_stream(FILE *source, const char *from, struct file_writer *writer, struct error *error)
{
    char *piece = malloc(COPY_BYTES);
    if (!piece)
        return error_set(error, STATUS_MEMORY, "%s: out of host memory: %d bytes were refused", from, COPY_BYTES);
    int status = STATUS_OK;
    size_t got;
    while (!status && (got = fread(piece, 1, COPY_BYTES, source)) > 0)
        status = file_writer_write(writer, piece, got, error);
    if (!status && ferror(source))
        status = error_set(error, STATUS_INPUT, "%s: cannot be read: %s", from, strerror(errno));
    free(piece);
    return status;
}

int file_copy(const char *from, const char *to, struct error *error)
{
    FILE *source = fopen(from, "re");
    if (!source)
        return error_set(error, STATUS_INPUT, "%s: cannot be opened: %s", from, strerror(errno));
    struct file_writer writer;
    int status = file_writer_open(&writer, to, error);
    if (!status && !(status = copy_stream(source, from, &writer, error)))
        status = file_writer_commit(&writer, error);
    file_writer_abort(&writer);
    fclose(source);
    return status;
}
