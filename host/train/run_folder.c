/* run_folder.c - see run_folder.h. */
#include "run_folder.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- what is refused --------------------------------------------------------------------------------------------- */

static bool is_same(const struct stat *one, const struct stat *two)
{
    return one->st_dev == two->st_dev && one->st_ino == two->st_ino;
}

/* Whether a path is a folder or lies anywhere in it: by what the names lead to, not by how they are spelled. */
static bool lies_in(const char *path, const struct stat *folder)
{
    char real[PATH_MAX];
    struct stat info;
    if (!realpath(path, real)) /* not there, or a pipe: not in a folder */
        return false;
    for (;;) {
        if (!stat(real, &info) && is_same(&info, folder))
            return true;
        char *slash = strrchr(real, '/');
        if (!slash || !strcmp(real, "/"))
            return false;
        slash[slash == real] = 0;
    }
}

static int inputs_check(const char *output_dir, const struct run_input *inputs, int count, struct error *error)
{
    struct stat folder, info;
    if (stat(output_dir, &folder))
        return STATUS_OK;
    for (int i = 0; i < count; i++) {
        if (!inputs[i].path || !*inputs[i].path || !lies_in(inputs[i].path, &folder))
            continue;
        if (!stat(inputs[i].path, &info) && is_same(&info, &folder))
            return error_set(error, STATUS_USAGE, "output_dir: %s is the folder of %s; choose another", output_dir,
                             strcmp(inputs[i].option, "adapter") ? "the model itself" : "the adapter");
        return error_set(error, STATUS_USAGE, "output_dir: %s: %s is read from it (%s); choose another folder", output_dir,
                         inputs[i].option, inputs[i].path);
    }
    return STATUS_OK;
}

static int occupied_check(const char *output_dir, bool overwrite, bool *occupied, struct error *error)
{
    char name[256];
    int status = folder_occupied(output_dir, name, error);
    *occupied = *name;
    if (status || !*name || overwrite)
        return status;
    return error_set(error, STATUS_USAGE, "output_dir: %s holds a model or an earlier run already (%s); choose another folder "
                     "or add --overwrite_output_dir", output_dir, name);
}

int run_folder_check(const char *output_dir, bool overwrite, const struct run_input *inputs, int count, struct error *error)
{
    bool occupied;
    if (!file_exists(output_dir))
        return STATUS_OK;
    if (!file_is_directory(output_dir))
        return error_set(error, STATUS_USAGE, "output_dir: %s is a file; choose a folder", output_dir);
    int status = inputs_check(output_dir, inputs, count, error);
    return status ? status : occupied_check(output_dir, overwrite, &occupied, error);
}

bool run_folder_has(const char *output_dir, const char *path)
{
    struct stat folder;
    return !stat(output_dir, &folder) && lies_in(path, &folder);
}

/* ---- the run's ----------------------------------------------------------------------------------------------------- */

/* Folders of runs that have not taken their place: killed ones, for the lock is ours. `but` is gone on with. */
static int dead_runs_remove(const char *output_dir, const char *but, struct error *error)
{
    struct file_list list;
    char path[FOLDER_PATH_BYTES];
    int status = file_list_read(&list, output_dir, error);
    for (size_t i = 0; i < list.count && !status; i++) {
        if (!file_is_unique_name(list.name[i], FOLDER_RUN_PREFIX))
            continue;
        status = file_join(path, sizeof path, output_dir, list.name[i], error);
        if (!status && strcmp(path, but))
            status = file_remove_tree(path, error);
    }
    file_list_free(&list);
    return status;
}

/* The folder that a checkpoint is in: output_dir, or one inside that was to take its place. */
static int checkpoint_folder(struct run_folder *folder, const char *checkpoint, struct error *error)
{
    char parent[PATH_MAX], real[PATH_MAX];
    const int n = snprintf(parent, sizeof parent, "%s/..", checkpoint);
    char *name = n > 0 && (size_t)n < sizeof parent && realpath(parent, real) ? strrchr(real, '/') : NULL;
    if (!name)
        return error_set(error, STATUS_USAGE, "resume_from_checkpoint: %s: cannot be found any more; try again", checkpoint);
    folder->replaces = file_is_unique_name(name + 1, FOLDER_RUN_PREFIX);
    return folder->replaces ? file_join(folder->path, sizeof folder->path, folder->output_dir, name + 1, error) : STATUS_OK;
}

