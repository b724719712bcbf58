/* parallel.c - see parallel.h. */
#include "parallel.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>

struct part {
    void (*work)(void *user, int64_t from, int64_t to);
    void *user;
    int64_t from, to;
    pthread_t thread;
    bool started;
};

static void *part_run(void *argument)
{
    const struct part *part = argument;
    part->work(part->user, part->from, part->to);
    return NULL;
}

static int processors(void)
{
    cpu_set_t set;
    const int count = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set); /* of more than CPU_SETSIZE: one */
    return count < PARALLEL_THREADS_MAX ? count : PARALLEL_THREADS_MAX;
}

void parallel_parts(int64_t count, int64_t least, void (*work)(void *user, int64_t from, int64_t to), void *user)
{
    struct part part[PARALLEL_THREADS_MAX];
    const int64_t most = count / least, threads = processors();
    const int parts = (int)(most < 1 ? 1 : most < threads ? most : threads);
    for (int i = 0; i < parts; i++)
        part[i] = (struct part){work, user, count * i / parts, count * (i + 1) / parts};
    for (int i = 1; i < parts; i++)
        part[i].started = !pthread_create(&part[i].thread, NULL, part_run, &part[i]);
    part_run(&part[0]);
    for (int i = 1; i < parts; i++) {
        if (part[i].started)
            pthread_join(part[i].thread, NULL);
        else
            part_run(&part[i]);
    }
}
