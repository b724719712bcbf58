/* comm_rank.c - see comm_rank.h. Sums are compared with sums made here in the order that each engine promises: exactly
 * where that is the order of ranks (CPU), within the roundings of a ring elsewhere.
 */
#include "comm_rank.h"

#include <dlfcn.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xxhash.h>

#include "../../host/comm/comm.h"
#include "../../host/util/clock.h"
#include "../../host/util/file.h"
#include "../../host/util/float16.h"

enum { GUARD = 64, CALLS = 3 };

struct rank_test {
    struct comm *comm;
    struct device device;
    int rank, size;
    bool exact;             /* sums in the order of ranks */
    XXH64_state_t *hash;    /* of what all ranks must have alike */
    struct error error;
};

/* The engine's library, or the flavour of the emulation that FLAT_EMU names. */
static int device_load(struct device *device, const char *name, struct error *error)
{
    const char *flavour = getenv("FLAT_EMU");
    char text[256] = "";
    if (strcmp(name, "emu") || !flavour)
        return device_open(device, name, 0, 1, error);
    *device = (struct device){.library = dlopen(flavour, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE)};
    flat_engine_fn function = NULL;
    void *symbol = device->library ? dlsym(device->library, "flat_engine") : NULL;
    memcpy(&function, &symbol, sizeof function);
    if (!function)
        return error_set(error, STATUS_RUNTIME, "%s", dlerror());
    device->engine = function();
    if (device->engine->open(&device->context, NULL, text, sizeof text))
        return error_set(error, STATUS_RUNTIME, "%s", text);
    return STATUS_OK;
}

/* Element i of rank's buffer in call number `call`: numbers whose sum depends on the order. */
static double element(int rank, int64_t i, int call)
{
    uint64_t z = (uint64_t)i * 0x9e3779b97f4a7c15u + (uint64_t)(rank * 64 + call + 1) * 0xd1342543de82ef95u;
    z = (z ^ z >> 32) * 0xd6e8feb86659fd93u;
    z ^= z >> 32;
    return ldexp((double)(int64_t)(z & 0xffffff) - 0x7fffff, -23 + (int)(z >> 61));
}

static void store(void *to, enum dtype dtype, int64_t i, double value)
{
    switch (dtype) {
    case DTYPE_F64: ((double *)to)[i] = value; break;
    case DTYPE_F32: ((float *)to)[i] = (float)value; break;
    case DTYPE_BF16: ((uint16_t *)to)[i] = bf16_from_float((float)value); break;
    case DTYPE_F16: ((uint16_t *)to)[i] = f16_from_float((float)value); break;
    }
}

static double load(const void *from, enum dtype dtype, int64_t i)
{
    switch (dtype) {
    case DTYPE_F64: return ((const double *)from)[i];
    case DTYPE_F32: return (double)((const float *)from)[i];
    case DTYPE_BF16: return (double)float_from_bf16(((const uint16_t *)from)[i]);
    default: return (double)float_from_f16(((const uint16_t *)from)[i]);
    }
}

/* A buffer of n elements with guards, filled with this rank's numbers, on the device. */
static int buffer_make(struct rank_test *t, enum dtype dtype, int64_t n, int call, char **device)
{
    const size_t bytes = (size_t)n * dtype_size(dtype);
    char *host = malloc(bytes + 2 * GUARD);
    if (!host)
        return STATUS_MEMORY;
    memset(host, 0xA5, bytes + 2 * GUARD);
    for (int64_t i = 0; i < n; i++)
        store(host + GUARD, dtype, i, element(t->rank, i, call));
    int status = device_alloc(&t->device, (void **)device, bytes + 2 * GUARD, &t->error);
    if (!status)
        status = device_copy_in(&t->device, *device, host, bytes + 2 * GUARD, &t->error);
    free(host);
    return status;
}

/* The buffer back on the host, guards checked. */
static char *buffer_take(struct rank_test *t, enum dtype dtype, int64_t n, char *device)
{
    const size_t bytes = (size_t)n * dtype_size(dtype);
    unsigned char *host = malloc(bytes + 2 * GUARD);
    if (!host || device_copy_out(&t->device, host, device, bytes + 2 * GUARD, &t->error))
        exit(STATUS_RUNTIME);
    device_free(&t->device, device);
    for (size_t i = 0; i < GUARD; i++)
        if (host[i] != 0xA5 || host[GUARD + bytes + i] != 0xA5) {
            fprintf(stderr, "rank %d: written beside a buffer of %lld elements\n", t->rank, (long long)n);
            exit(STATUS_RUNTIME);
        }
    memmove(host, host + GUARD, bytes);
    return (char *)host;
}

