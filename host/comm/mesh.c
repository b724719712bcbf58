/* mesh.c - a TCP connection between every two ranks, as a transport (transport.h). */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../util/clock.h"
#include "../util/memory.h"
#include "internal.h"
#include "lane.h"
#include "watch.h"

#define MESH_SECONDS 60.0 /* to make the connections; a rank that is lost meanwhile is noticed by its heartbeat */
#define CARD_SECONDS 5.0  /* for a connection to say whose it is */

struct card {
    uint64_t key;
    int64_t rank;
};

struct mesh {
    int rank, size;
    int *fd;              /* [size], -1 for the own */
    struct pollfd *ready; /* [size] */
    size_t *sent, *received;
};

static void mesh_close(void *state, bool failed)
{
    (void)failed;
    struct mesh *mesh = state;
    for (int rank = 0; mesh->fd && rank < mesh->size; rank++)
        wire_close(&mesh->fd[rank]);
    free(mesh->fd);
    free(mesh->ready);
    free(mesh->sent);
    free(mesh->received);
    free(mesh);
}

/* Moves what can be moved without waiting; true where the connection broke, with errno. */
static bool piece_move(int fd, const struct piece *piece, size_t *done, bool out)
{
    while (*done < piece->count) {
        char *at = (char *)piece->bytes + *done;
        ssize_t moved = out ? send(fd, at, piece->count - *done, MSG_NOSIGNAL | MSG_DONTWAIT)
                            : recv(fd, at, piece->count - *done, MSG_DONTWAIT);
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

static int mesh_exchange(void *state, const struct piece *send, const struct piece *receive, int *rank, char *error,
                         size_t error_bytes)
{
    struct mesh *mesh = state;
    memset(mesh->sent, 0, (size_t)mesh->size * sizeof *mesh->sent);
    memset(mesh->received, 0, (size_t)mesh->size * sizeof *mesh->received);
    for (;;) {
        int open = 0;
        for (int peer = 0; peer < mesh->size; peer++) {
            struct pollfd *ready = &mesh->ready[peer];
            *ready = (struct pollfd){.fd = -1};
            if (peer == mesh->rank)
                continue;
            if (piece_move(mesh->fd[peer], &send[peer], &mesh->sent[peer], true) ||
                piece_move(mesh->fd[peer], &receive[peer], &mesh->received[peer], false)) {
                *rank = peer;
                snprintf(error, error_bytes, "its data connection broke: %s", wire_reason(errno));
                return -1;
            }
            ready->events = (short)((mesh->sent[peer] < send[peer].count ? POLLOUT : 0) |
                                    (mesh->received[peer] < receive[peer].count ? POLLIN : 0));
            ready->fd = ready->events ? mesh->fd[peer] : -1;
            open += ready->events != 0;
        }
        if (!open)
            return 0;
        poll(mesh->ready, (nfds_t)mesh->size, -1);
    }
}

/* ---- making it -------------------------------------------------------------------------------------------------- */

/* To all ranks below: their listeners exist already, so that no connection waits for an accept. */
static int mesh_connect(struct mesh *mesh, struct comm *comm, const int32_t *ports, double deadline,
                        struct error *error)
{
    int status = STATUS_OK;
    for (int rank = 0; !status && rank < mesh->rank; rank++) {
        const char *address = comm->peer[rank].address;
        const struct card own = {comm->key, mesh->rank};
        status = wire_connect(&mesh->fd[rank], *address ? address : comm->place.address, ports[rank], deadline, error);
        if (status)
            error_prefix(error, "rank %d (host %s)", rank, comm->peer[rank].host);
        else if (!wire_send(mesh->fd[rank], &own, sizeof own, deadline))
            watch_lose(comm->watch, rank, wire_reason(errno));
    }
    return status;
}

static int mesh_accept(struct mesh *mesh, struct comm *comm, double deadline, struct error *error)
{
    for (int wanted = mesh->size - 1 - mesh->rank; wanted;) {
        char from[WIRE_ADDRESS_BYTES];
        struct card card;
        int fd = wire_accept(comm->listener, deadline, from);
        if (fd < 0)
            return error_set(error, STATUS_PEER, "%d ranks above %d did not connect within %.0f s", wanted, mesh->rank,
                             MESH_SECONDS);
        if (!wire_receive(fd, &card, sizeof card, clock_seconds() + CARD_SECONDS) || card.key != comm->key ||
            card.rank <= mesh->rank || card.rank >= mesh->size || mesh->fd[card.rank] >= 0) {
            close(fd); /* none of ours */
            continue;
        }
        mesh->fd[card.rank] = fd;
        wanted--;
    }
    return STATUS_OK;
}

static struct mesh *mesh_allocate(const struct comm *comm, struct error *error)
{
    struct mesh *mesh = memory_array(1, sizeof *mesh, error);
    const size_t size = (size_t)comm->place.size;
    if (!mesh)
        return NULL;
    *mesh = (struct mesh){.rank = comm->place.rank, .size = comm->place.size};
    mesh->fd = memory_array(size, sizeof *mesh->fd, error);
    mesh->ready = memory_array(size, sizeof *mesh->ready, error);
    mesh->sent = memory_array(size, sizeof *mesh->sent, error);
    mesh->received = memory_array(size, sizeof *mesh->received, error);
    for (size_t rank = 0; mesh->fd && rank < size; rank++)
        mesh->fd[rank] = -1;
    if (mesh->fd && mesh->ready && mesh->sent && mesh->received)
        return mesh;
    mesh_close(mesh, true);
    return NULL;
}

int mesh_open(struct transport *transport, struct comm *comm, struct error *error)
{
    const double deadline = clock_seconds() + MESH_SECONDS;
    const size_t size = (size_t)comm->place.size;
    const char *own = comm->peer[comm->place.rank].address;
    int32_t port = 0;
    int bound = 0;
    struct mesh *mesh = mesh_allocate(comm, error);
    int32_t *ports = memory_array(size, sizeof *ports, error);
    int status = mesh && ports ? STATUS_OK : STATUS_MEMORY;
    if (!status)
        status = wire_listen(&comm->listener, *own ? own : comm->place.address, 0, &bound, error);
    port = bound;
    status = comm_status(comm, status, error);
    if (!status)
        status = values_gather(comm, "ports", &port, sizeof port, NULL, ports, size * sizeof *ports, error);
    if (!status)
        status = mesh_connect(mesh, comm, ports, deadline, error);
    if (!status)
        status = mesh_accept(mesh, comm, deadline, error);
    status = comm_status(comm, status, error);
    wire_close(&comm->listener);
    free(ports);
    if (status) {
        if (mesh)
            mesh_close(mesh, true);
        return status;
    }
    *transport = (struct transport){"sockets", mesh, NULL, mesh_exchange, mesh_close};
    return STATUS_OK;
}
