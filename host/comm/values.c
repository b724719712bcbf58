/* values.c - host values of all ranks: gathered at rank 0 in the order of ranks, combined there, and sent back.
 *
 * Cost: two small messages per rank and call, through rank 0. For tensors there are the collectives.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../util/memory.h"
#include "internal.h"
#include "heartbeat.h"

static void value_send(struct comm *comm, int rank, const void *bytes, size_t count)
{
    if (!tcp_send(comm->values[rank], bytes, count, 0))
        heartbeat_exit_lost(comm->heartbeat, rank, tcp_reason(errno));
}

static void value_receive(struct comm *comm, int rank, void *bytes, size_t count)
{
    if (!tcp_receive(comm->values[rank], bytes, count, 0))
        heartbeat_exit_lost(comm->heartbeat, rank, tcp_reason(errno));
}

static void reply_send(struct comm *comm, const void *bytes, size_t count, bool differs)
{
    for (int rank = 1; rank < comm->env.size; rank++) {
        value_send(comm, rank, &(struct comm_reply){count, differs}, sizeof(struct comm_reply));
        value_send(comm, rank, bytes, count);
    }
}

static int gather_at_root(struct comm *comm, const struct comm_call *own_header, const void *own, combine_fn combine,
                      void *result, size_t result_bytes, struct error *error)
{
    const size_t bytes = own_header->bytes;
    char *all = memory_array((size_t)comm->env.size, bytes ? bytes : 1, error);
    if (!all)
        return STATUS_MEMORY;
    if (bytes)
        memcpy(all, own, bytes);
    for (int rank = 1; rank < comm->env.size; rank++) {
        struct comm_call header;
        value_receive(comm, rank, &header, sizeof header);
        if (memcmp(&header, own_header, sizeof header)) {
            message_text_clean(header.name, sizeof header.name);
            free(all);
            error_set(error, STATUS_RUNTIME,
                      "rank %d makes the call %.47s of %llu bytes where rank 0 makes %s of %zu: the "
                      "ranks do not run the same program", rank, header.name, (unsigned long long)header.bytes,
                      own_header->name, bytes);
            reply_send(comm, error->text, strlen(error->text) + 1, true);
            return STATUS_RUNTIME;
        }
        value_receive(comm, rank, all + (size_t)rank * bytes, bytes);
    }
    if (combine)
        combine(all, bytes, comm->env.size, result);
    else if (result_bytes)
        memcpy(result, all, result_bytes);
    free(all);
    reply_send(comm, result, result_bytes, false);
    return STATUS_OK;
}

int values_gather(struct comm *comm, const char *call, const void *own, size_t bytes, combine_fn combine, void *result,
                 size_t result_bytes, struct error *error)
{
    struct error unused; /* rank 0 tells the others, whether its caller wants to know or not */
    struct comm_call header = {.bytes = bytes};
    struct comm_reply reply;
    error = error ? error : &unused;
    snprintf(header.name, sizeof header.name, "%s", call);
    heartbeat_count_call(comm->heartbeat);
    if (comm->env.rank == 0)
        return gather_at_root(comm, &header, own, combine, result, result_bytes, error);
    /* rank 0 may have seen that another rank differs and ended before it took these: its reply is there all the same */
    if (tcp_send(comm->values[0], &header, sizeof header, 0))
        tcp_send(comm->values[0], own, bytes, 0);
    value_receive(comm, 0, &reply, sizeof reply);
    if (reply.differs) {
        char text[sizeof error->text] = "";
        value_receive(comm, 0, text, reply.bytes < sizeof text ? reply.bytes : sizeof text - 1);
        return error_set(error, STATUS_RUNTIME, "%s", text);
    }
    if (reply.bytes != result_bytes)
        return error_set(error, STATUS_RUNTIME, "rank 0 replies to %s with %llu bytes where %zu are due: the ranks do not "
                         "run the same program", call, (unsigned long long)reply.bytes, result_bytes);
    value_receive(comm, 0, result, result_bytes);
    return STATUS_OK;
}

/* ---- sums, maxima, barrier -------------------------------------------------------------------------------------- */

static void combine_sum(const void *all, size_t bytes, int size, void *result)
{
    const double *values = all;
    double *sum = result;
    const size_t count = bytes / sizeof *sum;
    memcpy(sum, values, bytes);
    for (size_t i = 0; i < count; i++)
        for (int rank = 1; rank < size; rank++)
            sum[i] += values[(size_t)rank * count + i];
}

int comm_sum(struct comm *comm, double *values, int count, struct error *error)
{
    const size_t bytes = (size_t)count * sizeof *values;
    return comm ? values_gather(comm, "sum", values, bytes, combine_sum, values, bytes, error) : STATUS_OK;
}

static void combine_max(const void *all, size_t bytes, int size, void *result)
{
    const int64_t *values = all;
    int64_t most = values[0];
    for (int rank = 1; rank < size; rank++)
        most = values[rank] > most ? values[rank] : most;
    memcpy(result, &most, bytes);
}

int comm_max(struct comm *comm, int64_t *value, struct error *error)
{
    const size_t bytes = sizeof *value;
    return comm ? values_gather(comm, "max", value, bytes, combine_max, value, bytes, error) : STATUS_OK;
}

int comm_barrier(struct comm *comm, struct error *error)
{
    return comm ? values_gather(comm, "barrier", "", 0, NULL, NULL, 0, error) : STATUS_OK;
}

