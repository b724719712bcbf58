/* lane.c - see lane.h. */
#include "lane.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../util/float16.h"
#include "../util/memory.h"
#include "internal.h"
#include "watch.h"

enum { PIECE_ELEMENTS = 1 << 18 }; /* of a slice that travel at a time: bounds the staging memory */

/* What the ranks tell each other before each collective: whoever makes another one is found out. */
struct card {
    int32_t op, dtype, root, unused;
    int64_t n;
};

struct job {
    struct job *next;
    struct card card;
    char *buffer;
};

struct lane {
    struct comm *comm;
    struct transport transport;
    int rank, size;
    struct piece *send, *receive; /* [size] */
    struct card *cards;           /* [size] */
    char *staging;                /* [size][PIECE_ELEMENTS] of 8 bytes */
    void *total;                  /* [PIECE_ELEMENTS] double or float */
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    struct job *first, *last;
    bool busy, closing;
    struct error failed; /* the first failure stays */
};

static const char *const op_name[] = {"reduce_scatter", "all_gather", "all_reduce", "broadcast"};

/* ---- sums ------------------------------------------------------------------------------------------------------- */

/* total += values; the first rank's are the total's beginning. */
static void total_add(void *total, enum dtype dtype, const void *values, int64_t n, bool first)
{
    double *wide = total;
    float *single = total;
    const double *wides = values;
    const float *singles = values;
    const uint16_t *halves = values;
    if (dtype == DTYPE_F64 && !first)
        for (int64_t i = 0; i < n; i++)
            wide[i] += wides[i];
    else if (dtype == DTYPE_F32 && !first)
        for (int64_t i = 0; i < n; i++)
            single[i] += singles[i];
    else if (dtype == DTYPE_F64 || dtype == DTYPE_F32)
        memcpy(total, values, (size_t)n * dtype_size(dtype));
    else
        for (int64_t i = 0; i < n; i++) {
            float value = dtype == DTYPE_BF16 ? float_from_bf16(halves[i]) : float_from_f16(halves[i]);
            single[i] = first ? value : single[i] + value;
        }
}

static void total_store(void *to, enum dtype dtype, const void *total, int64_t n)
{
    const float *from = total;
    uint16_t *half = to;
    if (dtype_size(dtype) > 2)
        memcpy(to, total, (size_t)n * dtype_size(dtype));
    else
        for (int64_t i = 0; i < n; i++)
            half[i] = dtype == DTYPE_BF16 ? bf16_from_float(from[i]) : f16_from_float(from[i]);
}

/* ---- collectives ------------------------------------------------------------------------------------------------ */

static int exchange(struct lane *lane, struct error *error)
{
    char reason[256] = "";
    int rank = -1;
    if (!lane->transport.exchange(lane->transport.state, lane->send, lane->receive, &rank, reason, sizeof reason))
        return STATUS_OK;
    if (rank >= 0 && !atomic_load(&lane->comm->aborted))
        watch_lose(lane->comm->watch, rank, reason);
    return error_set(error, STATUS_RUNTIME, "%s: %s", lane->transport.name, reason);
}

/* How far piece number `at` of a slice reaches. */
static int64_t piece_length(int64_t count, int64_t at)
{
    int64_t left = count - at;
    return left < 0 ? 0 : left < PIECE_ELEMENTS ? left : PIECE_ELEMENTS;
}

/* The longest slice is the last rank's. */
static int64_t slice_longest(const struct lane *lane, int64_t n)
{
    int64_t from, count;
    comm_slice(lane->comm, n, lane->size - 1, &from, &count);
    return count;
}

static int reduce_scatter(struct lane *lane, const struct job *job, struct error *error)
{
    const enum dtype dtype = (enum dtype)job->card.dtype;
    const size_t bytes = dtype_size(dtype);
    int64_t own_from, own_count;
    int status = STATUS_OK;
    comm_slice(lane->comm, job->card.n, lane->rank, &own_from, &own_count);
    for (int64_t at = 0, end = slice_longest(lane, job->card.n); !status && at < end; at += PIECE_ELEMENTS) {
        const int64_t length = piece_length(own_count, at);
        char *own = job->buffer + (size_t)(own_from + at) * bytes;
        for (int rank = 0; rank < lane->size; rank++) {
            int64_t from, count;
            comm_slice(lane->comm, job->card.n, rank, &from, &count);
            lane->send[rank] = (struct piece){job->buffer + (size_t)(from + at) * bytes,
                                              (size_t)piece_length(count, at) * bytes};
            lane->receive[rank] = (struct piece){lane->staging + (size_t)rank * PIECE_ELEMENTS * sizeof(double),
                                                 (size_t)length * bytes};
        }
        status = exchange(lane, error);
        for (int rank = 0; !status && length && rank < lane->size; rank++)
            total_add(lane->total, dtype, rank == lane->rank ? own : lane->receive[rank].bytes, length, rank == 0);
        if (!status && length)
            total_store(own, dtype, lane->total, length);
    }
    return status;
}

