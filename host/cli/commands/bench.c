/* bench.c - `flat bench kernels|step|io|comm`: measurements of the program's parts; see host/bench/. */
#include <string.h>

#include "../../bench/bench_comm.h"
#include "../../bench/bench_io.h"
#include "../../bench/step.h"
#include "../commands.h"

static int comm_measure(const struct settings *settings, struct log *log, struct error *error)
{
    (void)log; /* its table names every rank's device */
    return bench_comm(settings, error);
}

int command_bench(struct invocation *run, struct error *error)
{
    static const struct {
        const char *name;
        int (*measure)(const struct settings *settings, struct log *log, struct error *error);
    } part[] = {{"kernels", bench_kernels}, {"step", bench_step}, {"io", bench_io}, {"comm", comm_measure}};
    const char *word = run->line.arguments.argument;
    int status = STATUS_USAGE;
    bool found = false;
    for (size_t i = 0; i < sizeof part / sizeof *part && !found; i++)
        if (!strcmp(word, part[i].name)) {
            found = true;
            status = part[i].measure(&run->line.settings, &run->log, error);
        }
    if (!found)
        return error_set(error, STATUS_USAGE, "'%.80s': 'flat bench' measures kernels, step, io or comm", word);
    return status ? status : stdout_finish(error);
}
