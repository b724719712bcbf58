/* tofu_tables.h - TOFU's own tables from a log: figures of the four sets by TOFU's formulas, which have no 1e-10. */
#ifndef FLAT_EVAL_SUITE_TOFU_TABLES_H
#define FLAT_EVAL_SUITE_TOFU_TABLES_H
#include "eval_log.h"
#include "tofu_csv.h"

/* The row of a CSV file: geometric truth ratios for the leaderboard's, arithmetic ones for a training run's. *available
 * is false, and the table empty, unless the log has ROUGE and the losses of all four sets. forget_quality points to *ks
 * when retain (may be NULL) has the forget rows' losses, and is NULL otherwise; method and submitted_by are left
 * NULL. */
int tofu_table_make(enum tofu_csv form, const struct eval_log *log, const struct eval_log *retain,
                    struct tofu_table *table, struct ks *ks, bool *available, struct error *error);
/* Both files, aggregate_eval_stat.csv and aggregate_stat.csv, into a directory that exists. *written is false when the
 * log does not hold what they need. */
int tofu_tables_write(const struct eval_log *log, const struct eval_log *retain, const char *method,
                      const char *submitted_by, const char *directory, bool *written, struct error *error);

#endif
