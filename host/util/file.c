/* file.c - see file.h; the writing half is file_write.c. */
#include "file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "interrupt.h"
#include "memory.h"

/* A terminal, or /dev/null. Other devices may give bytes without end. */
static bool device_ends(int fd, const struct stat *info)
{
    return S_ISCHR(info->st_mode) && (isatty(fd) || info->st_rdev == makedev(1, 3));
}

int file_check_ends(int fd, const char *name, struct error *error)
{
    struct stat info;
    if (!fstat(fd, &info) && (S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode)) && !device_ends(fd, &info))
        return error_set(error, STATUS_INPUT, "%s: is a device; expected a file or a pipe", name);
    return STATUS_OK;
}

/* Pipes that the caller has opened already have names there. */
static bool is_open_already(const char *path)
{
    return !strncmp(path, "/dev/", 5) || !strncmp(path, "/proc/", 6);
}

static int kind_check(int fd, const char *path, bool may_wait, struct stat *info, struct error *error)
{
    if (fstat(fd, info))
        return error_set(error, STATUS_INPUT, "%s: cannot be read: %s", path, strerror(errno));
    if (S_ISDIR(info->st_mode))
        return error_set(error, STATUS_INPUT, "%s: is a directory; expected a file", path);
    if (S_ISFIFO(info->st_mode) && !may_wait && !is_open_already(path))
        return error_set(error, STATUS_INPUT, "%s: is a pipe; expected a file", path);
    if (!S_ISREG(info->st_mode) && !S_ISFIFO(info->st_mode) && !device_ends(fd, info))
        return error_set(error, STATUS_INPUT, "%s: is a device or a socket; expected a file%s", path,
                         may_wait ? ", a pipe, or - for the standard input" : "");
    return STATUS_OK;
}

int file_open_read(const char *path, bool may_wait, int *fd, int64_t *bytes, struct error *error)
{
    struct stat info;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK); /* a pipe that nobody writes to would block here */
    if (*fd < 0)
        return error_set(error, STATUS_INPUT, "%s: cannot be opened: %s", path, strerror(errno));
    int status = kind_check(*fd, path, may_wait, &info, error);
    *bytes = !status && S_ISREG(info.st_mode) ? info.st_size : 0;
    if (status) {
        close(*fd);
        *fd = -1;
    }
    return status;
}

/* A named pipe that was opened before its writer looks like one at its end, but for this. */
static bool writer_awaited(int fd)
{
    struct stat info;
    struct pollfd end = {.fd = fd, .events = POLLIN};
    return !fstat(fd, &info) && S_ISFIFO(info.st_mode) && poll(&end, 1, 0) == 0;
}

int file_read_some(int fd, const char *path, void *to, size_t most, size_t *got, struct error *error)
{
    enum { LOOK_MS = 200 }; /* a signal between the look at it and the wait is seen after that */
    for (;;) {
        const ssize_t n = read(fd, to, most);
        if (n > 0 || (n == 0 && (!most || !writer_awaited(fd)))) {
            *got = (size_t)n;
            return STATUS_OK;
        }
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return error_set(error, STATUS_INPUT, "%s: cannot be read: %s", path, strerror(errno));
        if (interrupt_pending())
            return error_set(error, STATUS_RUNTIME, "%s: stopped by %s while waiting for it", path,
                             interrupt_name(interrupt_pending()));
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        poll(&wait, 1, LOOK_MS);
    }
}

