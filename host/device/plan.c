/* plan.c - see plan.h. */
#include "plan.h"

#include <stdlib.h>

#include "../util/memory.h"

const char *memory_class_name(enum memory_class class)
{
    static const char *const name[MEMORY_CLASSES] = {"parameters", "gradients", "optimizer", "activations", "scratch",
                                                     "cache"};
    return name[class];
}

int memory_plan_add(struct memory_plan *plan, enum memory_class class, const char *name, int64_t count,
                    size_t element_bytes, void **slot, struct error *error)
{
    size_t bytes, total;
    if (count < 0 || __builtin_mul_overflow((size_t)count, element_bytes, &bytes) ||
        __builtin_add_overflow(bytes, 63, &bytes) ||
        __builtin_add_overflow(plan->bytes[class], bytes & ~(size_t)63, &total))
        return error_set(error, STATUS_MEMORY, "%s: a size of %lld elements does not fit in memory", name,
                         (long long)count);
    int status = memory_grow(&plan->item, &plan->capacity, plan->items + 1, sizeof *plan->item, error);
    if (status)
        return status;
    bytes &= ~(size_t)63;
    plan->item[plan->items++] = (struct memory_item){class, name, bytes, slot};
    plan->bytes[class] = total;
    return STATUS_OK;
}

size_t memory_plan_total(const struct memory_plan *plan)
{
    size_t total = 0;
    for (int class = 0; class < MEMORY_CLASSES; class++)
        total += plan->bytes[class];
    return total;
}

/* Of a GPU, what is allocated while a run goes on: the library's kernels as they are first used, scratch, graphs (64 of about
 * 2 MB). A plan that leaves less begins and then fails. */
#define GPU_RESERVE ((size_t)1 << 30)

static int refuse_what_does_not_fit(const struct memory_plan *plan, struct device *device, struct error *error)
{
    size_t available;
    int status = device_status(device, "memory_free", device->engine->memory_free(device->context, &available), error);
    if (!status && device->engine->graphs)
        available -= available < GPU_RESERVE ? available : GPU_RESERVE;
    if (status || memory_plan_total(plan) <= available)
        return status;
    const double gb = 1e-9;
    return error_set(error, STATUS_MEMORY,
                     "this run needs %.2f GB of device memory (parameters %.2f, gradients %.2f, optimizer %.2f, "
                     "activations %.2f, scratch %.2f, cache %.2f) and %.2f GB are free%s; lower "
                     "per_device_train_batch_size, batch_size or max_length",
                     gb * (double)memory_plan_total(plan), gb * (double)plan->bytes[MEMORY_PARAM],
                     gb * (double)plan->bytes[MEMORY_GRAD], gb * (double)plan->bytes[MEMORY_OPTIMIZER],
                     gb * (double)plan->bytes[MEMORY_ACTIVATION], gb * (double)plan->bytes[MEMORY_SCRATCH],
                     gb * (double)plan->bytes[MEMORY_CACHE], gb * (double)available,
                     device->engine->graphs ? " beside what CUDA's libraries take" : "");
}

int memory_plan_commit(struct memory_plan *plan, struct device *device, struct error *error)
{
    int status = refuse_what_does_not_fit(plan, device, error);
    for (int class = 0; class < MEMORY_CLASSES && !status; class++)
        if (plan->bytes[class])
            status = device_alloc(device, &plan->arena[class], plan->bytes[class], error);
    if (status) {
        memory_plan_free(plan, device);
        return status;
    }
    size_t used[MEMORY_CLASSES] = {0};
    for (size_t i = 0; i < plan->items; i++) {
        struct memory_item *item = &plan->item[i];
        if (item->slot)
            *item->slot = item->bytes ? (char *)plan->arena[item->class] + used[item->class] : NULL; /* NULL: not planned */
        used[item->class] += item->bytes;
    }
    return STATUS_OK;
}

void memory_plan_free(struct memory_plan *plan, struct device *device)
{
    for (int class = 0; class < MEMORY_CLASSES; class++)
        device_free(device, plan->arena[class]);
    free(plan->item);
    *plan = (struct memory_plan){0};
}