static int sum_check(struct rank_test *t, enum dtype dtype, const char *host, int64_t from, int64_t count, int call)
{
    for (int64_t i = from; i < from + count; i++) {
        unsigned char one[8] = {0};
        double sum = 0, magnitude = 0;
        float single = 0;
        for (int rank = 0; rank < t->size; rank++) {
            store(one, dtype, 0, element(rank, i, call));
            const double value = load(one, dtype, 0);
            sum += value;
            single += (float)value;
            magnitude += fabs(value);
        }
        store(one, dtype, 0, dtype == DTYPE_F64 ? sum : (double)single);
        const double wanted = load(one, dtype, 0), got = load(host, dtype, i);
        const double step = dtype == DTYPE_F64 ? 0x1p-52 : dtype == DTYPE_F32 ? 0x1p-23 : 0x1p-8;
        const double bound = t->exact ? 0 : step * t->size * magnitude;
        if (!(fabs(got - wanted) <= bound))
            return error_set(&t->error, STATUS_RUNTIME, "rank %d: %s element %lld is %.17g, expected %.17g", t->rank,
                             dtype_name(dtype), (long long)i, got, wanted);
    }
    return STATUS_OK;
}

/* reduce_scatter, all_gather and all_reduce of one size and type, queued together. */
static int sums_test(struct rank_test *t, enum dtype dtype, int64_t n)
{
    char *device[CALLS] = {0};
    int64_t from, count;
    int status = STATUS_OK;
    comm_slice(n, t->size, t->rank, &from, &count);
    for (int call = 0; !status && call < CALLS; call++)
        status = buffer_make(t, dtype, n, call < 2 ? 0 : call, &device[call]);
    if (!status) /* the first two hold the same numbers */
        status = comm_reduce_scatter(t->comm, dtype, device[0] + GUARD, n, &t->error);
    if (!status)
        status = comm_all_gather(t->comm, dtype, device[0] + GUARD, n, &t->error);
    if (!status)
        status = comm_all_reduce(t->comm, dtype, device[1] + GUARD, n, &t->error);
    if (!status)
        status = comm_reduce_scatter(t->comm, dtype, device[2] + GUARD, n, &t->error);
    if (!status)
        status = comm_wait(t->comm, &t->error);
    if (status)
        return status;
    char *host[CALLS];
    for (int call = 0; call < CALLS; call++)
        host[call] = buffer_take(t, dtype, n, device[call]);
    if (memcmp(host[0], host[1], (size_t)n * dtype_size(dtype)))
        status = error_set(&t->error, STATUS_RUNTIME, "rank %d: all_reduce of %lld %s has other bits than its halves",
                           t->rank, (long long)n, dtype_name(dtype));
    if (!status)
        status = sum_check(t, dtype, host[1], 0, n, 0);
    if (!status)
        status = sum_check(t, dtype, host[2], from, count, 2);
    XXH64_update(t->hash, host[1], (size_t)n * dtype_size(dtype));
    for (int call = 0; call < CALLS; call++)
        free(host[call]);
    return status;
}

static int broadcast_test(struct rank_test *t, int64_t n, int root)
{
    char *device;
    int status = buffer_make(t, DTYPE_F32, n, 5, &device);
    if (!status)
        status = comm_broadcast(t->comm, device + GUARD, (size_t)n * 4, root, &t->error);
    if (!status)
        status = comm_wait(t->comm, &t->error);
    if (status)
        return status;
    char *host = buffer_take(t, DTYPE_F32, n, device);
    for (int64_t i = 0; !status && i < n; i++)
        if (load(host, DTYPE_F32, i) != (double)(float)element(root, i, 5))
            status = error_set(&t->error, STATUS_RUNTIME, "rank %d: broadcast from %d, element %lld of %lld differs",
                               t->rank, root, (long long)i, (long long)n);
    XXH64_update(t->hash, host, (size_t)n * 4);
    free(host);
    return status;
}

