/* launcher.h - `--nproc_per_node N`: this program N times on this host, as the ranks of one run. */
#ifndef FLAT_CLI_LAUNCHER_H
#define FLAT_CLI_LAUNCHER_H
#include <stdbool.h>

#include "../util/error.h"
#include "../util/log.h"
#include "../util/options.h"

struct launcher_options {
    int64_t nproc_per_node; /* above 1: this process starts them */
};
extern const struct option_group launcher_option_group;

/* Whether this process is to start the ranks: nproc_per_node is above 1, and it is not one of them yet.
 * *status is STATUS_USAGE where another launcher has started us already. */
bool launcher_wanted(const struct launcher_options *options, int *status, struct error *error);

/* Starts the ranks with the same arguments, RANK and its like, and a port of 127.0.0.1; hands on signals; waits for
 * all. OMP_NUM_THREADS, where it is not set, shares the CPUs out. No rank outlives the launcher, even when that is
 * killed. Once a rank has failed the others have LAUNCHER_GRACE_SECONDS to end by themselves.
 *
 * Returns the code of the rank that failed on its own account; STATUS_PEER where one was killed by a signal, and
 * STATUS_RUNTIME where that signal had come to the launcher. The ranks have printed their own errors; *error says who
 * ended how. */
int launcher_run(int processes, char **argv, struct log *log, struct error *error);

#endif