/* Reads to the end of the file. A size is only a hint: the file may be a pipe, or grow meanwhile. */
static int read_all(int fd, int64_t bytes, const char *path, size_t max_bytes, char **data, size_t *length,
                    struct error *error)
{
    size_t capacity = 4096, used = 0, got = 1;
    if (bytes > 0 && (uint64_t)bytes <= max_bytes)
        capacity = (size_t)bytes + 2; /* the zero, and one byte more to see the end in one go */
    else if (bytes > 0)
        return error_set(error, STATUS_INPUT, "%s: has %lld bytes; at most %zu are accepted here", path,
                         (long long)bytes, max_bytes);
    char *text = malloc(capacity);
    while (text && got) {
        int status = file_read_some(fd, path, text + used, capacity - used - 1, &got, error);
        used += status ? 0 : got;
        if (!status && used > max_bytes)
            status = error_set(error, STATUS_INPUT, "%s: has more than the %zu bytes that are accepted here", path, max_bytes);
        if (status) {
            free(text);
            return status;
        }
        if (got && used + 1 == capacity) {
            char *bigger = capacity <= SIZE_MAX / 2 ? realloc(text, capacity *= 2) : NULL;
            if (!bigger)
                free(text);
            text = bigger;
        }
    }
    if (!text)
        return error_set(error, STATUS_MEMORY, "%s: out of host memory: %zu bytes were refused", path, capacity);
    text[used] = 0;
    *data = text;
    *length = used;
    return STATUS_OK;
}

int file_read(const char *path, size_t max_bytes, char **data, size_t *length, struct error *error)
{
    int64_t bytes;
    int fd, status = file_open_read(path, false, &fd, &bytes, error);
    if (status)
        return status;
    status = read_all(fd, bytes, path, max_bytes, data, length, error);
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

bool file_cache_folder(char *out, size_t bytes)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (cache && *cache)
        return (size_t)snprintf(out, bytes, "%s/flat", cache) < bytes;
    return home && *home && (size_t)snprintf(out, bytes, "%s/.cache/flat", home) < bytes;
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

/* ---- directories ------------------------------------------------------------------------------------------------- */

static int name_compare(const void *left, const void *right)
{
    return strcmp(*(char *const *)left, *(char *const *)right);
}

int file_list_read(struct file_list *list, const char *directory, struct error *error)
{
    *list = (struct file_list){0};
    DIR *stream = opendir(directory);
    if (!stream)
        return error_set(error, errno == ENOMEM ? STATUS_MEMORY : STATUS_INPUT, "%s: cannot be listed: %s", directory,
                         strerror(errno));
    int status = STATUS_OK;
    while (!status) {
        errno = 0; /* the end and a failure look alike otherwise */
        const struct dirent *item = readdir(stream);
        if (!item && errno)
            status = error_set(error, STATUS_RUNTIME, "%s: cannot be listed: %s", directory, strerror(errno));
        if (!item)
            break;
        if (!strcmp(item->d_name, ".") || !strcmp(item->d_name, ".."))
            continue;
        status = memory_grow(&list->name, &list->capacity, list->count + 1, sizeof *list->name, error);
        if (!status && !(list->name[list->count] = memory_string(item->d_name, error)))
            status = STATUS_MEMORY;
        list->count += !status;
    }
    closedir(stream);
    if (status)
        file_list_free(list);
    else if (list->count)
        qsort(list->name, list->count, sizeof *list->name, name_compare);
    return status;
}

void file_list_free(struct file_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->name[i]);
    free(list->name);
    *list = (struct file_list){0};
}

int file_remove_tree(const char *path, struct error *error)
{
    struct stat info;
    struct file_list list;
    char inner[4096];
    if (lstat(path, &info))
        return errno == ENOENT ? STATUS_OK
                               : error_set(error, STATUS_RUNTIME, "%s: cannot be looked at: %s", path, strerror(errno));
    if (!S_ISDIR(info.st_mode))
        return unlink(path) && errno != ENOENT
                   ? error_set(error, STATUS_RUNTIME, "%s: cannot be removed: %s", path, strerror(errno))
                   : STATUS_OK;
    int status = file_list_read(&list, path, error);
    for (size_t i = 0; i < list.count && !status; i++) {
        status = file_join(inner, sizeof inner, path, list.name[i], error);
        if (!status)
            status = file_remove_tree(inner, error);
    }
    file_list_free(&list);
    if (!status && rmdir(path) && errno != ENOENT)
        status = error_set(error, STATUS_RUNTIME, "%s: cannot be removed: %s", path, strerror(errno));
    return status;
}
