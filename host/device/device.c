/* device.c - see device.h. */
#include "device.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../util/file.h"
#include "../util/memory.h"

/* The list of choices ends before the engine of the tests. */
static const char *const device_names[] = {[DEVICE_AUTO] = "auto", [DEVICE_CPU] = "cpu", [DEVICE_CUDA] = "cuda",
                                           [DEVICE_EMU] = "emu"};

static const struct option option_rows[] = {
    {.name = "device", OPTION_FIELD(struct device_options, device), .local = true, .choices = device_names, .initial = "auto",
     .help = "where to compute; auto takes a GPU when there is one"},
    {.name = "threads", OPTION_FIELD(struct device_options, threads), .local = true, .initial = "0", .max = 4096,
     .help = "CPU threads; 0 is all"},
};
const struct option_group device_option_group = {OPTION_GROUP("Run", option_rows, struct device_options)};

bool device_library(const char *name, char *path, size_t bytes)
{
    static const char *const place[] = {"%s/libflat_%s.so", "%s/../libflat_%s.so", "%s/../lib/flat/libflat_%s.so"};
    char directory[PATH_MAX];
    file_program_directory(directory, sizeof directory);
    for (size_t i = 0; i < sizeof place / sizeof *place; i++)
        if ((size_t)snprintf(path, bytes, place[i], directory, name) < bytes && access(path, R_OK) == 0)
            return true;
    snprintf(path, bytes, "%s", directory);
    return false;
}

static int library_load(struct device *device, const char *name, struct error *error)
{
    char path[PATH_MAX + 128];
    if (!device_library(name, path, sizeof path))
        return error_set(error, STATUS_USAGE, "device %s: no libflat_%s.so beside the program in %s; build it with make, "
                         "or choose another --device", name, name, path);
    /* never unmapped: threads of the engine's OpenMP and BLAS runtimes outlive the context */
    errno = 0;
    device->library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!device->library)
        return error_set(error, errno == ENOMEM ? STATUS_MEMORY : STATUS_RUNTIME, "device %s: the plugin cannot be loaded: %s", name, dlerror());
    return STATUS_OK;
}

/* *absent: there is no such plugin that can be loaded, or it finds no such device. */
static int engine_open(struct device *device, const char *name, int device_index, int threads, bool *absent,
                       struct error *error)
{
    *device = (struct device){0};
    int status = library_load(device, name, error);
    *absent = status != STATUS_OK;
    if (status)
        return status;
    void *symbol = dlsym(device->library, "flat_engine");
    flat_engine_fn function;
    memcpy(&function, &symbol, sizeof function);
    if (!function || (device->engine = function())->abi != ENGINE_ABI) {
        device_close(device);
        return error_set(error, STATUS_RUNTIME, "device %s: libflat_%s.so is of another version; run make again", name,
                         name);
    }
    char text[512] = "";
    struct engine_options options = {.device_index = device_index, .threads = threads};
    int op_status = device->engine->open(&device->context, &options, text, sizeof text);
    if (op_status) {
        device->context = NULL;
        device_close(device);
        *absent = op_status == OP_ABSENT;
        return error_set(error, op_status == OP_MEMORY ? STATUS_MEMORY : STATUS_RUNTIME, "device %s: %s", name, text);
    }
    return STATUS_OK;
}

int device_open(struct device *device, const char *name, int device_index, int threads, struct error *error)
{
    bool absent;
    if (strcmp(name, "auto"))
        return engine_open(device, name, device_index, threads, &absent, error);
    struct error found = {0};
    int status = engine_open(device, "cuda", device_index, threads, &absent, &found);
    if (!status)
        return STATUS_OK;
    if (!absent) /* a run that was meant for the GPU would take days on the CPU */
        return error_set(error, status, "%s; with --device cpu it is not used", found.text);
    return engine_open(device, "cpu", device_index, threads, &absent, error);
}

int device_open_chosen(struct device *device, const struct device_options *options, int device_index, struct error *error)
{
    return device_open(device, device_names[options->device], device_index, (int)options->threads, error);
}

void device_close(struct device *device)
{
    if (device->context)
        device->engine->close(device->context);
    if (device->library)
        dlclose(device->library);
    *device = (struct device){0};
}

int device_status(struct device *device, const char *call, int op_status, struct error *error)
{
    if (op_status == OP_OK)
        return STATUS_OK;
    return error_set(error, op_status == OP_MEMORY ? STATUS_MEMORY : STATUS_RUNTIME, "device %s: %s: %s",
                     device->engine->name, call, device->engine->error(device->context));
}

void device_op_begin(struct device *device)
{
    if (device->profile)
        profile_op_begin(device->profile, device); /* a failure will show in the op's own status */
}

int device_op_end(struct device *device, enum engine_op op, const char *name, const void *arguments, int op_status,
                  struct error *error)
{
    if (device->profile && op_status == OP_OK)
        op_status = profile_op_end(device->profile, device, op, arguments);
    return device_status(device, name, op_status, error);
}

void device_range_push(struct device *device, const char *name)
{
    device->engine->range_push(device->context, name);
}

void device_range_pop(struct device *device) { device->engine->range_pop(device->context); }

int device_alloc(struct device *device, void **pointer, size_t bytes, struct error *error)
{
    return device_status(device, "alloc", device->engine->alloc(device->context, pointer, bytes), error);
}

void device_free(struct device *device, void *pointer)
{
    if (device->context)
        device->engine->free(device->context, pointer);
}

int device_zero(struct device *device, void *pointer, size_t bytes, struct error *error)
{
    return device_status(device, "fill_zero", device->engine->fill_zero(device->context, pointer, bytes), error);
}

int device_copy_in(struct device *device, void *to, const void *host, size_t bytes, struct error *error)
{
    return device_status(device, "copy_in", device->engine->copy_in(device->context, to, host, bytes), error);
}

int device_copy_out(struct device *device, void *host, const void *from, size_t bytes, struct error *error)
{
    return device_status(device, "copy_out", device->engine->copy_out(device->context, host, from, bytes), error);
}

int device_synchronize(struct device *device, struct error *error)
{
    return device_status(device, "synchronize", device->engine->synchronize(device->context), error);
}

int device_checksum(struct device *device, const void *from, size_t bytes, struct checksum *into, struct error *error)
{
    enum { PIECE_BYTES = 4 << 20 };
    char *piece = memory_array(PIECE_BYTES, 1, error);
    int status = piece ? STATUS_OK : STATUS_MEMORY;
    for (size_t done = 0, now; done < bytes && !status; done += now) {
        now = bytes - done < PIECE_BYTES ? bytes - done : PIECE_BYTES;
        status = device_copy_out(device, piece, (const char *)from + done, now, error);
        if (!status)
            checksum_add(into, piece, now);
    }
    free(piece);
    return status;
}
