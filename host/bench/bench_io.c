/* bench_io.c - see bench_io.h. */
#include "bench_io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../io/json/json.h"
#include "../model/weights.h"
#include "../util/clock.h"
#include "../util/file.h"
#include "../util/memory.h"
#include "bench.h"

enum { SAMPLES = 5, BUFFER = 8 << 20, FILES_MAX = 512 };
enum measure { READ_COLD, READ_WARM, LOAD_COLD, LOAD_WARM, WRITE, SAVE, MEASURES };
static const char *const measure_name[MEASURES] = {"read, cold", "read, warm", "load, cold", "load, warm",
                                                   "write and fsync", "save"};

struct io_bench {
    const struct bench_options *options;
    const char *model_folder;
    struct bench bench;        /* its device and settings, for the JSON's context */
    struct model model;
    char *path[FILES_MAX];     /* the weights' files */
    int files;
    double bytes;
    char folder[4096];         /* what is written lies here */
    char *buffer;
    struct bench_timing timing[MEASURES];
};

static int failed(struct error *error, const char *path)
{
    return error_set(error, STATUS_RUNTIME, "%s: %s", path, strerror(errno));
}

static int files_find(struct io_bench *io, struct error *error)
{
    DIR *folder = opendir(io->model_folder);
    if (!folder)
        return error_set(error, STATUS_INPUT, "--model: %s: %s", io->model_folder, strerror(errno));
    int status = STATUS_OK;
    for (const struct dirent *entry; !status && (entry = readdir(folder));) {
        char path[4096];
        struct stat info;
        size_t length = strlen(entry->d_name);
        if (length < 12 || strcmp(entry->d_name + length - 12, ".safetensors") || io->files == FILES_MAX)
            continue;
        status = file_join(path, sizeof path, io->model_folder, entry->d_name, error);
        if (!status && stat(path, &info))
            status = failed(error, path);
        if (!status && !(io->path[io->files] = memory_string(path, error)))
            status = STATUS_MEMORY;
        if (!status) {
            io->files++;
            io->bytes += (double)info.st_size;
        }
    }
    closedir(folder);
    return status;
}

/* Reads, or drops from the page cache, every file. */
static int files_read(struct io_bench *io, bool drop, struct error *error)
{
    int status = STATUS_OK;
    for (int i = 0; i < io->files && !status; i++) {
        int file = open(io->path[i], O_RDONLY | O_CLOEXEC);
        ssize_t n = file < 0 ? -1 : 1;
        if (file >= 0 && drop)
            posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
        while (n > 0 && !drop)
            n = read(file, io->buffer, BUFFER);
        if (n < 0)
            status = failed(error, io->path[i]);
        if (file >= 0)
            close(file);
    }
    return status;
}

static int bytes_write(struct io_bench *io, struct error *error)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/plain", io->folder);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int status = file < 0 ? failed(error, path) : STATUS_OK;
    for (double left = io->bytes; left > 0 && !status;) {
        ssize_t n = write(file, io->buffer, left < BUFFER ? (size_t)left : BUFFER);
        if (n < 0)
            status = failed(error, path);
        left -= (double)n;
    }
    if (!status && fsync(file))
        status = failed(error, path);
    if (file >= 0 && close(file) && !status)
        status = failed(error, path);
    return status;
}

static int weights_read(struct io_bench *io, struct error *error)
{
    struct weights weights = {0};
    int status = weights_open(&weights, &io->model, io->model_folder, error);
    if (!status)
        status = weights_load(&weights, &io->model, error);
    if (!status)
        status = device_synchronize(&io->bench.device, error);
    weights_close(&weights);
    return status;
}

static int model_write(struct io_bench *io, struct error *error)
{
    struct weights weights = {0};
    char path[4200];
    snprintf(path, sizeof path, "%s/model", io->folder);
    int status = weights_open(&weights, &io->model, io->model_folder, error);
    if (!status)
        status = weights_save(&weights, &io->model, io->model_folder, path, NULL, error);
    weights_close(&weights);
    return status;
}

static int measure_run(struct io_bench *io, enum measure measure, struct error *error)
{
    switch (measure) {
    case READ_COLD:
    case READ_WARM: return files_read(io, false, error);
    case LOAD_COLD:
    case LOAD_WARM: return weights_read(io, error);
    case WRITE: return bytes_write(io, error);
    default: return model_write(io, error);
    }
}

/* Everything in the folder of what was written, one level deep, then the folder. */
static void folder_remove(const char *path)
{
    DIR *folder = opendir(path);
    for (const struct dirent *entry; folder && (entry = readdir(folder));) {
        char inner[4600];
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
        if (unlink(inner) && errno == EISDIR)
            folder_remove(inner);
    }
    if (folder)
        closedir(folder);
    rmdir(path);
}

/* io->folder, beside the model's; "" where it is not there: what is named here is removed in the end. */
static int folder_make(struct io_bench *io, struct error *error)
{
    char folder[sizeof io->folder];
    if ((size_t)snprintf(folder, sizeof folder, "%s.bench-XXXXXX", io->model_folder) >= sizeof folder)
        return error_set(error, STATUS_USAGE, "--model: the path is too long");
    if (!mkdtemp(folder))
        return error_set(error, STATUS_RUNTIME, "%s: cannot be made: %s", folder, strerror(errno));
    memcpy(io->folder, folder, sizeof folder);
    return STATUS_OK;
}

