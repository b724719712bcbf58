/* comm_ranks.h - several processes as the ranks of a run, on this machine, with the environment of a launcher. */
#ifndef FLAT_TESTS_COMM_RANKS_H
#define FLAT_TESTS_COMM_RANKS_H
#include <sys/types.h>

enum { RANKS_MAX = 8 };
#define RANKS_SECONDS 300 /* to wait for ranks: only a hang comes to it, for each wait of theirs ends long before */
#define RANKS_SECRET "what-only-the-ranks-of-a-test-know"

struct ranks {
    int size, port, held; /* held: the socket that keeps the port for them; -1: none */
    pid_t pid[RANKS_MAX];
    int status[RANKS_MAX];     /* exit code; 128 + signal when it was killed */
    double seconds[RANKS_MAX]; /* of its end, on clock_seconds */
    char *text[RANKS_MAX];     /* what it said, stdout and stderr together */
    char folder[256];
};

/* Keeps a port of 127.0.0.1 from everybody but a rank 0: *port, or any where that is 0. A socket to close, which does not
 * listen; -1 where the port is somebody's. */
int ranks_port_hold(int *port);
/* Starts `size` copies of argv, each with RANK and its like, and what `extra` changes: "NAME=value ..." or NULL; the
 * value %r is the rank, an empty one unsets the name. */
void ranks_start(struct ranks *ranks, int size, const char *const *argv, const char *extra);
/* On a port that the caller holds, or that other ranks were started on. */
void ranks_start_at(struct ranks *ranks, int port, int size, const char *const *argv, const char *extra);
/* Until every rank has said `text`; the test fails after RANKS_SECONDS. */
void ranks_await(const struct ranks *ranks, const char *text);
/* Waits for those that still run; whoever takes longer than `seconds` is killed, and the test fails. */
void ranks_wait(struct ranks *ranks, double seconds);
/* The same without waiting for the rank `stopped`, which is killed when the others have ended; -1: for all. */
void ranks_wait_others(struct ranks *ranks, int stopped, double seconds);
/* Starts and waits; fails unless every rank ends with `status`. */
void ranks_run(struct ranks *ranks, int size, const char *const *argv, const char *extra, int status);
void ranks_free(struct ranks *ranks);
/* Fails unless rank's text has `wanted` in it. */
void ranks_expect(const struct ranks *ranks, int rank, int status, const char *wanted);
/* Fails unless the rank ended with `status` and left the error line to rank 0. */
void ranks_silent(const struct ranks *ranks, int rank, int status);
/* The scenario "collectives" of comm_rank.h on `size` ranks, twice: all end well, with the same bits both times. */
void ranks_collectives(const char *program, const char *device, int size);

#endif
