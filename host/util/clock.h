/* clock.h - time for measuring, and for people. */
#ifndef FLAT_UTIL_CLOCK_H
#define FLAT_UTIL_CLOCK_H
#include <stddef.h>

/* Seconds of a clock that never jumps; only differences mean something. */
double clock_seconds(void);
/* Seconds since 1970 (UTC), for logs. */
double clock_wall(void);
/* Lets so much time pass; a signal may cut it short. */
void clock_sleep(double seconds);
/* "0:07", "12:34" or "3:02:01" in a caller's buffer; "--:--" when seconds is negative or not finite. */
void clock_duration(double seconds, char *out, size_t out_bytes);

#endif
