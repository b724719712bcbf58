/* heartbeat.c - see heartbeat.h. */
#include "heartbeat.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../util/clock.h"
#include "../util/file.h"
#include "../util/memory.h"
#include "internal.h"

#define BEAT_SECONDS 1.0
#define GOODBYE_SECONDS 2.0  /* for the last words to arrive */
#define VERDICT_SECONDS 5.0  /* for rank 0 to say who is lost */
#define PAUSE_SECONDS 5.0    /* a thread that did not run for so long was stopped itself and may judge nobody */

enum {
    TEXT_BYTES = sizeof((struct comm_beat *)0)->text,
    BEATS_PER_TURN = 64 /* that are read of one connection before the others get their turn */
};

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

/* ---- sending ---------------------------------------------------------------------------------------------------- */

/* Never waits: a rank that does not read is told by its silence, and a broken connection shows when it is read. */
static void connection_send(struct connection *connection, const struct comm_beat *message)
{
    if (connection->fd < 0)
        return;
    const ssize_t sent = send(connection->fd, message, sizeof *message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0 && sent < (ssize_t)sizeof *message) /* the rest would be taken for the next message */
        shutdown(connection->fd, SHUT_RDWR);
}

static void heartbeat_send(struct heartbeat *heartbeat, const struct comm_beat *message)
{
    for (int i = 0; i < heartbeat->connections; i++)
        connection_send(&heartbeat->connection[i], message);
}

/* Lets what was sent arrive: closing a socket with unread bytes in it throws away what is under way. */
static void heartbeat_drain(struct heartbeat *heartbeat)
{
    double deadline = clock_seconds() + GOODBYE_SECONDS;
    char unread[4096];
    for (int i = 0; i < heartbeat->connections; i++)
        if (heartbeat->connection[i].fd >= 0)
            shutdown(heartbeat->connection[i].fd, SHUT_WR);
    for (int i = 0; i < heartbeat->connections; i++) {
        struct connection *connection = &heartbeat->connection[i];
        while (connection->fd >= 0 && clock_seconds() < deadline) {
            struct pollfd ready = {.fd = connection->fd, .events = POLLIN};
            int left = (int)((deadline - clock_seconds()) * 1000) + 1;
            if (poll(&ready, 1, left) < 0 && errno != EINTR)
                break;
            ssize_t got = ready.revents ? recv(connection->fd, unread, sizeof unread, MSG_DONTWAIT) : 1;
            if (got == 0 || (got < 0 && errno != EAGAIN))
                break;
        }
        tcp_close(&connection->fd);
    }
}

/* ---- the end ---------------------------------------------------------------------------------------------------- */

/* One line in one write, under a progress line that may stand there; a reader that does not read cannot hold us up. */
static void line_print(const struct heartbeat *heartbeat, const char *text)
{
    char line[640];
    struct pollfd ready = {.fd = STDERR_FILENO, .events = POLLOUT};
    int length = snprintf(line, sizeof line, "%serror: %s; rank %d stops\n", isatty(STDERR_FILENO) ? "\n" : "", text,
                          heartbeat->rank);
    if (poll(&ready, 1, (int)(GOODBYE_SECONDS * 1000)) == 1 && write(STDERR_FILENO, line, (size_t)length) < 0)
        return; /* nobody is there to be told */
}

/* Nobody leaves without a word: rank 0 would take this rank for the one that was lost. */
static _Noreturn void heartbeat_exit(struct heartbeat *heartbeat, const char *text)
{
    struct comm_beat lost = {.kind = BEAT_LOST, .rank = heartbeat->rank};
    snprintf(lost.text, sizeof lost.text, "%s", text);
    heartbeat_send(heartbeat, &lost);
    file_remove_temporaries();
    line_print(heartbeat, text);
    heartbeat_drain(heartbeat);
    _exit(STATUS_PEER);
}

static void rank_name(const struct heartbeat *heartbeat, int rank, char *out, size_t bytes)
{
    const struct comm_peer *peer = &heartbeat->peers[rank];
    snprintf(out, bytes, "rank %d (host %s, process %ld)", rank, peer->host, peer->process);
}

static _Noreturn void heartbeat_declare_lost(struct heartbeat *heartbeat, int rank, const char *reason)
{
    char name[160], text[TEXT_BYTES];
    rank_name(heartbeat, rank, name, sizeof name);
    snprintf(text, sizeof text, "%s is lost: %s", name, reason);
    if (heartbeat->rank == 0 || rank == 0)
        tcp_close(&heartbeat->connection[rank].fd); /* no goodbye comes from there */
    heartbeat_exit(heartbeat, text);
}