/* Rounds of all six, so that a disk that slows down slows all of them. */
static int rounds_run(struct io_bench *io, int samples, struct error *error)
{
    double *sample = memory_array((size_t)samples * MEASURES, sizeof *sample, error);
    int status = sample ? STATUS_OK : STATUS_MEMORY;
    for (int i = 0; i < samples && !status; i++)
        for (int m = 0; m < MEASURES && !status; m++) {
            if (m == READ_COLD || m == LOAD_COLD)
                status = files_read(io, true, error);
            double start = clock_seconds();
            if (!status)
                status = measure_run(io, (enum measure)m, error);
            sample[m * samples + i] = clock_seconds() - start;
        }
    for (int m = 0; m < MEASURES && !status; m++)
        bench_statistics(sample + (size_t)m * (size_t)samples, samples, 1, &io->timing[m]);
    free(sample);
    return status;
}

/* A load against a read, a save against a write. */
static int plain_of(int measure) { return measure == SAVE ? WRITE : measure == LOAD_COLD ? READ_COLD : READ_WARM; }

static void io_print(const struct io_bench *io)
{
    printf("%s: %.1f MB in %d files\n%-16s %9s %9s %9s %9s %9s\n", io->model_folder, 1e-6 * io->bytes, io->files, "", "s",
           "p10", "p90", "GB/s", "of plain");
    for (int m = 0; m < MEASURES; m++) {
        const struct bench_timing *t = &io->timing[m];
        printf("%-16s %9.3f %9.3f %9.3f %9.2f", measure_name[m], t->median, t->p10, t->p90, 1e-9 * io->bytes / t->median);
        if (m == LOAD_COLD || m == LOAD_WARM || m == SAVE)
            printf(" %8.0f%%", 100 * io->timing[plain_of(m)].median / t->median);
        printf("\n");
    }
    if (io->timing[READ_COLD].median < 1.2 * io->timing[READ_WARM].median)
        printf("cold and warm reads are alike: this file system keeps its cache, or its disk is as fast\n");
}

static int io_write_json(const struct io_bench *io, const char *path, struct error *error)
{
    cJSON *tree = cJSON_CreateObject(), *context = bench_context_json(io->options, &io->bench.device);
    bool ok = tree && context && cJSON_AddItemToObject(tree, "context", context);
    if (!ok)
        cJSON_Delete(context);
    ok = ok && json_add_string(tree, "model", io->model_folder) && json_add_number(tree, "bytes", io->bytes);
    cJSON *cases = ok ? cJSON_AddArrayToObject(tree, "cases") : NULL;
    for (int m = 0; m < MEASURES && cases; m++) {
        cJSON *item = cJSON_CreateObject();
        ok = cJSON_AddItemToArray(cases, item) && json_add_string(item, "name", measure_name[m]);
        cJSON *seconds = ok ? cJSON_AddObjectToObject(item, "seconds") : NULL;
        ok = seconds && json_add_number(seconds, "median", io->timing[m].median) &&
             json_add_number(seconds, "p10", io->timing[m].p10) && json_add_number(seconds, "p90", io->timing[m].p90);
        if (!ok)
            cases = NULL;
    }
    int status = cases ? json_write(tree, path, error) : error_set(error, STATUS_MEMORY, "out of host memory");
    cJSON_Delete(tree);
    return status;
}

static int io_open(struct io_bench *io, struct error *error)
{
    const struct bench_options *options = io->options;
    struct model_config config;
    int status = files_find(io, error);
    if (!status)
        status = model_config_read(&config, io->model_folder, error);
    if (!status)
        status = device_open_chosen(&io->bench.device, &options->device, 0, error);
    if (!status)
        status = model_create(&io->model, &config, io->bench.device.engine->dtype, error);
    if (!status) /* parameters and the least of everything else */
        status = model_plan(&io->model, false, 1, 0, 1, error);
    if (!status)
        status = model_allocate(&io->model, &io->bench.device, error);
    if (!status && !(io->buffer = memory_array(BUFFER, 1, error)))
        status = STATUS_MEMORY;
    return status ? status : folder_make(io, error);
}

int bench_io(const struct bench_options *options, const char *model, struct log *log, struct error *error)
{
    struct io_bench *io = memory_array(1, sizeof *io, error);
    if (!io)
        return STATUS_MEMORY;
    io->options = io->bench.options = options;
    io->bench.log = log;
    io->model_folder = model;
    int status = io_open(io, error);
    if (!status)
        status = rounds_run(io, options->samples ? (int)options->samples : SAMPLES, error);
    if (!status)
        io_print(io);
    if (!status && *options->json)
        status = io_write_json(io, options->json, error);
    if (*io->folder)
        folder_remove(io->folder);
    model_free(&io->model);
    device_close(&io->bench.device);
    for (int i = 0; i < io->files; i++)
        free(io->path[i]);
    free(io->buffer);
    free(io);
    return status;
}
