/* comm.h - the ranks of a run: who they are, sums and copies between them, and what happens when one is lost.
 *
 * Two planes. The control plane is TCP between the ranks' hosts: rendezvous, agreement on what is run, heartbeats,
 * small host values, the verdict "a rank is lost". The data plane moves tensors in device memory: NCCL where the engine
 * has it, otherwise (CPU engines: device memory is host memory) TCP between every two ranks.
 *
 * Order and bits: every rank makes the same calls in the same order. Sums are taken in one fixed order, so that the
 * same world size gives the same bits, and reduce_scatter followed by all_gather gives the bits of all_reduce.
 *
 * Loss of a rank: a heartbeat that stays away, or a connection that breaks without a goodbye, ends every other rank
 * with one line naming host and rank and exit code STATUS_PEER, whatever the rank was waiting in.
 *
 * A NULL comm is a run of one rank: every function then returns at once, with nothing to do.
 */
#ifndef FLAT_COMM_COMM_H
#define FLAT_COMM_COMM_H
#include "../device/device.h"
#include "rank_env.h"

struct comm;

/* Meets the other ranks of env within env->timeout_seconds; a missing rank is named. size 1 gives *comm = NULL. */
int comm_open(struct comm **comm, const struct rank_env *env, struct error *error);
/* Gives the data plane its device, which must outlive the comm. */
int comm_attach(struct comm *comm, struct device *device, struct error *error);
/* Says goodbye to the others: from here on the end of this process is no loss. */
void comm_close(struct comm *comm);

int comm_rank(const struct comm *comm); /* 0 for NULL */
int comm_size(const struct comm *comm); /* 1 for NULL */
/* "rank 3: host gpu7, process 4711, cuda: NVIDIA H200 ..., NCCL 2.28.9" once a device is attached. */
const char *comm_describe(const struct comm *comm, int rank);

/* ---- host values: these wait for all ranks ----------------------------------------------------------------------- */

/* STATUS_USAGE on every rank unless all give the same text; rank 0's line names `what` and the first rank that differs. */
int comm_check_equal(struct comm *comm, const char *what, const char *text, struct error *error);
/* Sums, in the order of ranks. */
int comm_sum(struct comm *comm, double *values, int count, struct error *error);
int comm_max(struct comm *comm, int64_t *value, struct error *error);
/* Rank root's bytes to all. */
int comm_broadcast_host(struct comm *comm, void *bytes, size_t count, int root, struct error *error);
int comm_barrier(struct comm *comm, struct error *error);
/* The ranks go on together or fail together: every rank passes its own status and error and gets the status of the lowest
 * failing rank. Rank 0 has the line, which names that rank; on the others it is empty, so that it is printed once. */
int comm_agree(struct comm *comm, int status, struct error *error);
/* For a failure that all ranks have anyway: empties the line on all but rank 0. Returns status. */
int comm_report_once(const struct comm *comm, int status, struct error *error);
/* The others end at once with STATUS_PEER, naming this rank and reason; for a failure that no comm_agree follows. */
void comm_abort(struct comm *comm, const char *reason);

/* ---- device tensors ---------------------------------------------------------------------------------------------- *
 * Queued: they begin after everything queued on the device so far, and the device goes on meanwhile; comm_wait makes
 * what is queued on the device later wait for all of them. The buffers must not be touched in between.              */

/* The slice of n elements that a rank owns: n / size of them, rounded down to a multiple of 256 (0 where n is small);
 * the last rank has the rest too, less than 256 * size elements. So a reduce-scatter of equal parts does almost all. */
static inline void comm_slice(int64_t n, int size, int rank, int64_t *from, int64_t *count)
{
    const int64_t slice = size == 1 ? n : n / size / 256 * 256;
    *from = rank * slice;
    *count = rank == size - 1 ? n - *from : slice;
}
/* In place: this rank's slice becomes the sum over ranks; the rest of buffer is left undefined. */
int comm_reduce_scatter(struct comm *comm, enum dtype dtype, void *buffer, int64_t n, struct error *error);
/* In place: every rank's slice to all. */
int comm_all_gather(struct comm *comm, enum dtype dtype, void *buffer, int64_t n, struct error *error);
/* In place: bit for bit reduce_scatter, then all_gather. */
int comm_all_reduce(struct comm *comm, enum dtype dtype, void *buffer, int64_t n, struct error *error);
int comm_broadcast(struct comm *comm, void *buffer, size_t bytes, int root, struct error *error);
int comm_wait(struct comm *comm, struct error *error);

#endif
