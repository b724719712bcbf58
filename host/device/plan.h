/* plan.h - device memory by declaration: every buffer is named in a table, the table is summed (flat plan prints
 * it, without a device), and one arena per class is allocated and carved. Nothing is allocated inside a step.
 */
#ifndef FLAT_DEVICE_PLAN_H
#define FLAT_DEVICE_PLAN_H
#include <stdint.h>

#include "device.h"

enum memory_class {
    MEMORY_PARAM,
    MEMORY_GRAD,
    MEMORY_OPTIMIZER,
    MEMORY_ACTIVATION, /* kept from forward to backward */
    MEMORY_SCRATCH,    /* reused within a step */
    MEMORY_CACHE,      /* keys and values while generating */
    MEMORY_CLASSES
};
const char *memory_class_name(enum memory_class class);

struct memory_item {
    enum memory_class class;
    const char *name; /* borrowed: a literal */
    size_t bytes;
    void **slot;      /* receives the address at commit */
};

/* Start with {0}. */
struct memory_plan {
    struct memory_item *item;
    size_t items, capacity;
    void *arena[MEMORY_CLASSES];
    size_t bytes[MEMORY_CLASSES];
};

/* Declares a buffer of count elements, 64-byte aligned; *slot stays NULL for count 0. slot may be NULL when only the sum is
 * wanted. */
int memory_plan_add(struct memory_plan *plan, enum memory_class class, const char *name, int64_t count,
                    size_t element_bytes, void **slot, struct error *error);
/* Bytes of all classes. */
size_t memory_plan_total(const struct memory_plan *plan);
/* Allocates the arenas and fills the slots. More than the device has free, of a GPU but for a gigabyte, is refused
 * first, with the figures (STATUS_MEMORY). */
int memory_plan_commit(struct memory_plan *plan, struct device *device, struct error *error);
void memory_plan_free(struct memory_plan *plan, struct device *device);

#endif
