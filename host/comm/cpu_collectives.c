/* cpu_collectives.c - see cpu_collectives.h. */
#include "cpu_collectives.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../util/float16.h"
#include "../util/memory.h"
#include "heartbeat.h"
#include "internal.h"

enum { CHUNK_ELEMENTS = 1 << 18 }; /* of a slice that travel at a time: bounds the staging memory */

struct job {
    struct job *next;
    struct comm_collective header;
    char *buffer;
};

struct cpu_collectives {
    struct comm *comm;
    struct tcp_transport *transport;
    int rank, size;
    struct chunk *send, *receive; /* [size] */
    struct comm_collective *headers;  /* [size] */
    char *staging;                /* [size][CHUNK_ELEMENTS] of 8 bytes */
    void *total;                  /* [CHUNK_ELEMENTS] double or float */
    pthread_t thread;
    pthread_mutex_t lock;         /* of what follows */
    pthread_cond_t changed;
    struct job *first, *last;
    bool busy, closing;
    struct error failed; /* the first failure stays */
};

static const char *const collective_name[] = {"reduce_scatter", "all_gather", "all_reduce", "broadcast"};

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

static int exchange(struct cpu_collectives *collectives, struct error *error)
{
    int rank;
    const char *reason = tcp_transport_exchange(collectives->transport, collectives->send, collectives->receive, &rank);
    if (reason && !atomic_load(&collectives->comm->aborted))
        heartbeat_exit_lost(collectives->comm->heartbeat, rank, reason);
    return reason ? error_set(error, STATUS_RUNTIME, "data connection to rank %d: %s", rank, reason) : STATUS_OK;
}

/* Elements of the chunk that begins at element `at` of a slice of `count`. */
static int64_t chunk_length(int64_t count, int64_t at)
{
    int64_t left = count - at;
    return left < 0 ? 0 : left < CHUNK_ELEMENTS ? left : CHUNK_ELEMENTS;
}

/* The longest slice is the last rank's. */
static int64_t longest_slice(const struct cpu_collectives *collectives, int64_t n)
{
    int64_t from, count;
    comm_slice(n, collectives->size, collectives->size - 1, &from, &count);
    return count;
}

static int reduce_scatter(struct cpu_collectives *collectives, const struct job *job, struct error *error)
{
    const enum dtype dtype = (enum dtype)job->header.dtype;
    const size_t bytes = dtype_size(dtype);
    int64_t own_from, own_count;
    int status = STATUS_OK;
    comm_slice(job->header.n, collectives->size, collectives->rank, &own_from, &own_count);
    for (int64_t at = 0, end = longest_slice(collectives, job->header.n); !status && at < end; at += CHUNK_ELEMENTS) {
        const int64_t length = chunk_length(own_count, at);
        char *own = job->buffer + (size_t)(own_from + at) * bytes;
        for (int rank = 0; rank < collectives->size; rank++) {
            int64_t from, count;
            comm_slice(job->header.n, collectives->size, rank, &from, &count);
            collectives->send[rank] = (struct chunk){job->buffer + (size_t)(from + at) * bytes,
                                                     (size_t)chunk_length(count, at) * bytes};
            collectives->receive[rank] =
                (struct chunk){collectives->staging + (size_t)rank * CHUNK_ELEMENTS * sizeof(double),
                               (size_t)length * bytes};
        }
        status = exchange(collectives, error);
        for (int rank = 0; !status && length && rank < collectives->size; rank++)
            total_add(collectives->total, dtype, rank == collectives->rank ? own : collectives->receive[rank].bytes,
                      length, rank == 0);
        if (!status && length)
            total_store(own, dtype, collectives->total, length);
    }
    return status;
}

