/* folder_publish.c - how a finished folder takes its place, and what becomes of one whose process was killed; see folder.h.
 *
 * A staging folder that is complete holds .contents: what is kept of the target, and the names that the new folder consists
 * of. From then on it can only go forward: folder_recover does the rest. After an exchange .contents is in the target until
 * the old folder, which stands beside it and has none, is gone.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../util/memory.h"
#include "../json/json.h"
#include "folder_internal.h"

#define CONTENTS ".contents"
#define KEEP_RUN "keep run\n"
#define KEEP_FOREIGN "keep foreign\n"

/* Not what was asked for, but reason enough to do it another way. */
enum { EXCHANGE_IMPOSSIBLE = -1 };

/* Without one of these in it no loader takes a folder for a model or an adapter. */
static const char *const switches[] = {"config.json", "adapter_config.json"};
enum { SWITCHES = 2 };

static bool is_switch(const char *name)
{
    return !strcmp(name, switches[0]) || !strcmp(name, switches[1]);
}

static int failed(const char *path, const char *what, struct error *error)
{
    return error_set(error, STATUS_RUNTIME, "%s: cannot be %s: %s", path, what, strerror(errno));
}

static int name_remove(const char *directory, const char *name, struct error *error)
{
    char path[FOLDER_PATH_BYTES];
    int status = file_join(path, sizeof path, directory, name, error);
    return status ? status : file_remove_tree(path, error);
}

/* What a name in a directory is, and whether it leads to a folder where it is a link. That it cannot be looked at does not mean that it is not there. */
struct name {
    bool exists, is_directory, leads_to_directory;
};
static int name_look(struct name *found, const char *directory, const char *name, struct error *error)
{
    char path[FOLDER_PATH_BYTES];
    struct stat info;
    *found = (struct name){0};
    int status = file_join(path, sizeof path, directory, name, error);
    if (status)
        return status;
    if (lstat(path, &info))
        return errno == ENOENT ? STATUS_OK : failed(path, "looked at", error);
    *found = (struct name){true, S_ISDIR(info.st_mode), S_ISDIR(info.st_mode)};
    if (S_ISLNK(info.st_mode)) /* one that leads nowhere is no folder */
        found->leads_to_directory = !stat(path, &info) && S_ISDIR(info.st_mode);
    return STATUS_OK;
}

/* ---- .contents --------------------------------------------------------------------------------------------------- */

struct contents {
    enum folder_keep keep;
    struct file_list names;
};

static bool contents_have(const struct contents *contents, const char *name)
{
    for (size_t i = 0; i < contents->names.count; i++)
        if (!strcmp(contents->names.name[i], name))
            return true;
    return false;
}

/* Names the folder's contents in it, and puts all of it on the disk. */
static int contents_write(const char *path, enum folder_keep keep, struct contents *contents, struct error *error)
{
    struct buffer text = {0};
    char inner[FOLDER_PATH_BYTES];
    contents->keep = keep;
    int status = file_list_read(&contents->names, path, error);
    if (!status)
        status = buffer_printf(&text, error, "%s", keep == FOLDER_KEEP_RUN ? KEEP_RUN : KEEP_FOREIGN);
    size_t kept = 0;
    for (size_t i = 0; i < contents->names.count; i++) {
        char *name = contents->names.name[i];
        if (name[0] == '.') { /* a lock, an unfinished checkpoint: of no use where it goes */
            free(name);
            continue;
        }
        contents->names.name[kept++] = name;
        if (!status)
            status = buffer_printf(&text, error, "%s\n", name);
        struct name found = {0};
        if (!status)
            status = file_join(inner, sizeof inner, path, name, error);
        if (!status)
            status = name_look(&found, path, name, error);
        if (!status && found.is_directory)
            status = file_sync_directory(inner, error);
    }
    contents->names.count = kept;
    if (!status)
        status = file_join(inner, sizeof inner, path, CONTENTS, error);
    if (!status)
        status = file_write(inner, text.data, text.length, error);
    buffer_free(&text);
    return status ? status : file_sync_directory(path, error);
}

static int contents_read(const char *path, struct contents *contents, struct error *error)
{
    char inner[FOLDER_PATH_BYTES], *text = NULL;
    size_t length;
    *contents = (struct contents){0};
    int status = file_join(inner, sizeof inner, path, CONTENTS, error);
    if (!status)
        status = file_read(inner, 1 << 20, &text, &length, error);
    if (status)
        return status;
    contents->keep = strncmp(text, KEEP_RUN, strlen(KEEP_RUN)) ? FOLDER_KEEP_FOREIGN : FOLDER_KEEP_RUN;
    char *line = strchr(text, '\n');
    for (line = line ? line + 1 : NULL; line && *line && !status;) {
        char *end = strchr(line, '\n');
        if (end)
            *end = 0;
        struct file_list *names = &contents->names;
        if (strchr(line, '/')) /* not of our making */
            status = error_set(error, STATUS_INPUT, "%s: \"%.100s\" is not the name of a file in a folder", inner, line);
        else
            status = memory_grow(&names->name, &names->capacity, names->count + 1, sizeof *names->name, error);
        if (!status && !(names->name[names->count] = memory_string(line, error)))
            status = STATUS_MEMORY;
        names->count += !status;
        line = end ? end + 1 : NULL;
    }
    free(text);
    if (status)
        file_list_free(&contents->names);
    return status;
}

