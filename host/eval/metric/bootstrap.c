/* bootstrap.c - see bootstrap.h. */
#include "bootstrap.h"

#include <math.h>
#include <stdlib.h>

#include "../../util/memory.h"

const struct bootstrap_options bootstrap_defaults = {.resamples = 2000, .level = 0.95, .seed = 42};

enum { MOST_RESAMPLES = 1000000 };

/* splitmix64 (Steele et al. 2014). */
static uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(const double *sorted, int count, double share)
{
    double at = share * (count - 1);
    int below = (int)at;
    if (below + 1 >= count)
        return sorted[count - 1];
    return sorted[below] + (at - below) * (sorted[below + 1] - sorted[below]);
}

int bootstrap_interval(bootstrap_figure figure, const void *data, size_t rows, const struct bootstrap_options *options,
                       struct interval *interval, struct error *error)
{
    if (options->resamples < 1 || options->resamples > MOST_RESAMPLES || !(options->level > 0 && options->level < 1))
        return error_set(error, STATUS_INPUT, "%d resamples at level %g; expected 1 to %d and a level within 0..1",
                         options->resamples, options->level, MOST_RESAMPLES);
    *interval = (struct interval){NAN, NAN};
    if (rows == 0)
        return STATUS_OK;
    size_t *row = memory_array(rows, sizeof *row, error);
    double *value = memory_array((size_t)options->resamples, sizeof *value, error);
    int status = row && value ? STATUS_OK : STATUS_MEMORY, defined = 0;
    uint64_t state = options->seed;
    for (int r = 0; r < options->resamples && !status; r++) {
        for (size_t i = 0; i < rows; i++)
            row[i] = (size_t)((unsigned __int128)random_next(&state) * rows >> 64);
        value[r] = figure(data, row, rows);
        defined += !isnan(value[r]);
    }
    if (!status && defined == options->resamples) {
        qsort(value, (size_t)options->resamples, sizeof *value, compare);
        interval->low = quantile(value, options->resamples, (1 - options->level) / 2);
        interval->high = quantile(value, options->resamples, (1 + options->level) / 2);
    }
    free(row);
    free(value);
    return status;
}

static double mean_figure(const void *data, const size_t *row, size_t rows)
{
    const double *values = data;
    double sum = 0;
    for (size_t i = 0; i < rows; i++)
        sum += values[row[i]];
    return sum / (double)rows;
}

int bootstrap_mean(const double *values, size_t count, const struct bootstrap_options *options,
                   struct interval *interval, struct error *error)
{
    return bootstrap_interval(mean_figure, values, count, options, interval, error);
}
