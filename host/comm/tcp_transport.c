/* tcp_transport.c - see tcp_transport.h. */
#include "tcp_transport.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../util/clock.h"
#include "../util/memory.h"
#include "handshake.h"
#include "internal.h"

#define LOOPBACK "127.0.0.1"
#define CONNECT_SECONDS 60.0 /* to make the connections; a rank that is lost meanwhile is noticed by its heartbeat */

struct tcp_transport {
    int rank, size;
    int *fd;              /* [size], -1 for the own */
    struct pollfd *ready; /* [size] */
    size_t *sent, *received;
};

void tcp_transport_close(struct tcp_transport *transport)
{
    if (!transport)
        return;
    for (int rank = 0; transport->fd && rank < transport->size; rank++)
        tcp_close(&transport->fd[rank]);
    free(transport->fd);
    free(transport->ready);
    free(transport->sent);
    free(transport->received);
    free(transport);
}

/* Moves what can be moved without waiting; true where the connection broke, with errno. */
static bool chunk_move(int fd, const struct chunk *chunk, size_t *done, bool out)
{
    while (*done < chunk->count) {
        char *at = (char *)chunk->bytes + *done;
        ssize_t moved = out ? send(fd, at, chunk->count - *done, MSG_NOSIGNAL | MSG_DONTWAIT)
                            : recv(fd, at, chunk->count - *done, MSG_DONTWAIT);
        if (moved > 0) {
            *done += (size_t)moved;
            continue;
        }
        if (moved == 0)
            errno = 0;
        return moved == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
    }
    return false;
}

const char *tcp_transport_exchange(struct tcp_transport *transport, const struct chunk *send,
                                   const struct chunk *receive, int *rank)
{
    memset(transport->sent, 0, (size_t)transport->size * sizeof *transport->sent);
    memset(transport->received, 0, (size_t)transport->size * sizeof *transport->received);
    for (;;) {
        int open = 0;
        for (int peer = 0; peer < transport->size; peer++) {
            struct pollfd *ready = &transport->ready[peer];
            *ready = (struct pollfd){.fd = -1};
            if (peer == transport->rank)
                continue;
            if (chunk_move(transport->fd[peer], &send[peer], &transport->sent[peer], true) ||
                chunk_move(transport->fd[peer], &receive[peer], &transport->received[peer], false)) {
                *rank = peer;
                return tcp_reason(errno);
            }
            ready->events = (short)((transport->sent[peer] < send[peer].count ? POLLOUT : 0) |
                                    (transport->received[peer] < receive[peer].count ? POLLIN : 0));
            ready->fd = ready->events ? transport->fd[peer] : -1;
            open += ready->events != 0;
        }
        if (!open)
            return NULL;
        poll(transport->ready, (nfds_t)transport->size, -1);
    }
}

/* ---- making it -------------------------------------------------------------------------------------------------- */

/* To all ranks below. Those accept only after their own connections to the ranks below them: rank 0 at once, rank 1 when it
 * has connected to rank 0, and so on, so that nobody waits in a circle. */
static int ranks_connect(struct tcp_transport *transport, struct comm *comm, const int32_t *ports, double deadline,
                         struct error *error)
{
    const bool one_host = ranks_share_host(comm);
    int status = STATUS_OK;
    for (int rank = 0; !status && rank < transport->rank; rank++) {
        const struct comm_peer *peer = &comm->peer[rank];
        const char *address = one_host ? LOOPBACK : *peer->address ? peer->address : comm->env.address;
        struct comm_hello hello;
        hello_fill(comm, CHANNEL_DATA, &hello);
        if (ports[rank] < 1 || ports[rank] > 65535)
            status = error_set(error, STATUS_RUNTIME, "rank %d (host %s) listens at port %d, which is none", rank,
                               peer->host, ports[rank]);
        else if ((status = handshake_connect(&transport->fd[rank], address, ports[rank], comm->env.secret, &hello,
                                             deadline, -1, error)))
            error_prefix(error, "rank %d (host %s)", rank, peer->host);
    }
    return status;
}

static int ranks_accept(struct tcp_transport *transport, struct comm *comm, double deadline, struct error *error)
{
    struct acceptor acceptor;
    int status = acceptor_open(&acceptor, comm->listener, comm->env.secret, error);
    for (int wanted = transport->size - 1 - transport->rank; !status && wanted;) {
        char from[TCP_ADDRESS_BYTES];
        struct comm_hello hello;
        int fd = acceptor_next(&acceptor, deadline, &hello, from);
        if (fd < 0) {
            status = error_set(error, STATUS_PEER, "%d ranks above %d did not connect within %.0f s", wanted,
                               transport->rank, CONNECT_SECONDS);
        } else if (hello.channel != CHANNEL_DATA || hello.run != comm->run || hello.rank <= transport->rank ||
                   hello.rank >= transport->size || transport->fd[hello.rank] >= 0) {
            close(fd); /* of another run with the same secret */
        } else {
            transport->fd[hello.rank] = fd;
            wanted--;
        }
    }
    acceptor_close(&acceptor);
    return status;
}

static struct tcp_transport *transport_allocate(const struct comm *comm, struct error *error)
{
    struct tcp_transport *transport = memory_array(1, sizeof *transport, error);
    const size_t size = (size_t)comm->env.size;
    if (!transport)
        return NULL;
    *transport = (struct tcp_transport){.rank = comm->env.rank, .size = comm->env.size};
    transport->fd = memory_array(size, sizeof *transport->fd, error);
    transport->ready = memory_array(size, sizeof *transport->ready, error);
    transport->sent = memory_array(size, sizeof *transport->sent, error);
    transport->received = memory_array(size, sizeof *transport->received, error);
    for (size_t rank = 0; transport->fd && rank < size; rank++)
        transport->fd[rank] = -1;
    if (transport->fd && transport->ready && transport->sent && transport->received)
        return transport;
    tcp_transport_close(transport);
    return NULL;
}

int tcp_transport_open(struct tcp_transport **out, struct comm *comm, struct error *error)
{
    const double deadline = clock_seconds() + CONNECT_SECONDS;
    const size_t size = (size_t)comm->env.size;
    const char *address = comm->peer[comm->env.rank].address;
    int32_t port = 0;
    int bound = 0;
    struct tcp_transport *transport = transport_allocate(comm, error);
    int32_t *ports = memory_array(size, sizeof *ports, error);
    int status = transport && ports ? STATUS_OK : STATUS_MEMORY;
    if (!status)
        status = tcp_listen(&comm->listener, ranks_share_host(comm) ? LOOPBACK : *address ? address : comm->env.address,
                            0, &bound, error);
    port = bound;
    status = comm_agree(comm, status, error);
    if (!status && transport && ports) {
        status = values_gather(comm, "ports", &port, sizeof port, NULL, ports, size * sizeof *ports, error);
        if (!status)
            status = ranks_connect(transport, comm, ports, deadline, error);
        if (!status)
            status = ranks_accept(transport, comm, deadline, error);
    }
    status = comm_agree(comm, status, error);
    tcp_close(&comm->listener);
    free(ports);
    if (status)
        tcp_transport_close(transport);
    else
        *out = transport;
    return status;
}
