/* fuzz_eval_log.c - any log of an evaluation, open-unlearning's form or TOFU's: refused in one line, or with a summary. */
#include "../../host/eval/suite/eval_log.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    struct error error = {0};
    struct eval_log log;
    static struct log messages;
    cJSON *summary = NULL;
    if (!messages.stream)
        log_init(&messages, fopen("/dev/null", "w"), true);
    FUZZ_CHECK(messages.stream);
    int status = eval_log_read(&log, fuzz_file("log.json", data, length), &messages, &error);
    for (const cJSON *metric = status ? NULL : log.metrics->child; metric; metric = metric->next) {
        struct error refused = {0};
        struct eval_rows rows;
        int read = eval_rows_read(&log, metric, metric->string, "prob", &rows, &refused);
        if (read)
            fuzz_refused(read, &refused, STATUS_INPUT);
        eval_rows_free(&rows);
    }
    if (!status)
        status = eval_log_summary(&log, "TOFU", &summary, &error);
    if (status)
        fuzz_refused(status, &error, STATUS_INPUT);
    cJSON_Delete(summary);
    eval_log_free(&log);
    return 0;
}