/* ---- receiving -------------------------------------------------------------------------------------------------- */

/* A rank says that it has failed. Its text is only the reason: who it is, rank 0 knows. Rank 0's texts are whole. */
static _Noreturn void failure_pass_on(struct heartbeat *heartbeat, int from, const char *said)
{
    char name[160], text[TEXT_BYTES];
    rank_name(heartbeat, from, name, sizeof name);
    snprintf(text, sizeof text, "%s has failed: %.300s", name, said);
    heartbeat_exit(heartbeat, heartbeat->rank == 0 ? text : said);
}

static void beat_handle(struct heartbeat *heartbeat, int from, struct comm_beat *beat)
{
    message_text_clean(beat->text, sizeof beat->text);
    if (beat->kind == BEAT_LOST)
        failure_pass_on(heartbeat, from, beat->text);
    if (beat->kind == BEAT_ALIVE && beat->calls >= 0) {
        heartbeat->connection[from].calls = beat->calls;
        return;
    }
    const bool its_own = heartbeat->rank || beat->rank == from; /* a rank speaks for itself only, rank 0 for all */
    if (beat->kind != BEAT_GOODBYE || !its_own || beat->rank < 0 || beat->rank >= heartbeat->size || beat->calls < 0)
        heartbeat_declare_lost(heartbeat, from, "it sends what is no heartbeat");
    heartbeat->left[beat->rank] = (struct departure){beat->calls, clock_seconds()};
    if (beat->rank == from)
        tcp_close(&heartbeat->connection[from].fd);
    if (heartbeat->rank == 0)
        heartbeat_send(heartbeat, beat);
}

