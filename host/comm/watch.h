/* watch.h - the heartbeats of a run: who is alive, who has taken leave, and the end of this process when one is lost.
 *
 * One thread a rank, one connection of every rank to rank 0, a message a second both ways. Rank 0 pronounces who is
 * lost and tells the others; they pronounce rank 0. A connection that ends without a goodbye is a loss at once, silence
 * is one after WATCH_SILENCE_SECONDS. What follows is not an error that travels up, for this rank's threads may be
 * waiting anywhere, in the driver or in a library: the thread writes one line to stderr, removes what a save had begun,
 * and ends the process with STATUS_PEER.
 */
#ifndef FLAT_COMM_WATCH_H
#define FLAT_COMM_WATCH_H
#include "../util/error.h"

#define WATCH_SILENCE_SECONDS 15.0

struct watch;
struct comm_peer;

/* fds: the connections, by rank at rank 0, fds[0] alone at others; they are the watch's from here on, and so are closed
 * on a failure. peers (by rank) must outlive it. */
int watch_open(struct watch **watch, int rank, int size, const struct comm_peer *peers, const int *fds,
               struct error *error);
/* Takes leave and waits, two seconds at most, until that has arrived. */
void watch_close(struct watch *watch);

/* Counts a call that all ranks make. When a rank has taken leave after fewer calls than this one has begun, nobody will
 * ever answer, and that is a loss too. */
void watch_call(struct watch *watch);
/* A connection with `rank` broke. Waits for rank 0's word, which may name another rank that broke first; without it
 * this one is pronounced lost. */
_Noreturn void watch_lose(struct watch *watch, int rank, const char *reason);
/* The others end with this rank's reason; this one goes on. */
void watch_abort(struct watch *watch, const char *reason);
/* Asked once a second: NULL, or what went wrong with the device's communication. */
void watch_check(struct watch *watch, const char *(*check)(void *user), void *user);

#endif
