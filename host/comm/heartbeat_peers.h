/* heartbeat_peers.h - what the thread of heartbeat.c and the connections of heartbeat_peers.c share; for these two alone. */
#ifndef FLAT_COMM_HEARTBEAT_PEERS_H
#define FLAT_COMM_HEARTBEAT_PEERS_H
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "heartbeat.h"
#include "internal.h"

#define BEAT_SECONDS 1.0
enum { TEXT_BYTES = sizeof((struct comm_beat *)0)->text };

/* The other end of one connection: a rank at rank 0, rank 0 elsewhere. */
struct connection {
    int fd;        /* -1: has left */
    int64_t calls; /* that it had made when it was heard last */
    double heard;
    struct comm_beat incoming;
    size_t received;
};

/* A rank that has said goodbye. */
struct departure {
    int64_t calls; /* that it made; -1: it is there */
    double at;
};

enum request { REQUEST_NONE, REQUEST_CLOSE, REQUEST_ABORT, REQUEST_LOSE };

struct heartbeat {
    int rank, size, connections, wake;
    const struct comm_peer *peers;
    struct connection *connection; /* [connections]: by rank at rank 0, one elsewhere */
    struct pollfd *ready;          /* [connections + 1] */
    struct departure *left;        /* [size] */
    atomic_llong calls;
    double failing_since; /* since when the device's communication has failed; 0: it has not */
    bool aborted;         /* the thread has been told to leave and was joined; the main thread's */
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows, which other threads write */
    enum request request;
    char text[TEXT_BYTES];
    const char *(*check)(void *user);
    void *user;
};

/* To all that are there. Never waits: a rank that does not read is told by its silence, and a broken connection shows when it
 * is read. */
void heartbeat_send(struct heartbeat *heartbeat, const struct comm_beat *message);
/* What the others hear of a failure of this rank. */
void heartbeat_tell_failure(struct heartbeat *heartbeat, const char *reason);
/* Lets what was sent arrive, two seconds at most, and closes the connections. */
void heartbeat_drain(struct heartbeat *heartbeat);
/* "rank 2 (host a, process 17)". */
void heartbeat_name_rank(const struct heartbeat *heartbeat, int rank, char *out, size_t bytes);
/* Tells the others and the terminal, and ends the process with STATUS_PEER. Nobody leaves without a word: rank 0 would take
 * this rank for the one that was lost. */
_Noreturn void heartbeat_exit(struct heartbeat *heartbeat, const char *text);
/* Waits for what comes, a quarter of BEAT_SECONDS at most, and reads it: does not return where it says that a rank is lost. */
void heartbeat_listen(struct heartbeat *heartbeat);
/* Whether a rank is lost that says nothing, or has said goodbye before its time: does not return then. */
void heartbeat_judge(struct heartbeat *heartbeat, double now);

#endif
