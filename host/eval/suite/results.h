/* results.h - from measured metrics to what people read: everything that follows from them, the files, the summary. */
#ifndef FLAT_EVAL_SUITE_RESULTS_H
#define FLAT_EVAL_SUITE_RESULTS_H
#include "eval_log.h"

struct results_options {
    const char *suite;             /* "TOFU", "MUSE", "HP" or "QA" */
    const char *output_dir;        /* made when it is missing; NULL: no files */
    const struct eval_log *retain; /* the log of a model that never saw the forget set; NULL for none */
    const char *const *refusals;   /* [refusal_count], for forget_refusal_rate; NULL for none */
    int refusal_count;
    const char *method, *submitted_by; /* for the last two columns of the leaderboard's CSV; NULL: empty */
};

/* Completes the log (eval_derive.h) and writes <SUITE>_EVAL.json and <SUITE>_SUMMARY.json and, for TOFU's suite and where
 * the log has all four sets, aggregate_eval_stat.csv and aggregate_stat.csv. *summary (cJSON_Delete) is the summary, an
 * object of numbers, for a table. messages hears what eval_derive has to say. STATUS_NONFINITE, with the names, when a
 * figure of the summary is not finite: the files are written all the same, and so is *summary. */
int eval_results(struct eval_log *log, const struct results_options *options, struct log *messages, cJSON **summary,
                 struct error *error);

/* The table for a terminal: a line per figure, name and value. */
int eval_summary_print(const cJSON *summary, struct buffer *out, struct error *error);

#endif