static int values_test(struct rank_test *t)
{
    double sums[3] = {t->rank, 0.1 * t->rank, 1}, expected[3] = {0, 0, 0};
    int64_t most = t->rank == t->size / 2 ? 77 : -t->rank;
    char text[40] = "";
    for (int rank = 0; rank < t->size; rank++)
        expected[0] += rank, expected[1] = rank ? expected[1] + 0.1 * rank : 0, expected[2] += 1;
    int status = comm_sum(t->comm, sums, 3, &t->error);
    if (!status && memcmp(sums, expected, sizeof sums))
        status = error_set(&t->error, STATUS_RUNTIME, "comm_sum: %g %g %g", sums[0], sums[1], sums[2]);
    if (!status)
        status = comm_max(t->comm, &most, &t->error);
    if (!status && most != 77)
        status = error_set(&t->error, STATUS_RUNTIME, "comm_max: %lld", (long long)most);
    for (int root = 0; !status && root < t->size; root++) {
        snprintf(text, sizeof text, "of %d", t->rank);
        status = comm_broadcast_host(t->comm, text, sizeof text, root, &t->error);
        if (!status && (strncmp(text, "of ", 3) || atoi(text + 3) != root))
            status = error_set(&t->error, STATUS_RUNTIME, "comm_broadcast_host: '%s' from %d", text, root);
    }
    if (!status)
        status = comm_barrier(t->comm, &t->error);
    if (!status)
        status = comm_check_equal(t->comm, "seed", "all alike", &t->error);
    return status ? status : comm_agree(t->comm, STATUS_OK, &t->error);
}

static int collectives(struct rank_test *t)
{
    static const int64_t sizes[] = {0, 1, 15, 17, 129, 256, 4099, 256 * 8 * 5};
    static const enum dtype cpu_types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F64, DTYPE_F16};
    t->hash = XXH64_createState();
    XXH64_reset(t->hash, 0);
    int status = values_test(t);
    for (size_t i = 0; !status && i < sizeof sizes / sizeof *sizes; i++) {
        for (int d = 0; !status && d < (t->exact ? 4 : 3); d++)
            status = sums_test(t, cpu_types[d], sizes[i]);
        for (int root = 0; !status && root < t->size; root++)
            status = broadcast_test(t, sizes[i], root);
    }
    /* more than one chunk of the collectives */
    if (!status && t->exact)
        status = sums_test(t, DTYPE_BF16, 600001);
    if (!status)
        printf("bits %016llx\n", (unsigned long long)XXH64_digest(t->hash));
    XXH64_freeState(t->hash);
    return status;
}

/* ---- what goes wrong -------------------------------------------------------------------------------------------- */

static int disagree_text(struct rank_test *t)
{
    char text[300];
    snprintf(text, sizeof text, "%200s learning_rate=%s end", "", t->rank == 1 ? "1e-4" : "1e-5");
    return comm_check_equal(t->comm, "config", text, &t->error);
}

static int disagree_call(struct rank_test *t)
{
    double value = 1;
    return t->rank == 1 ? comm_barrier(t->comm, &t->error) : comm_sum(t->comm, &value, 1, &t->error);
}

static int disagree_tensor(struct rank_test *t)
{
    char *device;
    int status = buffer_make(t, DTYPE_F32, 100, 0, &device);
    if (!status)
        status = comm_all_reduce(t->comm, DTYPE_F32, device + GUARD, t->rank == 1 ? 99 : 100, &t->error);
    if (!status)
        status = comm_wait(t->comm, &t->error);
    device_free(&t->device, device);
    return status;
}

static int one_fails(struct rank_test *t)
{
    int status = t->rank >= 2 ? error_set(&t->error, STATUS_INPUT, "row %d is bad", t->rank) : STATUS_OK;
    return comm_agree(t->comm, status, &t->error);
}

static int one_aborts(struct rank_test *t)
{
    char *device;
    if (t->rank == t->size - 1) {
        comm_abort(t->comm, "the disk is full");
        return error_set(&t->error, STATUS_RUNTIME, "the disk is full");
    }
    int status = buffer_make(t, DTYPE_F32, 100, 0, &device);
    if (!status)
        status = comm_all_reduce(t->comm, DTYPE_F32, device + GUARD, 100, &t->error);
    return status ? status : comm_wait(t->comm, &t->error);
}

/* A collective only queues: rank 0 goes on to a barrier that the others pass before they join the collective. */
static int queue_ahead(struct rank_test *t)
{
    char *device;
    int status = buffer_make(t, DTYPE_F32, 1000, 0, &device);
    if (!status && t->rank)
        status = comm_barrier(t->comm, &t->error);
    if (!status)
        status = comm_all_reduce(t->comm, DTYPE_F32, device + GUARD, 1000, &t->error);
    if (!status && !t->rank)
        status = comm_barrier(t->comm, &t->error);
    if (!status)
        status = comm_wait(t->comm, &t->error);
    char *host = status ? NULL : buffer_take(t, DTYPE_F32, 1000, device);
    if (host)
        status = sum_check(t, DTYPE_F32, host, 0, 1000, 0);
    free(host);
    return status;
}

