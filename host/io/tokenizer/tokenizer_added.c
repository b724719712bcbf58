/* tokenizer_added.c - tokens that are found in the text before anything else: leftmost-longest over a byte trie,
 * with the whitespace and word rules of their flags. A search costs O(n * longest token).
 */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "../../util/utf8.h"
#include "tokenizer_internal.h"

/* Next free id as tokenizers counts it: after the model's *number* of tokens or the largest added id. */
static int32_t next_id(const struct added_vocabulary *added, const struct vocabulary *vocabulary)
{
    int64_t size = (int64_t)vocabulary->count;
    return (int32_t)(added->count > 0 && (added->limit > size || size == 0) ? added->limit : size);
}

int added_add(struct added_vocabulary *added, const struct vocabulary *vocabulary, const struct added_token *token,
              int32_t *given, struct error *error)
{
    size_t length = strlen(token->content);
    int32_t index = vocabulary_find(&added->names, token->content, length);
    if (index >= 0) {
        struct added_token *known = &added->token[index], old = *known;
        *known = *token;
        known->content = old.content;
        known->id = *given = old.id;
        known->special |= old.special; /* in the reference, special texts stay special */
        known->once_normalized = old.once_normalized || token->normalized;
        return STATUS_OK;
    }
    int32_t id = vocabulary_find(vocabulary, token->content, length);
    if (id < 0)
        id = next_id(added, vocabulary);
    *given = id;
    if (id >= TOKEN_ID_LIMIT)
        return error_set(error, STATUS_INPUT, "added token '%.64s' has id %d, expected less than %d", token->content,
                         (int)id, TOKEN_ID_LIMIT);
    /* With this, ids cannot collide: a model's id belongs to one text, and a free one is above all before it. */
    if (vocabulary_has(vocabulary, id) && vocabulary_find(vocabulary, token->content, length) < 0)
        return error_set(error, STATUS_INPUT, "added token '%.64s' would take id %d, which the vocabulary uses for "
                         "another token", token->content, (int)id);
    int status = memory_grow(&added->token, &added->capacity, added->count + 1, sizeof *added->token, error);
    if (!status)
        status = vocabulary_add(&added->names, (struct span){token->content, length}, (int64_t)added->count, error);
    char *content = status ? NULL : memory_string(token->content, error);
    if (!content)
        return status ? status : STATUS_MEMORY;
    struct added_token *copy = &added->token[added->count++];
    *copy = *token;
    copy->content = content;
    copy->normalized_content = NULL;
    copy->once_normalized = token->normalized;
    copy->id = id;
    if (id >= added->limit)
        added->limit = id + 1;
    return STATUS_OK;
}

static int trie_node_add(struct trie *trie, unsigned char byte, int32_t sibling, int32_t *index, struct error *error)
{
    int status = memory_grow(&trie->node, &trie->capacity, trie->count + 1, sizeof *trie->node, error);
    if (status)
        return status;
    *index = (int32_t)trie->count++;
    trie->node[*index] = (struct trie_node){.byte = byte, .child = -1, .sibling = sibling, .token = -1};
    return STATUS_OK;
}

static int32_t trie_child(const struct trie *trie, int32_t first, unsigned char byte)
{
    while (first >= 0 && trie->node[first].byte != byte)
        first = trie->node[first].sibling;
    return first;
}

static int trie_add(struct trie *trie, const char *text, int32_t token, struct error *error)
{
    int32_t node = -1;
    for (const unsigned char *s = (const unsigned char *)text; *s; s++) {
        int32_t first = node < 0 ? trie->root[*s] : trie->node[node].child;
        int32_t next = trie_child(trie, first, *s);
        if (next < 0) {
            int status = trie_node_add(trie, *s, node < 0 ? -1 : first, &next, error);
            if (status)
                return status;
            if (node < 0)
                trie->root[*s] = next;
            else
                trie->node[node].child = next;
        }
        node = next;
    }
    if (node < 0)
        return error_set(error, STATUS_INPUT, "an added token is empty after normalization");
    if (trie->node[node].token >= 0)
        return error_set(error, STATUS_INPUT, "two added tokens are both '%.64s' after normalization", text);
    trie->node[node].token = token;
    return STATUS_OK;
}