/* ---- in place ---------------------------------------------------------------------------------------------------- */

/* The files that a folder's own run.json lists; NULL where it lists none. */
static cJSON *record_read(const char *directory)
{
    struct error unsaid;
    char path[FOLDER_PATH_BYTES];
    return file_join(path, sizeof path, directory, "run.json", &unsaid) ? NULL : json_read(path, &unsaid);
}

/* Whether a file is as the run that made the folder wrote it: a licence, a card. */
static bool is_recorded(const cJSON *record, const char *directory, const char *name)
{
    const cJSON *listed = json_member(json_member(record, "files"), name), *xxh3 = json_member(listed, "xxh3");
    struct error unsaid;
    struct digest digest;
    char path[FOLDER_PATH_BYTES], text[32];
    if (!cJSON_IsString(xxh3) || file_join(path, sizeof path, directory, name, &unsaid) ||
        checksum_file(path, &digest, &unsaid))
        return false;
    snprintf(text, sizeof text, "%016llx", (unsigned long long)digest.xxh3);
    return !strcmp(text, xxh3->valuestring);
}

bool folder_is_recorded(const char *directory, const char *name)
{
    cJSON *record = record_read(directory);
    const bool recorded = is_recorded(record, directory, name);
    cJSON_Delete(record);
    return recorded;
}

/* Whether a replaced target keeps something of that name. */
static int name_kept(bool *kept, const char *directory, const char *name, enum folder_keep keep, const cJSON *record,
                     struct error *error)
{
    struct name found;
    int status = name_look(&found, directory, name, error);
    const enum folder_item item = folder_item(name, found.leads_to_directory);
    *kept = (item == FOLDER_FOREIGN && !is_recorded(record, directory, name)) ||
            (item == FOLDER_RUN && keep == FOLDER_KEEP_RUN);
    return status;
}

/* Removes from target what the new folder does not have and nobody keeps. */
static int leftovers_remove(const char *target, const struct contents *contents, struct error *error)
{
    struct file_list list;
    cJSON *record = record_read(target);
    int status = file_list_read(&list, target, error);
    for (size_t i = 0; i < list.count && !status; i++) {
        bool kept = true;
        if (list.name[i][0] == '.' || contents_have(contents, list.name[i]))
            continue;
        status = name_kept(&kept, target, list.name[i], contents->keep, record, error);
        if (!status && !kept)
            status = name_remove(target, list.name[i], error);
    }
    cJSON_Delete(record);
    file_list_free(&list);
    return status;
}

/* One name from a folder into target, over what stands there; nothing when it was moved before. */
static int name_move(const char *from, const char *target, const char *name, struct error *error)
{
    char source[FOLDER_PATH_BYTES], place[FOLDER_PATH_BYTES];
    struct name moved, there = {0};
    int status = file_join(source, sizeof source, from, name, error);
    if (!status)
        status = file_join(place, sizeof place, target, name, error);
    if (!status)
        status = name_look(&moved, from, name, error);
    if (status || !moved.exists)
        return status;
    status = name_look(&there, target, name, error);
    if (!status && there.exists && (moved.is_directory || there.is_directory))
        status = file_remove_tree(place, error);
    if (!status && rename(source, place))
        status = failed(source, "moved", error);
    return status;
}

/* Removes a switch of the old folder from target, unless it is the new one's that was moved in before. */
static int switch_off(const char *path, const char *target, const char *name, const struct contents *contents, bool *was_on,
                      struct error *error)
{
    struct name there, waits = {0};
    int status = name_look(&there, target, name, error);
    if (!status)
        status = name_look(&waits, path, name, error);
    if (status || !there.exists || (!waits.exists && contents_have(contents, name)))
        return status;
    *was_on = true;
    return name_remove(target, name, error);
}

/* Moves a complete folder into target. May be begun again after any of its steps. */
static int move_in(const char *path, const char *target, const struct contents *contents, struct error *error)
{
    int status = STATUS_OK;
    bool was_on = false;
    for (int i = 0; i < SWITCHES && !status; i++)
        status = switch_off(path, target, switches[i], contents, &was_on, error);
    if (!status && was_on)
        status = file_sync_directory(target, error);
    if (!status)
        status = leftovers_remove(target, contents, error);
    for (size_t i = 0; i < contents->names.count && !status; i++)
        if (!is_switch(contents->names.name[i]))
            status = name_move(path, target, contents->names.name[i], error);
    if (!status)
        status = file_sync_directory(target, error);
    for (int i = 0; i < SWITCHES && !status; i++)
        if (contents_have(contents, switches[i]))
            status = name_move(path, target, switches[i], error);
    if (!status)
        status = file_sync_directory(target, error);
    if (!status)
        return file_remove_tree(path, error);
    struct error why = *error;
    return error_set(error, why.status, "%.500s; the new files are whole in %.300s, 'flat verify --finish' moves them in",
                     why.text, path);
}

