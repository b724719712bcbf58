/* tcp_transport.h - bytes between every two ranks, for the data plane of CPU engines: one TCP connection per pair. */
#ifndef FLAT_COMM_TCP_TRANSPORT_H
#define FLAT_COMM_TCP_TRANSPORT_H
#include <stddef.h>

#include "../util/error.h"

struct comm;
struct tcp_transport;

struct chunk {
    void *bytes;
    size_t count;
};

/* Connects every two ranks of comm. Every rank calls it; a failure of one is the failure of all. */
int tcp_transport_open(struct tcp_transport **transport, struct comm *comm, struct error *error);
/* send[j] to every rank j while receive[i] comes from every rank i: both [size], the own entries are not looked at.
 * Returns NULL, or the reason why the connection to *rank broke. */
const char *tcp_transport_exchange(struct tcp_transport *transport, const struct chunk *send,
                                   const struct chunk *receive, int *rank);
void tcp_transport_close(struct tcp_transport *transport);

#endif