int added_prepare(struct added_vocabulary *added, struct error *error)
{
    memset(added->raw.root, 0xff, sizeof added->raw.root);
    memset(added->normalized.root, 0xff, sizeof added->normalized.root);
    added->index_of_id = memory_array((size_t)added->limit, sizeof *added->index_of_id, error);
    if (!added->index_of_id)
        return STATUS_MEMORY;
    memset(added->index_of_id, 0xff, (size_t)added->limit * sizeof *added->index_of_id);
    for (size_t i = 0; i < added->count; i++) {
        const struct added_token *token = &added->token[i];
        added->index_of_id[token->id] = (int32_t)i;
        const char *text = token->normalized && token->normalized_content ? token->normalized_content : token->content;
        int status = trie_add(token->normalized ? &added->normalized : &added->raw, text, (int32_t)i, error);
        if (status)
            return status;
    }
    return STATUS_OK;
}

/* \s of the Unicode standard: White_Space. */
static bool is_space(uint32_t code)
{
    return (code >= 9 && code <= 13) || code == ' ' || code == 0x85 || code == 0xa0 || code == 0x1680 ||
           (code >= 0x2000 && code <= 0x200a) || code == 0x2028 || code == 0x2029 || code == 0x202f ||
           code == 0x205f || code == 0x3000;
}

/* \w of the Unicode standard: Alphabetic, marks, decimal digits, connectors, joiners. The circled and squared
 * letters are symbols that are Alphabetic. */
static bool is_word(uint32_t code)
{
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return code == 0x200c || code == 0x200d || (code >= 0x24b6 && code <= 0x24e9) ||
               (code >= 0x1f130 && code <= 0x1f149) || (code >= 0x1f150 && code <= 0x1f169) ||
               (code >= 0x1f170 && code <= 0x1f189);
    }
}

/* The character that ends at text[end), end > 0. */
static uint32_t character_before(const char *text, size_t end, size_t *start)
{
    uint32_t code = 0;
    *start = end - 1;
    while (*start > 0 && (text[*start] & 0xc0) == 0x80)
        --*start;
    utf8_decode(text + *start, end - *start, &code);
    return code;
}

/* The longest token that begins at text[i]; -1: none. */
static int32_t longest_at(const struct trie *trie, struct span text, size_t i, size_t *stop)
{
    int32_t token = -1, node = trie->root[(unsigned char)text.text[i]];
    while (node >= 0) {
        i++;
        if (trie->node[node].token >= 0) {
            token = trie->node[node].token;
            *stop = i;
        }
        node = i < text.length ? trie_child(trie, trie->node[node].child, (unsigned char)text.text[i]) : -1;
    }
    return token;
}

static bool is_whole_word(struct span text, size_t start, size_t stop)
{
    uint32_t code = 0;
    size_t at;
    if (start > 0 && is_word(character_before(text.text, start, &at)))
        return false;
    return stop == text.length || utf8_decode(text.text + stop, text.length - stop, &code) == 0 || !is_word(code);
}

bool added_next(const struct added_vocabulary *added, const struct trie *trie, struct span text,
                struct added_match *match)
{
    if (trie->count == 0)
        return false;
    for (size_t i = match->position; i < text.length; i++) {
        size_t stop, at;
        int32_t index = longest_at(trie, text, i, &stop);
        if (index < 0)
            continue;
        const struct added_token *token = &added->token[index];
        match->position = stop; /* a match that is not taken is passed over whole */
        if ((token->single_word && !is_whole_word(text, i, stop)) || (added->split_special && token->special)) {
            i = stop - 1;
            continue;
        }
        match->token = index;
        match->start = i;
        match->stop = stop;
        while (token->lstrip && match->start > 0 && is_space(character_before(text.text, match->start, &at)))
            match->start = at;
        if (token->lstrip && match->start < match->emitted) /* the match before has swallowed these already */
            match->start = match->emitted;
        uint32_t code;
        for (int bytes; token->rstrip && match->stop < text.length; match->stop += (size_t)bytes) {
            bytes = utf8_decode(text.text + match->stop, text.length - match->stop, &code);
            if (bytes == 0 || !is_space(code))
                break;
        }
        return true;
    }
    return false;
}

void added_free(struct added_vocabulary *added)
{
    for (size_t i = 0; i < added->count; i++) {
        free(added->token[i].content);
        free(added->token[i].normalized_content);
    }
    free(added->token);
    vocabulary_free(&added->names);
    free(added->raw.node);
    free(added->normalized.node);
    free(added->index_of_id);
}