/* A folder inside output_dir for the run's files. */
static int aside_make(struct run_folder *folder, struct error *error)
{
    char prefix[FOLDER_PATH_BYTES];
    int status = file_join(prefix, sizeof prefix, folder->output_dir, FOLDER_RUN_PREFIX, error);
    if (!status)
        status = file_unique_name(folder->path, sizeof folder->path, prefix, error);
    if (!status && mkdir(folder->path, 0777))
        status = error_set(error, STATUS_RUNTIME, "%s: cannot be made: %s", folder->path, strerror(errno));
    folder->replaces = !status;
    return status;
}

int run_folder_recover(const char *output_dir, struct error *error)
{
    struct folder_lock lock = {.fd = -1};
    if (!file_is_directory(output_dir))
        return STATUS_OK;
    int status = folder_lock_take(&lock, output_dir, error);
    if (!status)
        status = folder_recover(output_dir, error);
    folder_lock_release(&lock);
    return status;
}

int run_folder_open(struct run_folder *folder, const char *output_dir, bool overwrite, mode_t mode, const char *checkpoint,
                    struct error *error)
{
    struct stat info;
    bool occupied = false;
    *folder = (struct run_folder){.lock.fd = -1, .made = !file_exists(output_dir)};
    if ((size_t)snprintf(folder->output_dir, sizeof folder->output_dir, "%s", output_dir) >= sizeof folder->output_dir)
        return error_set(error, STATUS_USAGE, "output_dir: %.64s...: the path is too long", output_dir);
    memcpy(folder->path, folder->output_dir, sizeof folder->path);
    int status = file_make_directory(output_dir, error);
    if (!status && folder->made && (stat(output_dir, &info) || chmod(output_dir, info.st_mode & mode)))
        status = error_set(error, STATUS_RUNTIME, "%s: cannot be given its mode: %s", output_dir, strerror(errno));
    if (!status)
        status = folder_lock_take(&folder->lock, output_dir, error);
    if (!status)
        status = folder_recover(output_dir, error);
    const bool goes_on = *checkpoint && run_folder_has(output_dir, checkpoint);
    if (!status && goes_on) {
        status = checkpoint_folder(folder, checkpoint, error);
        if (!status && folder->replaces)
            status = folder_recover(folder->path, error);
    } else if (!status) {
        status = occupied_check(output_dir, overwrite, &occupied, error);
    }
    if (!status)
        status = dead_runs_remove(output_dir, folder->path, error);
    return !status && !goes_on && occupied ? aside_make(folder, error) : status;
}

int run_folder_finish(struct run_folder *folder, struct error *error)
{
    if (!folder->replaces)
        return STATUS_OK;
    int status = folder_replace(folder->output_dir, folder->path, &folder->lock, error);
    if (!status) {
        memcpy(folder->path, folder->output_dir, sizeof folder->path);
        folder->replaces = false;
    }
    return status;
}

static bool has_checkpoint(const char *directory)
{
    struct file_list list;
    struct error unsaid;
    bool found = false;
    if (file_list_read(&list, directory, &unsaid))
        return true; /* who knows */
    for (size_t i = 0; i < list.count; i++)
        found |= folder_checkpoint(list.name[i]) >= 0;
    file_list_free(&list);
    return found;
}

void run_folder_close(struct run_folder *folder)
{
    struct error unsaid;
    if (folder->replaces && !has_checkpoint(folder->path))
        (void)file_remove_tree(folder->path, &unsaid); /* what stays is removed by the next run */
    folder_lock_release(&folder->lock);
    if (folder->made)
        rmdir(folder->output_dir); /* fails where something was written, as it should */
    folder->made = false;
}
