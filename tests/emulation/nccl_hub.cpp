/* nccl_hub.cpp - the bytes of emulated NCCL: the process of rank 0 gathers what all give, checks that they make the
 * same call, and hands out what each takes. A Unix socket, whose name in the abstract namespace is made of the unique
 * id, leaves nothing behind whoever is killed.
 */
#include "nccl_state.h"
#include "runtime.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

namespace emu {

enum { PATIENCE_SECONDS = 60 };

static void nap()
{
    const timespec time = {0, 20000000};
    nanosleep(&time, nullptr);
}

static socklen_t address_of(const nccl_id &id, sockaddr_un *address)
{
    *address = {};
    address->sun_family = AF_UNIX;
    const int used = snprintf(address->sun_path + 1, sizeof address->sun_path - 1, "flat-emulation-nccl-");
    for (int i = 0; i < 16; i++)
        snprintf(address->sun_path + 1 + used + 2 * i, 3, "%02x", (unsigned char)id.internal[i]);
    return (socklen_t)(offsetof(sockaddr_un, sun_path) + 1 + (size_t)used + 32);
}

static bool move_all(int fd, void *bytes, size_t count, bool out)
{
    for (char *at = (char *)bytes; count;) {
        const ssize_t moved = out ? send(fd, at, count, MSG_NOSIGNAL) : recv(fd, at, count, 0);
        if (moved < 0 && errno == EINTR)
            continue;
        if (moved <= 0)
            return false;
        at += moved;
        count -= (size_t)moved;
    }
    return true;
}

/* A peer is gone. The library would wait on; who watches over the processes ends this one meanwhile. */
static void peer_gone(ncclComm *comm)
{
    comm->async = NCCL_REMOTE_ERROR;
    for (int i = 0; i < PATIENCE_SECONDS * 50; i++)
        nap();
    fault_record(cudaErrorLaunchFailure, "NCCL: a rank is gone, and nobody ended this one within a minute");
}

int hub_open(ncclComm *comm, const nccl_id &id)
{
    sockaddr_un address;
    const socklen_t length = address_of(id, &address);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return NCCL_SYSTEM_ERROR;
    if (comm->rank) {
        int32_t rank = comm->rank;
        for (int i = 0; connect(fd, (sockaddr *)&address, length); i++) {
            if (i > PATIENCE_SECONDS * 50)
                return NCCL_REMOTE_ERROR;
            nap();
        }
        comm->sockets.assign(1, fd);
        return move_all(fd, &rank, sizeof rank, true) ? NCCL_SUCCESS : NCCL_REMOTE_ERROR;
    }
    comm->sockets.assign((size_t)comm->size, -1);
    if (bind(fd, (sockaddr *)&address, length) || listen(fd, comm->size)) {
        close(fd);
        return NCCL_SYSTEM_ERROR;
    }
    for (int i = 1; i < comm->size; i++) {
        int32_t rank;
        const int peer = accept4(fd, nullptr, nullptr, SOCK_CLOEXEC);
        if (peer < 0 || !move_all(peer, &rank, sizeof rank, false) || rank < 1 || rank >= comm->size ||
            comm->sockets[(size_t)rank] >= 0) {
            fprintf(stderr, "emulation: NCCL: a process came that is no rank of this communicator, or a second time\n");
            close(fd);
            return NCCL_INVALID_ARGUMENT;
        }
        comm->sockets[(size_t)rank] = peer;
    }
    close(fd);
    return NCCL_SUCCESS;
}

void hub_close(ncclComm *comm)
{
    for (int fd : comm->sockets)
        if (fd >= 0)
            close(fd);
}

static std::string header_text(const nccl_call_header &header)
{
    static const char *const name[] = {"?", "ReduceScatter", "Reduce", "AllGather", "Broadcast"};
    char text[160];
    snprintf(text, sizeof text, "call %lu, nccl%s of %lu elements of type %d, root %d", (unsigned long)header.number,
             name[header.op >= 1 && header.op <= 4 ? header.op : 0], (unsigned long)header.count, header.type, header.root);
    return text;
}

/* The fault that a wrong call is, with the same text on every rank. */
static void disagree(const char *text)
{
    fault_record(cudaErrorInvalidValue, text);
}

static void exchange_at_root(ncclComm *comm, const nccl_call_header &header, const char *give, char *take)
{
    std::vector<std::vector<char>> given((size_t)comm->size);
    char text[400] = "";
    given[0].assign(give, give + nccl_give_bytes(header, 0, comm->size));
    for (int rank = 1; rank < comm->size && !*text; rank++) {
        nccl_call_header other;
        const int fd = comm->sockets[(size_t)rank];
        if (!move_all(fd, &other, sizeof other, false))
            return peer_gone(comm);
        if (memcmp(&other, &header, sizeof header) != 0) {
            snprintf(text, sizeof text, "NCCL: rank %d makes %s; rank 0 makes %s", rank, header_text(other).c_str(),
                     header_text(header).c_str());
            break;
        }
        given[(size_t)rank].resize(nccl_give_bytes(header, rank, comm->size));
        if (!move_all(fd, given[(size_t)rank].data(), given[(size_t)rank].size(), false))
            return peer_gone(comm);
    }
    for (int rank = 1; rank < comm->size; rank++) {
        const int fd = comm->sockets[(size_t)rank];
        std::vector<char> out(*text ? 0 : nccl_take_bytes(header, rank, comm->size));
        if (!*text)
            nccl_combine(header, given, rank, out.data());
        if (!move_all(fd, text, sizeof text, true) || !move_all(fd, out.data(), out.size(), true))
            return peer_gone(comm);
    }
    if (*text)
        return disagree(text);
    nccl_combine(header, given, 0, take);
}

void hub_exchange(ncclComm *comm, const nccl_call_header &header, const char *give, char *take)
{
    nccl_call_header own = header;
    char text[400];
    if (comm->rank == 0)
        return exchange_at_root(comm, header, give, take);
    const int fd = comm->sockets[0];
    /* rank 0 may have seen that another rank differs and ended before it read this one's bytes: its text is there */
    if (move_all(fd, &own, sizeof own, true))
        move_all(fd, (void *)give, nccl_give_bytes(header, comm->rank, comm->size), true);
    if (!move_all(fd, text, sizeof text, false))
        return peer_gone(comm);
    if (*text)
        return disagree(text);
    if (!move_all(fd, take, nccl_take_bytes(header, comm->rank, comm->size), false))
        peer_gone(comm);
}

} // namespace emu
