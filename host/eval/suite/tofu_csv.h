/* tofu_csv.h - the two CSV files of TOFU's own code, byte for byte as Python's csv module writes them.
 *
 *   leaderboard   aggregate_eval_stat.py: `ROUGE X`, `Prob. X`, `Truth Ratio X` for each set X, Model Utility, Forget
 *                 Quality, Method, Submitted By; its figures are the geometric form
 *   training      aggregate_stat.csv of a training run: `X ROUGE`, `X Probability`, `X Truth Ratio`, Model Utility,
 *                 Forget Quality, KS Test PVal Forget, KS Test Forget; its figures are the arithmetic form
 * for X = Real Authors, Real World, Retain, Forget.
 */
#ifndef FLAT_EVAL_SUITE_TOFU_CSV_H
#define FLAT_EVAL_SUITE_TOFU_CSV_H
#include "../../util/memory.h"
#include "../metric/ks.h"
#include "../metric/utility.h"

enum tofu_csv { TOFU_CSV_LEADERBOARD, TOFU_CSV_TRAINING };

struct tofu_table {
    struct tofu_figures figures[TOFU_SETS];
    double model_utility;
    const struct ks *forget_quality;   /* NULL without a retain model: the fields stay empty */
    const char *method, *submitted_by; /* of the leaderboard's file; NULL: empty */
};

/* Appends the header and one row. */
int tofu_csv_print(enum tofu_csv form, const struct tofu_table *table, struct buffer *out, struct error *error);

#endif