/* Reads what is there: the last words of a rank lie before the end of its connection. */
static void connection_read(struct heartbeat *heartbeat, int from)
{
    struct connection *connection = &heartbeat->connection[from];
    for (int beats = 0; connection->fd >= 0 && beats < BEATS_PER_TURN; beats++) {
        char *at = (char *)&connection->incoming + connection->received;
        ssize_t got = recv(connection->fd, at, sizeof connection->incoming - connection->received, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (got <= 0)
            heartbeat_declare_lost(heartbeat, from,
                                   "it ended without a goodbye (killed, crashed, or its host is down)");
        connection->heard = clock_seconds();
        connection->received += (size_t)got;
        if (connection->received < sizeof connection->incoming)
            continue;
        connection->received = 0;
        beat_handle(heartbeat, from, &connection->incoming);
    }
}

static void silence_judge(struct heartbeat *heartbeat, double now)
{
    for (int i = 0; i < heartbeat->connections; i++)
        if (heartbeat->connection[i].fd >= 0 && now - heartbeat->connection[i].heard > HEARTBEAT_SILENCE_SECONDS) {
            char reason[128];
            snprintf(reason, sizeof reason, "no sign of life for %.0f s (stopped, stuck, or cut off)",
                     now - heartbeat->connection[i].heard);
            heartbeat_declare_lost(heartbeat, i, reason);
        }
}

/* The rank that has come furthest, of those that rank 0 hears of; elsewhere this one. */
static int rank_furthest(const struct heartbeat *heartbeat, int64_t *calls)
{
    int furthest = heartbeat->rank;
    *calls = atomic_load(&heartbeat->calls);
    for (int i = 0; heartbeat->rank == 0 && i < heartbeat->connections; i++)
        if (heartbeat->connection[i].fd >= 0 && heartbeat->connection[i].calls > *calls) {
            furthest = i;
            *calls = heartbeat->connection[i].calls;
        }
    return furthest;
}

/* All ranks make the same calls, and none can end one that another has not begun. So whoever leaves with fewer calls leaves
 * a rank waiting for ever, and whoever claims more than this rank comes to within a while has not told the truth. As all
 * that is said of a rank, it is said by rank 0, who hears how far the others are; of rank 0 by the others. */
static void departures_judge(struct heartbeat *heartbeat, double now)
{
    int64_t most;
    const int furthest = rank_furthest(heartbeat, &most);
    const int64_t calls = atomic_load(&heartbeat->calls);
    for (int i = 0; i < (heartbeat->rank == 0 ? heartbeat->size : 1); i++) {
        const struct departure *left = &heartbeat->left[i];
        const bool fewer = left->calls < most;
        const bool more = left->calls > calls && now - left->at >= HEARTBEAT_SILENCE_SECONDS;
        if (left->calls < 0 || (!fewer && !more))
            continue;
        char who[32] = "this rank", reason[128];
        if (fewer && furthest != heartbeat->rank)
            snprintf(who, sizeof who, "rank %d", furthest);
        snprintf(reason, sizeof reason, "it said goodbye after call %lld and %s is at call %lld", (long long)left->calls, who,
                 (long long)(fewer ? most : calls));
        heartbeat_declare_lost(heartbeat, i, reason);
    }
}

/* ---- the thread ------------------------------------------------------------------------------------------------- */

/* What the others hear of a failure of this rank; see failure_pass_on. */
static void failure_tell(struct heartbeat *heartbeat, const char *reason)
{
    struct comm_beat lost = {.kind = BEAT_LOST, .rank = heartbeat->rank};
    char name[160];
    rank_name(heartbeat, heartbeat->rank, name, sizeof name);
    if (heartbeat->rank == 0)
        snprintf(lost.text, sizeof lost.text, "%s has failed: %.300s", name, reason);
    else
        snprintf(lost.text, sizeof lost.text, "%.300s", reason);
    heartbeat_send(heartbeat, &lost);
}

static void heartbeat_leave(struct heartbeat *heartbeat, enum request request, const char *text)
{
    if (request == REQUEST_CLOSE)
        heartbeat_send(heartbeat, &(struct comm_beat){.kind = BEAT_GOODBYE, .rank = heartbeat->rank,
                                                      .calls = atomic_load(&heartbeat->calls)});
    else
        failure_tell(heartbeat, text);
    heartbeat_drain(heartbeat);
}

/* What the device's library says of a broken connection is mostly that a rank was lost: rank 0's word comes first. */
static void device_check(struct heartbeat *heartbeat, double now)
{
    char name[160], text[TEXT_BYTES];
    pthread_mutex_lock(&heartbeat->lock);
    const char *found = heartbeat->check ? heartbeat->check(heartbeat->user) : NULL;
    pthread_mutex_unlock(&heartbeat->lock);
    heartbeat->failing_since = found && !heartbeat->failing_since ? now : heartbeat->failing_since;
    if (!found || now - heartbeat->failing_since < VERDICT_SECONDS)
        return;
    failure_tell(heartbeat, found);
    rank_name(heartbeat, heartbeat->rank, name, sizeof name);
    snprintf(text, sizeof text, "%s has failed: %.300s", name, found);
    heartbeat_exit(heartbeat, text);
}

/* Whether the other end is gone and has left nothing to read. */
static bool connection_silent(int fd)
{
    const ssize_t got = recv(fd, &(char){0}, 1, MSG_PEEK | MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
}

static void connections_wait(struct heartbeat *heartbeat)
{
    struct pollfd *ready = heartbeat->ready;
    for (int i = 0; i < heartbeat->connections; i++)
        ready[i] = (struct pollfd){.fd = heartbeat->connection[i].fd, .events = POLLIN};
    ready[heartbeat->connections] = (struct pollfd){.fd = heartbeat->wake, .events = POLLIN};
    poll(ready, (nfds_t)heartbeat->connections + 1, (int)(BEAT_SECONDS * 250));
    /* Several may have ended since the last look. Who leaves because of another one says so; who broke first says nothing
     * any more, so the silent are read first. */
    for (int silent = 1; silent >= 0; silent--)
        for (int i = 0; i < heartbeat->connections; i++)
            if (ready[i].fd >= 0 && ready[i].revents && (!silent || connection_silent(ready[i].fd))) {
                connection_read(heartbeat, i);
                ready[i].revents = 0;
            }
}

static void *heartbeat_run(void *argument)
{
    struct heartbeat *heartbeat = argument;
    double beaten = 0, woken = clock_seconds();
    char text[sizeof heartbeat->text];
    for (;;) {
        connections_wait(heartbeat);
        double now = clock_seconds();
        for (int i = 0; now - woken > PAUSE_SECONDS && i < heartbeat->connections; i++)
            heartbeat->connection[i].heard = now;
        woken = now;
        pthread_mutex_lock(&heartbeat->lock);
        enum request request = heartbeat->request;
        memcpy(text, heartbeat->text, sizeof text);
        pthread_mutex_unlock(&heartbeat->lock);
        if (request == REQUEST_CLOSE || request == REQUEST_ABORT) {
            heartbeat_leave(heartbeat, request, text);
            return NULL;
        }
        if (request == REQUEST_LOSE)
            heartbeat_exit(heartbeat, text);
        if (now - beaten >= BEAT_SECONDS) {
            heartbeat_send(heartbeat, &(struct comm_beat){.kind = BEAT_ALIVE, .rank = heartbeat->rank,
                                                          .calls = atomic_load(&heartbeat->calls)});
            device_check(heartbeat, now);
            beaten = now;
        }
        silence_judge(heartbeat, now);
        departures_judge(heartbeat, now);
    }
}

/* The first request stands, whoever makes another one meanwhile. Returns which that is. */
static enum request heartbeat_request(struct heartbeat *heartbeat, enum request request, const char *text)
{
    pthread_mutex_lock(&heartbeat->lock);
    if (heartbeat->request == REQUEST_NONE) {
        heartbeat->request = request;
        snprintf(heartbeat->text, sizeof heartbeat->text, "%s", text);
    }
    const enum request standing = heartbeat->request;
    pthread_mutex_unlock(&heartbeat->lock);
    if (write(heartbeat->wake, &(uint64_t){1}, sizeof(uint64_t)) < 0)
        return standing; /* the thread looks by itself soon enough */
    return standing;
}

static void heartbeat_free(struct heartbeat *heartbeat)
{
    for (int i = 0; heartbeat->connection && i < heartbeat->connections; i++)
        tcp_close(&heartbeat->connection[i].fd);
    tcp_close(&heartbeat->wake);
    pthread_mutex_destroy(&heartbeat->lock);
    free(heartbeat->connection);
    free(heartbeat->ready);
    free(heartbeat->left);
    free(heartbeat);
}

int heartbeat_open(struct heartbeat **out, int rank, int size, const struct comm_peer *peers, const int *fds,
                   struct error *error)
{
    const int connections = rank == 0 ? size : 1;
    struct heartbeat *heartbeat = memory_array(1, sizeof *heartbeat, error);
    if (heartbeat) {
        *heartbeat = (struct heartbeat){.rank = rank, .size = size, .connections = connections, .peers = peers};
        pthread_mutex_init(&heartbeat->lock, NULL);
        heartbeat->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        heartbeat->connection = memory_array((size_t)connections, sizeof *heartbeat->connection, error);
        heartbeat->ready = memory_array((size_t)connections + 1, sizeof *heartbeat->ready, error);
        heartbeat->left = memory_array((size_t)size, sizeof *heartbeat->left, error);
    }
    if (!heartbeat || !heartbeat->connection || !heartbeat->ready || !heartbeat->left) {
        for (int i = 0; i < connections; i++)
            if (fds[i] >= 0)
                close(fds[i]);
        if (heartbeat)
            heartbeat->connections = 0, heartbeat_free(heartbeat);
        return STATUS_MEMORY;
    }
    for (int i = 0; i < connections; i++)
        heartbeat->connection[i] = (struct connection){.fd = fds[i], .heard = clock_seconds()};
    for (int i = 0; i < size; i++)
        heartbeat->left[i].calls = -1;
    /* signals are the main thread's */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int failure = heartbeat->wake < 0 ? errno : pthread_create(&heartbeat->thread, NULL, heartbeat_run, heartbeat);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failure) {
        heartbeat_free(heartbeat);
        return error_set(error, STATUS_RUNTIME, "rank %d: the heartbeat cannot be started: %s", rank,
                         strerror(failure));
    }
    *out = heartbeat;
    return STATUS_OK;
}

void heartbeat_close(struct heartbeat *heartbeat)
{
    if (!heartbeat)
        return;
    if (!heartbeat->aborted) {
        heartbeat_request(heartbeat, REQUEST_CLOSE, "");
        pthread_join(heartbeat->thread, NULL);
    }
    heartbeat_free(heartbeat);
}

void heartbeat_count_call(struct heartbeat *heartbeat) { atomic_fetch_add(&heartbeat->calls, 1); }

_Noreturn void heartbeat_exit_lost(struct heartbeat *heartbeat, int rank, const char *reason)
{
    char name[160], text[TEXT_BYTES];
    rank_name(heartbeat, rank, name, sizeof name);
    snprintf(text, sizeof text, "%s is lost: %s", name, reason);
    usleep((useconds_t)(VERDICT_SECONDS * 1e6));
    if (heartbeat_request(heartbeat, REQUEST_LOSE, text) == REQUEST_ABORT) /* the thread that would do it has ended */
        heartbeat_exit(heartbeat, text);
    for (;;)
        pause();
}

void heartbeat_abort(struct heartbeat *heartbeat, const char *reason)
{
    if (heartbeat->aborted)
        return;
    heartbeat->aborted = true;
    heartbeat_request(heartbeat, REQUEST_ABORT, reason);
    pthread_join(heartbeat->thread, NULL);
}

void heartbeat_set_check(struct heartbeat *heartbeat, const char *(*check)(void *user), void *user)
{
    pthread_mutex_lock(&heartbeat->lock);
    heartbeat->check = check;
    heartbeat->user = user;
    pthread_mutex_unlock(&heartbeat->lock);
}
