/* rendezvous.c - how the ranks of a run find each other: all connect to rank 0, say and prove who they are, and hear from
 * it who all of them are, or why the run does not begin.
 *
 * Two connections per rank, for host values and for heartbeats. Who proves nothing is a stranger (a port scanner, say) and
 * is ignored; of those who prove that they know the secret another version, another world size or a rank that comes twice
 * ends the run, for everyone with the same line.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../util/clock.h"
#include "../util/memory.h"
#include "../util/version.h"
#include "handshake.h"
#include "internal.h"

#define ANSWER_SECONDS 3.0  /* for the answers to leave */
#define LOOK_SECONDS 0.25   /* between two looks whether those who came are still there */
enum { OTHER_FILES = 64 };  /* that a process has open beside connections */
#define PATIENCE_SECONDS 10 /* rank 0 may have begun to wait so much later than this rank */

void hello_fill(const struct comm *comm, enum comm_channel channel, struct comm_hello *hello)
{
    *hello = (struct comm_hello){.protocol = COMM_PROTOCOL, .rank = comm->env.rank, .size = comm->env.size,
                                 .channel = channel, .process = getpid(), .run = comm->run};
    memcpy(hello->magic, COMM_MAGIC, sizeof hello->magic);
    snprintf(hello->version, sizeof hello->version, "%s (%s)", FLAT_VERSION, version_commit());
    if (gethostname(hello->host, sizeof hello->host - 1))
        snprintf(hello->host, sizeof hello->host, "unknown");
}

/* ---- rank 0 ----------------------------------------------------------------------------------------------------- */

static int hello_check(const struct comm *comm, const struct comm_hello *hello, int *const fds[CHANNELS_TO_ROOT],
                       struct error *error)
{
    struct comm_hello own;
    hello_fill(comm, CHANNEL_VALUES, &own);
    if (strcmp(hello->version, own.version))
        return error_set(error, STATUS_USAGE, "rank %d (host %s) is flat %s, rank 0 is flat %s; start the same program "
                         "everywhere", hello->rank, hello->host, hello->version, own.version);
    if (hello->size != own.size)
        return error_set(error, STATUS_USAGE, "rank %d (host %s) was started with %d ranks, rank 0 with %d",
                         hello->rank, hello->host, hello->size, own.size);
    if (hello->rank < 1 || hello->rank >= own.size || hello->channel < 0 || hello->channel >= CHANNELS_TO_ROOT)
        return error_set(error, STATUS_USAGE, "host %s: process %lld came as rank %d of %d", hello->host,
                         (long long)hello->process, hello->rank, own.size);
    if (fds[hello->channel][hello->rank] >= 0)
        return error_set(error, STATUS_USAGE, "rank %d came twice: process %ld of host %s and process %lld of host %s; "
                         "each needs a RANK of its own", hello->rank, comm->peer[hello->rank].process,
                         comm->peer[hello->rank].host, (long long)hello->process, hello->host);
    return STATUS_OK;
}

/* Names those who are not there. */
static int missing_error(const struct comm *comm, int *const fds[CHANNELS_TO_ROOT], const struct acceptor *acceptor,
                         struct error *error)
{
    char list[256] = "", others[160] = "";
    size_t used = 0;
    int missing = 0;
    for (int rank = 1; rank < comm->env.size; rank++) {
        if (fds[CHANNEL_VALUES][rank] >= 0 && fds[CHANNEL_HEARTBEAT][rank] >= 0)
            continue;
        if (++missing <= 24)
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%d", missing > 1 ? ", " : "", rank);
    }
    if (acceptor->unproved)
        snprintf(others, sizeof others, " (%d connection%s did not prove to know FLAT_COMM_SECRET)",
                 acceptor->unproved, acceptor->unproved > 1 ? "s" : "");
    else if (acceptor->other_protocol)
        snprintf(others, sizeof others, " (somebody came with protocol %d, this is %d: start the same program everywhere)",
                 acceptor->other_protocol, COMM_PROTOCOL);
    return error_set(error, STATUS_PEER,
                     "rank%s %s%s of %d did not come to %s port %d within %.0f s%s; see what %s, or raise "
                     "FLAT_COMM_TIMEOUT", missing > 1 ? "s" : "", list, missing > 24 ? ", ..." : "", comm->env.size,
                     comm->env.address, comm->env.port, comm->env.timeout_seconds, others,
                     missing > 1 ? "they said" : "it said");
}

/* Somebody who came and has gone again. */
static int gone_check(const struct comm *comm, int *const fds[CHANNELS_TO_ROOT], struct error *error)
{
    char byte;
    for (int rank = 1; rank < comm->env.size; rank++)
        for (int channel = 0; channel < CHANNELS_TO_ROOT; channel++) {
            const int fd = fds[channel][rank];
            ssize_t got = fd >= 0 ? recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) : 1;
            if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
                return error_set(error, STATUS_PEER,
                                 "rank %d (host %s, process %ld) is lost: it came and ended before all "
                                 "the others were there", rank, comm->peer[rank].host, comm->peer[rank].process);
        }
    return STATUS_OK;
}

