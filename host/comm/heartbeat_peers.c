/* heartbeat_peers.c - the other ranks as the heartbeat's thread hears them: sends to them, reads what they say, and concludes
 * who is lost, which is the end of this process; see heartbeat.h.
 */
#include "heartbeat_peers.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../util/clock.h"
#include "../util/file.h"

#define GOODBYE_SECONDS 2.0 /* for the last words to arrive */
enum { BEATS_PER_TURN = 64 }; /* that are read of one connection before the others get their turn */

/* ---- sending ---------------------------------------------------------------------------------------------------- */

static void connection_send(struct connection *connection, const struct comm_beat *message)
{
    if (connection->fd < 0)
        return;
    const ssize_t sent = send(connection->fd, message, sizeof *message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0 && sent < (ssize_t)sizeof *message) /* the rest would be taken for the next message */
        shutdown(connection->fd, SHUT_RDWR);
}

void heartbeat_send(struct heartbeat *heartbeat, const struct comm_beat *message)
{
    for (int i = 0; i < heartbeat->connections; i++)
        connection_send(&heartbeat->connection[i], message);
}

/* Closing a socket with unread bytes in it throws away what is under way. */
void heartbeat_drain(struct heartbeat *heartbeat)
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

_Noreturn void heartbeat_exit(struct heartbeat *heartbeat, const char *text)
{
    struct comm_beat lost = {.kind = BEAT_LOST, .rank = heartbeat->rank};
    snprintf(lost.text, sizeof lost.text, "%s", text);
    heartbeat_send(heartbeat, &lost);
    file_remove_temporaries();
    line_print(heartbeat, text);
    heartbeat_drain(heartbeat);
    _exit(STATUS_PEER);
}

void heartbeat_name_rank(const struct heartbeat *heartbeat, int rank, char *out, size_t bytes)
{
    const struct comm_peer *peer = &heartbeat->peers[rank];
    snprintf(out, bytes, "rank %d (host %s, process %ld)", rank, peer->host, peer->process);
}

static _Noreturn void heartbeat_declare_lost(struct heartbeat *heartbeat, int rank, const char *reason)
{
    char name[160], text[TEXT_BYTES];
    heartbeat_name_rank(heartbeat, rank, name, sizeof name);
    snprintf(text, sizeof text, "%s is lost: %s", name, reason);
    if (heartbeat->rank == 0 || rank == 0)
        tcp_close(&heartbeat->connection[rank].fd); /* no goodbye comes from there */
    heartbeat_exit(heartbeat, text);
}

/* Whose it is, rank 0 adds: see failure_pass_on. */
void heartbeat_tell_failure(struct heartbeat *heartbeat, const char *reason)
{
    struct comm_beat lost = {.kind = BEAT_LOST, .rank = heartbeat->rank};
    char name[160];
    heartbeat_name_rank(heartbeat, heartbeat->rank, name, sizeof name);
    if (heartbeat->rank == 0)
        snprintf(lost.text, sizeof lost.text, "%s has failed: %.300s", name, reason);
    else
        snprintf(lost.text, sizeof lost.text, "%.300s", reason);
    heartbeat_send(heartbeat, &lost);
}

/* ---- receiving -------------------------------------------------------------------------------------------------- */

/* A rank says that it has failed. Its text is only the reason: who it is, rank 0 knows. Rank 0's texts are whole. */
static _Noreturn void failure_pass_on(struct heartbeat *heartbeat, int from, const char *said)
{
    char name[160], text[TEXT_BYTES];
    heartbeat_name_rank(heartbeat, from, name, sizeof name);
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

/* Whether the other end is gone and has left nothing to read. */
static bool connection_silent(int fd)
{
    const ssize_t got = recv(fd, &(char){0}, 1, MSG_PEEK | MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
}

void heartbeat_listen(struct heartbeat *heartbeat)
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

/* ---- judging ---------------------------------------------------------------------------------------------------- */

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

void heartbeat_judge(struct heartbeat *heartbeat, double now)
{
    silence_judge(heartbeat, now);
    departures_judge(heartbeat, now);
}
