/* nccl_api.h - the part of NCCL's binary interface that nccl.cu uses, as a table of functions found at run time: a
 * build needs no NCCL, and neither does a run on one GPU. The numbers are those of nccl.h, the same in every NCCL 2
 * since bfloat16 came with 2.10; tests/emulation/nccl_check.cpp compares all of it with an installed nccl.h.
 */
#ifndef FLAT_KERNELS_NCCL_API_H
#define FLAT_KERNELS_NCCL_API_H
#include "gpu.h"

struct ncclComm;

struct nccl_id {
    char internal[128];
};

enum {
    NCCL_SUCCESS = 0,
    NCCL_SYSTEM_ERROR = 2,
    NCCL_INVALID_ARGUMENT = 4,
    NCCL_REMOTE_ERROR = 6,
    NCCL_IN_PROGRESS = 7
};
enum { NCCL_UINT8 = 1, NCCL_FLOAT16 = 6, NCCL_FLOAT32 = 7, NCCL_FLOAT64 = 8, NCCL_BFLOAT16 = 9 };
enum { NCCL_SUM = 0 };

/* X(return type, name in nccl.h, arguments) */
#define NCCL_API(X)                                                                                               \
    X(int, ncclGetVersion, (int *version))                                                                        \
    X(int, ncclGetUniqueId, (struct nccl_id * id))                                                                \
    X(int, ncclCommInitRank, (struct ncclComm * *comm, int size, struct nccl_id id, int rank))                    \
    X(int, ncclCommDestroy, (struct ncclComm * comm))                                                             \
    X(int, ncclCommAbort, (struct ncclComm * comm))                                                               \
    X(int, ncclCommGetAsyncError, (struct ncclComm * comm, int *result))                                          \
    X(const char *, ncclGetErrorString, (int result))                                                             \
    X(const char *, ncclGetLastError, (struct ncclComm * comm))                                                   \
    X(int, ncclGroupStart, (void))                                                                                \
    X(int, ncclGroupEnd, (void))                                                                                  \
    X(int, ncclReduceScatter, (const void *send, void *receive, size_t count, int type, int op,                   \
                               struct ncclComm *comm, cudaStream_t stream))                                       \
    X(int, ncclReduce, (const void *send, void *receive, size_t count, int type, int op, int root,                \
                        struct ncclComm *comm, cudaStream_t stream))                                              \
    X(int, ncclAllGather, (const void *send, void *receive, size_t count, int type, struct ncclComm *comm,        \
                           cudaStream_t stream))                                                                  \
    X(int, ncclBroadcast, (const void *send, void *receive, size_t count, int type, int root,                     \
                           struct ncclComm *comm, cudaStream_t stream))

struct nccl_api {
#define X(type, name, arguments) type(*name) arguments;
    NCCL_API(X)
#undef X
};

#endif
