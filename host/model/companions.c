/* companions.c - see companions.h. */
#include "companions.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../io/json/json.h"
#include "../util/memory.h"

enum { CONFIG_MAX_BYTES = 1 << 24 };

mode_t companions_mode(const char *directory)
{
    struct stat info;
    return stat(directory, &info) ? FOLDER_MODE : (info.st_mode & FOLDER_MODE) | S_IRWXU;
}

/* config.json with another dtype, under the name that it has for it: torch_dtype until transformers 4, dtype since. */
static int config_copy(const char *from, mode_t mode, const char *dtype, struct folder *folder, struct error *error)
{
    static const char *const name[] = {"torch_dtype", "dtype"};
    char *text = NULL;
    size_t length = 0;
    struct buffer edited = {0};
    int status = file_read(from, CONFIG_MAX_BYTES, &text, &length, error);
    cJSON *config = status ? NULL : json_parse(text, length, from, error), *members = cJSON_CreateObject();
    if (!status && !config)
        status = error->status;
    for (int i = 0; i < 2 && !status; i++)
        if (json_member(config, name[i]) && !json_add_string(members, name[i], dtype))
            status = error_set(error, STATUS_MEMORY, "%s: out of host memory", from);
    if (!status)
        status = json_edit(text, length, members, &edited, error);
    if (!status)
        status = folder_write(folder, "config.json", mode, edited.data, edited.length, error);
    buffer_free(&edited);
    cJSON_Delete(config);
    cJSON_Delete(members);
    free(text);
    return status;
}

/* additional_chat_templates/: the named templates of a tokenizer. */
static int templates_copy(const char *directory, struct folder *folder, struct error *error)
{
    struct file_list list;
    char from[FOLDER_PATH_BYTES], name[300];
    struct stat info;
    int status = file_list_read(&list, directory, error);
    for (size_t i = 0; i < list.count && !status; i++) {
        status = file_join(from, sizeof from, directory, list.name[i], error);
        if (status || list.name[i][0] == '.' || stat(from, &info) || !S_ISREG(info.st_mode))
            continue;
        snprintf(name, sizeof name, "additional_chat_templates/%s", list.name[i]);
        status = folder_copy(folder, from, name, error);
    }
    file_list_free(&list);
    return status;
}

/* The name of a companion in the new folder. */
static void name_print(const char *name, char out[300])
{
    static const char *const card[] = {"README", "MODEL_CARD"};
    for (int i = 0; i < 2; i++) {
        const size_t head = strlen(card[i]), length = strlen(name);
        size_t bases = head;
        if (strncmp(name, card[i], head))
            continue;
        while (!strncmp(name + bases, ".base", 5))
            bases += 5;
        if (!strcmp(name + bases, ".md") && length < 255 - 5) {
            snprintf(out, 300, "%.*s.base.md", (int)bases, name);
            return;
        }
    }
    snprintf(out, 300, "%s", name);
}

static bool belongs(enum folder_item item)
{
    return item == FOLDER_MODEL || item == FOLDER_FOREIGN;
}

int companions_copy(const char *directory, const char *dtype, struct folder *folder, struct error *error)
{
    struct file_list list;
    char from[FOLDER_PATH_BYTES], to[300];
    struct stat info;
    int status = file_list_read(&list, directory, error);
    for (size_t i = 0; i < list.count && !status; i++) {
        const char *name = list.name[i];
        if (name[0] == '.')
            continue;
        status = file_join(from, sizeof from, directory, name, error);
        if (!status && stat(from, &info))
            status = error_set(error, STATUS_INPUT, "%s: cannot be read: %s", from, strerror(errno));
        if (status || !belongs(folder_item(name, S_ISDIR(info.st_mode))))
            continue;
        if (S_ISDIR(info.st_mode) && !strcmp(name, "additional_chat_templates"))
            status = templates_copy(from, folder, error);
        else if (S_ISREG(info.st_mode) && dtype && !strcmp(name, "config.json"))
            status = config_copy(from, file_copy_mode(info.st_mode), dtype, folder, error);
        else if (S_ISREG(info.st_mode)) {
            name_print(name, to);
            status = folder_copy(folder, from, to, error);
        }
    }
    file_list_free(&list);
    return status;
}
