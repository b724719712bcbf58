/* tokenizer_tokens.c - the tokens that the small files name, as transformers 5 adds them to a vocabulary.
 *
 * First the added_tokens_decoder of tokenizer_config.json or, where it has none, added_tokens.json and the tokens of
 * tokenizer.json, each list by id; then the named tokens (bos_token, ... and any other *_token), then the extra ones. A
 * named token that one of the lists has is not added again, but becomes special. special_tokens_map.json counts only
 * without an added_tokens_decoder, and then before tokenizer_config.json.
 */
#include <stdlib.h>
#include <string.h>

#include "../json/json.h"
#include "tokenizer_json.h"

/* A token of a list of ours. Contents belong to the trees. */
struct listed_token {
    const char *key;          /* of a named token */
    struct added_token token; /* content NULL: the named token is none */
    bool flags;               /* an AddedToken; a bare text gets the flags of a special token */
    bool stated;              /* by a file, not by the class */
    bool early;               /* known to be special when added_tokens.json is read */
    int64_t id;               /* of added_tokens_decoder and the like */
};

struct token_set {
    struct listed_token *item;
    size_t count, capacity;
};

/* All that is to be added. */
struct tokens {
    struct tokenizer *tokenizer;
    const struct tokenizer_config *config;
    const struct vocabulary_tokens *own;
    struct token_set named, extra, decoder, pending;
    bool has_decoder, has_extra; /* added_tokens_decoder; extra_special_tokens */
    struct error *error;
};

static int set_append(struct token_set *set, struct listed_token item, struct error *error)
{
    int status = memory_grow(&set->item, &set->capacity, set->count + 1, sizeof *set->item, error);
    if (!status)
        set->item[set->count++] = item;
    return status;
}

static struct listed_token *set_find(const struct token_set *set, const char *content)
{
    for (size_t i = 0; i < set->count; i++)
        if (set->item[i].token.content && strcmp(set->item[i].token.content, content) == 0)
            return &set->item[i];
    return NULL;
}

static const char *const standard_keys[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                            "pad_token", "cls_token", "mask_token"};
enum { STANDARD_KEYS = sizeof standard_keys / sizeof *standard_keys };

static bool is_standard(const char *key)
{
    for (size_t i = 0; i < STANDARD_KEYS; i++)
        if (strcmp(standard_keys[i], key) == 0)
            return true;
    return false;
}

static const char newer_key[] = "extra_special_tokens", older_key[] = "additional_special_tokens";

static bool is_early(const struct token_set *set, const char *content)
{
    for (size_t i = 0; i < set->count; i++)
        if (set->item[i].early && set->item[i].token.content && strcmp(set->item[i].token.content, content) == 0)
            return true;
    return false;
}

/* A text, an object with content and flags, or null. */
static int token_read(const struct tokens *t, const char *key, const cJSON *value, bool special,
                      struct listed_token *out)
{
    const bool flags = cJSON_IsObject(value);
    const bool early = is_standard(key) || strcmp(key, newer_key) == 0 || strcmp(key, older_key) == 0;
    *out = (struct listed_token){.key = key, .stated = true, .early = early && (!flags || special), .flags = flags, .id = -1};
    if (cJSON_IsString(value))
        out->token.content = value->valuestring;
    else if (out->flags)
        return added_token_read(value, t->config->path, special, &out->token, t->error);
    else if (!cJSON_IsNull(value))
        return error_set(t->error, STATUS_INPUT, "%s: %s: expected a string, an object with content, or null",
                         t->config->path, key);
    if (!out->flags)
        out->token.special = true;
    return STATUS_OK;
}

static int named_set(struct tokens *t, const char *key, const cJSON *value, bool special)
{
    struct listed_token item;
    int status = token_read(t, key, value, special, &item);
    for (size_t i = 0; i < t->named.count && !status; i++)
        if (strcmp(t->named.item[i].key, key) == 0) {
            t->named.item[i] = item;
            return STATUS_OK;
        }
    return status ? status : set_append(&t->named, item, t->error);
}

/* "image_token" and the like: tokens of a model's own, where the value is one. */
static bool is_other_token(const cJSON *item)
{
    size_t length = strlen(item->string);
    return length > 6 && strcmp(item->string + length - 6, "_token") == 0 && !is_standard(item->string) &&
           (cJSON_IsString(item) || cJSON_IsObject(item));
}

