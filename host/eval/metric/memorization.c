/* memorization.c - see memorization.h. */
#include "memorization.h"

#include <math.h>

double exact_memorization(const int32_t *argmax, const int32_t *labels, size_t count)
{
    size_t equal = 0;
    for (size_t i = 0; i < count; i++)
        equal += argmax[i] == labels[i];
    return count ? (double)equal / (double)count : NAN;
}

double extraction_strength(const int32_t *argmax, const int32_t *labels, size_t count, enum extraction_form form)
{
    if (count == 0)
        return form == EXTRACTION_PAPER ? NAN : 0;
    size_t start = count;
    while (start > 0 && argmax[start - 1] == labels[start - 1])
        start--;
    if (start == count && form == EXTRACTION_OPEN_UNLEARNING)
        start = count - 1;
    return 1 - (double)start / (double)count;
}
