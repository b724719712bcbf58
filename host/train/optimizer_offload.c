/* optimizer_offload.c - AdamW's arrays in the host's memory: while a chunk of them goes out, the next comes in.
 *
 *     in      chunk k + 1 -------->              chunk k + 2 -------->
 *     ops     update k                           update k + 1
 *     out              chunk k -------->                  chunk k + 1 -------->
 *
 * Chunks take the two buffers in turn. A chunk comes in once the one before it in the same buffer is out, is updated once it is
 * in, and goes out once it is updated; nobody waits for anything else, the host for nothing at all. Cost: every byte of the arrays
 * once each way per step, in both directions at a time, and the updates, a few hundredths of that: bytes / bus + bytes of an update /
 * memory rate.
 */
#include "trainer.h"

/* Slots of signal, each for either buffer. */
enum { SLOT_IN, SLOT_UPDATED = SLOT_IN + OFFLOAD_BUFFERS, SLOT_OUT = SLOT_UPDATED + OFFLOAD_BUFFERS,
       SLOTS_USED = SLOT_OUT + OFFLOAD_BUFFERS };
_Static_assert((int)SLOTS_USED <= (int)ENGINE_SIGNALS, "more slots than an engine has");

static int signal_of(struct device *device, enum engine_stream stream, int slot, struct error *error)
{
    return device_status(device, "signal", device->engine->signal(device->context, stream, slot), error);
}

static int await(struct device *device, enum engine_stream stream, int slot, struct error *error)
{
    return device_status(device, "await", device->engine->await(device->context, stream, slot), error);
}

/* Where a buffer of an array begins. */
static char *buffer_of(const struct trainer *trainer, enum optimizer_array array)
{
    const struct optimizer_offload *offload = &trainer->offload;
    const struct optimizer_array_type type = optimizer_array_type(trainer, array);
    return (char *)offload->device[array] + (size_t)offload->buffer * (size_t)(offload->chunk / type.elements) * type.size;
}

int offload_chunk_begin(struct trainer *trainer, int64_t state, int64_t count, void *array[OPTIMIZER_ARRAYS], struct error *error)
{
    struct device *device = &trainer->device;
    const int buffer = trainer->offload.buffer;
    int status = await(device, ENGINE_STREAM_IN, SLOT_OUT + buffer, error);
    for (enum optimizer_array i = OPTIMIZER_LOW; i <= OPTIMIZER_V_SCALE && !status; i++) {
        size_t bytes;
        const char *part = optimizer_array_part(trainer, i, state, count, &bytes);
        array[i] = part ? buffer_of(trainer, i) : NULL;
        if (part)
            status = device_status(device, "copy_in_beside",
                                   device->engine->copy_in_beside(device->context, array[i], part, bytes), error);
    }
    if (!status)
        status = signal_of(device, ENGINE_STREAM_IN, SLOT_IN + buffer, error);
    return status ? status : await(device, ENGINE_STREAM_OPS, SLOT_IN + buffer, error);
}

int offload_chunk_end(struct trainer *trainer, int64_t state, int64_t count, struct error *error)
{
    struct device *device = &trainer->device;
    const int buffer = trainer->offload.buffer;
    int status = signal_of(device, ENGINE_STREAM_OPS, SLOT_UPDATED + buffer, error);
    if (!status)
        status = await(device, ENGINE_STREAM_OUT, SLOT_UPDATED + buffer, error);
    for (enum optimizer_array i = OPTIMIZER_LOW; i <= OPTIMIZER_V_SCALE && !status; i++) {
        size_t bytes;
        char *part = optimizer_array_part(trainer, i, state, count, &bytes);
        if (part)
            status = device_status(device, "copy_out_beside",
                                   device->engine->copy_out_beside(device->context, part, buffer_of(trainer, i), bytes), error);
    }
    trainer->offload.buffer = (buffer + 1) % OFFLOAD_BUFFERS;
    return status ? status : signal_of(device, ENGINE_STREAM_OUT, SLOT_OUT + buffer, error);
}

int offload_settle(struct trainer *trainer, struct error *error)
{
    int status = STATUS_OK;
    for (int i = 0; i < OFFLOAD_BUFFERS && !status; i++) {
        status = await(&trainer->device, ENGINE_STREAM_OPS, SLOT_OUT + i, error);
        if (!status) /* where a step has but one chunk, the next one's is in the other buffer */
            status = await(&trainer->device, ENGINE_STREAM_IN, SLOT_OUT + i, error);
    }
    return status;
}
