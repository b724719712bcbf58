/* fuzz_plot.c - any metrics.jsonl with, behind a separator, any run.json; and the same bytes as a file of bars. */
#include "../../host/cli/plot/plot.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    struct error error = {0};
    char output[600], bars[600];
    snprintf(output, sizeof output, "%s/out.svg", fuzz_folder());
    snprintf(bars, sizeof bars, "%s", fuzz_file("bars.json", data, length));
    struct fuzz_part metrics = fuzz_next(&data, &length);
    fuzz_file("metrics.jsonl", metrics.data, metrics.length);
    fuzz_file("run.json", data, length);
    int status = plot_runs((const char *const[]){fuzz_folder()}, 1, output, &error);
    if (status)
        fuzz_refused(status, &error, STATUS_INPUT);
    error = (struct error){0};
    status = plot_bars(bars, output, &error);
    if (status)
        fuzz_refused(status, &error, STATUS_INPUT);
    return 0;
}
