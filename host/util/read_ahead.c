/* read_ahead.c - see read_ahead.h. */
#include "read_ahead.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"

enum { BUFFERS = 2 };

struct read_ahead {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int64_t items, made, taken; /* taken: handed out so far; the last of them is still in use */
    bool leaving;
    int status;                 /* of item `made`, on which fill failed */
    struct error error;
    read_ahead_fill fill;
    void *user;
    void *buffer[BUFFERS];
};

/* Item i may be made when item i - BUFFERS is in use no more: when the one after that has been handed out. */
static bool may_make(const struct read_ahead *reader)
{
    return reader->made < BUFFERS || reader->taken > reader->made - BUFFERS + 1;
}

static void *thread_run(void *argument)
{
    struct read_ahead *reader = argument;
    pthread_mutex_lock(&reader->lock);
    while (reader->made < reader->items && !reader->status) {
        while (!may_make(reader) && !reader->leaving)
            pthread_cond_wait(&reader->changed, &reader->lock);
        if (reader->leaving)
            break;
        const int64_t index = reader->made;
        pthread_mutex_unlock(&reader->lock);
        struct error error = {0};
        const int status = reader->fill(reader->user, index, reader->buffer[index % BUFFERS], &error);
        pthread_mutex_lock(&reader->lock);
        reader->status = status;
        reader->error = error;
        reader->made += !status;
        pthread_cond_signal(&reader->changed);
    }
    pthread_mutex_unlock(&reader->lock);
    return NULL;
}

static void reader_free(struct read_ahead *reader)
{
    for (int i = 0; i < BUFFERS; i++)
        free(reader->buffer[i]);
    free(reader);
}

int read_ahead_open(struct read_ahead **out, int64_t items, size_t bytes, read_ahead_fill fill, void *user,
                    struct error *error)
{
    struct read_ahead *reader = memory_array(1, sizeof *reader, error);
    *out = NULL;
    if (!reader)
        return STATUS_MEMORY;
    *reader = (struct read_ahead){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER,
                                  .items = items, .fill = fill, .user = user};
    int status = STATUS_OK;
    for (int i = 0; i < BUFFERS && !status; i++)
        if (!(reader->buffer[i] = memory_array(bytes, 1, error)))
            status = STATUS_MEMORY;
    if (!status) {
        sigset_t all, before; /* signals are for the main thread */
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        const int failure = pthread_create(&reader->thread, NULL, thread_run, reader);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (failure)
            status = error_set(error, STATUS_MEMORY, "cannot start a thread: %s", strerror(failure));
    }
    if (status)
        reader_free(reader);
    else
        *out = reader;
    return status;
}

int read_ahead_next(struct read_ahead *reader, const void **buffer, struct error *error)
{
    pthread_mutex_lock(&reader->lock);
    const int64_t index = reader->taken++;
    pthread_cond_signal(&reader->changed);
    while (reader->made <= index && !reader->status)
        pthread_cond_wait(&reader->changed, &reader->lock);
    const bool made = reader->made > index;
    const int status = made ? STATUS_OK : reader->status;
    if (!made && error)
        *error = reader->error;
    *buffer = made ? reader->buffer[index % BUFFERS] : NULL;
    pthread_mutex_unlock(&reader->lock);
    return status;
}

void read_ahead_close(struct read_ahead *reader)
{
    if (!reader)
        return;
    pthread_mutex_lock(&reader->lock);
    reader->leaving = true;
    pthread_cond_signal(&reader->changed);
    pthread_mutex_unlock(&reader->lock);
    pthread_join(reader->thread, NULL);
    reader_free(reader);
}