static int others_set(struct tokens *t, const cJSON *tree, bool objects, bool special)
{
    int status = STATUS_OK;
    for (const cJSON *item = tree ? tree->child : NULL; item && !status; item = item->next)
        if (is_other_token(item) && (objects || cJSON_IsString(item)) && (!objects || special || cJSON_IsObject(item)))
            status = named_set(t, item->string, item, special);
    return status;
}

/* Whether a member counts as given: not null, not empty. */
static bool is_filled(const cJSON *value)
{
    return value && !cJSON_IsNull(value) && (!(cJSON_IsArray(value) || cJSON_IsObject(value)) || value->child);
}

static int extra_add(struct tokens *t, const char *key, const cJSON *list, bool special)
{
    int status = STATUS_OK;
    if (!cJSON_IsArray(list))
        return error_set(t->error, STATUS_INPUT, "%s: %s: expected an array", t->config->path, key);
    for (const cJSON *value = list->child; value && !status; value = value->next) {
        struct listed_token item;
        status = token_read(t, key, value, special, &item);
        if (!status && item.token.content)
            status = set_append(&t->extra, item, t->error);
    }
    return status;
}

/* extra_special_tokens, or additional_special_tokens of older files: a list, or names with tokens. */
static int extras_read(struct tokens *t)
{
    const cJSON *map = t->has_decoder ? NULL : t->config->special_tokens, *value;
    const cJSON *own = json_member(t->config->tree, newer_key), *old = json_member(t->config->tree, older_key);
    const char *key = newer_key;
    if (!is_filled(own) && old)
        own = old, key = older_key;
    t->has_extra = own != NULL;
    int status = STATUS_OK;
    if (cJSON_IsObject(own)) {
        t->has_extra = false;
        for (value = own->child; value && !status; value = value->next)
            status = named_set(t, value->string, value, false);
    } else if (is_filled(own)) {
        status = extra_add(t, key, own, false);
    }
    value = json_member(map, newer_key);
    if (!status && cJSON_IsObject(value)) {
        for (value = value->child; value && !status; value = value->next)
            status = named_set(t, value->string, value, true);
    } else if (!status && value) {
        t->has_extra = true;
        status = is_filled(value) ? extra_add(t, newer_key, value, true) : STATUS_OK;
    }
    value = json_member(map, older_key);
    if (!status && value && !t->has_extra && !t->own->pieces) {
        t->has_extra = true;
        status = is_filled(value) ? extra_add(t, older_key, value, false) : STATUS_OK;
        for (size_t i = 0; i < t->extra.count; i++)
            t->extra.item[i].early = false;
    }
    return status;
}

/* The tokens with names: what the files say, in the order in which transformers keeps them. */
static int named_read(struct tokens *t)
{
    const cJSON *tree = t->config->tree, *map = t->has_decoder ? NULL : t->config->special_tokens;
    int status = STATUS_OK;
    for (size_t i = 0; i < STANDARD_KEYS && !status; i++) {
        const cJSON *own = json_member(tree, standard_keys[i]), *value = json_member(map, standard_keys[i]);
        if (value || own)
            status = named_set(t, standard_keys[i], value ? value : own, value != NULL);
        else
            status = set_append(&t->named, (struct listed_token){.key = standard_keys[i]}, t->error);
    }
    if (!status)
        status = others_set(t, tree, true, false); /* objects first, as it happens */
    if (!status)
        status = others_set(t, map, true, true);
    if (!status)
        status = others_set(t, tree, false, false);
    return status ? status : extras_read(t);
}

/* Names that no file mentions are the class's or the vocabulary's. */
static void named_complete(struct tokens *t)
{
    for (size_t i = 0; i < STANDARD_KEYS; i++) {
        struct listed_token *item = &t->named.item[i];
        if (item->stated)
            continue;
        const char *text = strcmp(item->key, "bos_token") == 0   ? t->own->bos
                           : strcmp(item->key, "eos_token") == 0 ? t->own->eos
                           : strcmp(item->key, "unk_token") == 0 ? t->own->unk
                                                                 : NULL;
        if (!text)
            text = tokenizer_class_token(t->config->class, item->key);
        item->token = (struct added_token){.content = (char *)text, .special = true};
    }
}

