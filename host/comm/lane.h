/* lane.h - collectives on host memory, in a thread of their own, so that they run while the engine computes.
 *
 * reduce_scatter: every rank sends slice j to rank j, which adds them up in the order of ranks: one order, whatever
 * arrives first, so the same bits every time. all_gather: the own slice to all. Per rank (size - 1) / size of the
 * buffer goes out and comes in for each of the two, as in a ring. 16-bit types are added in float and rounded once.
 */
#ifndef FLAT_COMM_LANE_H
#define FLAT_COMM_LANE_H
#include "../../kernels/engine/op.h"
#include "../util/error.h"
#include "transport.h"

struct comm;
struct lane;

enum lane_op { LANE_REDUCE_SCATTER, LANE_ALL_GATHER, LANE_ALL_REDUCE, LANE_BROADCAST, LANE_OPS };

/* Takes the transport over, and closes it on a failure too. */
int lane_open(struct lane **lane, struct comm *comm, const struct transport *transport, struct error *error);
void lane_close(struct lane *lane);
/* n elements (bytes for LANE_BROADCAST). Returns at once; a failure comes back from lane_join. */
int lane_queue(struct lane *lane, enum lane_op op, enum dtype dtype, void *buffer, int64_t n, int root,
               struct error *error);
int lane_join(struct lane *lane, struct error *error);

/* mesh.c: a connection between every two ranks of comm. */
int mesh_open(struct transport *transport, struct comm *comm, struct error *error);

#endif
