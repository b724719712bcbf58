/* attack_scores.c - R and Q; see attack.h. */
#include <math.h>

#include "attack.h"

static double gain(const double *before, const double *after, const size_t *row, size_t rows)
{
    double sum = 0;
    for (size_t i = 0; i < rows; i++)
        sum += after[row[i]] - before[row[i]];
    return sum;
}

static double sum_of(const double *value, const size_t *row, size_t rows)
{
    double sum = 0;
    for (size_t i = 0; i < rows; i++)
        sum += value[row[i]];
    return sum;
}

double relearning_score(const struct attack_pairs *pairs, const size_t *row, size_t rows)
{
    const double own = gain(pairs->before, pairs->after, row, rows);
    return own <= 0 ? 1 : fmax(0, fmin(1, gain(pairs->retain_before, pairs->retain_after, row, rows) / own));
}

double quantization_score(const struct attack_pairs *pairs, const size_t *row, size_t rows)
{
    const double after = sum_of(pairs->after, row, rows);
    return after > 0 ? fmin(1, sum_of(pairs->before, row, rows) / after) : 1;
}
