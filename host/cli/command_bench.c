/* command_bench.c - `flat bench WHAT`: measurements of this machine. */
#include <string.h>

#include "../../benches/bench_comm.h"
#include "commands.h"

int command_bench(struct invocation *run, struct error *error)
{
    const char *what = run->line.arguments.argument;
    if (strcmp(what, "comm"))
        return error_set(error, STATUS_USAGE, "'%.80s': expected comm", what);
    int status = bench_comm(&run->line.settings, error);
    return status ? status : stdout_finish(error);
}
