/* from_logs.h - metrics from evaluation logs made elsewhere, or earlier, without a model: `flat eval --from_logs`. */
#ifndef FLAT_EVAL_SUITE_FROM_LOGS_H
#define FLAT_EVAL_SUITE_FROM_LOGS_H
#include "results.h"

struct from_logs_options {
    const char *log;        /* <SUITE>_EVAL.json, or TOFU's eval_log_aggregated.json */
    const char *retain_log; /* the same of a retain model, in either form; NULL for none */
    struct results_options results; /* suite NULL: by the names of the log's metrics; retain is taken from retain_log */
};

/* eval_results of a log that is read. */
int eval_from_logs(const struct from_logs_options *options, struct log *messages, cJSON **summary, struct error *error);

#endif
