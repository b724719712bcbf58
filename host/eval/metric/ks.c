/* ks.c - see ks.h. The exact p is the probability that a random path from (0, 0) to (n, m), of n steps right and m
 * steps up in any order, leaves the band |i m - j n| < h g (g the greatest common divisor, h g / (n m) the statistic).
 * Going through the probability of having left, instead of counting paths that stay, loses nothing to cancellation:
 * every term is positive.
 */
#include "ks.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "../../util/memory.h"

enum { EXACT_UP_TO = 10000, MOST_VALUES = 1 << 30 };

static int64_t divisor(int64_t a, int64_t b)
{
    while (b) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int sorted_copy(const double *values, size_t count, const char *which, double **sorted, struct error *error)
{
    if (count == 0 || count > MOST_VALUES)
        return error_set(error, STATUS_INPUT, "the %s sample has %zu values; expected 1 to %d", which, count,
                         MOST_VALUES);
    double *copy = memory_array(count, sizeof *copy, error);
    if (!copy)
        return STATUS_MEMORY;
    for (size_t i = 0; i < count; i++) {
        if (isnan(values[i])) {
            free(copy);
            return error_set(error, STATUS_NONFINITE, "value %zu of the %s sample is not a number", i, which);
        }
        copy[i] = values[i];
    }
    qsort(copy, count, sizeof *copy, compare);
    *sorted = copy;
    return STATUS_OK;
}

/* max |i m - j n| / g over all values, i and j the counts of each sample up to and including the value. */
static int64_t widest_gap(const double *x, int64_t n, const double *y, int64_t m, int64_t g)
{
    int64_t widest = 0;
    for (int64_t i = 0, j = 0; i < n && j < m;) {
        double value = x[i] < y[j] ? x[i] : y[j];
        while (i < n && x[i] == value)
            i++;
        while (j < m && y[j] == value)
            j++;
        int64_t gap = llabs(i * (m / g) - j * (n / g));
        widest = gap > widest ? gap : widest;
    }
    return widest;
}

/* left[j] for column i = P(a path to (i, j) has left the band). Outside it is 1, and the band moves upwards with i, so
 * that entries above it still hold their first 1 and those below are set to 1 as they fall out. */
static int exact_p(int64_t n, int64_t m, int64_t g, int64_t h, double *p, struct error *error)
{
    double *left = memory_array((size_t)m + 1, sizeof *left, error);
    if (!left)
        return STATUS_MEMORY;
    int64_t step_n = n / g, step_m = m / g, low = 0;
    for (int64_t j = 0; j <= m; j++)
        left[j] = j * step_n < h ? 0 : 1;
    for (int64_t i = 1; i <= n; i++) {
        for (; low <= m && i * step_m - low * step_n >= h; low++)
            left[low] = 1;
        for (int64_t j = low; j <= m && j * step_n - i * step_m < h; j++) {
            double below = j > 0 ? left[j - 1] : 0, total = (double)(i + j);
            left[j] = (double)i / total * left[j] + (double)j / total * below;
        }
    }
    *p = left[m];
    free(left);
    return STATUS_OK;
}

int ks_test(const double *x, size_t n, const double *y, size_t m, enum ks_method method, struct ks *ks,
            struct error *error)
{
    double *first = NULL, *second = NULL;
    int status = sorted_copy(x, n, "first", &first, error);
    if (!status)
        status = sorted_copy(y, m, "second", &second, error);
    if (!status) {
        int64_t rows = (int64_t)n, columns = (int64_t)m, g = divisor(rows, columns);
        int64_t h = widest_gap(first, rows, second, columns, g);
        ks->statistic = (double)h / (double)(rows / g * columns);
        bool exact = method == KS_EXACT || (method == KS_AUTO && n <= EXACT_UP_TO && m <= EXACT_UP_TO);
        if (!exact)
            ks->p = ks_one_sample_p((size_t)nearbyint((double)n * (double)m / ((double)n + (double)m)), ks->statistic);
        else if (h == 0)
            ks->p = 1;
        else
            status = exact_p(rows, columns, g, h, &ks->p, error);
    }
    free(first);
    free(second);
    return status;
}