static int all_gather(struct cpu_collectives *collectives, size_t bytes, char *buffer, int64_t n, struct error *error)
{
    int64_t own_from, own_count;
    int status = STATUS_OK;
    comm_slice(n, collectives->size, collectives->rank, &own_from, &own_count);
    for (int64_t at = 0, end = longest_slice(collectives, n); !status && at < end; at += CHUNK_ELEMENTS) {
        for (int rank = 0; rank < collectives->size; rank++) {
            int64_t from, count;
            comm_slice(n, collectives->size, rank, &from, &count);
            collectives->send[rank] = (struct chunk){buffer + (size_t)(own_from + at) * bytes,
                                                     (size_t)chunk_length(own_count, at) * bytes};
            collectives->receive[rank] = (struct chunk){buffer + (size_t)(from + at) * bytes,
                                                        (size_t)chunk_length(count, at) * bytes};
        }
        status = exchange(collectives, error);
    }
    return status;
}

/* The root hands out slices, then all gather them: its own link carries the bytes twice, not size - 1 times. */
static int broadcast(struct cpu_collectives *collectives, const struct job *job, struct error *error)
{
    const int root = job->header.root;
    int status = STATUS_OK;
    for (int64_t at = 0, end = longest_slice(collectives, job->header.n); !status && at < end; at += CHUNK_ELEMENTS) {
        for (int rank = 0; rank < collectives->size; rank++) {
            int64_t from, count;
            const bool own = rank == collectives->rank;
            comm_slice(job->header.n, collectives->size, rank, &from, &count);
            struct chunk chunk = {job->buffer + from + at, (size_t)chunk_length(count, at)};
            collectives->send[rank] = collectives->rank == root ? chunk : (struct chunk){0};
            if (own && collectives->rank != root)
                collectives->receive[root] = chunk;
            else if (rank != root)
                collectives->receive[rank] = (struct chunk){0};
        }
        status = exchange(collectives, error);
    }
    return status ? status : all_gather(collectives, 1, job->buffer, job->header.n, error);
}

/* That all ranks are about to do the same. */
static int headers_compare(struct cpu_collectives *collectives, const struct comm_collective *own, struct error *error)
{
    struct comm_collective sent = *own;
    for (int rank = 0; rank < collectives->size; rank++) {
        collectives->send[rank] = (struct chunk){&sent, sizeof sent};
        collectives->receive[rank] = (struct chunk){&collectives->headers[rank], sizeof *collectives->headers};
    }
    int status = exchange(collectives, error);
    for (int rank = 0; !status && rank < collectives->size; rank++) {
        const struct comm_collective *header = &collectives->headers[rank];
        if (rank != collectives->rank && memcmp(header, own, sizeof *own))
            status = error_set(error, STATUS_RUNTIME, "rank %d makes %s of %lld %s where rank %d makes %s of %lld %s: "
                               "the ranks do not run the same program", rank,
                               header->collective >= 0 && header->collective < COLLECTIVES ? collective_name[header->collective] : "?",
                               (long long)header->n, dtype_name((enum dtype)header->dtype), collectives->rank,
                               collective_name[own->collective], (long long)own->n, dtype_name((enum dtype)own->dtype));
    }
    return status;
}

static int job_run(struct cpu_collectives *collectives, const struct job *job, struct error *error)
{
    const size_t bytes = dtype_size((enum dtype)job->header.dtype);
    int status = headers_compare(collectives, &job->header, error);
    if (!status && (job->header.collective == COLLECTIVE_REDUCE_SCATTER || job->header.collective == COLLECTIVE_ALL_REDUCE))
        status = reduce_scatter(collectives, job, error);
    if (!status && (job->header.collective == COLLECTIVE_ALL_GATHER || job->header.collective == COLLECTIVE_ALL_REDUCE))
        status = all_gather(collectives, bytes, job->buffer, job->header.n, error);
    if (!status && job->header.collective == COLLECTIVE_BROADCAST)
        status = broadcast(collectives, job, error);
    return status;
}

/* ---- the thread ------------------------------------------------------------------------------------------------- */

