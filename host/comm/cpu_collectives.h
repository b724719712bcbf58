/* cpu_collectives.h - collectives on host memory, in a thread of their own, so that they run while the engine computes.
 *
 * reduce_scatter: every rank sends slice j to rank j, which adds them up in the order of ranks: one order, whatever
 * arrives first, so the same bits every time. all_gather: every rank sends its slice to all. Sent and received per rank:
 * (size - 1) / size of the buffer for each of the two, as in a ring. 16-bit types are added in float and rounded once.
 */
#ifndef FLAT_COMM_CPU_COLLECTIVES_H
#define FLAT_COMM_CPU_COLLECTIVES_H
#include "../../kernels/engine/op.h"
#include "../util/error.h"
#include "tcp_transport.h"

struct comm;
struct cpu_collectives;

enum collective {
    COLLECTIVE_REDUCE_SCATTER,
    COLLECTIVE_ALL_GATHER,
    COLLECTIVE_ALL_REDUCE,
    COLLECTIVE_BROADCAST,
    COLLECTIVES
};

/* Takes the transport over, and closes it on a failure too. */
int cpu_collectives_open(struct cpu_collectives **collectives, struct comm *comm, struct tcp_transport *transport,
                         struct error *error);
void cpu_collectives_close(struct cpu_collectives *collectives);
/* n elements (bytes for COLLECTIVE_BROADCAST). Returns at once; a failure comes back from cpu_collectives_wait. */
int cpu_collectives_queue(struct cpu_collectives *collectives, enum collective collective, enum dtype dtype,
                          void *buffer, int64_t n, int root, struct error *error);
int cpu_collectives_wait(struct cpu_collectives *collectives, struct error *error);

#endif
