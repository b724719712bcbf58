/* profile.h - where the time of a run goes, op by op, against what the device can do.
 *
 * With a profile attached, every op lies between two marks of the device's time, which are read in batches: the device
 * is not held up, and the time of an op on a GPU includes what it waited for the host. Bytes and flops are those of the
 * ops' contracts. The two limits, a copy and a matrix product of 1024 x 1024 x 1024, are measured on the same device when
 * it is attached.
 */
#ifndef FLAT_DEVICE_PROFILE_H
#define FLAT_DEVICE_PROFILE_H
#include <stdint.h>
#include <stdio.h>

#include "../../kernels/engine/engine.h"
#include "../util/error.h"

#define X(op, arguments) ENGINE_OP_##op,
enum engine_op { ENGINE_OPS(X) ENGINE_OP_COUNT };
#undef X

struct device;

struct profile_row {
    int64_t calls;
    double seconds, bytes, flops;
};

enum { PROFILE_PENDING = ENGINE_MARKS / 2 };

struct profile {
    struct profile_row row[ENGINE_OP_COUNT];
    double copy_bytes_per_second, flops_per_second; /* the limits */
    double attached;                                /* clock_seconds */
    enum engine_op pending[PROFILE_PENDING];        /* ops whose marks have not been read: op i's are 2 i and 2 i + 1 */
    int pendings;
};

/* Measures the limits and attaches the profile to the device; the caller keeps it alive until the device is closed. */
int profile_attach(struct profile *profile, struct device *device, struct error *error);
/* Before and after an op: the marks, and what its contract says of it. An op_status. */
int profile_op_begin(struct profile *profile, struct device *device);
int profile_op_end(struct profile *profile, struct device *device, enum engine_op op, const void *arguments);
/* Reads the marks that have not been read yet, and waits for them. An op_status. */
int profile_marks_read(struct profile *profile, struct device *device);
/* The same with a status; before the rows are looked at. */
int profile_finish(struct profile *profile, struct device *device, struct error *error);
/* A table for people, slowest first, with what no op accounts for. */
void profile_print(const struct profile *profile, FILE *stream);

#endif
