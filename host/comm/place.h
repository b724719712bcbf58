/* place.h - which rank of how many this process is, as its launcher says. */
#ifndef FLAT_COMM_PLACE_H
#define FLAT_COMM_PLACE_H
#include "../util/error.h"

struct comm_place {
    int rank, size;             /* in the whole run */
    int local_rank, local_size; /* on this host: local_rank picks the GPU */
    char address[256];          /* where rank 0 listens */
    int port;
    double timeout_seconds;     /* to wait for the others at the start: 60 */
    const char *launcher;       /* "torchrun", "mpirun", "srun", "environment", "flat", or "none" with one rank */
};

/* Reads the environment. Contradictory or half-set variables are STATUS_USAGE, naming the variable. */
int comm_place_find(struct comm_place *place, struct error *error);

#endif
