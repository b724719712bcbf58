/* folder_publish.c - how a finished folder takes its place; see folder.h.
 *
 * A staging folder that is complete holds .contents: what is kept of the target, and the names that the new folder consists
 * of. From then on it can only go forward: after a kill folder_recover does the rest. After an exchange .contents is in the
 * target until the old folder, which stands beside it and has none, is gone.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "folder_internal.h"

/* Not what was asked for, but reason enough to do it another way. */
enum { EXCHANGE_IMPOSSIBLE = -1 };

/* ---- exchange ---------------------------------------------------------------------------------------------------- */

/* What a file system, a mount point or a parent that is not ours answers; anything else is a failure. */
static bool is_refusal(int failure)
{
    return failure == EXDEV || failure == EINVAL || failure == ENOSYS || failure == EOPNOTSUPP || failure == EBUSY ||
           failure == EACCES || failure == EPERM || failure == EROFS || failure == ENAMETOOLONG;
}

/* The new folder has its name; what failed is the rest, which folder_recover does. */
static int after_exchange(const char *target, struct error *error)
{
    const struct error why = *error;
    return error_set(error, why.status, "%.300s: the new files are in place, but: %.500s; 'flat verify --finish' removes the old "
                     "ones", target, why.text);
}

/* Exchanges the complete folder at path and target. EXCHANGE_IMPOSSIBLE: nothing was done. */
static int exchange(const char *path, const char *target, enum folder_keep keep, bool *done, struct error *error)
{
    char parent[FOLDER_PATH_BYTES], prefix[FOLDER_PATH_BYTES + 300], beside[FOLDER_PATH_BYTES];
    const char *base;
    struct stat info;
    int status = folder_parent(target, parent, &base, error);
    if (status)
        return status;
    snprintf(prefix, sizeof prefix, "%s/.%s%s", strcmp(parent, "/") ? parent : "", base, FILE_NEW_FOLDER);
    if (!*base || file_unique_name(beside, sizeof beside, prefix, error))
        return EXCHANGE_IMPOSSIBLE;
    if (stat(target, &info))
        return folder_failed(target, "looked at", error);
    if (chmod(path, info.st_mode & 07777) && !is_refusal(errno))
        return folder_failed(path, "given its mode", error);
    if (rename(path, beside))
        return is_refusal(errno) ? EXCHANGE_IMPOSSIBLE : folder_failed(path, "moved", error);
    if (renameat2(AT_FDCWD, beside, AT_FDCWD, target, RENAME_EXCHANGE)) {
        const int failure = errno;
        if (rename(beside, path))
            return folder_failed(beside, "moved back", error);
        errno = failure;
        return is_refusal(failure) ? EXCHANGE_IMPOSSIBLE : folder_failed(target, "exchanged", error);
    }
    *done = true;
    status = file_sync_directory(parent, error);
    if (!status)
        status = folder_old_remove(beside, target, keep, error);
    if (!status)
        status = folder_name_remove(target, FOLDER_CONTENTS, error);
    return status ? after_exchange(target, error) : STATUS_OK;
}

/* ---- either way -------------------------------------------------------------------------------------------------------- */

int folder_holds_model(const char *target, bool *model, struct error *error)
{
    struct file_list list;
    int status = file_list_read(&list, target, error);
    *model = false;
    for (size_t i = 0; i < list.count && !status; i++) {
        const enum folder_item item = folder_item(list.name[i], false);
        *model |= item == FOLDER_WEIGHTS || item == FOLDER_ADAPTER || item == FOLDER_MODEL;
    }
    file_list_free(&list);
    return status;
}

/* A complete folder into a target that is there. *begun: it is not all at `path` any more, or not for the caller to remove. */
static int place(const char *path, const char *target, enum folder_keep keep, struct folder_lock *lock, bool *begun,
                 struct error *error)
{
    struct folder_lock next = {.fd = -1};
    struct folder_contents contents = {0};
    bool model = false;
    *begun = false;
    int status = folder_contents_write(path, keep, &contents, error);
    if (!status)
        status = folder_holds_model(target, &model, error);
    if (!status && model && lock && !lock->is_unsupported)
        status = folder_lock_take(&next, path, error);
    const bool ready = !status;
    if (ready)
        status = model ? exchange(path, target, keep, begun, error) : EXCHANGE_IMPOSSIBLE;
    if (*begun && next.fd >= 0) { /* the folder that it was taken in has the name now */
        close(lock->fd);
        lock->fd = next.fd;
    } else {
        folder_lock_release(&next);
    }
    if (status == EXCHANGE_IMPOSSIBLE) {
        *begun = true;
        status = folder_move_in(path, target, &contents, error);
    }
    file_list_free(&contents.names);
    return status;
}

int folder_publish(struct folder *folder, enum folder_keep keep, struct folder_lock *lock, struct error *error)
{
    char parent[FOLDER_PATH_BYTES];
    const char *base;
    bool begun;
    int status = folder_parent(folder->target, parent, &base, error);
    if (status)
        return status;
    if (folder->target_is_there) {
        status = place(folder->path, folder->target, keep, lock, &begun, error);
    } else {
        status = file_sync_directory(folder->path, error);
        begun = !status && !rename(folder->path, folder->target);
        if (!status)
            status = begun ? file_sync_directory(parent, error) : folder_failed(folder->target, "made", error);
    }
    if (begun && folder->fd >= 0) {
        close(folder->fd);
        folder->fd = -1;
    }
    if (begun)
        *folder->path = 0;
    return status;
}

int folder_replace(const char *target, const char *from, struct folder_lock *lock, struct error *error)
{
    char real_target[PATH_MAX], real_from[PATH_MAX];
    bool begun;
    if (!realpath(target, real_target) || !realpath(from, real_from))
        return error_set(error, STATUS_RUNTIME, "%s: cannot be found: %s", target, strerror(errno));
    return place(real_from, real_target, FOLDER_KEEP_FOREIGN, lock, &begun, error);
}
