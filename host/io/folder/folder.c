/* folder.c - making a folder: the staging folder and its files; see folder.h. How it takes its place is folder_publish.c. */
#include "folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../util/memory.h"
#include "folder_internal.h"

int folder_parent(const char *path, char parent[FOLDER_PATH_BYTES], const char **base, struct error *error)
{
    const char *slash = strrchr(path, '/');
    const size_t length = !slash ? 1 : slash == path ? 1 : (size_t)(slash - path);
    if (length >= FOLDER_PATH_BYTES)
        return error_set(error, STATUS_RUNTIME, "%.64s...: the path is too long", path);
    memcpy(parent, slash ? path : ".", length);
    parent[length] = 0;
    *base = slash ? slash + 1 : path;
    return STATUS_OK;
}

/* A folder's path without links and without a slash at its end; of one that is not there, its parents are made. */
static int target_resolve(struct folder *folder, const char *target, struct error *error)
{
    char given[FOLDER_PATH_BYTES], parent[FOLDER_PATH_BYTES], real[PATH_MAX];
    const char *base;
    size_t length = strlen(target);
    while (length > 1 && target[length - 1] == '/')
        length--;
    if (!length || length >= sizeof given)
        return error_set(error, STATUS_RUNTIME, "\"%.64s\": a directory's name must have 1 to %zu bytes", target,
                         sizeof given - 1);
    memcpy(given, target, length);
    given[length] = 0;
    struct stat info;
    folder->target_is_there = !stat(given, &info);
    if (!folder->target_is_there && errno != ENOENT)
        return error_set(error, STATUS_RUNTIME, "%s: cannot be looked at: %s", given, strerror(errno));
    if (folder->target_is_there && !S_ISDIR(info.st_mode))
        return error_set(error, STATUS_RUNTIME, "%s: is a file; expected a folder", given);
    if (folder->target_is_there) {
        if (!realpath(given, real))
            return error_set(error, STATUS_RUNTIME, "%s: cannot be found: %s", given, strerror(errno));
        return file_join(folder->target, sizeof folder->target, real, "", error);
    }
    int status = folder_parent(given, parent, &base, error);
    if (!status)
        status = file_make_directory(parent, error);
    if (!status && !realpath(parent, real))
        status = error_set(error, STATUS_RUNTIME, "%s: cannot be found: %s", parent, strerror(errno));
    return status ? status : file_join(folder->target, sizeof folder->target, real, base, error);
}

int folder_lock_staging(const char *path)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -1;
    if (flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK) { /* a file system without locks: names have to do */
        close(fd);
        return -1;
    }
    return fd;
}

int folder_begin(struct folder *folder, const char *target, mode_t mode, struct error *error)
{
    char prefix[FOLDER_PATH_BYTES], parent[FOLDER_PATH_BYTES];
    const char *base;
    struct stat info;
    *folder = (struct folder){.fd = -1};
    int status = target_resolve(folder, target, error);
    size_t length = strlen(folder->target);
    if (!status && length > 1 && folder->target[length - 1] == '/')
        folder->target[length - 1] = 0;
    if (!status && !(status = folder_parent(folder->target, parent, &base, error))) {
        const int n = folder->target_is_there
                          ? snprintf(prefix, sizeof prefix, "%s/%s", folder->target, FILE_NEW_FOLDER)
                          : snprintf(prefix, sizeof prefix, "%s/.%s%s", parent, base, FILE_NEW_FOLDER);
        if (n < 0 || (size_t)n >= sizeof prefix)
            status = error_set(error, STATUS_RUNTIME, "%.64s...: the path is too long", folder->target);
    }
    if (!status && folder->target_is_there && !stat(folder->target, &info))
        mode = info.st_mode & 07777; /* what its owner chose for it */
    if (!status)
        status = file_unique_name(folder->path, sizeof folder->path, prefix, error);
    if (!status && mkdir(folder->path, mode | S_IRWXU))
        status = error_set(error, STATUS_RUNTIME, "%s: cannot be made: %s", folder->path, strerror(errno));
    if (status) {
        *folder->path = 0;
        return status;
    }
    folder->fd = folder_lock_staging(folder->path);
    return STATUS_OK;
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

int folder_file_begin(struct folder *folder, const char *name, mode_t mode, struct file_writer *writer, struct error *error)
{
    char path[FOLDER_PATH_BYTES];
    const char *slash = strchr(name, '/');
    *writer = (struct file_writer){0};
    if (strlen(name) >= sizeof folder->file->name)
        return error_set(error, STATUS_RUNTIME, "%.64s...: the name is too long", name);
    int status = file_join(path, sizeof path, folder->path, name, error);
    if (!status && slash) {
        path[strlen(path) - strlen(slash)] = 0;
        status = file_make_directory(path, error);
        path[strlen(path)] = '/';
    }
    if (!status)
        status = file_writer_create(writer, path, mode, error);
    return status ? status : file_join(writer->shown, sizeof writer->shown, folder->target, name, error);
}

int folder_file_end(struct folder *folder, const char *name, struct file_writer *writer, struct error *error)
{
    int status = memory_grow(&folder->file, &folder->capacity, folder->files + 1, sizeof *folder->file, error);
    if (!status)
        status = file_writer_commit(writer, error);
    if (status) {
        file_writer_abort(writer);
        return status;
    }
    struct folder_file *file = &folder->file[folder->files++];
    *file = (struct folder_file){.digest = writer->digest};
    snprintf(file->name, sizeof file->name, "%s", name);
    return STATUS_OK;
}

int folder_write(struct folder *folder, const char *name, mode_t mode, const void *bytes, size_t length,
                 struct error *error)
{
    struct file_writer writer;
    int status = folder_file_begin(folder, name, mode, &writer, error);
    if (status)
        return status;
    status = file_writer_write(&writer, bytes, length, error);
    if (!status)
        return folder_file_end(folder, name, &writer, error);
    file_writer_abort(&writer);
    return status;
}

int folder_copy(struct folder *folder, const char *from, const char *name, struct error *error)
{
    struct file_writer writer;
    struct stat info;
    const int source = open(from, O_RDONLY | O_CLOEXEC);
    if (source < 0)
        return error_set(error, STATUS_INPUT, "%s: cannot be opened: %s", from, strerror(errno));
    int status = STATUS_OK;
    if (fstat(source, &info))
        status = error_set(error, STATUS_INPUT, "%s: cannot be read: %s", from, strerror(errno));
    if (!status && !(status = folder_file_begin(folder, name, file_copy_mode(info.st_mode), &writer, error))) {
        status = file_writer_copy(&writer, source, from, error);
        if (!status)
            status = folder_file_end(folder, name, &writer, error);
        else
            file_writer_abort(&writer);
    }
    close(source);
    return status;
}

const struct folder_file *folder_find(const struct folder *folder, const char *name)
{
    for (size_t i = 0; i < folder->files; i++)
        if (!strcmp(folder->file[i].name, name))
            return &folder->file[i];
    return NULL;
}

void folder_abandon(struct folder *folder)
{
    struct error unsaid;
    if (*folder->path) {
        (void)file_remove_tree(folder->path, &unsaid); /* what stays is removed by folder_recover */
        if (folder->fd >= 0)
            close(folder->fd);
    }
    free(folder->file);
    *folder = (struct folder){.fd = -1};
}
