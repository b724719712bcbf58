/* heartbeat.h - the heartbeats of a run: who is alive, who has said goodbye, and the end of this process when a rank is lost.
 *
 * One thread per rank, one connection of every rank to rank 0, a message per second both ways. Rank 0 declares who is
 * lost and tells the others; they declare rank 0. A connection that ends without a goodbye is a loss at once, silence is
 * one after HEARTBEAT_SILENCE_SECONDS. What follows is not an error that travels up, for this rank's threads may be
 * waiting anywhere, in the driver or in a library: the thread writes one line to stderr, removes what a save had begun,
 * and ends the process with STATUS_PEER.
 */
#ifndef FLAT_COMM_HEARTBEAT_H
#define FLAT_COMM_HEARTBEAT_H
#include "../util/error.h"

#define HEARTBEAT_SILENCE_SECONDS 15.0

struct heartbeat;
struct comm_peer;

/* fds: the connections, by rank at rank 0, fds[0] alone at others; taken over, and closed on a failure. peers (by rank)
 * must outlive it. */
int heartbeat_open(struct heartbeat **heartbeat, int rank, int size, const struct comm_peer *peers, const int *fds,
                   struct error *error);
/* Says goodbye and waits, two seconds at most, until that has arrived. */
void heartbeat_close(struct heartbeat *heartbeat);

/* Counts a call that all ranks make. When a rank has said goodbye after fewer calls than this one has begun, nobody will
 * ever answer, and that is a loss too. */
void heartbeat_count_call(struct heartbeat *heartbeat);
/* A connection with `rank` broke: this process ends, and the function does not return. It sleeps VERDICT_SECONDS for rank
 * 0's word, which may name another rank that broke first and ends the process from the heartbeat's thread; without it the
 * thread is asked to declare this one lost, and does the same. */
_Noreturn void heartbeat_exit_lost(struct heartbeat *heartbeat, int rank, const char *reason);
/* The others end with this rank's reason; this one goes on. */
void heartbeat_abort(struct heartbeat *heartbeat, const char *reason);
/* Asked once a second: NULL, or what went wrong with the device's communication. */
void heartbeat_set_check(struct heartbeat *heartbeat, const char *(*check)(void *user), void *user);

#endif
