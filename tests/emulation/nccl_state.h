/* nccl_state.h - what nccl.cpp (the functions) and nccl_hub.cpp (the bytes between processes) share. */
#ifndef FLAT_EMULATION_NCCL_STATE_H
#define FLAT_EMULATION_NCCL_STATE_H

#include "engine/nccl_api.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

struct ncclComm {
    int rank, size;
    std::vector<int> sockets;  /* rank 0: by rank; others: sockets[0] */
    std::atomic<int> async;    /* what ncclCommGetAsyncError says */
    uint64_t calls;
};

namespace emu {

enum nccl_op : int32_t { NCCL_OP_REDUCE_SCATTER = 1, NCCL_OP_REDUCE, NCCL_OP_ALL_GATHER, NCCL_OP_BROADCAST };

/* A collective as all ranks must call it. */
struct nccl_call_header {
    int32_t op, type, root, unused;
    uint64_t count, number;
};

size_t nccl_type_bytes(int type);
/* Bytes that `rank` gives to a collective and takes from it. */
size_t nccl_give_bytes(const nccl_call_header &header, int rank, int size);
size_t nccl_take_bytes(const nccl_call_header &header, int rank, int size);
/* What `rank` takes, out of what every rank gave. */
void nccl_combine(const nccl_call_header &header, const std::vector<std::vector<char>> &given, int rank, char *take);

/* Meets the other processes that hold the same id; an NCCL result. */
int hub_open(ncclComm *comm, const nccl_id &id);
void hub_close(ncclComm *comm);
/* One collective, with everybody. A rank that is gone leaves this one waiting, as it does over NVLink. */
void hub_exchange(ncclComm *comm, const nccl_call_header &header, const char *give, char *take);

} // namespace emu

#endif
