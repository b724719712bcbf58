/* truth_ratio.c - see truth_ratio.h. */
#include "truth_ratio.h"

#include <math.h>

#include "mean.h"

double truth_ratio(enum truth_ratio_form form, double right, const double *wrong, size_t count, double eps)
{
    double mean_loss = mean_of(wrong, count), mean_probability = 0;
    switch (form) {
    case TRUTH_RATIO_PROBABILITY:
        return exp(-right) / (exp(-right) + exp(-mean_loss) + eps);
    case TRUTH_RATIO_ARITHMETIC:
        for (size_t i = 0; i < count; i++)
            mean_probability += exp(-wrong[i]) / (double)count;
        break;
    case TRUTH_RATIO_GEOMETRIC:
        if (eps == 0) /* the quotient of two numbers that may both underflow */
            return exp(right - mean_loss);
        mean_probability = exp(-mean_loss);
        break;
    }
    return mean_probability / (exp(-right) + eps);
}

double truth_ratio_closer_to_1(double ratio, double eps)
{
    double inverse = 1 / (ratio + eps);
    return isnan(ratio) ? ratio : ratio < inverse ? ratio : inverse;
}

double truth_ratio_true_better(double ratio)
{
    return isnan(ratio) ? ratio : ratio < 1 ? 1 - ratio : 0;
}
