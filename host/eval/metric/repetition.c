/* repetition.c - see repetition.h. */
#include "repetition.h"

#include <math.h>
#include <stdlib.h>

#include "words.h"

/* Distinct n-grams and their entropy, from the sorted list. */
static void measure_order(const struct ngram *ngram, size_t count, int order, struct repetition *repetition)
{
    double total = (double)count - order + 1;
    size_t distinct = 0;
    for (size_t begin = 0, end; begin < count; begin = end) {
        end = ngram_run(ngram, count, begin, order);
        if (!ngram_is_whole(ngram + begin, order))
            continue;
        double share = (double)(end - begin) / total;
        repetition->entropy[order - 1] -= share * log2(share);
        distinct++;
    }
    if (total > 0)
        repetition->repeated[order - 1] = 1 - (double)distinct / total;
}

int repetition_of_ids(const int32_t *ids, size_t count, struct repetition *repetition, struct error *error)
{
    struct ngram *ngram = NULL;
    int status = ngrams_sort(ids, count, &ngram, error);
    if (status)
        return status;
    *repetition = (struct repetition){.count = count};
    for (int order = 1; order <= NGRAM_ORDERS; order++)
        measure_order(ngram, count, order, repetition);
    repetition->weighted = (2.0 / 3 * repetition->entropy[1] + 4.0 / 3 * repetition->entropy[2]) / 2;
    free(ngram);
    return STATUS_OK;
}

int repetition_of_text(const char *text, size_t length, struct repetition *repetition, struct error *error)
{
    struct word_list list = {0};
    struct word_list *const only[] = {&list};
    int32_t distinct;
    int status = words_of_rouge(&list, text, length, false, error);
    if (!status)
        status = words_number(only, 1, &distinct, error);
    if (!status)
        status = repetition_of_ids(list.id, list.count, repetition, error);
    words_free(&list);
    return status;
}