int comm_broadcast_host(struct comm *comm, void *bytes, size_t count, int root, struct error *error)
{
    char call[48];
    const uint64_t own = count;
    if (!comm)
        return STATUS_OK;
    if (root < 0 || root >= comm->env.size)
        return error_set(error, STATUS_RUNTIME, "broadcast from rank %d of %d", root, comm->env.size);
    snprintf(call, sizeof call, "broadcast %zu from rank %d", count, root);
    int status = values_gather(comm, call, &own, sizeof own, combine_max, (uint64_t[1]){0}, sizeof own, error);
    if (status)
        return status;
    if (comm->env.rank && comm->env.rank == root)
        value_send(comm, 0, bytes, count);
    else if (comm->env.rank)
        value_receive(comm, 0, bytes, count);
    else if (root)
        value_receive(comm, root, bytes, count);
    for (int rank = 1; comm->env.rank == 0 && rank < comm->env.size; rank++)
        if (rank != root)
            value_send(comm, rank, bytes, count);
    return STATUS_OK;
}

/* ---- agreement -------------------------------------------------------------------------------------------------- */

int comm_report_once(const struct comm *comm, int status, struct error *error)
{
    if (status && error && comm && comm->env.rank)
        *error->text = 0;
    return status;
}

enum { TEXT_BYTES_MAX = 1 << 24 }; /* that comm_check_equal takes: a guard against a rank that has gone wrong */

/* A result names a rank that there is not. */
static int rank_refuse(const char *call, int64_t rank, struct error *error)
{
    return error_set(error, STATUS_RUNTIME, "rank 0 replies to %s with rank %lld, which is none: the ranks do not run the "
                     "same program", call, (long long)rank);
}

/* Around the first byte that differs. */
struct difference {
    int64_t rank; /* 0: none */
    char ours[96], theirs[96];
};

static void combine_difference(const void *all, size_t bytes, int size, void *result)
{
    struct difference found = {0};
    const char *ours = all;
    for (int rank = 1; rank < size && !found.rank; rank++) {
        const char *theirs = ours + (size_t)rank * bytes;
        size_t at = 0;
        while (at < bytes && ours[at] == theirs[at])
            at++;
        if (at == bytes)
            continue;
        const size_t start = at > 32 ? at - 32 : 0;
        const int shown = bytes - start < sizeof found.ours ? (int)(bytes - start) : (int)sizeof found.ours - 1;
        found.rank = rank;
        snprintf(found.ours, sizeof found.ours, "%.*s", shown, ours + start);
        snprintf(found.theirs, sizeof found.theirs, "%.*s", shown, theirs + start);
    }
    memcpy(result, &found, sizeof found);
}

int comm_check_equal(struct comm *comm, const char *what, const char *text, struct error *error)
{
    struct difference found;
    int64_t length = (int64_t)strlen(text) + 1;
    if (!comm)
        return STATUS_OK;
    int status = comm_max(comm, &length, error);
    if (!status && length > TEXT_BYTES_MAX)
        status = error_set(error, STATUS_RUNTIME, "%s: a rank has %lld bytes of it, more than the %d that are compared",
                           what, (long long)length, TEXT_BYTES_MAX);
    char *padded = status ? NULL : memory_array((size_t)length, 1, error);
    if (!padded)
        return status ? status : STATUS_MEMORY;
    memcpy(padded, text, strlen(text));
    status = values_gather(comm, "check_equal", padded, (size_t)length, combine_difference, &found, sizeof found, error);
    free(padded);
    if (status || !found.rank)
        return status;
    message_text_clean(found.ours, sizeof found.ours);
    message_text_clean(found.theirs, sizeof found.theirs);
    if (found.rank < 0 || found.rank >= comm->env.size)
        return rank_refuse(what, found.rank, error);
    error_set(error, STATUS_USAGE, "%s: rank %lld (host %s) has '%s', rank 0 has '%s'; all ranks need the same", what,
              (long long)found.rank, comm->peer[found.rank].host, found.theirs, found.ours);
    return comm_report_once(comm, STATUS_USAGE, error);
}

struct verdict {
    int32_t status, rank;
    char text[sizeof((struct error *)0)->text];
};

static void combine_status(const void *all, size_t bytes, int size, void *result)
{
    const struct verdict *verdicts = all;
    struct verdict first = verdicts[0];
    for (int rank = 1; rank < size && !first.status; rank++) {
        first = verdicts[rank];
        first.rank = rank;
    }
    memcpy(result, &first, bytes);
}

int comm_agree(struct comm *comm, int status, struct error *error)
{
    if (!comm)
        return status;
    struct verdict own = {.status = status, .rank = comm->env.rank}, first;
    if (status && error)
        snprintf(own.text, sizeof own.text, "%s", error->text);
    int failed = values_gather(comm, "status", &own, sizeof own, combine_status, &first, sizeof first, error);
    if (failed || !first.status)
        return failed;
    if (first.rank < 0 || first.rank >= comm->env.size)
        return rank_refuse("status", first.rank, error);
    first.status = message_status(first.status);
    message_text_clean(first.text, sizeof first.text);
    if (first.rank != comm->env.rank)
        error_set(error, first.status, "rank %d (host %s): %.900s", first.rank, comm->peer[first.rank].host, first.text);
    return comm_report_once(comm, first.status, error);
}