/* ---- exchange ---------------------------------------------------------------------------------------------------- */

/* What a file system, a mount point or a parent that is not ours answers; anything else is a failure. */
static bool is_refusal(int failure)
{
    return failure == EXDEV || failure == EINVAL || failure == ENOSYS || failure == EOPNOTSUPP || failure == EBUSY ||
           failure == EACCES || failure == EPERM || failure == EROFS || failure == ENAMETOOLONG;
}

/* Brings back from the old folder, which stands at `old` now, what nobody's model is, and removes the rest. */
static int old_remove(const char *old, const char *target, enum folder_keep keep, struct error *error)
{
    struct file_list list;
    cJSON *record = record_read(old);
    int status = file_list_read(&list, old, error);
    for (size_t i = 0; i < list.count && !status; i++) {
        struct name there = {0};
        bool kept = false;
        status = name_kept(&kept, old, list.name[i], keep, record, error);
        if (!status && kept)
            status = name_look(&there, target, list.name[i], error);
        if (!status && kept && !there.exists)
            status = name_move(old, target, list.name[i], error);
    }
    cJSON_Delete(record);
    file_list_free(&list);
    if (!status)
        status = file_sync_directory(target, error);
    return status ? status : file_remove_tree(old, error);
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
        return failed(target, "looked at", error);
    if (chmod(path, info.st_mode & 07777) && !is_refusal(errno))
        return failed(path, "given its mode", error);
    if (rename(path, beside))
        return is_refusal(errno) ? EXCHANGE_IMPOSSIBLE : failed(path, "moved", error);
    if (renameat2(AT_FDCWD, beside, AT_FDCWD, target, RENAME_EXCHANGE)) {
        const int failure = errno;
        if (rename(beside, path))
            return failed(beside, "moved back", error);
        errno = failure;
        return is_refusal(failure) ? EXCHANGE_IMPOSSIBLE : failed(target, "exchanged", error);
    }
    *done = true;
    status = file_sync_directory(parent, error);
    if (!status)
        status = old_remove(beside, target, keep, error);
    if (!status)
        status = name_remove(target, CONTENTS, error);
    return status ? error_prefix(error, "%s: the new files are in place, but", target) : STATUS_OK;
}

/* ---- both -------------------------------------------------------------------------------------------------------- */

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
    struct contents contents = {0};
    bool model = false;
    *begun = false;
    int status = contents_write(path, keep, &contents, error);
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
        status = move_in(path, target, &contents, error);
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
            status = begun ? file_sync_directory(parent, error) : failed(folder->target, "made", error);
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

/* ---- what others have left ---------------------------------------------------------------------------------------- */

/* A staging folder whose process is gone: moved in when it is complete, removed when it is not. */
static int staging_recover(const char *path, const char *target, struct error *error)
{
    struct contents contents;
    struct name complete;
    const int fd = folder_lock_staging(path);
    if (fd < 0)
        return STATUS_OK;
    int status = name_look(&complete, path, CONTENTS, error);
    if (!status && !complete.exists) {
        status = file_remove_tree(path, error);
    } else if (!status && file_is_directory(target) && !(status = contents_read(path, &contents, error))) {
        status = move_in(path, target, &contents, error);
        file_list_free(&contents.names);
    }
    close(fd);
    return status;
}

/* A folder beside target: one that was on its way into it, or the old one after an exchange. */
static int beside_recover(const char *path, const char *target, struct error *error)
{
    struct contents contents = {.keep = FOLDER_KEEP_FOREIGN};
    struct name complete, exchanged;
    int status = name_look(&complete, path, CONTENTS, error);
    if (status || complete.exists || !file_is_directory(target))
        return status ? status : staging_recover(path, target, error);
    const int fd = folder_lock_staging(path);
    if (fd < 0)
        return STATUS_OK;
    status = name_look(&exchanged, target, CONTENTS, error);
    if (!status && exchanged.exists)
        status = contents_read(target, &contents, error);
    file_list_free(&contents.names);
    if (!status)
        status = old_remove(path, target, contents.keep, error);
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
        struct name complete = {0};
        if (!status && file_is_unique_name(list.name[i], FOLDER_RUN_PREFIX))
            status = name_look(&complete, path, CONTENTS, error);
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
    return status ? status : name_remove(real, CONTENTS, error);
}

bool folder_is_interrupted(const char *target)
{
    struct file_list list;
    struct name complete;
    struct error unsaid;
    char path[FOLDER_PATH_BYTES];
    bool found = false;
    if (file_list_read(&list, target, &unsaid))
        return false;
    for (size_t i = 0; i < list.count && !found; i++)
        found = folder_item(list.name[i], true) == FOLDER_TEMPORARY && list.name[i][0] == '.' &&
                !file_join(path, sizeof path, target, list.name[i], &unsaid) &&
                !name_look(&complete, path, CONTENTS, &unsaid) && complete.exists;
    file_list_free(&list);
    return found;
}
