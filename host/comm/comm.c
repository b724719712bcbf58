/* comm.c - see comm.h: opening and closing, and the way of a tensor to the data plane it takes. */
#include "comm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../util/memory.h"
#include "cpu_collectives.h"
#include "heartbeat.h"
#include "internal.h"

enum { DESCRIBE_BYTES = 512 };

/* ---- open and close --------------------------------------------------------------------------------------------- */

static void comm_free(struct comm *comm)
{
    for (int rank = 0; rank < comm->env.size; rank++) {
        if (comm->values)
            tcp_close(&comm->values[rank]);
        if (comm->peer)
            free(comm->peer[rank].describe);
    }
    free(comm->values);
    free(comm->peer);
    free(comm);
}

int comm_open(struct comm **out, const struct rank_env *env, struct error *error)
{
    *out = NULL;
    if (env->size <= 1)
        return STATUS_OK;
    const size_t size = (size_t)env->size;
    struct comm *comm = memory_array(1, sizeof *comm, error);
    int *heartbeat_fds = memory_array(size, sizeof *heartbeat_fds, error);
    if (!comm || !heartbeat_fds) {
        free(comm);
        free(heartbeat_fds);
        return STATUS_MEMORY;
    }
    comm->env = *env;
    comm->listener = -1;
    comm->peer = memory_array(size, sizeof *comm->peer, error);
    comm->values = memory_array(size, sizeof *comm->values, error);
    for (size_t rank = 0; rank < size; rank++) {
        heartbeat_fds[rank] = -1;
        if (comm->values)
            comm->values[rank] = -1;
    }
    int status = comm->peer && comm->values ? rendezvous(comm, heartbeat_fds, error) : STATUS_MEMORY;
    if (!status)
        status = heartbeat_open(&comm->heartbeat, env->rank, env->size, comm->peer, heartbeat_fds, error);
    else
        for (size_t rank = 0; rank < size; rank++)
            tcp_close(&heartbeat_fds[rank]);
    free(heartbeat_fds);
    if (status) {
        comm_free(comm);
        return status;
    }
    *out = comm;
    return STATUS_OK;
}

void comm_close(struct comm *comm)
{
    if (!comm)
        return;
    cpu_collectives_close(comm->collectives);
    heartbeat_set_check(comm->heartbeat, NULL, NULL);
    if (comm->device && comm->device->engine->comm_close)
        comm->device->engine->comm_close(comm->device->context, atomic_load(&comm->aborted));
    heartbeat_close(comm->heartbeat);
    comm_free(comm);
}

void comm_abort(struct comm *comm, const char *reason)
{
    if (!comm)
        return;
    atomic_store(&comm->aborted, true);
    heartbeat_abort(comm->heartbeat, reason);
}

int comm_rank(const struct comm *comm) { return comm ? comm->env.rank : 0; }

int comm_size(const struct comm *comm) { return comm ? comm->env.size : 1; }

const char *comm_describe(const struct comm *comm, int rank)
{
    return comm && rank >= 0 && rank < comm->env.size && comm->peer[rank].describe ? comm->peer[rank].describe : "";
}

/* ---- attach ----------------------------------------------------------------------------------------------------- */

static const char *device_failure(void *user)
{
    struct device *device = user;
    return device->engine->comm_failure(device->context);
}

/* NCCL. A rank that fails in comm_open leaves the others waiting there: they end by the heartbeat. */
static int attach_engine(struct comm *comm, char *name, size_t name_bytes, struct error *error)
{
    struct device *device = comm->device;
    const struct engine *engine = device->engine;
    unsigned char id[ENGINE_COMM_ID_BYTES] = {0};
    int status = device_status(device, "comm_load", engine->comm_load(device->context, name, name_bytes), error);
    if (!status && comm->env.rank == 0)
        status = device_status(device, "comm_id", engine->comm_id(device->context, id), error);
    status = comm_agree(comm, status, error);
    if (!status)
        status = comm_broadcast_host(comm, id, sizeof id, 0, error);
    if (status)
        return status;
    status = device_status(device, "comm_open",
                           engine->comm_open(device->context, id, comm->env.rank, comm->env.size), error);
    if (status)
        comm_abort(comm, error ? error->text : "its communicator cannot be made");
    else
        heartbeat_set_check(comm->heartbeat, device_failure, device);
    return status;
}

static int attach_cpu(struct comm *comm, struct error *error)
{
    struct tcp_transport *transport;
    int status = tcp_transport_open(&transport, comm, error);
    if (!status)
        status = cpu_collectives_open(&comm->collectives, comm, transport, error);
    return comm_agree(comm, status, error);
}

