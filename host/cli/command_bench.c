/* command_bench.c - `flat bench kernels|step|comm`: measurements of this machine; see benches/. */
#include <string.h>

#include "../../benches/bench_comm.h"
#include "../../benches/step.h"
#include "commands.h"

int command_bench(struct invocation *run, struct error *error)
{
    const struct settings *settings = &run->line.settings;
    const char *what = run->line.arguments.argument;
    int status;
    if (!strcmp(what, "kernels"))
        status = bench_kernels(settings, &run->log, error);
    else if (!strcmp(what, "step"))
        status = bench_step(settings, &run->log, error);
    else if (!strcmp(what, "comm"))
        status = bench_comm(settings, error);
    else
        status = error_set(error, STATUS_USAGE, "'%.80s': expected kernels, step or comm", what);
    return status ? status : stdout_finish(error);
}
