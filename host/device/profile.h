/* profile.h - where the time of a run goes, op by op, against what the device can do.
 *
 * With a profile attached, every op is timed between two synchronisations (on a GPU that costs the overlap between
 * launches: shares are right, the total is an upper bound). Bytes and flops are those of the rooms' cards. The two
 * limits, a copy and a matrix product of 1024 x 1024 x 1024, are measured on the same device when it is attached.
 */
#ifndef FLAT_DEVICE_PROFILE_H
#define FLAT_DEVICE_PROFILE_H
#include <stdint.h>
#include <stdio.h>

#include "../../kernels/engine.h"
#include "../util/error.h"

#define X(op, arguments) ENGINE_OP_##op,
enum engine_op { ENGINE_OPS(X) ENGINE_OP_COUNT };
#undef X

struct device;

struct profile_row {
    int64_t calls;
    double seconds, bytes, flops;
};

struct profile {
    struct profile_row row[ENGINE_OP_COUNT];
    double copy_bytes_per_second, flops_per_second; /* the limits */
    double attached;                                /* clock_seconds */
    double op_started;
    int64_t visible_keys;                           /* of the batch at hand: attention's cost is in device memory */
};

/* Measures the limits and attaches the profile to the device; the caller keeps it alive until the device is closed. */
int profile_attach(struct profile *profile, struct device *device, struct error *error);
/* Adds one op that took until now. */
void profile_add(struct profile *profile, enum engine_op op, const void *arguments);
/* A table for people, slowest first, with what no op accounts for. */
void profile_print(const struct profile *profile, FILE *stream);

#endif
