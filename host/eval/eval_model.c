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

static bool has_reinforced(const struct model_options *options)
{
    return options->reinforced_model && *options->reinforced_model;
}

/* The second model must speak of the same tokens, and have positions for the same texts. */
static int reinforced_open(struct eval_model *m, const struct model_options *options, enum dtype dtype, struct error *error)
{
    struct reinforced *r = &m->reinforced;
    const char *directory = options->reinforced_model;
    int status = model_config_read(&r->config, directory, error);
    if (!status && r->config.vocab_size != m->config.vocab_size)
        status = error_set(error, STATUS_INPUT, "%s: a vocabulary of %lld tokens; expected the %lld of %s, whose logits it goes with",
                           directory, (long long)r->config.vocab_size, (long long)m->config.vocab_size, m->directory);
    if (!status && (r->config.final_cap > 0 || m->config.final_cap > 0))
        status = error_set(error, STATUS_INPUT, "%s: final_logit_softcapping: logits that are capped are not combined with those "
                           "of a reinforced model", r->config.final_cap > 0 ? directory : m->directory);
    if (!status && context_length(&r->config) < context_length(&m->config))
        status = error_set(error, STATUS_INPUT, "%s: %lld positions; expected at least the %lld of %s", directory,
                           (long long)context_length(&r->config), (long long)context_length(&m->config), m->directory);
    if (!status)
        status = model_create(&r->model, &r->config, dtype, error);
    if (!status)
        status = weights_open(&r->weights, &r->model, directory, error);
    m->model.reinforced = &r->model;
    m->model.whp_alpha = options->whp_alpha;
    m->weights.reinforced = &r->weights;
    return status;
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
    if (!status && has_reinforced(options))
        status = reinforced_open(m, options, dtype, error);
    m->model.wide_logits = true; /* bf16 logits would round log-probs by up to 0.06 */
    return status;
}

void eval_model_close(struct eval_model *m)
{
    model_free(&m->model);
    model_free(&m->reinforced.model);
    weights_close(&m->weights);
    weights_close(&m->reinforced.weights);
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

static int reinforced_add(const struct eval_model *m, const struct model_options *options, uint64_t *sum,
                          struct error *error)
{
    const struct safetensors *source = &m->reinforced.weights.source;
    uint64_t alpha;
    memcpy(&alpha, &options->whp_alpha, sizeof alpha);
    int status = file_add(sum, options->reinforced_model, "config.json", error);
    for (int i = 0; i < source->shards && !status; i++)
        status = file_add(sum, options->reinforced_model, source->shard_name[i], error);
    *sum = *sum * 0x9e3779b97f4a7c15u + alpha;
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
    if (!status && has_reinforced(options))
        status = reinforced_add(m, options, sum, error);
    return status;
}