/* Takes leave while the others make one more call. */
static int one_leaves(struct rank_test *t)
{
    char *device;
    if (t->rank == t->size - 1)
        return STATUS_OK;
    int status = buffer_make(t, DTYPE_F32, 100, 0, &device);
    if (!status)
        status = comm_all_reduce(t->comm, DTYPE_F32, device + GUARD, 100, &t->error);
    return status ? status : comm_wait(t->comm, &t->error);
}

/* The same where rank 0 comes late: the others know before it does that nobody will answer them. */
static int one_leaves_first(struct rank_test *t)
{
    if (t->rank == 0)
        sleep(2);
    return one_leaves(t);
}

/* Ends without a word. */
static int one_ends(struct rank_test *t)
{
    if (t->rank == t->size - 1)
        _exit(0);
    return comm_barrier(t->comm, &t->error);
}

/* Something of everything, again and again, until somebody is killed: collectives, host values, computing, and a file
 * that rank 0 writes. FLAT_RANK_FOLDER is where. */
static int work(struct rank_test *t)
{
    const char *folder = getenv("FLAT_RANK_FOLDER");
    char *device, path[4096];
    int status = buffer_make(t, DTYPE_F32, 100000, 0, &device);
    for (int step = 0; !status && step < 100000; step++) {
        double value = 1;
        status = comm_reduce_scatter(t->comm, DTYPE_F32, device + GUARD, 100000, &t->error);
        usleep(500);
        if (!status)
            status = comm_all_gather(t->comm, DTYPE_F32, device + GUARD, 100000, &t->error);
        if (!status)
            status = comm_wait(t->comm, &t->error);
        if (!status)
            status = comm_sum(t->comm, &value, 1, &t->error);
        if (!status && t->rank == 0) {
            struct file_writer writer;
            snprintf(path, sizeof path, "%s/model", folder);
            status = file_writer_open(&writer, path, FILE_MODE, &t->error);
            for (int i = 0; !status && i < 20; i++) {
                status = file_writer_write(&writer, path, sizeof path, &t->error);
                usleep(100);
            }
            if (!status)
                status = file_writer_commit(&writer, &t->error);
        }
    }
    return status;
}

static const struct {
    const char *name;
    int (*run)(struct rank_test *t);
} scenarios[] = {{"collectives", collectives}, {"queue_ahead", queue_ahead}, {"disagree_text", disagree_text},
                 {"disagree_call", disagree_call}, {"disagree_tensor", disagree_tensor}, {"one_fails", one_fails},
                 {"one_aborts", one_aborts}, {"one_leaves", one_leaves}, {"one_leaves_first", one_leaves_first},
                 {"one_ends", one_ends}, {"work", work}};

static int scenario_run(struct rank_test *t, const char *name, const char *device)
{
    struct rank_env env;
    int status = rank_env_read(&env, &t->error);
    if (!strcmp(name, "mixed_devices") && env.rank == 1)
        device = "cpu";
    if (!status)
        status = device_load(&t->device, device, &t->error);
    if (!status)
        status = comm_open(&t->comm, &env, &t->error);
    if (!status)
        status = comm_attach(t->comm, &t->device, &t->error);
    if (status)
        return status;
    t->rank = comm_rank(t->comm);
    t->size = comm_size(t->comm);
    t->exact = strcmp(device, "emu") != 0;
    printf("launcher %s\n", env.launcher);
    for (int rank = 0; t->rank == 0 && rank < t->size; rank++)
        printf("%s\n", comm_describe(t->comm, rank));
    fflush(stdout);
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
        if (!strcmp(scenarios[i].name, name))
            return scenarios[i].run(t);
    return error_set(&t->error, STATUS_USAGE, "no scenario %s", name);
}

int comm_rank_main(int argc, char **argv)
{
    struct rank_test t = {0};
    signal(SIGPIPE, SIG_IGN); /* as flat does */
    if (argc < 4)
        return STATUS_USAGE;
    int status = scenario_run(&t, argv[2], argv[3]);
    if (status && *t.error.text) /* of several ranks one reports for all */
        fprintf(stderr, "error: %s\n", t.error.text);
    comm_close(t.comm);
    device_close(&t.device);
    return status;
}