static int all_gather(struct lane *lane, size_t bytes, char *buffer, int64_t n, struct error *error)
{
    int64_t own_from, own_count;
    int status = STATUS_OK;
    comm_slice(lane->comm, n, lane->rank, &own_from, &own_count);
    for (int64_t at = 0, end = slice_longest(lane, n); !status && at < end; at += PIECE_ELEMENTS) {
        for (int rank = 0; rank < lane->size; rank++) {
            int64_t from, count;
            comm_slice(lane->comm, n, rank, &from, &count);
            lane->send[rank] = (struct piece){buffer + (size_t)(own_from + at) * bytes,
                                              (size_t)piece_length(own_count, at) * bytes};
            lane->receive[rank] = (struct piece){buffer + (size_t)(from + at) * bytes,
                                                 (size_t)piece_length(count, at) * bytes};
        }
        status = exchange(lane, error);
    }
    return status;
}

/* The root hands out slices, then all gather them: its own link carries the bytes twice, not size - 1 times. */
static int broadcast(struct lane *lane, const struct job *job, struct error *error)
{
    const int root = job->card.root;
    int status = STATUS_OK;
    for (int64_t at = 0, end = slice_longest(lane, job->card.n); !status && at < end; at += PIECE_ELEMENTS) {
        for (int rank = 0; rank < lane->size; rank++) {
            int64_t from, count;
            const bool own = rank == lane->rank;
            comm_slice(lane->comm, job->card.n, rank, &from, &count);
            struct piece piece = {job->buffer + from + at, (size_t)piece_length(count, at)};
            lane->send[rank] = lane->rank == root ? piece : (struct piece){0};
            if (own && lane->rank != root)
                lane->receive[root] = piece;
            else if (rank != root)
                lane->receive[rank] = (struct piece){0};
        }
        status = exchange(lane, error);
    }
    return status ? status : all_gather(lane, 1, job->buffer, job->card.n, error);
}

/* That all ranks are about to do the same. */
static int cards_compare(struct lane *lane, const struct card *own, struct error *error)
{
    struct card sent = *own;
    for (int rank = 0; rank < lane->size; rank++) {
        lane->send[rank] = (struct piece){&sent, sizeof sent};
        lane->receive[rank] = (struct piece){&lane->cards[rank], sizeof *lane->cards};
    }
    int status = exchange(lane, error);
    for (int rank = 0; !status && rank < lane->size; rank++) {
        const struct card *card = &lane->cards[rank];
        if (rank != lane->rank && memcmp(card, own, sizeof *own))
            status = error_set(error, STATUS_RUNTIME, "rank %d makes %s of %lld %s where rank %d makes %s of %lld %s: "
                               "the ranks do not run the same program", rank,
                               card->op >= 0 && card->op < LANE_OPS ? op_name[card->op] : "?", (long long)card->n,
                               dtype_name((enum dtype)card->dtype), lane->rank, op_name[own->op], (long long)own->n,
                               dtype_name((enum dtype)own->dtype));
    }
    return status;
}

static int job_run(struct lane *lane, const struct job *job, struct error *error)
{
    const size_t bytes = dtype_size((enum dtype)job->card.dtype);
    int status = cards_compare(lane, &job->card, error);
    if (!status && (job->card.op == LANE_REDUCE_SCATTER || job->card.op == LANE_ALL_REDUCE))
        status = reduce_scatter(lane, job, error);
    if (!status && (job->card.op == LANE_ALL_GATHER || job->card.op == LANE_ALL_REDUCE))
        status = all_gather(lane, bytes, job->buffer, job->card.n, error);
    if (!status && job->card.op == LANE_BROADCAST)
        status = broadcast(lane, job, error);
    return status;
}

/* ---- the thread ------------------------------------------------------------------------------------------------- */

