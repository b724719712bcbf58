/* internal.h - what the files of comm share. */
#ifndef FLAT_COMM_INTERNAL_H
#define FLAT_COMM_INTERNAL_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "comm.h"
#include "messages.h"
#include "tcp.h"

struct cpu_collectives;
struct heartbeat;

struct comm_peer {
    char host[COMM_HOST_BYTES];
    long process;
    char address[COMM_ADDRESS_BYTES]; /* as rank 0 sees it; "" where it is rank 0's own host */
    char *describe;                   /* the line of comm_describe */
};

struct comm {
    struct rank_env env;
    struct comm_peer *peer; /* [size] */
    uint64_t run;           /* a number of this run, so that another run's data connection is none of ours */
    int *values;            /* [size], host values: by rank at rank 0, values[0] elsewhere; -1 for none */
    int listener;           /* for the data connections, while they are made */
    struct heartbeat *heartbeat;
    struct cpu_collectives *collectives; /* data plane of CPU engines; NULL with NCCL */
    struct device *device;
    atomic_bool aborted; /* the others are ending: a connection that breaks is no news */
};

/* rendezvous.c: meets the others; fills peer, run, values, and heartbeat_fds (as values, but owned by the caller). */
int rendezvous(struct comm *comm, int *heartbeat_fds, struct error *error);
/* This rank's hello on a channel, all but the nonce. */
void hello_fill(const struct comm *comm, enum comm_channel channel, struct comm_hello *hello);
/* Whether all ranks run on rank 0's host, by what rank 0 has seen of them. */
bool ranks_share_host(const struct comm *comm);

/* values.c: every rank gives `bytes` bytes under the same `call`, rank 0 makes *result of all of them, in the order of
 * ranks, and all get it. combine NULL: the result is all of them side by side. */
typedef void (*combine_fn)(const void *all, size_t bytes, int size, void *result);
int values_gather(struct comm *comm, const char *call, const void *own, size_t bytes, combine_fn combine, void *result,
                  size_t result_bytes, struct error *error);

#endif
