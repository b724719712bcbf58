/* transport.h - bytes between every two ranks, for the data plane of CPU engines: sockets (mesh.c) or MPI (mpi.c, a
 * library of its own that is loaded under mpirun, so that nobody else needs MPI).
 */
#ifndef FLAT_COMM_TRANSPORT_H
#define FLAT_COMM_TRANSPORT_H
#include <stdbool.h>
#include <stddef.h>

struct piece {
    void *bytes;
    size_t count;
};

/* All functions are called in the lane's thread. */
struct transport {
    const char *name;
    void *state;
    /* What must happen in that thread before the first exchange; NULL for nothing. 0, or -1 with a line. */
    int (*start)(void *state, char *error, size_t error_bytes);
    /* send[j] to every rank j while receive[i] comes from every rank i: both [size], the own entries are not looked at.
     * 0, or -1 with the rank whose connection broke and a line. */
    int (*exchange)(void *state, const struct piece *send, const struct piece *receive, int *rank, char *error,
                    size_t error_bytes);
    /* failed: without waiting for the others, who may have ended. */
    void (*close)(void *state, bool failed);
};

/* What libflat_mpi.so exports as flat_mpi; false where another kind of MPI than its own has started this process. */
typedef bool (*flat_mpi_fn)(struct transport *transport, int rank, int size);

#endif
