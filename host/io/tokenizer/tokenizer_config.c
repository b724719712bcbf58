/* tokenizer_config.c - the small files beside a vocabulary: tokenizer_config.json, special_tokens_map.json and
 * added_tokens.json of older folders, and config.json, which has a say in how a tokenizer is read.
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
    struct error ignored = {0}; /* what is wrong with config.json is its own reader's to say */
    int status = file_join(config->path, sizeof config->path, directory, "tokenizer_config.json", error);
    if (!status)
        status = file_parse(directory, "tokenizer_config.json", &config->tree, error);
    if (!status)
        status = file_parse(directory, "special_tokens_map.json", &config->special_tokens, error);
    if (!status)
        status = file_parse(directory, "added_tokens.json", &config->added_tokens, error);
    if (!status && file_parse(directory, "config.json", &config->model, &ignored) == STATUS_MEMORY)
        status = error_set(error, STATUS_MEMORY, "%s", ignored.text);
    return status;
}

void tokenizer_config_free(struct tokenizer_config *config)
{
    cJSON_Delete(config->tree);
    cJSON_Delete(config->special_tokens);
    cJSON_Delete(config->added_tokens);
    cJSON_Delete(config->model);
}

int tokenizer_config_flag(const struct tokenizer_config *config, const char *key, bool *value, struct error *error)
{
    return config->tree ? json_get_bool_or(config->tree, config->path, key, value, error) : STATUS_OK;
}

int tokenizer_template_make(struct tokenizer *tokenizer, const struct tokenizer_config *config, struct error *error)
{
    bool add_bos = false, add_eos = false;
    int status = tokenizer_config_flag(config, "add_bos_token", &add_bos, error);
    if (!status)
        status = tokenizer_config_flag(config, "add_eos_token", &add_eos, error);
    if (!status && add_bos && tokenizer->bos >= 0)
        status = token_list_append(&tokenizer->before, tokenizer->bos, error);
    if (!status && add_eos && tokenizer->eos >= 0)
        status = token_list_append(&tokenizer->after, tokenizer->eos, error);
    return status;
}
