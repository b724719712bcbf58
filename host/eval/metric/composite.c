/* composite.c - see composite.h. */
#include "composite.h"

#include <math.h>

#include "mean.h"

static const double added = 1e-12;

double forget_quality_gap(double bleu, double rouge, double retrained_bleu, double retrained_rouge)
{
    return fabs(bleu - retrained_bleu) + fabs(rouge - retrained_rouge);
}

double memorization_score(double extraction_strength, double exact_memorization, double paraphrase_probability,
                          double truth_ratio)
{
    return harmonic_mean((double[]){1 - extraction_strength + added, 1 - exact_memorization + added,
                                    1 - paraphrase_probability + added, 1 - truth_ratio + added},
                         4);
}

double privacy_score(const double *auc, const double *retain_auc, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        double share = 1 - fabs(auc[i] - retain_auc[i]) / retain_auc[i];
        if (isnan(share) || retain_auc[i] <= 0)
            return NAN;
        sum += 1 / ((share > 0 ? share : 0) + added);
    }
    return count ? (double)count / sum : NAN;
}

double utility_score(double model_utility, double fluency)
{
    return harmonic_mean((double[]){model_utility + added, fluency + added}, 2);
}

double overall_score(double memorization, double privacy, double utility)
{
    return harmonic_mean((double[]){memorization + added, privacy + added, utility + added}, 3);
}
