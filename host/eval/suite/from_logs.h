/* from_logs.h - metrics from evaluation logs made elsewhere, or earlier, without a model: `flat eval --from_logs`. */
#ifndef FLAT_EVAL_SUITE_FROM_LOGS_H
#define FLAT_EVAL_SUITE_FROM_LOGS_H
#include "eval_derive.h"

struct from_logs_options {
    const char *log;             /* <SUITE>_EVAL.json, or TOFU's eval_log_aggregated.json */
    const char *retain_log;      /* the same of a retain model, in either form; NULL for none */
    const char *output_dir;      /* made when it is missing */
    const char *suite;           /* "TOFU" or "MUSE"; NULL: by the names of the log's metrics */
    const char *const *refusals; /* [refusal_count], for forget_refusal_rate; NULL for none */
    int refusal_count;
    const char *method, *submitted_by; /* for the last two columns of the leaderboard's CSV; NULL: empty */
};

/* Writes <SUITE>_EVAL.json and <SUITE>_SUMMARY.json and, for TOFU's suite and where the log has all four sets,
 * aggregate_eval_stat.csv and aggregate_stat.csv. *summary (cJSON_Delete) is the summary, an object of numbers, for a
 * table. messages hears what eval_derive has to say. STATUS_NONFINITE, with the names, when a figure of the summary is
 * not finite: the files are written all the same, and so is *summary. */
int eval_from_logs(const struct from_logs_options *options, struct log *messages, cJSON **summary, struct error *error);

/* The table for a terminal: a line per figure, name and value. */
int eval_summary_print(const cJSON *summary, struct buffer *out, struct error *error);

#endif
