/* nccl.cpp - the functions of NCCL that nccl_api.h names, between processes on this machine.
 *
 * Sums go round the ring as NCCL's do: the part that ends at rank r begins at rank r + 1, and 16-bit types are rounded
 * at every hop. Collectives run when their stream comes to them and wait there for all ranks; groups run as one.
 * Buffers that are not device memory, or overlap otherwise than in place, are refused; ranks that call different things
 * are a fault.
 */
#include "emulation_control.h"
#include "nccl_state.h"
#include "runtime.h"

#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <unistd.h>

namespace emu {

const char *library_path()
{
    Dl_info info;
    return dladdr((const void *)&library_path, &info) && info.dli_fname ? info.dli_fname : "";
}

/* ---- arithmetic ------------------------------------------------------------------------------------------------- */

size_t nccl_type_bytes(int type)
{
    switch (type) {
    case NCCL_UINT8: return 1;
    case NCCL_BFLOAT16: return 2;
    case NCCL_FLOAT32: return 4;
    case NCCL_FLOAT64: return 8;
    default: return 0;
    }
}

size_t nccl_give_bytes(const nccl_call_header &header, int rank, int size)
{
    const size_t bytes = header.count * nccl_type_bytes(header.type);
    switch (header.op) {
    case NCCL_OP_REDUCE_SCATTER: return bytes * (size_t)size;
    case NCCL_OP_BROADCAST: return rank == header.root ? bytes : 0;
    default: return bytes;
    }
}

size_t nccl_take_bytes(const nccl_call_header &header, int rank, int size)
{
    const size_t bytes = header.count * nccl_type_bytes(header.type);
    switch (header.op) {
    case NCCL_OP_ALL_GATHER: return bytes * (size_t)size;
    case NCCL_OP_REDUCE: return rank == header.root ? bytes : 0;
    default: return bytes;
    }
}

static float value_of(float value) { return value; }
static double value_of(double value) { return value; }
static float value_of(__nv_bfloat16 value) { return __bfloat162float(value); }

template <class T> static T rounded(double value) { return (T)value; }
template <> __nv_bfloat16 rounded(double value) { return __float2bfloat16_rn((float)value); }

/* Elements `from` on of what every rank gave, added up on the way from rank end + 1 to rank end. */
template <class T>
static void ring_sum(const std::vector<std::vector<char>> &given, size_t from, size_t count, int end, char *take)
{
    const size_t size = given.size();
    for (size_t i = 0; i < count; i++) {
        T sum{};
        for (size_t hop = 0; hop < size; hop++) {
            T value;
            memcpy(&value, given[((size_t)end + 1 + hop) % size].data() + (from + i) * sizeof(T), sizeof(T));
            sum = hop ? rounded<T>(value_of(sum) + value_of(value)) : value;
        }
        memcpy(take + i * sizeof(T), &sum, sizeof(T));
    }
}

void nccl_combine(const nccl_call_header &header, const std::vector<std::vector<char>> &given, int rank, char *take)
{
    const size_t bytes = header.count * nccl_type_bytes(header.type);
    const size_t from = header.op == NCCL_OP_REDUCE_SCATTER ? (size_t)rank * header.count : 0;
    if (header.op == NCCL_OP_ALL_GATHER) {
        for (size_t other = 0; other < given.size(); other++)
            memcpy(take + other * bytes, given[other].data(), bytes);
    } else if (header.op == NCCL_OP_BROADCAST) {
        memcpy(take, given[(size_t)header.root].data(), bytes);
    } else if (header.op == NCCL_OP_REDUCE_SCATTER || rank == header.root) {
        switch (header.type) {
        case NCCL_FLOAT32: ring_sum<float>(given, from, header.count, rank, take); break;
        case NCCL_FLOAT64: ring_sum<double>(given, from, header.count, rank, take); break;
        default: ring_sum<__nv_bfloat16>(given, from, header.count, rank, take); break;
        }
    }
}

/* ---- calls ------------------------------------------------------------------------------------------------------ */

struct nccl_call {
    ncclComm *comm;
    nccl_call_header header;
    const char *give;
    char *take;
    cudaStream_t stream;
};

static int group_depth;
static std::vector<nccl_call> group;

static void call_run(const nccl_call &call)
{
    const size_t give = nccl_give_bytes(call.header, call.comm->rank, call.comm->size);
    const size_t take = nccl_take_bytes(call.header, call.comm->rank, call.comm->size);
    device_open open;
    const char *reason = give ? check_host_read(call.give, give) : nullptr;
    if (reason)
        fprintf(stderr, "emulation: note: a collective of %zu bytes reads %s\n", give, reason);
    hub_exchange(call.comm, call.header, call.give, call.take);
    if (take)
        check_host_write(call.take, take);
}

/* Both buffers are device memory, and they are apart, or in place: `in_place` is where `take` must then be. */
static bool buffers_check(const nccl_call &call, const char *in_place, const char *name)
{
    const size_t give = nccl_give_bytes(call.header, call.comm->rank, call.comm->size);
    const size_t take = nccl_take_bytes(call.header, call.comm->rank, call.comm->size);
    if ((give && !is_device(call.give, give)) || (take && !is_device(call.take, take))) {
        misuse(cudaErrorInvalidValue, "%s: a buffer is not device memory, or not all of it", name);
        return false;
    }
    if (give && take && call.take != in_place && call.take < call.give + give && call.give < call.take + take) {
        misuse(cudaErrorInvalidValue, "%s: the buffers overlap and are not in place", name);
        return false;
    }
    return true;
}

static int call_submit(nccl_call call, const char *in_place, const char *name)
{
    if (!call.comm || call.header.root < 0 || call.header.root >= call.comm->size || !nccl_type_bytes(call.header.type) ||
        (call.header.type == NCCL_UINT8 && call.header.op != NCCL_OP_BROADCAST)) {
        misuse(cudaErrorInvalidValue, "%s: no communicator, a root beyond it, or a type that is not emulated", name);
        return NCCL_INVALID_ARGUMENT;
    }
    if (!buffers_check(call, in_place, name))
        return NCCL_INVALID_ARGUMENT;
    call.header.number = ++call.comm->calls;
    if (group_depth) {
        group.push_back(call);
        return NCCL_SUCCESS;
    }
    const cudaError_t status = stream_enqueue(call.stream, [call] {
        call_run(call);
        return true;
    });
    return status == cudaSuccess ? NCCL_SUCCESS : NCCL_SYSTEM_ERROR;
}

} // namespace emu

