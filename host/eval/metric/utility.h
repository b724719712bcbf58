/* utility.h - TOFU's tables: the three figures of each set, and model utility.
 *
 *   figure        forget, retain                          real authors, world facts
 *   rouge         mean ROUGE-L recall                     the same
 *   probability   mean P(answer)                          mean normalised P(answer)
 *   truth ratio   forget: mean min(R, 1 / (R + eps));     all others: mean max(0, 1 - R)
 *   model utility = harmonic mean of the nine figures of retain, real authors and world facts; 0 when one is 0
 *
 * R geometric and eps 1e-10: open-unlearning, the default. R geometric, eps 0: TOFU's aggregate_eval_stat.py and
 * leaderboard. R arithmetic, eps 0: TOFU's utils.py and paper ("model_utility_tofu"). For the paper's Llama-2-7B the
 * first two say 0.6227, the third 0.5859.
 */
#ifndef FLAT_EVAL_METRIC_UTILITY_H
#define FLAT_EVAL_METRIC_UTILITY_H
#include "truth_ratio.h"

enum tofu_set { TOFU_RETAIN, TOFU_REAL_AUTHORS, TOFU_WORLD_FACTS, TOFU_FORGET, TOFU_SETS };

struct tofu_figures {
    double rouge, probability, truth_ratio; /* 0 to 1 */
};

/* The rows of one set. Losses are means of -logprob over an answer's targets. */
struct tofu_rows {
    size_t rows, wrong_answers; /* wrong_answers: per row, the same for all */
    const double *rouge;        /* [rows] ROUGE-L recall of the greedy answer */
    const double *answer_loss;  /* [rows] */
    const double *right_loss;   /* [rows] of the paraphrase (forget, retain) or of the answer (the others) */
    const double *wrong_loss;   /* [rows][wrong_answers] */
};

/* The three figures of a set; NAN where a row has none. form: geometric or arithmetic. */
struct tofu_figures tofu_figures_of(enum tofu_set set, const struct tofu_rows *rows, enum truth_ratio_form form,
                                    double eps);
/* Of the figures of all four sets, indexed by enum tofu_set; those of the forget set take no part. */
double model_utility(const struct tofu_figures figures[TOFU_SETS]);

#endif
