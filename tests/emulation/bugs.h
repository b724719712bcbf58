/* bugs.h - the table of kernels with a planted bug; each has a correct twin, on which no check may report anything. */
#ifndef FLAT_EMULATION_BUGS_H
#define FLAT_EMULATION_BUGS_H
#include "engine/gpu.h"

enum { BUG_ELEMENTS = 1024 };

/* in: BUG_ELEMENTS floats; out: as many, zero; counters: two zeros. All in device memory. */
typedef cudaError_t (*bug_launch)(const float *in, float *out, unsigned *counters, bool planted);

struct bug {
    const char *name;
    bug_launch launch;
};

extern const struct bug bugs[];
extern const int bugs_count;

#endif
