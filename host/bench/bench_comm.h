/* bench_comm.h - `flat bench comm`: time and bandwidth of every collective between the ranks of a run, by size. */
#ifndef FLAT_BENCHES_BENCH_COMM_H
#define FLAT_BENCHES_BENCH_COMM_H
#include "bench.h"

struct bench_comm_options {
    struct bench_options bench;
    int64_t min_bytes, max_bytes; /* of a buffer */
};
extern const struct option_group bench_comm_option_group;

/* Every rank calls it; rank 0 prints the table of nccl-tests to stdout. The collectives here are in place, and so are
 * the columns. Sizes go from min_bytes to max_bytes in steps of two; a time is the mean of `samples` (0: 50) calls in a
 * row, of the slowest rank. Results are checked before: a wrong one is STATUS_RUNTIME. */
int bench_comm(const struct bench_comm_options *options, struct error *error);

#endif
