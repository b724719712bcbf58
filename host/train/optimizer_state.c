/* optimizer_state.c - the arrays that AdamW keeps: memory for them, on the device or in the host's (offload_optimizer), and reading and
 * writing them, wherever they lie and whichever rank has them.
 */
#include <stdlib.h>
#include <string.h>

#include "../../kernels/engine/host_memory.h"
#include "../util/memory.h"
#include "trainer.h"

enum { STAGING = 1 << 20, CHUNK = 1 << 21 };

/* Elements of the state that travel at a time. */
static int64_t staging_elements(const struct trainer *trainer)
{
    const int64_t elements = model_trainable(&trainer->model).elements;
    return elements < STAGING ? elements : STAGING;
}

static bool has_scales(const struct trainer *trainer)
{
    return trainer->options->optimizer.optimizer_states == ADAMW_8BIT;
}

static int64_t blocks_of(int64_t elements)
{
    return (elements + DYNAMIC_BLOCK - 1) / DYNAMIC_BLOCK;
}

/* Bytes of a moment as it is stored. */
static size_t moment_size(const struct trainer *trainer)
{
    switch (trainer->options->optimizer.optimizer_states) {
    case ADAMW_BF16: return sizeof(uint16_t);
    case ADAMW_8BIT: return sizeof(uint8_t);
    default: return dtype_size(dtype_stat(trainer->model.dtype));
    }
}

/* An array in the device's memory, or buffers for chunks of it there and all in the host's. */
static int array_plan(struct trainer *trainer, enum optimizer_array array, const char *name, int64_t count, size_t size, void **slot,
                      struct error *error)
{
    struct optimizer_offload *offload = &trainer->offload;
    const int64_t shared = array >= OPTIMIZER_M_SCALE ? DYNAMIC_BLOCK : 1; /* elements of the arena that have one number */
    if (!offload->chunk)
        return memory_plan_add(&trainer->model.plan, MEMORY_OPTIMIZER, name, count, size, slot, error);
    offload->bytes += ((size_t)count * size + 63) & ~(size_t)63;
    return memory_plan_add(&trainer->model.plan, MEMORY_OPTIMIZER, name, count ? OFFLOAD_BUFFERS * (offload->chunk / shared) : 0, size,
                           &offload->device[array], error);
}

/* Bytes of an array, and where it is to lie. */
static size_t array_bytes(struct trainer *trainer, enum optimizer_array array, void ***slot)
{
    const int64_t elements = trainer->shards.state_elements;
    void **const slots[] = {(void **)&trainer->model.master.low, &trainer->m, &trainer->v, (void **)&trainer->m_scale,
                            (void **)&trainer->v_scale};
    *slot = slots[array];
    switch (array) {
    case OPTIMIZER_LOW: return trainer->model.dtype == DTYPE_BF16 ? (size_t)elements * sizeof(uint16_t) : 0;
    case OPTIMIZER_M:
    case OPTIMIZER_V: return (size_t)elements * moment_size(trainer);
    default: return has_scales(trainer) ? (size_t)blocks_of(elements) * sizeof(float) : 0;
    }
}

int optimizer_plan(struct trainer *trainer, struct error *error)
{
    static const char *const name[] = {"master weights, lower halves", "AdamW m", "AdamW v", "scales of m", "scales of v"};
    struct model *model = &trainer->model;
    struct memory_plan *plan = &model->plan;
    const int64_t elements = trainer->shards.state_elements, part = arena_padded(elements / (8 * OFFLOAD_BUFFERS) + 1);
    if (trainer->options->optimizer.offload_optimizer == OFFLOAD_CPU)
        trainer->offload.chunk = part < CHUNK ? part : CHUNK;
    model->master.on_host = trainer->offload.chunk > 0;
    int status = STATUS_OK;
    /* updates of unlearning are far below the spacing of bf16: without the rest of the floats they would be rounded away */
    for (enum optimizer_array i = OPTIMIZER_LOW; i <= OPTIMIZER_V_SCALE && !status; i++) {
        const struct optimizer_array_type type = optimizer_array_type(trainer, i);
        void **slot;
        const size_t bytes = array_bytes(trainer, i, &slot);
        status = array_plan(trainer, i, name[i], (int64_t)(bytes / type.size), type.size, slot, error);
    }
    if (!status)
        status = memory_plan_add(plan, MEMORY_OPTIMIZER, "AdamW state", 1, sizeof *trainer->adamw,
                                 (void **)&trainer->adamw, error);
    if (!status)
        status = memory_plan_add(plan, MEMORY_SCRATCH, "step totals and gradient norm", STEP_TOTALS, sizeof(double),
                                 (void **)&trainer->totals, error);
    if (!status && trainer->shards.sharded)
        status = memory_plan_add(plan, MEMORY_SCRATCH, "optimizer state on its way", staging_elements(trainer),
                                 dtype_size(dtype_stat(model->dtype)), &trainer->staging, error);
    model->master.shard = trainer->shards.state_range;
    model->master.shards = trainer->shards.state_ranges;
    return status;
}

