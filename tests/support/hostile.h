/* hostile.h - for tests that play a stranger, or a rank that has gone wrong, against real ranks: processes of the test
 * program itself, which is started as "PROGRAM rank collectives cpu" (comm_rank.h).
 */
#ifndef FLAT_TESTS_HOSTILE_H
#define FLAT_TESTS_HOSTILE_H
#include <stdint.h>

#include "../../host/comm/handshake.h"
#include "../../host/comm/internal.h"
#include "../../host/util/clock.h"
#include "comm_ranks.h"

#define NASTY "\x1b[2J\x1b]0;x\x07\xff\xfe\xc2\x9b\nerror: all is well"

/* Before the first start: the test program. */
void hostile_program(const char *self);
/* A deadline that only a hang comes to. */
double soon(void);

/* Rank 0 of two; rank 1 comes later, or is played. Rank 1 of two, whose rank 0 is at port. extra as in ranks_start. */
void root_start(struct ranks *root, const char *extra);
void other_start(struct ranks *other, int port, const char *extra);
/* Waits for the one rank: it must end with that status, its text in what it said, and that in printable lines. */
void ended(struct ranks *ranks, const char *what, int status, const char *text);

/* Bytes that differ from call to call and are the same in every run. */
void noise(void *bytes, size_t count);
struct comm_hello hello_of(int rank, int size, int channel);
int connected(int port);

#endif
