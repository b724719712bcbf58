/* probability.c - see probability.h. */
#include "probability.h"

#include <math.h>

double answer_probability(double loss)
{
    return exp(-loss);
}

double answer_probability_normalised(double loss, const double *wrong, size_t count, double eps)
{
    double right = exp(-loss), sum = right;
    for (size_t i = 0; i < count; i++)
        sum += exp(-wrong[i]);
    return right / (sum + eps);
}