/* ---- tokens with ids ---- */

static int decoder_put(struct tokens *t, struct listed_token item)
{
    for (size_t i = 0; i < t->decoder.count; i++)
        if (t->decoder.item[i].id == item.id) {
            t->decoder.item[i] = item;
            return STATUS_OK;
        }
    return set_append(&t->decoder, item, t->error);
}

/* {"151643": {"content": ..., flags}} */
static int ids_read(struct tokens *t, const cJSON *list)
{
    int status = STATUS_OK;
    if (!cJSON_IsObject(list))
        return error_set(t->error, STATUS_INPUT, "%s: added_tokens_decoder: expected an object", t->config->path);
    for (const cJSON *item = list->child; item && !status; item = item->next) {
        struct listed_token listed = {.flags = true};
        char *end;
        listed.id = strtoll(item->string, &end, 10);
        if (*end || end == item->string || listed.id < 0)
            return error_set(t->error, STATUS_INPUT, "%s: added_tokens_decoder: '%.64s' is not an id", t->config->path,
                             item->string);
        status = added_token_read(item, t->config->path, false, &listed.token, t->error);
        listed.token.normalized &= !t->own->raw;
        if (!status)
            status = decoder_put(t, listed);
    }
    return status;
}

/* added_tokens.json, {"<pad>": 32000}, and over it the added_tokens of tokenizer.json. */
static int older_lists_read(struct tokens *t)
{
    const cJSON *item = t->config->added_tokens ? t->config->added_tokens->child : NULL;
    int status = STATUS_OK;
    for (; item && !status; item = item->next) {
        const bool special = is_early(&t->named, item->string) || is_early(&t->extra, item->string);
        struct listed_token listed = {.token = {.content = item->string, .normalized = !special, .special = special},
                                      .flags = true};
        if (!json_integer(item, &listed.id) || listed.id < 0)
            return error_set(t->error, STATUS_INPUT, "added_tokens.json: the id of '%.64s' is not a whole number",
                             item->string);
        listed.token.normalized &= !t->own->raw;
        status = decoder_put(t, listed);
    }
    for (item = t->own->file ? t->own->file->child : NULL; item && !status; item = item->next) {
        struct listed_token listed = {.flags = true};
        status = added_token_read(item, "tokenizer.json", false, &listed.token, t->error);
        if (!status && (!json_integer(json_member(item, "id"), &listed.id) || listed.id < 0))
            return error_set(t->error, STATUS_INPUT, "tokenizer.json: added_tokens: the id of '%.64s' is not a whole "
                             "number", listed.token.content);
        if (!status)
            status = decoder_put(t, listed);
    }
    return status;
}

static int id_compare(const void *a, const void *b)
{
    int64_t left = ((const struct listed_token *)a)->id, right = ((const struct listed_token *)b)->id;
    return (left > right) - (left < right);
}

static int decoder_list(struct tokens *t)
{
    int status = t->has_decoder ? ids_read(t, json_member(t->config->tree, "added_tokens_decoder"))
                                : older_lists_read(t);
    if (!status && t->decoder.count)
        qsort(t->decoder.item, t->decoder.count, sizeof *t->decoder.item, id_compare);
    return status;
}

/* ---- adding ---- */

static bool same_token(const struct listed_token *a, const struct listed_token *b)
{
    return a->flags == b->flags && strcmp(a->token.content, b->token.content) == 0 &&
           a->token.special == b->token.special && a->token.normalized == b->token.normalized &&
           a->token.lstrip == b->token.lstrip && a->token.rstrip == b->token.rstrip &&
           a->token.single_word == b->token.single_word;
}

/* A token joins those to be added unless a list or the vocabulary's added tokens have it, or it waits already. */
static int pending_put(struct tokens *t, const struct listed_token *item)
{
    const struct vocabulary *names = &t->tokenizer->added.names;
    const char *content = item->token.content;
    if (!content || set_find(&t->decoder, content) || vocabulary_find(names, content, strlen(content)) >= 0)
        return STATUS_OK;
    for (size_t i = 0; i < t->pending.count; i++)
        if (same_token(&t->pending.item[i], item))
            return STATUS_OK;
    return set_append(&t->pending, *item, t->error);
}

