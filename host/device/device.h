/* device.h - an engine plugin, loaded and opened: what the model, trainer and evaluation run on. */
#ifndef FLAT_DEVICE_DEVICE_H
#define FLAT_DEVICE_DEVICE_H
#include "../../kernels/engine/engine.h"
#include "../util/checksum.h"
#include "../util/options.h"
#include "profile.h"

enum device_choice {
    DEVICE_AUTO, DEVICE_CPU, DEVICE_CUDA,
    DEVICE_EMU = DEVICE_CUDA + 2, /* CUDA on the CPU, for tests; no choice of a user */
};
struct device_options {
    enum device_choice device;
    int64_t threads; /* 0: all */
};
extern const struct option_group device_option_group;

struct device {
    const struct engine *engine;
    struct engine_context *context;
    void *library;
    struct profile *profile; /* NULL: ops are not timed */
};

/* Opens "cpu", "cuda", "cpu64" (double, for checks) or "auto" (cuda where there is a GPU, otherwise cpu; a GPU that
 * cannot be used is an error). Plugins are looked for beside the program, then in ../lib/flat. threads 0: all that this
 * process may use. */
int device_open(struct device *device, const char *name, int device_index, int threads, struct error *error);
/* The device of the options; device_index is a GPU's number. */
int device_open_chosen(struct device *device, const struct device_options *options, int device_index, struct error *error);
void device_close(struct device *device);

/* Path of the plugin libflat_<name>.so, looked for as above; false with the program's folder where there is none. */
bool device_library(const char *name, char *path, size_t bytes);

/* Turns the op_status of a call into a status, with the engine's text and the name of the call in *error. */
int device_status(struct device *device, const char *call, int op_status, struct error *error);

/* device_run(device, error, norm_forward, &(struct norm_args){...}): one op. */
#define device_run(device, error, op, arguments)                                                              \
    (device_op_begin(device), device_op_end((device), ENGINE_OP_##op, #op, (arguments),                      \
                                            (device)->engine->op((device)->context, (arguments)), (error)))
/* The two halves of device_run: without a profile they do nothing but device_status. */
void device_op_begin(struct device *device);
int device_op_end(struct device *device, enum engine_op op, const char *name, const void *arguments, int op_status,
                  struct error *error);

/* A named range around what is queued in between, as profilers show it; ranges nest. */
void device_range_push(struct device *device, const char *name);
void device_range_pop(struct device *device);

int device_alloc(struct device *device, void **pointer, size_t bytes, struct error *error);
void device_free(struct device *device, void *pointer);
int device_zero(struct device *device, void *pointer, size_t bytes, struct error *error);
int device_copy_in(struct device *device, void *to, const void *host, size_t bytes, struct error *error);
int device_copy_out(struct device *device, void *host, const void *from, size_t bytes, struct error *error);
/* Waits until all that is queued on the ops' stream is done, and what it awaits of others. */
int device_synchronize(struct device *device, struct error *error);
/* Adds bytes of the device to a running checksum, a piece at a time. */
int device_checksum(struct device *device, const void *from, size_t bytes, struct checksum *into, struct error *error);

#endif
