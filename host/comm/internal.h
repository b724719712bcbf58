/* internal.h - what the files of comm share. */
#ifndef FLAT_COMM_INTERNAL_H
#define FLAT_COMM_INTERNAL_H
#include <stdatomic.h>
#include <stdint.h>

#include "comm.h"
#include "tcp.h"

struct cpu_collectives;
struct heartbeat;

struct comm_peer {
    char host[65];
    long process;
    char address[TCP_ADDRESS_BYTES]; /* as rank 0 sees it; "" where it is rank 0's own host */
    char *describe;                   /* the line of comm_describe */
};

struct comm {
    struct rank_env env;
    struct comm_peer *peer; /* [size] */
    uint64_t key;           /* of this run, so that a stranger's connection is none of ours */
    int *values;            /* [size], host values: by rank at rank 0, values[0] elsewhere; -1 for none */
    int listener;           /* for the data connections, while they are made */
    struct heartbeat *heartbeat;
    struct cpu_collectives *collectives;      /* data plane of CPU engines; NULL with NCCL */
    struct device *device;
    atomic_bool aborted;    /* the others are ending: a connection that breaks is no news */
};

/* What a rank says first on each of its two connections to rank 0. */
enum { COMM_PROTOCOL = 1 };
#define COMM_MAGIC "FLATCOMM"
enum comm_channel { CHANNEL_VALUES, CHANNEL_HEARTBEAT, CHANNELS };
struct comm_hello {
    char magic[8];
    int32_t protocol, rank, size, channel;
    int64_t process;
    char version[64], host[65];
};

/* rendezvous.c: meets the others; fills peer, key, values, and heartbeat_fds (as values, but owned by the caller). */
int rendezvous(struct comm *comm, int *heartbeat_fds, struct error *error);

/* values.c: every rank gives `bytes` bytes under the same `call`, rank 0 makes *result of all of them, in the order of
 * ranks, and all get it. combine NULL: the result is all of them side by side. */
typedef void (*combine_fn)(const void *all, size_t bytes, int size, void *result);
int values_gather(struct comm *comm, const char *call, const void *own, size_t bytes, combine_fn combine, void *result,
                 size_t result_bytes, struct error *error);

#endif