static void answers_send(const struct comm *comm, int *const fds[CHANNELS_TO_ROOT], const struct comm_answer *answer,
                         const struct comm_entry *list)
{
    const double deadline = clock_seconds() + ANSWER_SECONDS;
    for (int rank = 1; rank < comm->env.size; rank++)
        for (int channel = 0; channel < CHANNELS_TO_ROOT; channel++) {
            const int fd = fds[channel][rank];
            if (fd < 0 || !tcp_send(fd, answer, sizeof *answer, deadline))
                continue; /* whoever has gone is the heartbeat's business */
            if (channel == CHANNEL_VALUES && list)
                tcp_send(fd, list, (size_t)comm->env.size * sizeof *list, deadline);
        }
}

/* One rank has come and proved itself: takes its connection, or refuses it and with it the run. */
static int rank_take(struct comm *comm, int fd, struct comm_hello *hello, const char *from,
                     int *const fds[CHANNELS_TO_ROOT], struct error *error)
{
    message_text_clean(hello->version, sizeof hello->version);
    message_text_clean(hello->host, sizeof hello->host);
    int status = hello_check(comm, hello, fds, error);
    if (status) {
        struct comm_answer refusal = {.status = status};
        snprintf(refusal.text, sizeof refusal.text, "%.511s", error->text);
        tcp_send(fd, &refusal, sizeof refusal, clock_seconds() + ANSWER_SECONDS);
        close(fd);
        return status;
    }
    struct comm_peer *peer = &comm->peer[hello->rank];
    memcpy(peer->host, hello->host, sizeof peer->host);
    peer->process = (long)hello->process;
    snprintf(peer->address, sizeof peer->address, "%s", from);
    fds[hello->channel][hello->rank] = fd;
    return STATUS_OK;
}

/* Takes connections until all are there. */
static int ranks_gather(struct comm *comm, int listener, int *const fds[CHANNELS_TO_ROOT], struct error *error)
{
    const double deadline = clock_seconds() + comm->env.timeout_seconds;
    struct acceptor acceptor;
    int status = acceptor_open(&acceptor, listener, comm->env.secret, error);
    for (int wanted = CHANNELS_TO_ROOT * (comm->env.size - 1); !status && wanted;) {
        char from[TCP_ADDRESS_BYTES];
        struct comm_hello hello;
        const double look = clock_seconds() + LOOK_SECONDS;
        int fd = acceptor_next(&acceptor, look < deadline ? look : deadline, &hello, from);
        if (fd >= 0) {
            status = rank_take(comm, fd, &hello, from, fds, error);
            wanted--;
        } else {
            status = gone_check(comm, fds, error);
        }
        if (!status && wanted && clock_seconds() >= deadline)
            status = missing_error(comm, fds, &acceptor, error);
    }
    acceptor_close(&acceptor);
    return status;
}

static int run_number(uint64_t *run, struct error *error)
{
    if (getentropy(run, sizeof *run))
        return error_set(error, STATUS_RUNTIME, "no random numbers from the system: %s", strerror(errno));
    return STATUS_OK;
}

static int rendezvous_root(struct comm *comm, int *heartbeat_fds, struct error *error)
{
    int *const fds[CHANNELS_TO_ROOT] = {comm->values, heartbeat_fds};
    struct error own = {0};
    int listener = comm->env.listener, bound;
    struct comm_entry *list = memory_array((size_t)comm->env.size, sizeof *list, error);
    if (!list)
        return STATUS_MEMORY;
    int status = listener >= 0 ? STATUS_OK
                               : tcp_listen(&listener, comm->env.address, comm->env.port, &bound, &own);
    if (!status)
        status = run_number(&comm->run, &own);
    if (!status)
        status = ranks_gather(comm, listener, fds, &own);
    struct comm_answer answer = {.status = status, .ranks = comm->env.size, .run = comm->run};
    snprintf(answer.text, sizeof answer.text, "%.511s", own.text);
    for (int rank = 0; rank < comm->env.size; rank++) {
        struct comm_peer *peer = &comm->peer[rank];
        list[rank].process = peer->process;
        memcpy(list[rank].host, peer->host, sizeof peer->host);
        memcpy(list[rank].address, peer->address, sizeof peer->address);
    }
    answers_send(comm, fds, &answer, status ? NULL : list);
    tcp_close(&listener);
    free(list);
    return status ? error_set(error, status, "%s", own.text) : STATUS_OK;
}

/* ---- the others ------------------------------------------------------------------------------------------------- */

