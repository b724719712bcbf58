/* watch.c - see watch.h. */
#include "watch.h"

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
#include "wire.h"

#define BEAT_SECONDS 1.0
#define FAREWELL_SECONDS 2.0 /* for the last words to arrive */
#define VERDICT_SECONDS 5.0  /* for rank 0 to say who is lost */
#define NAP_SECONDS 5.0      /* a thread that did not run for so long was stopped itself and may judge nobody */

enum { TEXT_BYTES = 496 };
enum message_kind { MESSAGE_BEAT = 1, MESSAGE_GOODBYE, MESSAGE_LOST };

struct message {
    int32_t kind, rank;
    int64_t calls; /* GOODBYE: that the rank made */
    char text[TEXT_BYTES];
};

/* The other end of one connection: a rank at rank 0, rank 0 elsewhere. */
struct line {
    int fd; /* -1: has left */
    double heard;
    struct message incoming;
    size_t received;
};

enum request { REQUEST_NONE, REQUEST_CLOSE, REQUEST_ABORT, REQUEST_LOSE };

struct watch {
    int rank, size, lines, wake;
    const struct comm_peer *peers;
    struct line *line;    /* [lines]: by rank at rank 0, one elsewhere */
    struct pollfd *ready; /* [lines + 1] */
    int64_t *left;        /* [size]: calls of a rank that has taken leave, -1 before */
    atomic_llong calls;
    double ailing;        /* since when the device's communication has failed; 0: it has not */
    bool aborted;         /* the thread has been told to leave and was joined; the main thread's */
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows, which other threads write */
    enum request request;
    char text[TEXT_BYTES];
    const char *(*check)(void *user);
    void *user;
};

/* ---- sending ---------------------------------------------------------------------------------------------------- */

