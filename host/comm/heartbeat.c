/* heartbeat.c - the heartbeat's thread, and what the rest of the program asks of it; see heartbeat.h. */
#include "heartbeat.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../util/clock.h"
#include "../util/memory.h"
#include "heartbeat_peers.h"

#define VERDICT_SECONDS 5.0 /* for rank 0 to say who is lost */
#define PAUSE_SECONDS 5.0   /* a thread that did not run for so long was stopped itself and may judge nobody */

/* ---- the thread ------------------------------------------------------------------------------------------------- */

static void heartbeat_leave(struct heartbeat *heartbeat, enum request request, const char *text)
{
    if (request == REQUEST_CLOSE)
        heartbeat_send(heartbeat, &(struct comm_beat){.kind = BEAT_GOODBYE, .rank = heartbeat->rank,
                                                      .calls = atomic_load(&heartbeat->calls)});
    else
        heartbeat_tell_failure(heartbeat, text);
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
    heartbeat_tell_failure(heartbeat, found);
    heartbeat_name_rank(heartbeat, heartbeat->rank, name, sizeof name);
    snprintf(text, sizeof text, "%s has failed: %.300s", name, found);
    heartbeat_exit(heartbeat, text);
}

static void *heartbeat_run(void *argument)
{
    struct heartbeat *heartbeat = argument;
    double beaten = 0, woken = clock_seconds();
    char text[sizeof heartbeat->text];
    for (;;) {
        heartbeat_listen(heartbeat);
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
        heartbeat_judge(heartbeat, now);
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
    heartbeat_name_rank(heartbeat, rank, name, sizeof name);
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