static int answer_receive(struct comm *comm, int fd, double deadline, struct comm_answer *answer, struct error *error)
{
    if (!tcp_receive(fd, answer, sizeof *answer, deadline))
        return error_set(error, STATUS_PEER, "rank 0 (%s port %d) is lost before all ranks had come: %s",
                         comm->env.address, comm->env.port, tcp_reason(errno));
    message_text_clean(answer->text, sizeof answer->text);
    if (answer->status)
        return error_set(error, message_status(answer->status), "%s", answer->text);
    if (answer->ranks != comm->env.size)
        return error_set(error, STATUS_RUNTIME, "%s port %d: what answers there is not rank 0 of this program",
                         comm->env.address, comm->env.port);
    comm->run = answer->run;
    return STATUS_OK;
}

static int list_receive(struct comm *comm, double deadline, struct error *error)
{
    for (int rank = 0; rank < comm->env.size; rank++) {
        struct comm_entry entry;
        if (!tcp_receive(comm->values[0], &entry, sizeof entry, deadline))
            return error_set(error, STATUS_PEER, "rank 0 (%s port %d) is lost at the start: %s", comm->env.address,
                             comm->env.port, tcp_reason(errno));
        struct comm_peer *peer = &comm->peer[rank];
        message_text_clean(entry.host, sizeof entry.host);
        message_text_clean(entry.address, sizeof entry.address);
        memcpy(peer->host, entry.host, sizeof peer->host);
        memcpy(peer->address, entry.address, sizeof peer->address);
        peer->process = (long)entry.process;
    }
    return STATUS_OK;
}

static int rendezvous_other(struct comm *comm, int *heartbeat_fds, struct error *error)
{
    int *const fds[CHANNELS_TO_ROOT] = {comm->values, heartbeat_fds};
    const double deadline = clock_seconds() + comm->env.timeout_seconds;
    struct comm_answer answer;
    int status = STATUS_OK;
    for (int channel = 0; !status && channel < CHANNELS_TO_ROOT; channel++) {
        struct comm_hello hello;
        hello_fill(comm, channel, &hello);
        status = handshake_connect(fds[channel], comm->env.address, comm->env.port, comm->env.secret, &hello, deadline,
                                   comm->values[0], error);
        if (status == STATUS_PEER && clock_seconds() >= deadline)
            error_set(error, STATUS_PEER, "rank 0 did not answer at %s port %d within %.0f s; is it started, and does "
                      "MASTER_ADDR name its host?", comm->env.address, comm->env.port, comm->env.timeout_seconds);
    }
    if (status && tcp_readable(comm->values[0])) /* refused before the second connection came about: hear why */
        return answer_receive(comm, comm->values[0], deadline, &answer, error) ? error->status : status;
    for (int channel = 0; !status && channel < CHANNELS_TO_ROOT; channel++) {
        status = answer_receive(comm, *fds[channel], deadline + PATIENCE_SECONDS, &answer, error);
        if (!status && channel == CHANNEL_VALUES)
            status = list_receive(comm, deadline + PATIENCE_SECONDS, error);
    }
    return status;
}

/* Descriptors for the connections: to every rank one, and at rank 0 two more. */
static int limit_raise(const struct rank_env *env, struct error *error)
{
    struct rlimit limit;
    const rlim_t needed = (rlim_t)env->size * (env->rank ? 1 : 1 + CHANNELS_TO_ROOT) + OTHER_FILES;
    const rlim_t wanted = needed + HANDSHAKE_PENDING;
    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= wanted)
        return STATUS_OK;
    if (limit.rlim_max < needed)
        return error_set(error, STATUS_RUNTIME, "rank %d of %d needs %llu open files, the limit is %llu; raise it with "
                         "ulimit -n", env->rank, env->size, (unsigned long long)needed,
                         (unsigned long long)limit.rlim_max);
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit))
        return error_set(error, STATUS_RUNTIME, "rank %d: the limit of open files cannot be raised to %llu: %s",
                         env->rank, (unsigned long long)limit.rlim_cur, strerror(errno));
    return STATUS_OK;
}

bool ranks_share_host(const struct comm *comm)
{
    for (int rank = 1; rank < comm->env.size; rank++)
        if (*comm->peer[rank].address || strcmp(comm->peer[rank].host, comm->peer[0].host))
            return false;
    return true;
}

int rendezvous(struct comm *comm, int *heartbeat_fds, struct error *error)
{
    int status = limit_raise(&comm->env, error);
    if (status)
        return status;
    struct comm_hello own;
    hello_fill(comm, CHANNEL_VALUES, &own);
    memcpy(comm->peer[comm->env.rank].host, own.host, sizeof own.host);
    comm->peer[comm->env.rank].process = getpid();
    return comm->env.rank ? rendezvous_other(comm, heartbeat_fds, error) : rendezvous_root(comm, heartbeat_fds, error);
}
