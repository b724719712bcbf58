/* clock.c - see clock.h. */
#include "clock.h"

#include <stdio.h>
#include <time.h>

static double clock_read(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now); /* cannot fail for the two clocks of this file */
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

double clock_seconds(void)
{
    return clock_read(CLOCK_MONOTONIC);
}

double clock_wall(void)
{
    return clock_read(CLOCK_REALTIME);
}

void clock_sleep(double seconds)
{
    const time_t whole = (time_t)seconds;
    nanosleep(&(struct timespec){whole, (long)(1e9 * (seconds - (double)whole))}, NULL);
}

void clock_duration(double seconds, char *out, size_t out_bytes)
{
    if (!(seconds >= 0 && seconds < 1e12)) {
        snprintf(out, out_bytes, "--:--");
        return;
    }
    long long whole = (long long)(seconds + 0.5);
    if (whole < 3600)
        snprintf(out, out_bytes, "%lld:%02lld", whole / 60, whole % 60);
    else
        snprintf(out, out_bytes, "%lld:%02lld:%02lld", whole / 3600, whole / 60 % 60, whole % 60);
}
