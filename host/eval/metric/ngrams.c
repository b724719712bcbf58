/* ngrams.c - see ngrams.h. */
#include "ngrams.h"

#include <stdlib.h>

#include "../../util/memory.h"

int ngram_compare(const struct ngram *a, const struct ngram *b, int order)
{
    for (int i = 0; i < order; i++)
        if (a->id[i] != b->id[i])
            return a->id[i] < b->id[i] ? -1 : 1;
    return 0;
}

static int compare_all(const void *a, const void *b)
{
    return ngram_compare(a, b, NGRAM_ORDERS);
}

int ngrams_sort(const int32_t *ids, size_t count, struct ngram **out, struct error *error)
{
    struct ngram *ngram = memory_array(count, sizeof *ngram, error);
    if (!ngram)
        return STATUS_MEMORY;
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < NGRAM_ORDERS; k++)
            ngram[i].id[k] = i + k < count ? ids[i + k] : NGRAM_END;
    qsort(ngram, count, sizeof *ngram, compare_all);
    *out = ngram;
    return STATUS_OK;
}

size_t ngram_run(const struct ngram *ngram, size_t count, size_t begin, int order)
{
    size_t end = begin + 1;
    while (end < count && ngram_compare(ngram + begin, ngram + end, order) == 0)
        end++;
    return end;
}
