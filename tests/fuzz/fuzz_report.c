/* fuzz_report.c - any run.json, metrics.jsonl, QA_EVAL.json, X_SUMMARY.json, attack.json and README.md of a base: a page on which no text
 * has become markup, and a model card; or a refusal.
 */
#include "../../host/cli/card/model_card.h"
#include "../../host/cli/report/report.h"
#include "fuzz.h"

static void folders_make(void)
{
    static const char *const name[] = {"evals", "evals/before", "evals/after"};
    char path[600];
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name[i]);
        mkdir(path, 0777);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    static const char *const name[] = {"run.json", "metrics.jsonl", "evals/before/QA_EVAL.json", "evals/after/QA_EVAL.json", "X_SUMMARY.json",
                                       "attack.json", "README.md"};
    static struct log messages;
    struct error error = {0};
    struct report report = {.examples = 3};
    struct buffer page = {0}, card = {0};
    const char *const folder[] = {fuzz_folder()};
    folders_make();
    if (!messages.stream)
        log_init(&messages, fopen("/dev/null", "w"), true);
    FUZZ_CHECK(messages.stream);
    for (int i = 0; i < 7; i++) {
        struct fuzz_part part = fuzz_next(&data, &length);
        fuzz_file(name[i], part.data, part.length);
    }
    int status = report_read(&report, folder, 1, &messages, &error);
    if (!status)
        status = report_write(&report, &page, &error);
    if (status)
        fuzz_refused(status, &error, STATUS_INPUT);
    else
        FUZZ_CHECK(!strstr(page.data, "<script") && !strstr(page.data, "<img") && strstr(page.data, "</html>\n"));
    if (!status && report.run[0].record)
        FUZZ_CHECK(!model_card_print(report.run[0].record, NULL, NULL, &card, &error));
    buffer_free(&card);
    FUZZ_CHECK(!base_metadata_read(fuzz_folder(), &card, &error));
    buffer_free(&card);
    buffer_free(&page);
    report_free(&report);
    return 0;
}
