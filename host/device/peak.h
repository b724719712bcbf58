/* peak.h - what the matrix units of a device can do, by its data sheet: what a run's arithmetic is a share of. */
#ifndef FLAT_DEVICE_PEAK_H
#define FLAT_DEVICE_PEAK_H

/* Dense bf16 flops per second, sums in float32, of a GPU of that name (as CUDA prints it, followed by anything). 0: unknown, as
 * every CPU is: how many products its cores start per cycle, and at what clock, nothing on it says. */
double peak_flops(const char *name);

#endif
