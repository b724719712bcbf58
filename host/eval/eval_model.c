/* eval_model.c - see eval_model.h. */
#include "eval_model.h"

#include <string.h>

#include "../util/checksum.h"
#include "../util/file.h"

/* What ends a text: the ids of the config, and the tokenizer's. */
static int endings_take(struct eval_model *m, struct error *error)
{
    const int32_t own = tokenizer_eos(m->tokenizer);
    for (m->stops = 0; m->stops < m->config.eos_token_ids; m->stops++)
        m->stop[m->stops] = m->config.eos_token_id[m->stops];
    if (own >= 0)
        m->stop[m->stops++] = own;
    m->eos = own >= 0 ? own : m->stops ? m->stop[0] : -1;
    if (m->eos < 0)
        return error_set(error, STATUS_INPUT, "%s: neither the tokenizer nor config.json names an eos_token", m->directory);
    return STATUS_OK;
}

int eval_model_open(struct eval_model *m, const struct model_options *options, const struct prompt_options *prompt,
                    enum dtype dtype, struct error *error)
{
    *m = (struct eval_model){.directory = options->model_name_or_path};
    int status = model_config_read(&m->config, m->directory, error);
    if (!status)
        status = tokenizer_load(&m->tokenizer, m->directory, error);
    if (!status)
        tokenizer_limit(m->tokenizer, m->config.vocab_size);
    if (!status)
        status = generation_rules_read(&m->rules, m->directory, m->config.vocab_size, error);
    if (!status)
        status = endings_take(m, error);
    if (!status)
        status = prompt_open(&m->prompt, prompt, m->directory, m->tokenizer, error);
    if (!status)
        status = model_create(&m->model, &m->config, dtype, error);
    if (!status)
        status = weights_open(&m->weights, &m->model, m->directory, error);
    if (!status && *options->adapter) {
        status = adapter_open(&m->adapter, &m->model, options->adapter, error);
        m->weights.adapter = &m->adapter;
    }
    m->model.wide_logits = true; /* bf16 logits would round log-probs by up to 0.06 */
    return status;
}

void eval_model_close(struct eval_model *m)
{
    model_free(&m->model);
    weights_close(&m->weights);
    adapter_free(&m->adapter);
    generation_rules_free(&m->rules);
    prompt_close(&m->prompt);
    tokenizer_free(m->tokenizer);
    *m = (struct eval_model){0};
}

static int file_add(uint64_t *sum, const char *directory, const char *name, struct error *error)
{
    char path[4096];
    struct digest digest;
    int status = file_join(path, sizeof path, directory, name, error);
    if (!status)
        status = checksum_file(path, &digest, error);
    *sum = status ? 0 : *sum * 0x9e3779b97f4a7c15u + (digest.xxh3 ^ (uint64_t)digest.bytes);
    return status;
}

int eval_model_checksum(const struct eval_model *m, const struct model_options *options, uint64_t *sum,
                        struct error *error)
{
    static const char *const files[] = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "vocab.json",
                                        "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
                                        "chat_template.jinja", "chat_template.json"};
    char path[4096];
    int status = STATUS_OK;
    *sum = 0;
    for (size_t i = 0; i < sizeof files / sizeof *files && !status; i++) {
        status = file_join(path, sizeof path, m->directory, files[i], error);
        if (!status && file_exists(path))
            status = file_add(sum, m->directory, files[i], error);
    }
    for (int i = 0; i < m->weights.source.shards && !status; i++)
        status = file_add(sum, m->directory, m->weights.source.shard_name[i], error);
    if (!status && generation_rules_any(&m->rules))
        status = file_add(sum, m->directory, "generation_config.json", error);
    if (!status && *options->adapter)
        status = file_add(sum, options->adapter, "adapter_config.json", error);
    if (!status && *options->adapter)
        status = file_add(sum, options->adapter, "adapter_model.safetensors", error);
    return status;
}