/* Whether this host has what its ranks are about to lock, which cannot be swapped; asked by all before the first of them does. */
static int host_memory_check(const struct trainer *trainer, struct error *error)
{
    const struct world *world = &trainer->shards.world;
    const double gb = 1e-9, all = (double)trainer->offload.bytes * world->local_size;
    size_t available;
    int64_t missing = !host_memory_free(&available) && all > (double)available ? (int64_t)(all - (double)available) : 0;
    const int status = comm_max(world->comm, &missing, error);
    return status || !missing ? status : error_set(error, STATUS_MEMORY, "offload_optimizer: moments and masters take %.2f GB of a host's "
                                                   "memory, %.2f more than are free; optimizer_states 8bit takes least, zero 1 gives "
                                                   "each rank a part", gb * all, gb * (double)missing);
}

int optimizer_allocate(struct trainer *trainer, struct error *error)
{
    struct optimizer_offload *offload = &trainer->offload;
    if (!offload->chunk)
        return STATUS_OK;
    if (!trainer->device.engine->host_alloc) /* as engine.h says of it */
        return error_set(error, STATUS_USAGE, "offload_optimizer: the memory of device %s is the host's; leave it out",
                         trainer->device.engine->name);
    void *memory;
    int status = host_memory_check(trainer, error);
    if (!status)
        status = device_status(&trainer->device, "offload_optimizer",
                               trainer->device.engine->host_alloc(trainer->device.context, &memory, offload->bytes), error);
    if (status)
        return status;
    offload->memory = memory;
    size_t used = 0;
    for (enum optimizer_array i = OPTIMIZER_LOW; i <= OPTIMIZER_V_SCALE; i++) {
        void **slot;
        const size_t bytes = array_bytes(trainer, i, &slot);
        if (bytes)
            *slot = offload->memory + used;
        used += (bytes + 63) & ~(size_t)63;
    }
    return STATUS_OK;
}

void optimizer_free(struct trainer *trainer)
{
    if (trainer->offload.memory)
        trainer->device.engine->host_free(trainer->device.context, trainer->offload.memory);
}

int optimizer_start(struct trainer *trainer, struct error *error)
{
    struct device *device = &trainer->device;
    int status = device_zero(device, trainer->adamw, sizeof *trainer->adamw, error);
    if (trainer->offload.chunk)
        memset(trainer->offload.memory, 0, trainer->offload.bytes);
    /* the padding between tensors takes part in the update */
    for (enum optimizer_array i = OPTIMIZER_LOW; i <= OPTIMIZER_V_SCALE && !trainer->offload.chunk && !status; i++) {
        const struct optimizer_array_type type = optimizer_array_type(trainer, i);
        const int64_t own = trainer->shards.state_elements;
        if (type.own)
            status = device_zero(device, type.own, (size_t)((own + type.elements - 1) / type.elements) * type.size, error);
    }
    return status;
}

/* ---- reading and writing the state ------------------------------------------------------------------------------- */

struct optimizer_array_type optimizer_array_type(const struct trainer *trainer, enum optimizer_array array)
{
    static const char *const moment_dtype[] = {[ADAMW_BF16] = "BF16", [ADAMW_8BIT] = "U8"};
    const enum adamw_moments moments = trainer->options->optimizer.optimizer_states;
    const int64_t elements = model_trainable(&trainer->model).elements;
    struct optimizer_array_type type = {.count = elements, .elements = 1, .size = moment_size(trainer)};
    type.dtype = moments != ADAMW_FLOAT ? moment_dtype[moments] : type.size == sizeof(double) ? "F64" : "F32";
    switch (array) {
    case OPTIMIZER_LOW:
        type.own = trainer->model.master.low, type.size = sizeof(uint16_t), type.dtype = "U16";
        break;
    case OPTIMIZER_M: type.own = trainer->m; break;
    case OPTIMIZER_V: type.own = trainer->v; break;
    case OPTIMIZER_M_SCALE:
    case OPTIMIZER_V_SCALE:
        type = (struct optimizer_array_type){array == OPTIMIZER_M_SCALE ? trainer->m_scale : trainer->v_scale,
                                             blocks_of(elements), DYNAMIC_BLOCK, sizeof(float), "F32"};
    }
    return type;
}

char *optimizer_array_part(const struct trainer *trainer, enum optimizer_array array, int64_t state, int64_t count, size_t *bytes)
{
    const struct optimizer_array_type type = optimizer_array_type(trainer, array);
    const int64_t first = state / type.elements, end = (state + count + type.elements - 1) / type.elements;
    *bytes = type.own ? (size_t)(end - first) * type.size : 0;
    return type.own ? (char *)type.own + (size_t)first * type.size : NULL;
}

/* Numbers [offset, offset + count) of an array, at most STAGING of them, from those who keep them to the staging buffer of
 * all. Every rank calls this with the same range. */
