/* utility.c - see utility.h. */
#include "utility.h"

#include <stdbool.h>

#include "mean.h"
#include "probability.h"

struct tofu_figures tofu_figures_of(enum tofu_set set, const struct tofu_rows *rows, enum truth_ratio_form form,
                                    double eps)
{
    bool normalised = set == TOFU_REAL_AUTHORS || set == TOFU_WORLD_FACTS;
    double probability = 0, truth = 0, count = (double)rows->rows;
    for (size_t i = 0; i < rows->rows; i++) {
        const double *wrong = rows->wrong_loss + i * rows->wrong_answers;
        double loss = rows->answer_loss[i];
        double ratio = truth_ratio(form, rows->right_loss[i], wrong, rows->wrong_answers, eps);
        probability += normalised ? answer_probability_normalised(loss, wrong, rows->wrong_answers, eps)
                                  : answer_probability(loss);
        truth += set == TOFU_FORGET ? truth_ratio_closer_to_1(ratio, eps) : truth_ratio_true_better(ratio);
    }
    return (struct tofu_figures){mean_of(rows->rouge, rows->rows), probability / count, truth / count};
}

double model_utility(const struct tofu_figures figures[TOFU_SETS])
{
    static const enum tofu_set sets[] = {TOFU_RETAIN, TOFU_REAL_AUTHORS, TOFU_WORLD_FACTS};
    double nine[9];
    for (int i = 0; i < 3; i++) {
        const struct tofu_figures *set = figures + sets[i];
        nine[3 * i] = set->rouge;
        nine[3 * i + 1] = set->probability;
        nine[3 * i + 2] = set->truth_ratio;
    }
    return harmonic_mean(nine, 9);
}