static void *lane_run(void *argument)
{
    struct lane *lane = argument;
    char reason[256] = "";
    if (lane->transport.start && lane->transport.start(lane->transport.state, reason, sizeof reason)) {
        pthread_mutex_lock(&lane->lock);
        error_set(&lane->failed, STATUS_RUNTIME, "%s: %s", lane->transport.name, reason);
        pthread_mutex_unlock(&lane->lock);
    }
    pthread_mutex_lock(&lane->lock);
    for (;;) {
        while (!lane->first && !lane->closing)
            pthread_cond_wait(&lane->changed, &lane->lock);
        struct job *job = lane->first;
        if (!job)
            break;
        lane->first = job->next;
        lane->busy = true;
        struct error error = lane->failed;
        pthread_mutex_unlock(&lane->lock);
        if (!error.status)
            job_run(lane, job, &error);
        free(job);
        pthread_mutex_lock(&lane->lock);
        lane->failed = error;
        lane->busy = false;
        pthread_cond_broadcast(&lane->changed);
    }
    pthread_mutex_unlock(&lane->lock);
    lane->transport.close(lane->transport.state, lane->failed.status || atomic_load(&lane->comm->aborted));
    return NULL;
}

static void lane_free(struct lane *lane)
{
    pthread_cond_destroy(&lane->changed);
    pthread_mutex_destroy(&lane->lock);
    free(lane->send);
    free(lane->receive);
    free(lane->cards);
    free(lane->staging);
    free(lane->total);
    free(lane);
}

int lane_open(struct lane **out, struct comm *comm, const struct transport *transport, struct error *error)
{
    struct lane *lane = memory_array(1, sizeof *lane, error);
    const size_t size = (size_t)comm->place.size;
    int status = lane ? STATUS_OK : STATUS_MEMORY;
    if (lane) {
        *lane = (struct lane){.comm = comm, .transport = *transport};
        lane->rank = comm->place.rank;
        lane->size = comm->place.size;
        pthread_mutex_init(&lane->lock, NULL);
        pthread_cond_init(&lane->changed, NULL);
        lane->send = memory_array(size, sizeof *lane->send, error);
        lane->receive = memory_array(size, sizeof *lane->receive, error);
        lane->cards = memory_array(size, sizeof *lane->cards, error);
        lane->staging = memory_array(size, PIECE_ELEMENTS * sizeof(double), error);
        lane->total = memory_array(PIECE_ELEMENTS, sizeof(double), error);
        if (!lane->send || !lane->receive || !lane->cards || !lane->staging || !lane->total)
            status = STATUS_MEMORY;
    }
    if (!status) {
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_BLOCK, &all, &before);
        int failure = pthread_create(&lane->thread, NULL, lane_run, lane);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (failure)
            status = error_set(error, STATUS_RUNTIME, "the thread for collectives cannot be started: %s",
                               strerror(failure));
    }
    if (status) {
        transport->close(transport->state, true);
        if (lane)
            lane_free(lane);
        return status;
    }
    *out = lane;
    return STATUS_OK;
}

int lane_queue(struct lane *lane, enum lane_op op, enum dtype dtype, void *buffer, int64_t n, int root,
               struct error *error)
{
    struct job *job = memory_array(1, sizeof *job, error);
    if (!job)
        return STATUS_MEMORY;
    *job = (struct job){.card = {.op = op, .dtype = dtype, .root = root, .n = n}, .buffer = buffer};
    pthread_mutex_lock(&lane->lock);
    if (lane->first)
        lane->last->next = job;
    else
        lane->first = job;
    lane->last = job;
    pthread_cond_broadcast(&lane->changed);
    pthread_mutex_unlock(&lane->lock);
    return STATUS_OK;
}

int lane_join(struct lane *lane, struct error *error)
{
    pthread_mutex_lock(&lane->lock);
    while (lane->first || lane->busy)
        pthread_cond_wait(&lane->changed, &lane->lock);
    const struct error failed = lane->failed;
    pthread_mutex_unlock(&lane->lock);
    return failed.status ? error_set(error, failed.status, "%s", failed.text) : STATUS_OK;
}

void lane_close(struct lane *lane)
{
    if (!lane)
        return;
    pthread_mutex_lock(&lane->lock);
    lane->closing = true;
    pthread_cond_broadcast(&lane->changed);
    pthread_mutex_unlock(&lane->lock);
    pthread_join(lane->thread, NULL);
    lane_free(lane);
}
