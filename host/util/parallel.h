/* parallel.h - independent parts of one piece of host work, side by side. */
#ifndef FLAT_UTIL_PARALLEL_H
#define FLAT_UTIL_PARALLEL_H
#include <stdint.h>

enum { PARALLEL_THREADS_MAX = 64 };

/* Calls work(user, from, to) for parts that make up [0, count), each of at least `least`, on as many threads as this process may use
 * processors; returns when all are done. What work writes must depend on from and to alone. Where a thread cannot be had, the
 * caller's does its part. */
void parallel_parts(int64_t count, int64_t least, void (*work)(void *user, int64_t from, int64_t to), void *user);

#endif
