/* generation_rules.c - see generation_rules.h. */
#include "generation_rules.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../io/json/json.h"
#include "../util/file.h"
#include "../util/memory.h"

/* Other keys with which transformers picks other tokens, and the number with which they do not; NAN: every number counts. How
 * tokens are drawn (do_sample, temperature, top_k, top_p) and how many at most are options here. */
static const struct {
    const char *key;
    double off;
} others[] = {
    {"bad_words_ids", NAN},       {"begin_suppress_tokens", NAN},       {"constraints", NAN},
    {"diversity_penalty", 0},     {"encoder_no_repeat_ngram_size", 0},  {"encoder_repetition_penalty", 1},
    {"epsilon_cutoff", 0},        {"eta_cutoff", 0},                    {"exponential_decay_length_penalty", NAN},
    {"force_words_ids", NAN},     {"forced_bos_token_id", NAN},         {"forced_eos_token_id", NAN},
    {"guidance_scale", 1},        {"min_length", 0},                    {"min_new_tokens", 0},
    {"min_p", 0},                 {"num_beams", 1},                     {"penalty_alpha", 0},
    {"sequence_bias", NAN},       {"stop_strings", NAN},                {"typical_p", 1},
    {"watermarking_config", NAN},
};

static bool is_off(const cJSON *value, double off)
{
    return !value || cJSON_IsNull(value) || cJSON_IsFalse(value) || (cJSON_IsNumber(value) && value->valuedouble == off) ||
           ((cJSON_IsArray(value) || cJSON_IsObject(value)) && !value->child);
}

static void unused_name(struct generation_rules *rules, const cJSON *json, const char *path)
{
    size_t used = 0;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (!is_off(json_member(json, others[i].key), others[i].off) && used < sizeof rules->unused / 2)
            used += (size_t)snprintf(rules->unused + used, sizeof rules->unused - used, "%s%s", used ? ", " : "", others[i].key);
    if (used)
        snprintf(rules->unused + used, sizeof rules->unused - used, ": not applied, of %.150s", path);
}

/* The ids of suppress_tokens that the vocabulary has. */
static int suppressed_read(struct generation_rules *rules, const cJSON *json, const char *path, int64_t vocab_size,
                           struct error *error)
{
    const cJSON *list = json_member(json, "suppress_tokens"), *item;
    if (!list || cJSON_IsNull(list))
        return STATUS_OK;
    if (!cJSON_IsArray(list))
        return error_set(error, STATUS_INPUT, "%s: suppress_tokens: expected a list of token ids", path);
    rules->suppressed = memory_array((size_t)cJSON_GetArraySize(list) + 1, sizeof *rules->suppressed, error);
    if (!rules->suppressed)
        return STATUS_MEMORY;
    cJSON_ArrayForEach(item, list) {
        int64_t id;
        if (!json_integer(item, &id))
            return error_set(error, STATUS_INPUT, "%s: suppress_tokens: expected a list of token ids", path);
        if (id >= 0 && id < vocab_size)
            rules->suppressed[rules->suppressed_count++] = (int32_t)id;
    }
    return STATUS_OK;
}

static int rules_fill(struct generation_rules *rules, const cJSON *json, const char *path, int64_t vocab_size,
                      struct error *error)
{
    const cJSON *penalty = json_member(json, "repetition_penalty"), *size = json_member(json, "no_repeat_ngram_size");
    int status = STATUS_OK;
    if (penalty && !cJSON_IsNull(penalty))
        status = json_get_double_or(json, path, "repetition_penalty", &rules->repetition_penalty, error);
    if (!status && !(rules->repetition_penalty > 0))
        status = error_set(error, STATUS_INPUT, "%s: repetition_penalty: expected a number above 0, found %g", path,
                           rules->repetition_penalty);
    if (!status && size && !cJSON_IsNull(size))
        status = json_get_int_or(json, path, "no_repeat_ngram_size", 0, INT32_MAX, &rules->no_repeat_ngram_size, error);
    if (!status)
        status = suppressed_read(rules, json, path, vocab_size, error);
    if (!status)
        unused_name(rules, json, path);
    return status;
}

int generation_rules_read(struct generation_rules *rules, const char *directory, int64_t vocab_size, struct error *error)
{
    char path[4096];
    *rules = (struct generation_rules){.repetition_penalty = 1};
    int status = file_join(path, sizeof path, directory, "generation_config.json", error);
    if (status || !file_exists(path))
        return status;
    cJSON *json = json_read(path, error);
    if (!json)
        return error->status;
    status = rules_fill(rules, json, path, vocab_size, error);
    cJSON_Delete(json);
    return status;
}

void generation_rules_free(struct generation_rules *rules)
{
    free(rules->suppressed);
    *rules = (struct generation_rules){0};
}

bool generation_rules_any(const struct generation_rules *rules)
{
    return rules->repetition_penalty != 1 || rules->no_repeat_ngram_size || rules->suppressed_count;
}

static int32_t id_at(const struct token_list *prompt, const struct token_list *text, size_t i)
{
    return i < prompt->length ? prompt->id[i] : text->id[i - prompt->length];
}

static void penalty_apply(double penalty, const struct token_list *prompt, const struct token_list *text, double *logits,
                          uint8_t *seen)
{
    const size_t length = prompt->length + text->length;
    for (size_t i = 0; i < length; i++) {
        const int32_t id = id_at(prompt, text, i);
        if (!seen[id])
            logits[id] = logits[id] < 0 ? logits[id] * penalty : logits[id] / penalty;
        seen[id] = 1;
    }
    for (size_t i = 0; i < length; i++)
        seen[id_at(prompt, text, i)] = 0;
}

static void repeats_forbid(size_t size, const struct token_list *prompt, const struct token_list *text, double *logits)
{
    const size_t length = prompt->length + text->length;
    for (size_t i = 0; i + size <= length; i++) {
        bool same = true;
        for (size_t j = 0; j + 1 < size && same; j++)
            same = id_at(prompt, text, i + j) == id_at(prompt, text, length - size + 1 + j);
        if (same)
            logits[id_at(prompt, text, i + size - 1)] = -INFINITY;
    }
}

void generation_rules_apply(const struct generation_rules *rules, const struct token_list *prompt, const struct token_list *text,
                            double *logits, uint8_t *seen)
{
    if (rules->repetition_penalty != 1)
        penalty_apply(rules->repetition_penalty, prompt, text, logits, seen);
    if (rules->no_repeat_ngram_size)
        repeats_forbid((size_t)rules->no_repeat_ngram_size, prompt, text, logits);
    for (int i = 0; i < rules->suppressed_count; i++)
        logits[rules->suppressed[i]] = -INFINITY;
}
