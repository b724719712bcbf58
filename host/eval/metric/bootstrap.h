/* bootstrap.h - the sampling interval of a figure: how far it would move with other rows from the same source.
 *
 * The rows are drawn anew with replacement `resamples` times; the interval holds the middle `level` of the figures so
 * obtained (percentile bootstrap, Efron 1979; quantiles interpolated linearly). The draws are a function of the seed
 * alone, so the same rows give the same bits, on any number of ranks. Cost: resamples times the figure.
 */
#ifndef FLAT_EVAL_METRIC_BOOTSTRAP_H
#define FLAT_EVAL_METRIC_BOOTSTRAP_H
#include <stddef.h>
#include <stdint.h>

#include "../../util/error.h"

struct bootstrap_options {
    int resamples;
    double level; /* 0.95: from the 2.5th to the 97.5th percentile */
    uint64_t seed;
};
/* 2000 resamples, 0.95, seed 42. */
extern const struct bootstrap_options bootstrap_defaults;

/* A figure of the chosen rows, which may repeat. */
typedef double (*bootstrap_figure)(const void *data, const size_t *row, size_t rows);

struct interval {
    double low, high; /* NAN when the figure is for some resample, or when there are no rows */
};
/* STATUS_INPUT for options that make no sense, STATUS_MEMORY. */
int bootstrap_interval(bootstrap_figure figure, const void *data, size_t rows, const struct bootstrap_options *options,
                       struct interval *interval, struct error *error);
/* The interval of the mean of values[0..count). */
int bootstrap_mean(const double *values, size_t count, const struct bootstrap_options *options,
                   struct interval *interval, struct error *error);

#endif