using namespace emu;

#define NCCL_EXPORT extern "C" __attribute__((visibility("default")))

NCCL_EXPORT int ncclGetVersion(int *version)
{
    *version = 21300;
    return NCCL_SUCCESS;
}

NCCL_EXPORT int ncclGetUniqueId(nccl_id *id)
{
    return getentropy(id->internal, sizeof id->internal) ? NCCL_SYSTEM_ERROR : NCCL_SUCCESS;
}

NCCL_EXPORT int ncclCommInitRank(ncclComm **comm, int size, nccl_id id, int rank)
{
    *comm = nullptr;
    if (size < 1 || rank < 0 || rank >= size)
        return NCCL_INVALID_ARGUMENT;
    ncclComm *made = new ncclComm{};
    made->rank = rank;
    made->size = size;
    const int result = hub_open(made, id);
    if (result == NCCL_SUCCESS) {
        *comm = made;
        return result;
    }
    hub_close(made);
    delete made;
    return result;
}

NCCL_EXPORT int ncclCommAbort(ncclComm *comm)
{
    hub_close(comm);
    delete comm;
    return NCCL_SUCCESS;
}

NCCL_EXPORT int ncclCommDestroy(ncclComm *comm)
{
    streams_drain();
    return ncclCommAbort(comm);
}

NCCL_EXPORT int ncclCommGetAsyncError(ncclComm *comm, int *result)
{
    *result = comm->async;
    return NCCL_SUCCESS;
}

NCCL_EXPORT const char *ncclGetErrorString(int result)
{
    switch (result) {
    case NCCL_SUCCESS: return "no error";
    case NCCL_SYSTEM_ERROR: return "unhandled system error";
    case NCCL_INVALID_ARGUMENT: return "invalid argument";
    case NCCL_REMOTE_ERROR: return "remote process exited or there was a network error";
    default: return "unknown result code";
    }
}

NCCL_EXPORT const char *ncclGetLastError(ncclComm *)
{
    return emu_fault_text();
}

NCCL_EXPORT int ncclGroupStart(void)
{
    group_depth++;
    return NCCL_SUCCESS;
}

NCCL_EXPORT int ncclGroupEnd(void)
{
    if (!group_depth) {
        misuse(cudaErrorInvalidValue, "ncclGroupEnd without ncclGroupStart");
        return NCCL_INVALID_ARGUMENT;
    }
    if (--group_depth || group.empty())
        return NCCL_SUCCESS;
    auto calls = std::make_shared<std::vector<nccl_call>>(std::move(group));
    group.clear();
    for (const nccl_call &call : *calls)
        if (call.stream != calls->front().stream) {
            misuse(cudaErrorInvalidValue, "a group of collectives on several streams is not emulated");
            return NCCL_INVALID_ARGUMENT;
        }
    const cudaError_t status = stream_enqueue(calls->front().stream, [calls] {
        for (const nccl_call &call : *calls)
            call_run(call);
        return true;
    });
    return status == cudaSuccess ? NCCL_SUCCESS : NCCL_SYSTEM_ERROR;
}

NCCL_EXPORT int ncclReduceScatter(const void *send, void *receive, size_t count, int type, int op, ncclComm *comm,
                                  cudaStream_t stream)
{
    const nccl_call call = {comm, {NCCL_OP_REDUCE_SCATTER, type, 0, 0, count, 0}, (const char *)send, (char *)receive,
                            stream};
    if (op != NCCL_SUM)
        return NCCL_INVALID_ARGUMENT;
    return call_submit(call, call.give + (size_t)comm->rank * count * nccl_type_bytes(type), "ncclReduceScatter");
}

NCCL_EXPORT int ncclReduce(const void *send, void *receive, size_t count, int type, int op, int root, ncclComm *comm,
                           cudaStream_t stream)
{
    const nccl_call call = {comm, {NCCL_OP_REDUCE, type, root, 0, count, 0}, (const char *)send, (char *)receive,
                            stream};
    return op == NCCL_SUM ? call_submit(call, call.give, "ncclReduce") : (int)NCCL_INVALID_ARGUMENT;
}

NCCL_EXPORT int ncclAllGather(const void *send, void *receive, size_t count, int type, ncclComm *comm,
                              cudaStream_t stream)
{
    const nccl_call call = {comm, {NCCL_OP_ALL_GATHER, type, 0, 0, count, 0}, (const char *)send, (char *)receive,
                            stream};
    return call_submit(call, call.give - (size_t)comm->rank * count * nccl_type_bytes(type), "ncclAllGather");
}

NCCL_EXPORT int ncclBroadcast(const void *send, void *receive, size_t count, int type, int root, ncclComm *comm,
                              cudaStream_t stream)
{
    const nccl_call call = {comm, {NCCL_OP_BROADCAST, type, root, 0, count, 0}, (const char *)send, (char *)receive,
                            stream};
    return call_submit(call, call.give, "ncclBroadcast");
}
