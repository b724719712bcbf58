/* profile.c - the marks around every op and what they add up to; see profile.h. */
#include "profile.h"

#include "device.h"

/* What a call moves and computes, by the op's contract. */
static struct op_cost call_cost(enum engine_op op, const void *arguments)
{
    switch (op) {
#define X(op, args) \
    case ENGINE_OP_##op: return op##_cost(arguments);
        ENGINE_OPS(X)
#undef X
    default: return (struct op_cost){0};
    }
}

int profile_marks_read(struct profile *profile, struct device *device)
{
    int op_status = OP_OK;
    for (int i = 0; i < profile->pendings && op_status == OP_OK; i++) {
        double seconds = 0;
        op_status = device->engine->elapsed(device->context, 2 * i, 2 * i + 1, &seconds);
        profile->row[profile->pending[i]].seconds += seconds;
    }
    profile->pendings = 0;
    return op_status;
}

int profile_op_begin(struct profile *profile, struct device *device)
{
    return device->engine->mark(device->context, 2 * profile->pendings);
}

int profile_op_end(struct profile *profile, struct device *device, enum engine_op op, const void *arguments)
{
    int op_status = device->engine->mark(device->context, 2 * profile->pendings + 1);
    if (op_status != OP_OK)
        return op_status;
    const struct op_cost cost = call_cost(op, arguments);
    struct profile_row *row = &profile->row[op];
    row->calls++;
    row->bytes += cost.bytes;
    row->flops += cost.flops;
    profile->pending[profile->pendings++] = op;
    return profile->pendings == PROFILE_PENDING ? profile_marks_read(profile, device) : OP_OK;
}
