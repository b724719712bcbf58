/* from_logs.c - see from_logs.h. */
#include "from_logs.h"

int eval_from_logs(const struct from_logs_options *options, struct log *messages, cJSON **summary, struct error *error)
{
    struct eval_log log = {0}, retain = {0};
    struct results_options results = options->results;
    *summary = NULL;
    int status = eval_log_read(&log, options->log, messages, error);
    if (!status && options->retain_log) {
        results.retain = &retain;
        status = eval_log_read(&retain, options->retain_log, messages, error);
    }
    if (!results.suite && log.metrics)
        results.suite = eval_log_suite(&log);
    if (!status && !results.suite)
        status = error_set(error, STATUS_INPUT,
                           "%s: no metric of TOFU (as forget_Q_A_Prob) or MUSE (as forget_knowmem_ROUGE); say --suite",
                           log.path);
    if (!status)
        status = eval_results(&log, &results, messages, summary, error);
    eval_log_free(&log);
    eval_log_free(&retain);
    return status;
}
