/* mean.c - see mean.h. */
#include "mean.h"

#include <math.h>

double mean_of(const double *values, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += values[i];
    return count ? sum / (double)count : NAN;
}

double mean_of_present(const double *values, size_t count)
{
    double sum = 0;
    size_t present = 0;
    for (size_t i = 0; i < count; i++)
        if (!isnan(values[i])) {
            sum += values[i];
            present++;
        }
    return present ? sum / (double)present : NAN;
}

double harmonic_mean(const double *values, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        if (isnan(values[i]) || values[i] < 0)
            return NAN;
        sum += 1 / values[i]; /* of 0: infinity, and the mean 0 */
    }
    return count ? (double)count / sum : NAN;
}
