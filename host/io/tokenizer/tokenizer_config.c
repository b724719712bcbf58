/* tokenizer_config.c - the small files beside a vocabulary: tokenizer_config.json, and special_tokens_map.json and
 * added_tokens.json of older folders.
 */
#include <stdlib.h>
#include <string.h>

#include "../../util/file.h"
#include "../json/json.h"
#include "tokenizer_json.h"

static int file_parse(const char *directory, const char *name, cJSON **tree, struct error *error)
{
    char path[sizeof ((struct tokenizer_config *)0)->path];
    int status = file_join(path, sizeof path, directory, name, error);
    if (status || !file_exists(path))
        return status;
    *tree = json_read(path, error);
    if (!*tree)
        return error->status;
    if (!cJSON_IsObject(*tree))
        return error_set(error, STATUS_INPUT, "%s: expected an object", path);
    return STATUS_OK;
}

int tokenizer_config_read(struct tokenizer_config *config, const char *directory, struct error *error)
{
    int status = file_join(config->path, sizeof config->path, directory, "tokenizer_config.json", error);
    if (!status)
        status = file_parse(directory, "tokenizer_config.json", &config->tree, error);
    if (!status)
        status = file_parse(directory, "special_tokens_map.json", &config->special_tokens, error);
    if (!status)
        status = file_parse(directory, "added_tokens.json", &config->added_tokens, error);
    return status;
}

void tokenizer_config_free(struct tokenizer_config *config)
{
    cJSON_Delete(config->tree);
    cJSON_Delete(config->special_tokens);
    cJSON_Delete(config->added_tokens);
}

/* The value of a special token's key, NULL when no file has it. */
static const cJSON *special_value(const struct tokenizer_config *config, const char *key)
{
    const cJSON *value = json_member(config->tree, key);
    return value ? value : json_member(config->special_tokens, key);
}

static int special_text(const struct tokenizer_config *config, const char *key, const cJSON *value, const char **text,
                        struct error *error)
{
    const cJSON *content = cJSON_IsObject(value) ? json_member(value, "content") : value;
    *text = NULL;
    if (cJSON_IsString(content))
        *text = content->valuestring;
    else if (value && !cJSON_IsNull(value))
        return error_set(error, STATUS_INPUT, "%s: %s: expected a string, an object with content, or null",
                         config->path, key);
    return STATUS_OK;
}

int tokenizer_config_special(const struct tokenizer_config *config, const char *key, const char **text, bool *stated,
                             struct error *error)
{
    const cJSON *value = special_value(config, key);
    *stated = value != NULL;
    return special_text(config, key, value, text, error);
}

int tokenizer_config_flag(const struct tokenizer_config *config, const char *key, bool *value, struct error *error)
{
    return config->tree ? json_get_bool_or(config->tree, config->path, key, value, error) : STATUS_OK;
}

/* A token with the id that a file gives it. */
struct listed_token {
    struct added_token token;
    int64_t id;
};

static int listed_compare(const void *a, const void *b)
{
    int64_t left = ((const struct listed_token *)a)->id, right = ((const struct listed_token *)b)->id;
    return (left > right) - (left < right);
}

/* {"151643": {"content": ..., flags}} */
static int decoder_entry_read(const cJSON *item, const char *path, struct listed_token *listed, struct error *error)
{
    char *end;
    listed->id = strtoll(item->string, &end, 10);
    if (*end || end == item->string || listed->id < 0)
        return error_set(error, STATUS_INPUT, "%s: added_tokens_decoder: '%.64s' is not an id", path, item->string);
    return added_token_read(item, path, &listed->token, error);
}

/* {"<pad>": 32000} */
static int id_entry_read(const cJSON *item, struct listed_token *listed, struct error *error)
{
    listed->token = (struct added_token){.content = item->string, .normalized = true};
    if (!json_integer(item, &listed->id) || listed->id < 0)
        return error_set(error, STATUS_INPUT, "added_tokens.json: the id of '%.64s' is not a whole number",
                         item->string);
    return STATUS_OK;
}

/* Adds the tokens of one of the two lists, in the order of their ids as transformers does. */
static int listed_add(struct tokenizer *tokenizer, const struct tokenizer_config *config, const cJSON *list,
                      bool with_flags, struct error *error)
{
    size_t count = (size_t)cJSON_GetArraySize(list), i = 0;
    struct listed_token *listed = memory_array(count, sizeof *listed, error);
    int status = listed ? STATUS_OK : STATUS_MEMORY;
    for (const cJSON *item = list->child; item && !status; item = item->next, i++)
        status = with_flags ? decoder_entry_read(item, config->path, &listed[i], error)
                            : id_entry_read(item, &listed[i], error);
    if (!status)
        qsort(listed, count, sizeof *listed, listed_compare);
    for (i = 0; i < count && !status; i++)
        if ((status = added_add(&tokenizer->added, &tokenizer->bpe.vocabulary, &listed[i].token, listed[i].id, error)))
            error_prefix(error, "%s", with_flags ? config->path : "added_tokens.json");
    free(listed);
    return status;
}

/* A named special token joins the added ones, or makes one of them special. */
static int special_add(struct tokenizer *tokenizer, const struct tokenizer_config *config, const char *key,
                       const cJSON *value, struct error *error)
{
    const char *text;
    struct added_token token = {0};
    int status = special_text(config, key, value, &text, error);
    if (status || !text)
        return status;
    int32_t index = vocabulary_find(&tokenizer->added.names, text, strlen(text));
    if (index >= 0) {
        tokenizer->added.token[index].special = true;
        return STATUS_OK;
    }
    if (cJSON_IsObject(value) && (status = added_token_read(value, config->path, &token, error)))
        return status;
    token.content = (char *)text; /* borrowed: added_add copies it */
    token.special = true;
    status = added_add(&tokenizer->added, &tokenizer->bpe.vocabulary, &token, -1, error);
    if (status)
        error_prefix(error, "%s: %s", config->path, key);
    return status;
}

int tokenizer_config_add_tokens(struct tokenizer *tokenizer, const struct tokenizer_config *config, struct error *error)
{
    static const char *const keys[] = {"bos_token", "eos_token", "unk_token", "pad_token"};
    const cJSON *list = json_member(config->tree, "added_tokens_decoder");
    int status = STATUS_OK;
    if (list && !cJSON_IsObject(list))
        return error_set(error, STATUS_INPUT, "%s: added_tokens_decoder: expected an object", config->path);
    if (list || config->added_tokens)
        status = listed_add(tokenizer, config, list ? list : config->added_tokens, list != NULL, error);
    for (size_t i = 0; i < sizeof keys / sizeof *keys && !status; i++)
        status = special_add(tokenizer, config, keys[i], special_value(config, keys[i]), error);
    list = special_value(config, "additional_special_tokens");
    if (list && !cJSON_IsNull(list) && !cJSON_IsArray(list) && !status)
        return error_set(error, STATUS_INPUT, "%s: additional_special_tokens: expected an array", config->path);
    for (const cJSON *item = list ? list->child : NULL; item && !status; item = item->next)
        status = special_add(tokenizer, config, "additional_special_tokens", item, error);
    return status;
}
