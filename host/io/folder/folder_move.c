/* folder_move.c - files on their way from one folder into another: what a complete folder consists of, what a target keeps, and
 * the moves, each of which may be begun again after a kill; see folder.h and folder_publish.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../util/memory.h"
#include "../json/json.h"
#include "folder_internal.h"

#define KEEP_RUN "keep run\n"
#define KEEP_FOREIGN "keep foreign\n"

/* Without one of these in it no loader takes a folder for a model or an adapter. */
static const char *const switches[] = {"config.json", "adapter_config.json"};
enum { SWITCHES = 2 };

static bool is_switch(const char *name)
{
    return !strcmp(name, switches[0]) || !strcmp(name, switches[1]);
}

int folder_failed(const char *path, const char *what, struct error *error)
{
    return error_set(error, STATUS_RUNTIME, "%s: cannot be %s: %s", path, what, strerror(errno));
}

int folder_name_remove(const char *directory, const char *name, struct error *error)
{
    char path[FOLDER_PATH_BYTES];
    int status = file_join(path, sizeof path, directory, name, error);
    return status ? status : file_remove_tree(path, error);
}

int folder_name_look(struct folder_name *found, const char *directory, const char *name, struct error *error)
{
    char path[FOLDER_PATH_BYTES];
    struct stat info;
    *found = (struct folder_name){0};
    int status = file_join(path, sizeof path, directory, name, error);
    if (status)
        return status;
    if (lstat(path, &info))
        return errno == ENOENT ? STATUS_OK : folder_failed(path, "looked at", error);
    *found = (struct folder_name){true, S_ISDIR(info.st_mode), S_ISDIR(info.st_mode)};
    if (S_ISLNK(info.st_mode)) /* one that leads nowhere is no folder */
        found->leads_to_directory = !stat(path, &info) && S_ISDIR(info.st_mode);
    return STATUS_OK;
}

/* ---- .contents --------------------------------------------------------------------------------------------------- */

static bool contents_have(const struct folder_contents *contents, const char *name)
{
    for (size_t i = 0; i < contents->names.count; i++)
        if (!strcmp(contents->names.name[i], name))
            return true;
    return false;
}

int folder_contents_write(const char *path, enum folder_keep keep, struct folder_contents *contents, struct error *error)
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
        struct folder_name found = {0};
        if (!status)
            status = file_join(inner, sizeof inner, path, name, error);
        if (!status)
            status = folder_name_look(&found, path, name, error);
        if (!status && found.is_directory)
            status = file_sync_directory(inner, error);
    }
    contents->names.count = kept;
    if (!status)
        status = file_join(inner, sizeof inner, path, FOLDER_CONTENTS, error);
    if (!status)
        status = file_write(inner, text.data, text.length, error);
    buffer_free(&text);
    return status ? status : file_sync_directory(path, error);
}

int folder_contents_read(const char *path, struct folder_contents *contents, struct error *error)
{
    char inner[FOLDER_PATH_BYTES], *text = NULL;
    size_t length;
    *contents = (struct folder_contents){0};
    int status = file_join(inner, sizeof inner, path, FOLDER_CONTENTS, error);
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

/* A folder's own run.json, which lists its files; NULL where there is none, or none that can be read. */
static int record_read(const char *directory, cJSON **record, struct error *error)
{
    struct error found = {0};
    char path[FOLDER_PATH_BYTES];
    *record = file_join(path, sizeof path, directory, "run.json", &found) ? NULL : json_read(path, &found);
    if (*record || found.status != STATUS_MEMORY)
        return STATUS_OK;
    *error = found;
    return STATUS_MEMORY;
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
    struct error unsaid;
    cJSON *record;
    const bool recorded = !record_read(directory, &record, &unsaid) && is_recorded(record, directory, name);
    cJSON_Delete(record);
    return recorded;
}

/* Whether a replaced target keeps something of that name. */
static int name_kept(bool *kept, const char *directory, const char *name, enum folder_keep keep, const cJSON *record,
                     struct error *error)
{
    struct folder_name found;
    int status = folder_name_look(&found, directory, name, error);
    const enum folder_item item = folder_item(name, found.leads_to_directory);
    *kept = (item == FOLDER_FOREIGN && !is_recorded(record, directory, name)) ||
            (item == FOLDER_RUN && keep == FOLDER_KEEP_RUN);
    return status;
}

/* Removes from target what the new folder does not have and nobody keeps. */
static int leftovers_remove(const char *target, const struct folder_contents *contents, struct error *error)
{
    struct file_list list = {0};
    cJSON *record;
    int status = record_read(target, &record, error);
    if (!status)
        status = file_list_read(&list, target, error);
    for (size_t i = 0; i < list.count && !status; i++) {
        bool kept = true;
        if (list.name[i][0] == '.' || contents_have(contents, list.name[i]))
            continue;
        status = name_kept(&kept, target, list.name[i], contents->keep, record, error);
        if (!status && !kept)
            status = folder_name_remove(target, list.name[i], error);
    }
    cJSON_Delete(record);
    file_list_free(&list);
    return status;
}

/* One name from a folder into target, over what stands there; nothing when it was moved before. */
static int name_move(const char *from, const char *target, const char *name, struct error *error)
{
    char source[FOLDER_PATH_BYTES], place[FOLDER_PATH_BYTES];
    struct folder_name moved, there = {0};
    int status = file_join(source, sizeof source, from, name, error);
    if (!status)
        status = file_join(place, sizeof place, target, name, error);
    if (!status)
        status = folder_name_look(&moved, from, name, error);
    if (status || !moved.exists)
        return status;
    status = folder_name_look(&there, target, name, error);
    if (!status && there.exists && (moved.is_directory || there.is_directory))
        status = file_remove_tree(place, error);
    if (!status && rename(source, place))
        status = folder_failed(source, "moved", error);
    return status;
}

/* Removes a switch of the old folder from target, unless it is the new one's that was moved in before. */
static int switch_off(const char *path, const char *target, const char *name, const struct folder_contents *contents, bool *was_on,
                      struct error *error)
{
    struct folder_name there, waits = {0};
    int status = folder_name_look(&there, target, name, error);
    if (!status)
        status = folder_name_look(&waits, path, name, error);
    if (status || !there.exists || (!waits.exists && contents_have(contents, name)))
        return status;
    *was_on = true;
    return folder_name_remove(target, name, error);
}

int folder_move_in(const char *path, const char *target, const struct folder_contents *contents, struct error *error)
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

int folder_old_remove(const char *old, const char *target, enum folder_keep keep, struct error *error)
{
    struct file_list list = {0};
    cJSON *record;
    int status = record_read(old, &record, error);
    if (!status)
        status = file_list_read(&list, old, error);
    for (size_t i = 0; i < list.count && !status; i++) {
        struct folder_name there = {0};
        bool kept = false;
        status = name_kept(&kept, old, list.name[i], keep, record, error);
        if (!status && kept)
            status = folder_name_look(&there, target, list.name[i], error);
        if (!status && kept && !there.exists)
            status = name_move(old, target, list.name[i], error);
    }
    cJSON_Delete(record);
    file_list_free(&list);
    if (!status)
        status = file_sync_directory(target, error);
    return status ? status : file_remove_tree(old, error);
}