/* Never waits: a rank that does not read is told by its silence. */
static void line_send(struct line *line, const struct message *message)
{
    if (line->fd >= 0 && send(line->fd, message, sizeof *message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        return; /* a broken connection shows when it is read */
}

static void watch_tell(struct watch *watch, const struct message *message)
{
    for (int i = 0; i < watch->lines; i++)
        line_send(&watch->line[i], message);
}

/* Lets what was sent arrive: closing a socket with unread bytes in it throws away what is under way. */
static void watch_farewell(struct watch *watch)
{
    double deadline = clock_seconds() + FAREWELL_SECONDS;
    char unread[4096];
    for (int i = 0; i < watch->lines; i++)
        if (watch->line[i].fd >= 0)
            shutdown(watch->line[i].fd, SHUT_WR);
    for (int i = 0; i < watch->lines; i++) {
        struct line *line = &watch->line[i];
        while (line->fd >= 0 && clock_seconds() < deadline) {
            struct pollfd ready = {.fd = line->fd, .events = POLLIN};
            int left = (int)((deadline - clock_seconds()) * 1000) + 1;
            if (poll(&ready, 1, left) < 0 && errno != EINTR)
                break;
            ssize_t got = ready.revents ? recv(line->fd, unread, sizeof unread, MSG_DONTWAIT) : 1;
            if (got == 0 || (got < 0 && errno != EAGAIN))
                break;
        }
        wire_close(&line->fd);
    }
}

/* ---- the end ---------------------------------------------------------------------------------------------------- */

/* One line in one write, under a progress line that may stand there; a reader that does not read cannot hold us up. */
static void line_print(const struct watch *watch, const char *text)
{
    char line[640];
    struct pollfd ready = {.fd = STDERR_FILENO, .events = POLLOUT};
    int length = snprintf(line, sizeof line, "%serror: %s; rank %d stops\n", isatty(STDERR_FILENO) ? "\n" : "", text,
                          watch->rank);
    if (poll(&ready, 1, (int)(FAREWELL_SECONDS * 1000)) == 1 && write(STDERR_FILENO, line, (size_t)length) < 0)
        return; /* nobody is there to be told */
}

static _Noreturn void watch_end(struct watch *watch, const char *text)
{
    if (watch->rank == 0) {
        struct message lost = {.kind = MESSAGE_LOST};
        snprintf(lost.text, sizeof lost.text, "%s", text);
        watch_tell(watch, &lost);
    }
    file_remove_temporaries();
    line_print(watch, text);
    if (watch->rank == 0)
        watch_farewell(watch);
    _exit(STATUS_PEER);
}

static void rank_name(const struct watch *watch, int rank, char *out, size_t bytes)
{
    snprintf(out, bytes, "rank %d (host %s, process %ld)", rank, watch->peers[rank].host, watch->peers[rank].process);
}

static _Noreturn void watch_pronounce(struct watch *watch, int rank, const char *reason)
{
    char name[160], text[TEXT_BYTES];
    rank_name(watch, rank, name, sizeof name);
    snprintf(text, sizeof text, "%s is lost: %s", name, reason);
    if (watch->rank == 0 && rank > 0)
        wire_close(&watch->line[rank].fd); /* no farewell from there */
    watch_end(watch, text);
}

/* ---- receiving -------------------------------------------------------------------------------------------------- */

static void message_handle(struct watch *watch, struct line *line, int from, const struct message *message)
{
    char text[sizeof message->text];
    memcpy(text, message->text, sizeof text);
    text[sizeof text - 1] = 0;
    if (message->kind == MESSAGE_LOST)
        watch_end(watch, text);
    if (message->kind != MESSAGE_GOODBYE || message->rank < 0 || message->rank >= watch->size)
        return;
    watch->left[message->rank] = message->calls;
    if (message->rank == from)
        wire_close(&line->fd);
    if (watch->rank == 0)
        watch_tell(watch, message);
}

/* Reads all there is: the last words of a rank lie before the end of its connection. */
static void line_read(struct watch *watch, int from)
{
    struct line *line = &watch->line[from];
    while (line->fd >= 0) {
        char *at = (char *)&line->incoming + line->received;
        ssize_t got = recv(line->fd, at, sizeof line->incoming - line->received, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (got <= 0)
            watch_pronounce(watch, from, "it ended without taking leave (killed, crashed, or its host is down)");
        line->heard = clock_seconds();
        line->received += (size_t)got;
        if (line->received < sizeof line->incoming)
            continue;
        line->received = 0;
        message_handle(watch, line, from, &line->incoming);
    }
}

static void silence_judge(struct watch *watch, double now)
{
    for (int i = 0; i < watch->lines; i++)
        if (watch->line[i].fd >= 0 && now - watch->line[i].heard > WATCH_SILENCE_SECONDS) {
            char reason[128];
            snprintf(reason, sizeof reason, "no sign of life for %.0f s (stopped, stuck, or cut off)",
                     now - watch->line[i].heard);
            watch_pronounce(watch, i, reason);
        }
    int64_t calls = atomic_load(&watch->calls);
    for (int i = 0; i < watch->size; i++)
        if (watch->left[i] >= 0 && calls > watch->left[i]) {
            char reason[128];
            snprintf(reason, sizeof reason, "it took leave after call %lld and this rank waits in call %lld",
                     (long long)watch->left[i], (long long)calls);
            watch_pronounce(watch, i, reason);
        }
}

/* ---- the thread ------------------------------------------------------------------------------------------------- */

static void watch_leave(struct watch *watch, enum request request, const char *text)
{
    struct message last = {.kind = request == REQUEST_CLOSE ? MESSAGE_GOODBYE : MESSAGE_LOST, .rank = watch->rank,
                           .calls = atomic_load(&watch->calls)};
    snprintf(last.text, sizeof last.text, "%s", text);
    watch_tell(watch, &last);
    watch_farewell(watch);
}

/* What the device's library says of a broken connection is mostly that a rank was lost: rank 0's word comes first. */
static void device_check(struct watch *watch, double now)
{
    char name[160], text[TEXT_BYTES];
    pthread_mutex_lock(&watch->lock);
    const char *found = watch->check ? watch->check(watch->user) : NULL;
    pthread_mutex_unlock(&watch->lock);
    watch->ailing = found && !watch->ailing ? now : watch->ailing;
    if (!found || now - watch->ailing < VERDICT_SECONDS)
        return;
    rank_name(watch, watch->rank, name, sizeof name);
    snprintf(text, sizeof text, "%s: %s", name, found);
    struct message lost = {.kind = MESSAGE_LOST, .rank = watch->rank};
    snprintf(lost.text, sizeof lost.text, "%s", text);
    watch_tell(watch, &lost);
    watch_end(watch, text);
}

static void lines_wait(struct watch *watch)
{
    struct pollfd *ready = watch->ready;
    for (int i = 0; i < watch->lines; i++)
        ready[i] = (struct pollfd){.fd = watch->line[i].fd, .events = POLLIN};
    ready[watch->lines] = (struct pollfd){.fd = watch->wake, .events = POLLIN};
    poll(ready, (nfds_t)watch->lines + 1, (int)(BEAT_SECONDS * 250));
    for (int i = 0; i < watch->lines; i++)
        if (ready[i].fd >= 0 && ready[i].revents)
            line_read(watch, i);
}

static void *watch_run(void *argument)
{
    struct watch *watch = argument;
    double beaten = 0, woken = clock_seconds();
    char text[sizeof watch->text];
    for (;;) {
        lines_wait(watch);
        double now = clock_seconds();
        for (int i = 0; now - woken > NAP_SECONDS && i < watch->lines; i++)
            watch->line[i].heard = now;
        woken = now;
        pthread_mutex_lock(&watch->lock);
        enum request request = watch->request;
        memcpy(text, watch->text, sizeof text);
        pthread_mutex_unlock(&watch->lock);
        if (request == REQUEST_CLOSE || request == REQUEST_ABORT) {
            watch_leave(watch, request, text);
            return NULL;
        }
        if (request == REQUEST_LOSE)
            watch_end(watch, text);
        if (now - beaten >= BEAT_SECONDS) {
            watch_tell(watch, &(struct message){.kind = MESSAGE_BEAT, .rank = watch->rank});
            device_check(watch, now);
            beaten = now;
        }
        silence_judge(watch, now);
    }
}

/* The first request stands, whoever makes another one meanwhile. Returns which that is. */
static enum request watch_ask(struct watch *watch, enum request request, const char *text)
{
    pthread_mutex_lock(&watch->lock);
    if (watch->request == REQUEST_NONE) {
        watch->request = request;
        snprintf(watch->text, sizeof watch->text, "%s", text);
    }
    const enum request standing = watch->request;
    pthread_mutex_unlock(&watch->lock);
    if (write(watch->wake, &(uint64_t){1}, sizeof(uint64_t)) < 0)
        return standing; /* the thread looks by itself soon enough */
    return standing;
}

static void watch_free(struct watch *watch)
{
    for (int i = 0; watch->line && i < watch->lines; i++)
        wire_close(&watch->line[i].fd);
    wire_close(&watch->wake);
    pthread_mutex_destroy(&watch->lock);
    free(watch->line);
    free(watch->ready);
    free(watch->left);
    free(watch);
}

int watch_open(struct watch **out, int rank, int size, const struct comm_peer *peers, const int *fds,
               struct error *error)
{
    const int lines = rank == 0 ? size : 1;
    struct watch *watch = memory_array(1, sizeof *watch, error);
    if (watch) {
        *watch = (struct watch){.rank = rank, .size = size, .lines = lines, .peers = peers};
        pthread_mutex_init(&watch->lock, NULL);
        watch->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        watch->line = memory_array((size_t)lines, sizeof *watch->line, error);
        watch->ready = memory_array((size_t)lines + 1, sizeof *watch->ready, error);
        watch->left = memory_array((size_t)size, sizeof *watch->left, error);
    }
    if (!watch || !watch->line || !watch->ready || !watch->left) {
        for (int i = 0; i < lines; i++)
            if (fds[i] >= 0)
                close(fds[i]);
        if (watch)
            watch->lines = 0, watch_free(watch);
        return STATUS_MEMORY;
    }
    for (int i = 0; i < lines; i++)
        watch->line[i] = (struct line){.fd = fds[i], .heard = clock_seconds()};
    for (int i = 0; i < size; i++)
        watch->left[i] = -1;
    /* signals are the main thread's */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int failure = watch->wake < 0 ? errno : pthread_create(&watch->thread, NULL, watch_run, watch);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failure) {
        watch_free(watch);
        return error_set(error, STATUS_RUNTIME, "rank %d: the heartbeat cannot be started: %s", rank,
                         strerror(failure));
    }
    *out = watch;
    return STATUS_OK;
}

void watch_close(struct watch *watch)
{
    if (!watch)
        return;
    if (!watch->aborted) {
        watch_ask(watch, REQUEST_CLOSE, "");
        pthread_join(watch->thread, NULL);
    }
    watch_free(watch);
}

void watch_call(struct watch *watch) { atomic_fetch_add(&watch->calls, 1); }

_Noreturn void watch_lose(struct watch *watch, int rank, const char *reason)
{
    char name[160], text[TEXT_BYTES];
    rank_name(watch, rank, name, sizeof name);
    snprintf(text, sizeof text, "%s is lost: %s", name, reason);
    usleep((useconds_t)(VERDICT_SECONDS * 1e6));
    if (watch_ask(watch, REQUEST_LOSE, text) == REQUEST_ABORT) /* there is no thread any more that would do it */
        watch_end(watch, text);
    for (;;)
        pause();
}

void watch_abort(struct watch *watch, const char *reason)
{
    char name[160], text[sizeof watch->text];
    if (watch->aborted)
        return;
    watch->aborted = true;
    rank_name(watch, watch->rank, name, sizeof name);
    snprintf(text, sizeof text, "%s has failed: %.300s", name, reason);
    watch_ask(watch, REQUEST_ABORT, text);
    pthread_join(watch->thread, NULL);
}

void watch_check(struct watch *watch, const char *(*check)(void *user), void *user)
{
    pthread_mutex_lock(&watch->lock);
    watch->check = check;
    watch->user = user;
    pthread_mutex_unlock(&watch->lock);
}
