/* words.c - see words.h. */
#include "words.h"

#include <stdlib.h>
#include <string.h>

#include "../../util/memory.h"
#include "porter.h"

enum { SHORTEST_STEMMED = 4 };

int words_check_length(size_t length, struct error *error)
{
    if (length > INT32_MAX)
        return error_set(error, STATUS_INPUT, "a text has %zu bytes; at most %d are accepted", length, INT32_MAX);
    return STATUS_OK;
}

int words_append(struct word_list *list, const char *text, size_t length, struct error *error)
{
    int status = memory_grow(&list->word, &list->capacity, list->count + 1, sizeof *list->word, error);
    if (!status)
        list->word[list->count++] = (struct word){text, length};
    return status;
}

/* The letter or digit that the character at *at lower-cases to, 0 for any other; *at moves past the character's first
 * byte, or past all of a character outside ASCII that becomes a letter. Of those there are two: the Kelvin sign, and
 * the capital I with a dot, whose second half (a combining dot) ends the word. */
static char lower_letter(const char *text, size_t length, size_t *at, bool *ends)
{
    const char *from = text + *at;
    size_t left = length - *at;
    *ends = false;
    if (left >= 3 && !memcmp(from, "\xe2\x84\xaa", 3)) {
        *at += 3;
        return 'k';
    }
    if (left >= 2 && !memcmp(from, "\xc4\xb0", 2)) {
        *at += 2;
        *ends = true;
        return 'i';
    }
    *at += 1;
    if ((*from >= 'a' && *from <= 'z') || (*from >= '0' && *from <= '9'))
        return *from;
    return *from >= 'A' && *from <= 'Z' ? (char)(*from - 'A' + 'a') : 0;
}

/* The word that begins at out and ends before end joins the list; returns where the next one may begin. */
static int word_finish(struct word_list *list, char **begin, char *end, bool stem, struct error *error)
{
    size_t length = (size_t)(end - *begin);
    if (length == 0)
        return STATUS_OK;
    if (stem && length >= SHORTEST_STEMMED)
        length = porter_stem(*begin, length);
    int status = words_append(list, *begin, length, error);
    *begin = end;
    return status;
}

int words_of_rouge(struct word_list *list, const char *text, size_t length, bool stem, struct error *error)
{
    int status = words_check_length(length, error);
    if (status)
        return status;
    list->bytes = malloc(length + 1); /* a word is never longer than what it was made of */
    if (!list->bytes)
        return error_set(error, STATUS_MEMORY, "out of host memory for the words of %zu bytes of text", length);
    char *begin = list->bytes, *end = begin;
    for (size_t at = 0; at < length && !status;) {
        bool ends;
        char letter = lower_letter(text, length, &at, &ends);
        if (letter)
            *end++ = letter;
        if (!letter || ends)
            status = word_finish(list, &begin, end, stem, error);
    }
    return status ? status : word_finish(list, &begin, end, stem, error);
}

struct numbered {
    struct word word;
    int32_t *id;
};

static int numbered_compare(const void *a, const void *b)
{
    const struct word *x = &((const struct numbered *)a)->word, *y = &((const struct numbered *)b)->word;
    int order = memcmp(x->text, y->text, x->length < y->length ? x->length : y->length);
    return order ? order : (x->length > y->length) - (x->length < y->length);
}

int words_number(struct word_list *const *list, int lists, int32_t *distinct, struct error *error)
{
    size_t total = 0, used = 0;
    for (int i = 0; i < lists; i++)
        total += list[i]->count;
    *distinct = 0;
    struct numbered *all = memory_array(total, sizeof *all, error);
    if (!all)
        return STATUS_MEMORY;
    for (int i = 0; i < lists; i++) {
        free(list[i]->id);
        list[i]->id = memory_array(list[i]->count, sizeof *list[i]->id, error);
        if (!list[i]->id) {
            free(all);
            return STATUS_MEMORY;
        }
        for (size_t k = 0; k < list[i]->count; k++)
            all[used++] = (struct numbered){list[i]->word[k], list[i]->id + k};
    }
    qsort(all, total, sizeof *all, numbered_compare);
    for (size_t k = 0; k < total; k++) {
        if (k == 0 || numbered_compare(all + k - 1, all + k))
            ++*distinct;
        *all[k].id = *distinct - 1;
    }
    free(all);
    return STATUS_OK;
}

void words_free(struct word_list *list)
{
    free(list->word);
    free(list->id);
    free(list->bytes);
    *list = (struct word_list){0};
}
