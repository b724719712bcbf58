/* chat_template_files.c - the chat template that a model folder brings, found as AutoTokenizer finds it: chat_template.jinja
 * and additional_chat_templates/NAME.jinja, and without any of them what tokenizer_config.json has, a text or several by
 * name. Of several the one named "default" is meant unless another is asked for.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../util/file.h"
#include "../json/json.h"
#include "chat_template.h"

static const size_t max_template_bytes = (size_t)1 << 20;

/* A template's text with where it was found, for messages. */
struct found {
    char path[4200];
    char *text;
    struct buffer names; /* of the templates that there are, when the wanted one is not among them */
};

static int name_add(struct found *found, const char *name, struct error *error)
{
    return buffer_printf(&found->names, error, "%s%s", found->names.length ? ", " : "", name);
}

static int file_find(struct found *found, const char *directory, const char *file, struct error *error)
{
    size_t length;
    int status = file_join(found->path, sizeof found->path, directory, file, error);
    if (status || !file_exists(found->path))
        return status;
    status = file_read(found->path, max_template_bytes, &found->text, &length, error);
    if (!status && memchr(found->text, 0, length))
        status = error_set(error, STATUS_INPUT, "%s: expected text, found a zero byte", found->path);
    return status;
}

/* The names of additional_chat_templates/, for the message that says what there is. */
static int names_list(struct found *found, const char *directory, struct error *error)
{
    char path[4200];
    int status = file_join(path, sizeof path, directory, "additional_chat_templates", error);
    DIR *stream = status ? NULL : opendir(path);
    for (struct dirent *entry; stream && !status && (entry = readdir(stream));) {
        const size_t length = strlen(entry->d_name), suffix = strlen(".jinja");
        if (length > suffix && !strcmp(entry->d_name + length - suffix, ".jinja")) {
            entry->d_name[length - suffix] = 0;
            status = name_add(found, entry->d_name, error);
        }
    }
    if (stream)
        closedir(stream);
    return status;
}

static int config_find(struct found *found, const cJSON *template_, const char *name, struct error *error)
{
    const cJSON *text = NULL;
    int status = STATUS_OK;
    if (!template_ || cJSON_IsNull(template_))
        return STATUS_OK;
    if (cJSON_IsString(template_) && !strcmp(name, "default"))
        text = template_;
    else if (cJSON_IsString(template_))
        status = name_add(found, "default", error);
    else if (!cJSON_IsArray(template_) && !cJSON_IsObject(template_))
        return error_set(error, STATUS_INPUT, "%s: chat_template: expected a text, or a list of {name, template}",
                         found->path);
    for (const cJSON *item = cJSON_IsString(template_) ? NULL : template_->child; item && !status; item = item->next) {
        const bool named = cJSON_IsObject(template_);
        const char *own = named ? item->string : cJSON_GetStringValue(json_member(item, "name"));
        const cJSON *own_text = named ? item : json_member(item, "template");
        if (!own || !cJSON_IsString(own_text))
            return error_set(error, STATUS_INPUT, "%s: chat_template: expected objects with name and template", found->path);
        if (!strcmp(own, name))
            text = own_text;
        status = name_add(found, own, error);
    }
    if (!status && text && !(found->text = memory_string(text->valuestring, error)))
        status = STATUS_MEMORY;
    return status;
}

static int template_find(struct found *found, const char *directory, const char *name, struct error *error)
{
    char file[256];
    const bool is_default = !strcmp(name, "default");
    snprintf(file, sizeof file, "additional_chat_templates/%.200s.jinja", name);
    int status = file_find(found, directory, is_default ? "chat_template.jinja" : file, error);
    if (status || found->text)
        return status;
    status = names_list(found, directory, error);
    if (!status && !is_default)
        status = file_join(found->path, sizeof found->path, directory, "chat_template.jinja", error);
    if (!status && !is_default && file_exists(found->path))
        status = name_add(found, "default", error);
    if (status || found->names.length)
        return status;
    status = file_join(found->path, sizeof found->path, directory, "tokenizer_config.json", error);
    if (status || !file_exists(found->path))
        return status;
    cJSON *config = json_read(found->path, error);
    status = config ? config_find(found, json_member(config, "chat_template"), name, error) : error->status;
    cJSON_Delete(config);
    return status;
}

int chat_template_find(const char *directory, const char *name, const struct chat_format **format, struct error *error)
{
    struct found found = {0};
    uint64_t fingerprint = 0;
    *format = NULL;
    name = *name ? name : "default";
    int status = template_find(&found, directory, name, error);
    if (!status && found.text)
        status = chat_format_recognize(found.text, strlen(found.text), format, &fingerprint, error);
    if (!status && found.text && !*format)
        status = error_set(error, STATUS_INPUT,
                           "%s: the chat template is none of the known ones (its fingerprint is %016llx); name one that "
                           "writes the same, as --prompt_template chatml, or give its tags: --prompt_template.user_start "
                           "'<|user|>\\n' --prompt_template.user_end '<|end|>\\n' --prompt_template.answer_start "
                           "'<|assistant|>\\n' --prompt_template.answer_end '<|end|>'", found.path,
                           (unsigned long long)fingerprint);
    if (!status && !found.text && found.names.length)
        status = error_set(error, STATUS_INPUT, "%s: no chat template is named '%.64s'; there are: %.300s; choose one by "
                           "--prompt_template auto:NAME", directory, name, found.names.data);
    buffer_free(&found.names);
    free(found.text);
    return status;
}
