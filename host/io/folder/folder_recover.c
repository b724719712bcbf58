/* folder_recover.c - what becomes of folders whose process was killed on the way into their place: a complete one is moved in,
 * one that is not is removed, an old one that was exchanged gives back what is kept; see folder.h and folder_publish.c.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "folder_internal.h"

/* A staging folder whose process is gone: moved in when it is complete, removed when it is not. */
static int staging_recover(const char *path, const char *target, struct error *error)
{
    struct folder_contents contents;
    struct folder_name complete;
    const int fd = folder_lock_staging(path);
    if (fd < 0)
        return STATUS_OK;
    int status = folder_name_look(&complete, path, FOLDER_CONTENTS, error);
    if (!status && !complete.exists) {
        status = file_remove_tree(path, error);
    } else if (!status && file_is_directory(target) && !(status = folder_contents_read(path, &contents, error))) {
        status = folder_move_in(path, target, &contents, error);
        file_list_free(&contents.names);
    }
    close(fd);
    return status;
}

/* A folder beside target: one that was on its way into it, or the old one after an exchange. */
static int beside_recover(const char *path, const char *target, struct error *error)
{
    struct folder_contents contents = {.keep = FOLDER_KEEP_FOREIGN};
    struct folder_name complete, exchanged;
    int status = folder_name_look(&complete, path, FOLDER_CONTENTS, error);
    if (status || complete.exists || !file_is_directory(target))
        return status ? status : staging_recover(path, target, error);
    const int fd = folder_lock_staging(path);
    if (fd < 0)
        return STATUS_OK;
    status = folder_name_look(&exchanged, target, FOLDER_CONTENTS, error);
    if (!status && exchanged.exists)
        status = folder_contents_read(target, &contents, error);
    file_list_free(&contents.names);
    if (!status)
        status = folder_old_remove(path, target, contents.keep, error);
    close(fd);
    return status;
}

/* ".NAME.new-...": NAME, or false. */
static bool beside_name(const char *name, char target[256])
{
    const char *mark = strstr(name, FILE_NEW_FOLDER);
    for (const char *next = mark; next; next = strstr(next + 1, FILE_NEW_FOLDER))
        mark = next;
    if (name[0] != '.' || !mark || mark < name + 2 || !file_is_unique_name(mark, FILE_NEW_FOLDER))
        return false;
    snprintf(target, 256, "%.*s", (int)(mark - name - 1), name + 1);
    return true;
}

/* The folders in a directory that belong beside one of its entries; of `only` alone when it is not NULL. */
static int siblings_recover(const char *directory, const char *only, struct error *error)
{
    struct file_list list;
    char name[256], path[FOLDER_PATH_BYTES], target[FOLDER_PATH_BYTES];
    int status = file_list_read(&list, directory, error);
    for (size_t i = 0; i < list.count && !status; i++) {
        if (!beside_name(list.name[i], name) || (only && strcmp(name, only)))
            continue;
        status = file_join(path, sizeof path, directory, list.name[i], error);
        if (!status)
            status = file_join(target, sizeof target, directory, name, error);
        if (!status)
            status = beside_recover(path, target, error);
    }
    file_list_free(&list);
    return status;
}

/* The staging folders in a directory. */
static int inside_recover(const char *directory, struct error *error)
{
    struct file_list list;
    char path[FOLDER_PATH_BYTES];
    int status = file_list_read(&list, directory, error);
    for (size_t i = 0; i < list.count && !status; i++) {
        status = file_join(path, sizeof path, directory, list.name[i], error);
        struct folder_name complete = {0};
        if (!status && file_is_unique_name(list.name[i], FOLDER_RUN_PREFIX))
            status = folder_name_look(&complete, path, FOLDER_CONTENTS, error);
        if (!status && (complete.exists || file_is_unique_name(list.name[i], FILE_NEW_FOLDER)))
            status = staging_recover(path, directory, error);
        else if (!status && folder_item(list.name[i], false) == FOLDER_TEMPORARY && strstr(list.name[i], ".tmp-"))
            status = file_remove_tree(path, error);
        else if (!status && folder_checkpoint(list.name[i]) >= 0 && file_is_directory(path))
            status = inside_recover(path, error);
    }
    file_list_free(&list);
    return status;
}

int folder_recover(const char *target, struct error *error)
{
    char real[PATH_MAX], parent[FOLDER_PATH_BYTES];
    const char *base;
    if (!realpath(target, real))
        return error_set(error, STATUS_RUNTIME, "%s: cannot be found: %s", target, strerror(errno));
    int status = folder_parent(real, parent, &base, error);
    if (!status && *base && access(parent, R_OK | W_OK) == 0)
        status = siblings_recover(parent, base, error);
    if (!status)
        status = siblings_recover(real, NULL, error);
    if (!status)
        status = inside_recover(real, error);
    return status ? status : folder_name_remove(real, FOLDER_CONTENTS, error);
}

bool folder_is_interrupted(const char *target)
{
    struct file_list list;
    struct folder_name complete;
    struct error unsaid;
    char path[FOLDER_PATH_BYTES];
    bool found = false;
    if (file_list_read(&list, target, &unsaid))
        return false;
    for (size_t i = 0; i < list.count && !found; i++)
        found = folder_item(list.name[i], true) == FOLDER_TEMPORARY && list.name[i][0] == '.' &&
                !file_join(path, sizeof path, target, list.name[i], &unsaid) &&
                !folder_name_look(&complete, path, FOLDER_CONTENTS, &unsaid) && complete.exists;
    file_list_free(&list);
    return found;
}