static int describe_all(struct comm *comm, const char *plane, struct error *error)
{
    struct device *device = comm->device;
    const size_t size = (size_t)comm->env.size;
    char own[DESCRIBE_BYTES], *all = memory_array(size, DESCRIBE_BYTES, error);
    struct comm_peer *peer = &comm->peer[comm->env.rank];
    if (!all)
        return STATUS_MEMORY;
    snprintf(own, sizeof own, "rank %d: host %s, process %ld, %s: %.256s, %s", comm->env.rank, peer->host,
             peer->process, device->engine->name, device->engine->describe(device->context), plane);
    int status = values_gather(comm, "describe", own, sizeof own, NULL, all, size * DESCRIBE_BYTES, error);
    for (size_t rank = 0; !status && rank < size; rank++) {
        message_text_clean(all + rank * DESCRIBE_BYTES, DESCRIBE_BYTES);
        free(comm->peer[rank].describe);
        comm->peer[rank].describe = memory_string(all + rank * DESCRIBE_BYTES, error);
        status = comm->peer[rank].describe ? STATUS_OK : STATUS_MEMORY;
    }
    free(all);
    return status;
}

int comm_attach(struct comm *comm, struct device *device, struct error *error)
{
    char plane[64] = "TCP";
    if (!comm)
        return STATUS_OK;
    int status = comm_check_equal(comm, "device", device->engine->name, error);
    if (status)
        return status;
    comm->device = device;
    status = device->engine->comm_load ? attach_engine(comm, plane, sizeof plane, error)
                                       : attach_cpu(comm, error);
    return status ? status : describe_all(comm, plane, error);
}

/* ---- device tensors --------------------------------------------------------------------------------------------- */

static int64_t slice_of(const struct comm *comm, int64_t n)
{
    int64_t from, count;
    comm_slice(n, comm->env.size, 0, &from, &count);
    return count;
}

static int tensor_check(struct comm *comm, const char *call, const void *buffer, int64_t n, struct error *error)
{
    if (!comm->device)
        return error_set(error, STATUS_RUNTIME, "%s: no device is attached", call);
    if (n < 0 || (n && !buffer))
        return error_set(error, STATUS_RUNTIME, "%s: %lld elements at %p", call, (long long)n, buffer);
    heartbeat_count_call(comm->heartbeat);
    return STATUS_OK;
}

int comm_reduce_scatter(struct comm *comm, enum dtype dtype, void *buffer, int64_t n, struct error *error)
{
    int status = comm ? tensor_check(comm, "reduce_scatter", buffer, n, error) : STATUS_OK;
    if (!comm || status || !n)
        return status;
    if (comm->collectives)
        return cpu_collectives_queue(comm->collectives, COLLECTIVE_REDUCE_SCATTER, dtype, buffer, n, 0, error);
    struct device *device = comm->device;
    return device_status(device, "reduce_scatter", device->engine->comm_reduce_scatter(device->context, dtype, buffer,
                                                                                       n, slice_of(comm, n)), error);
}

int comm_all_gather(struct comm *comm, enum dtype dtype, void *buffer, int64_t n, struct error *error)
{
    int status = comm ? tensor_check(comm, "all_gather", buffer, n, error) : STATUS_OK;
    if (!comm || status || !n)
        return status;
    if (comm->collectives)
        return cpu_collectives_queue(comm->collectives, COLLECTIVE_ALL_GATHER, dtype, buffer, n, 0, error);
    struct device *device = comm->device;
    return device_status(device, "all_gather", device->engine->comm_all_gather(device->context, dtype, buffer, n,
                                                                               slice_of(comm, n)), error);
}

int comm_all_reduce(struct comm *comm, enum dtype dtype, void *buffer, int64_t n, struct error *error)
{
    if (!comm)
        return STATUS_OK;
    if (comm->collectives) {
        int status = tensor_check(comm, "all_reduce", buffer, n, error);
        return status || !n ? status : cpu_collectives_queue(comm->collectives, COLLECTIVE_ALL_REDUCE, dtype, buffer, n,
                                                             0, error);
    }
    int status = comm_reduce_scatter(comm, dtype, buffer, n, error);
    return status ? status : comm_all_gather(comm, dtype, buffer, n, error);
}

int comm_broadcast(struct comm *comm, void *buffer, size_t bytes, int root, struct error *error)
{
    int status = comm ? tensor_check(comm, "broadcast", buffer, (int64_t)bytes, error) : STATUS_OK;
    if (!comm || status || !bytes)
        return status;
    if (root < 0 || root >= comm->env.size)
        return error_set(error, STATUS_RUNTIME, "broadcast from rank %d of %d", root, comm->env.size);
    if (comm->collectives)
        return cpu_collectives_queue(comm->collectives, COLLECTIVE_BROADCAST, DTYPE_F32, buffer, (int64_t)bytes, root,
                                     error);
    struct device *device = comm->device;
    return device_status(device, "broadcast", device->engine->comm_broadcast(device->context, buffer, bytes, root),
                         error);
}

int comm_wait(struct comm *comm, struct error *error)
{
    if (!comm || !comm->device)
        return STATUS_OK;
    if (comm->collectives)
        return cpu_collectives_wait(comm->collectives, error);
    return device_status(comm->device, "wait", comm->device->engine->comm_wait(comm->device->context), error);
}
