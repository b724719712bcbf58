/* leak.c - see leak.h. */
#include "leak.h"

#include <stdlib.h>

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double leak_at_k(double *scores, size_t n, size_t k)
{
    double weight = (double)k / (double)n, sum = 0; /* C(n - 1, k - 1) / C(n, k) */
    qsort(scores, n, sizeof *scores, ascending);
    for (size_t i = n; i >= k; i--) {
        sum += weight * scores[i - 1];
        weight *= i > 1 ? (double)(i - k) / (double)(i - 1) : 0;
    }
    return sum;
}