static int state_exchange(struct trainer *trainer, enum optimizer_array array, int64_t offset, int64_t count,
                          struct error *error)
{
    const struct shards *shards = &trainer->shards;
    struct device *device = &trainer->device;
    const struct optimizer_array_type type = optimizer_array_type(trainer, array);
    int status = STATUS_OK;
    for (int b = 0; b < shards->buckets && !status; b++)
        for (int rank = 0; rank < shards->world.size && !status; rank++) {
            int64_t from, n;
            shards_slice(shards, b, rank, &from, &n);
            n = (n + type.elements - 1) / type.elements, from /= type.elements;
            const int64_t first = from > offset ? from : offset;
            const int64_t end = from + n < offset + count ? from + n : offset + count;
            if (first >= end)
                continue;
            char *part = (char *)trainer->staging + (size_t)(first - offset) * type.size;
            const size_t bytes = (size_t)(end - first) * type.size;
            const int64_t own = shards->slice[b].state / type.elements + (first - from);
            if (rank == shards->world.rank)
                status = trainer->offload.chunk
                             ? device_copy_in(device, part, (const char *)type.own + (size_t)own * type.size, bytes, error)
                             : device_status(device, "copy",
                                             device->engine->copy(device->context, part,
                                                                  (const char *)type.own + (size_t)own * type.size, bytes), error);
            if (!status)
                status = comm_broadcast(shards->world.comm, part, bytes, rank, error);
        }
    return status ? status : comm_wait(shards->world.comm, error);
}

/* Tells the others what is wanted: array, offset, count; count 0: no more. */
enum { REQUEST = 3 };
static int state_request(struct trainer *trainer, int64_t request[REQUEST], struct error *error)
{
    return comm_broadcast_host(trainer->shards.world.comm, request, REQUEST * sizeof *request, 0, error);
}

int optimizer_read(struct trainer *trainer, enum optimizer_array array, int64_t offset, int64_t count, void *out,
                   struct error *error)
{
    const struct optimizer_array_type type = optimizer_array_type(trainer, array);
    int status = STATUS_OK;
    if (!trainer->shards.sharded && trainer->offload.chunk) {
        memcpy(out, (const char *)type.own + (size_t)offset * type.size, (size_t)count * type.size);
        return STATUS_OK;
    }
    if (!trainer->shards.sharded)
        return device_copy_out(&trainer->device, out, (const char *)type.own + (size_t)offset * type.size,
                               (size_t)count * type.size, error);
    for (int64_t done = 0, piece; done < count && !status; done += piece) {
        piece = count - done < staging_elements(trainer) ? count - done : staging_elements(trainer);
        status = state_request(trainer, (int64_t[REQUEST]){array, offset + done, piece}, error);
        if (!status)
            status = state_exchange(trainer, array, offset + done, piece, error);
        if (!status)
            status = device_copy_out(&trainer->device, (char *)out + (size_t)done * type.size, trainer->staging,
                                     (size_t)piece * type.size, error);
    }
    return status;
}

int optimizer_write(struct trainer *trainer, enum optimizer_array array, int64_t offset, int64_t count, const void *in,
                    struct error *error)
{
    const struct shards *shards = &trainer->shards;
    const struct optimizer_array_type type = optimizer_array_type(trainer, array);
    int status = STATUS_OK;
    for (int i = 0; i < shards->state_ranges && !status; i++) {
        const struct model_shard *range = &shards->state_range[i];
        const int64_t begin = range->offset / type.elements;
        const int64_t range_end = (range->offset + range->count + type.elements - 1) / type.elements;
        const int64_t from = offset > begin ? offset : begin;
        const int64_t end = offset + count < range_end ? offset + count : range_end;
        const int64_t own = range->state / type.elements + (from - begin);
        char *const to = (char *)type.own + (size_t)own * type.size;
        const char *const part = (const char *)in + (size_t)(from - offset) * type.size;
        if (from < end && trainer->offload.chunk)
            memcpy(to, part, (size_t)(end - from) * type.size);
        else if (from < end)
            status = device_copy_in(&trainer->device, to, part, (size_t)(end - from) * type.size, error);
    }
    return status;
}

static int master_gather(void *user, int64_t offset, int64_t count, uint16_t *out, struct error *error)
{
    return optimizer_read(user, OPTIMIZER_LOW, offset, count, out, error);
}

void optimizer_share(struct trainer *trainer)
{
    if (trainer->shards.sharded && trainer->model.master.low) {
        trainer->model.master.gather = master_gather;
        trainer->model.master.user = trainer;
    }
}

int optimizer_answer(struct trainer *trainer, bool reader, struct error *error)
{
    int64_t request[REQUEST] = {0};
    int status = STATUS_OK;
    if (!trainer->shards.sharded)
        return status;
    if (reader) {
        trainer->model.master.gather = NULL;
        return state_request(trainer, request, error);
    }
    while (!status && !(status = state_request(trainer, request, error)) && request[2])
        status = state_exchange(trainer, (enum optimizer_array)request[0], request[1], request[2], error);
    return status;
}