static int token_add(struct tokens *t, const struct listed_token *item, bool warn)
{
    int32_t id;
    struct added_token token = item->token;
    if (!*token.content)
        return STATUS_OK;
    token.special |= set_find(&t->named, token.content) != NULL;
    int status = added_add(&t->tokenizer->added, &t->tokenizer->bpe.vocabulary, &token, &id, t->error);
    if (!status && warn && id != item->id)
        status = tokenizer_warn(t->tokenizer, t->error, "%s: token '%.64s' is said to have id %lld, but gets %d, the id that "
                                "the vocabulary has for it or the next free one, as in transformers", t->config->path,
                                token.content, (long long)item->id, (int)id);
    return status;
}

/* Qwen2's class adds all its special tokens once more, with a special token's flags. */
static int specials_again(struct tokens *t)
{
    const struct token_set *const sets[] = {&t->named, &t->extra};
    int status = STATUS_OK;
    for (size_t s = 0; s < 2; s++)
        for (size_t i = 0; i < sets[s]->count && !status; i++)
            if (sets[s]->item[i].token.content) {
                const struct listed_token plain = {.token = {.content = sets[s]->item[i].token.content, .special = true}};
                status = token_add(t, &plain, false);
            }
    return status;
}

static int all_add(struct tokens *t)
{
    int status = STATUS_OK;
    for (size_t i = 0; i < t->named.count && !status; i++)
        status = pending_put(t, &t->named.item[i]);
    for (size_t i = 0; i < t->extra.count && !status; i++)
        status = pending_put(t, &t->extra.item[i]);
    for (size_t i = 0; i < t->decoder.count && !status; i++)
        status = token_add(t, &t->decoder.item[i], true);
    for (size_t i = 0; i < t->pending.count && !status; i++)
        status = token_add(t, &t->pending.item[i], false);
    if (!status && t->config->class == CLASS_QWEN2)
        status = specials_again(t);
    return status ? status : tokenizer_config_flag(t->config, "split_special_tokens", &t->tokenizer->added.split_special,
                                                   t->error);
}

/* The id of a named token; where neither files nor class name one, of the first known text that there is. */
static int32_t named_id(const struct tokens *t, size_t index, const char *const *known)
{
    const struct listed_token *item = &t->named.item[index];
    int32_t id = item->token.content ? tokenizer_token_id(t->tokenizer, item->token.content) : -1;
    for (size_t i = 0; t->config->class == CLASS_FILE && !item->stated && id < 0 && known[i]; i++)
        id = tokenizer_token_id(t->tokenizer, known[i]);
    return id;
}

/* A SentencePiece model's own tokens count as extra ones where no file has any. */
static int pieces_put(struct tokens *t)
{
    int status = STATUS_OK;
    for (size_t i = 0; i < t->own->pieces && !t->has_extra && !status; i++)
        status = set_append(&t->extra, (struct listed_token){.token = t->own->piece[i], .flags = true}, t->error);
    return status;
}

int tokenizer_tokens_add(struct tokenizer *tokenizer, const struct tokenizer_config *config,
                         const struct vocabulary_tokens *own, struct error *error)
{
    static const char *const bos[] = {"<s>", "<|begin_of_text|>", "<|endoftext|>", NULL};
    static const char *const eos[] = {"</s>", "<|end_of_text|>", "<|endoftext|>", "<|im_end|>", NULL};
    struct tokens t = {.tokenizer = tokenizer, .config = config, .own = own, .error = error,
                       .has_decoder = json_member(config->tree, "added_tokens_decoder") != NULL};
    int status = named_read(&t);
    if (!status)
        status = decoder_list(&t); /* before the class's names: a list's tokens are special by the files' names only */
    if (!status)
        status = pieces_put(&t);
    if (!status) {
        named_complete(&t);
        status = all_add(&t);
    }
    if (!status) {
        tokenizer->bos = named_id(&t, 0, bos);
        tokenizer->eos = named_id(&t, 1, eos);
    }
    free(t.named.item);
    free(t.extra.item);
    free(t.decoder.item);
    free(t.pending.item);
    return status;
}