static void *cpu_collectives_run(void *argument)
{
    struct cpu_collectives *collectives = argument;
    pthread_mutex_lock(&collectives->lock);
    for (;;) {
        while (!collectives->first && !collectives->closing)
            pthread_cond_wait(&collectives->changed, &collectives->lock);
        struct job *job = collectives->first;
        if (!job)
            break;
        collectives->first = job->next;
        collectives->busy = true;
        struct error error = collectives->failed;
        pthread_mutex_unlock(&collectives->lock);
        if (!error.status)
            job_run(collectives, job, &error);
        free(job);
        pthread_mutex_lock(&collectives->lock);
        collectives->failed = error;
        collectives->busy = false;
        pthread_cond_broadcast(&collectives->changed);
    }
    pthread_mutex_unlock(&collectives->lock);
    tcp_transport_close(collectives->transport);
    return NULL;
}

static void cpu_collectives_free(struct cpu_collectives *collectives)
{
    pthread_cond_destroy(&collectives->changed);
    pthread_mutex_destroy(&collectives->lock);
    free(collectives->send);
    free(collectives->receive);
    free(collectives->headers);
    free(collectives->staging);
    free(collectives->total);
    free(collectives);
}

int cpu_collectives_open(struct cpu_collectives **out, struct comm *comm, struct tcp_transport *transport,
                         struct error *error)
{
    struct cpu_collectives *collectives = memory_array(1, sizeof *collectives, error);
    const size_t size = (size_t)comm->env.size;
    int status = collectives ? STATUS_OK : STATUS_MEMORY;
    if (collectives) {
        *collectives = (struct cpu_collectives){.comm = comm, .transport = transport};
        collectives->rank = comm->env.rank;
        collectives->size = comm->env.size;
        pthread_mutex_init(&collectives->lock, NULL);
        pthread_cond_init(&collectives->changed, NULL);
        collectives->send = memory_array(size, sizeof *collectives->send, error);
        collectives->receive = memory_array(size, sizeof *collectives->receive, error);
        collectives->headers = memory_array(size, sizeof *collectives->headers, error);
        collectives->staging = memory_array(size, CHUNK_ELEMENTS * sizeof(double), error);
        collectives->total = memory_array(CHUNK_ELEMENTS, sizeof(double), error);
        if (!collectives->send || !collectives->receive || !collectives->headers || !collectives->staging ||
            !collectives->total)
            status = STATUS_MEMORY;
    }
    if (!status) {
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_BLOCK, &all, &before);
        int failure = pthread_create(&collectives->thread, NULL, cpu_collectives_run, collectives);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (failure)
            status = error_set(error, STATUS_RUNTIME, "the thread for collectives cannot be started: %s",
                               strerror(failure));
    }
    if (status) {
        tcp_transport_close(transport);
        if (collectives)
            cpu_collectives_free(collectives);
        return status;
    }
    *out = collectives;
    return STATUS_OK;
}

int cpu_collectives_queue(struct cpu_collectives *collectives, enum collective collective, enum dtype dtype,
                          void *buffer, int64_t n, int root, struct error *error)
{
    struct job *job = memory_array(1, sizeof *job, error);
    if (!job)
        return STATUS_MEMORY;
    *job = (struct job){.header = {.collective = collective, .dtype = dtype, .root = root, .n = n}, .buffer = buffer};
    pthread_mutex_lock(&collectives->lock);
    if (collectives->first)
        collectives->last->next = job;
    else
        collectives->first = job;
    collectives->last = job;
    pthread_cond_broadcast(&collectives->changed);
    pthread_mutex_unlock(&collectives->lock);
    return STATUS_OK;
}

int cpu_collectives_wait(struct cpu_collectives *collectives, struct error *error)
{
    pthread_mutex_lock(&collectives->lock);
    while (collectives->first || collectives->busy)
        pthread_cond_wait(&collectives->changed, &collectives->lock);
    const struct error failed = collectives->failed;
    pthread_mutex_unlock(&collectives->lock);
    return failed.status ? error_set(error, failed.status, "%s", failed.text) : STATUS_OK;
}

void cpu_collectives_close(struct cpu_collectives *collectives)
{
    if (!collectives)
        return;
    pthread_mutex_lock(&collectives->lock);
    collectives->closing = true;
    pthread_cond_broadcast(&collectives->changed);
    pthread_mutex_unlock(&collectives->lock);
    pthread_join(collectives->thread, NULL);
    cpu_collectives_free(collectives);
}
