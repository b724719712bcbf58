/* bench_comm.c - see bench_comm.h.
 *
 *     algbw = size / time        busbw = algbw * f, f as in nccl-tests: what each rank's link carried
 *     all_reduce 2 (n - 1) / n   reduce_scatter, all_gather (n - 1) / n   broadcast 1
 */
#include "bench_comm.h"

#include <stdio.h>
#include <stdlib.h>

#include "../comm/comm.h"
#include "../util/clock.h"
#include "../util/float16.h"
#include "../util/memory.h"

static const struct option option_rows[] = {
    {.name = "min_bytes", OPTION_FIELD(struct bench_comm_options, min_bytes), .initial = "1024", .min = 4,
     .max = OPTION_EXACT_MAX, .help = "smallest buffer; the next ones are twice as large each"},
    {.name = "max_bytes", OPTION_FIELD(struct bench_comm_options, max_bytes), .initial = "67108864", .min = 4,
     .max = OPTION_EXACT_MAX, .help = "largest buffer"},
};
const struct option_group bench_comm_option_group = {OPTION_GROUP("Measurement", option_rows, struct bench_comm_options)};

enum { WARM_UP = 3, VALUES = 13, SAMPLES = 50 };

enum collective { ALL_REDUCE, REDUCE_SCATTER, ALL_GATHER, BROADCAST, COLLECTIVES };

static const char *const collective_name[] = {"all_reduce", "reduce_scatter", "all_gather", "broadcast"};

struct comm_bench {
    struct comm *comm;
    struct device device;
    enum dtype dtype;
    char *buffer; /* on the device */
    char *host;   /* the same on the host */
    double busbw_sum;
    int64_t lines, wrong;
    int samples;
};

static int call(struct comm_bench *b, enum collective collective, int64_t n, struct error *error)
{
    switch (collective) {
    case ALL_REDUCE: return comm_all_reduce(b->comm, b->dtype, b->buffer, n, error);
    case REDUCE_SCATTER: return comm_reduce_scatter(b->comm, b->dtype, b->buffer, n, error);
    case ALL_GATHER: return comm_all_gather(b->comm, b->dtype, b->buffer, n, error);
    default: return comm_broadcast(b->comm, b->buffer, (size_t)n * dtype_size(b->dtype), 0, error);
    }
}

/* ---- the check: small whole numbers, whose sums every type holds exactly ---------------------------------------- */

static float value_of(int rank, int64_t i) { return (float)((i + rank) % VALUES); }

static float host_read(const struct comm_bench *b, int64_t i)
{
    return b->dtype == DTYPE_BF16 ? float_from_bf16(((const uint16_t *)b->host)[i]) : ((const float *)b->host)[i];
}

static void host_write(struct comm_bench *b, int64_t i, float value)
{
    if (b->dtype == DTYPE_BF16)
        ((uint16_t *)b->host)[i] = bf16_from_float(value);
    else
        ((float *)b->host)[i] = value;
}

/* What element i must be afterwards; elements beyond the own slice of a reduce_scatter are nobody's. */
static float value_expected(const struct comm_bench *b, enum collective collective, int64_t n, int64_t i)
{
    const int size = comm_size(b->comm);
    float sum = 0;
    if (collective == BROADCAST)
        return value_of(0, i);
    if (collective == ALL_GATHER) {
        int64_t slice, none;
        comm_slice(n, comm_size(b->comm), 0, &none, &slice);
        return value_of(slice && i / slice < size - 1 ? (int)(i / slice) : size - 1, i);
    }
    for (int rank = 0; rank < size; rank++)
        sum += value_of(rank, i);
    return sum;
}

static int check(struct comm_bench *b, enum collective collective, int64_t n, int64_t *wrong, struct error *error)
{
    const size_t bytes = (size_t)n * dtype_size(b->dtype);
    int64_t from = 0, count = n;
    for (int64_t i = 0; i < n; i++)
        host_write(b, i, value_of(comm_rank(b->comm), i));
    int status = device_copy_in(&b->device, b->buffer, b->host, bytes, error);
    if (!status)
        status = call(b, collective, n, error);
    if (!status)
        status = comm_wait(b->comm, error);
    if (!status)
        status = device_copy_out(&b->device, b->host, b->buffer, bytes, error);
    if (collective == REDUCE_SCATTER)
        comm_slice(n, comm_size(b->comm), comm_rank(b->comm), &from, &count);
    double bad = 0;
    for (int64_t i = from; !status && i < from + count; i++)
        bad += host_read(b, i) != value_expected(b, collective, n, i);
    if (!status)
        status = comm_sum(b->comm, &bad, 1, error);
    *wrong = (int64_t)bad;
    return status;
}

/* ---- the time ---------------------------------------------------------------------------------------------------- */

static int calls_time(struct comm_bench *b, enum collective collective, int64_t n, int calls, double *seconds,
                      struct error *error)
{
    int status = comm_barrier(b->comm, error);
    const double start = clock_seconds();
    for (int i = 0; !status && i < calls; i++)
        status = call(b, collective, n, error);
    if (!status)
        status = comm_wait(b->comm, error);
    if (!status)
        status = device_synchronize(&b->device, error);
    int64_t nanoseconds = (int64_t)((clock_seconds() - start) * 1e9);
    if (!status)
        status = comm_max(b->comm, &nanoseconds, error);
    *seconds = (double)nanoseconds * 1e-9 / calls;
    return status;
}

static int line_measure(struct comm_bench *b, enum collective collective, size_t bytes, struct error *error)
{
    const int64_t n = (int64_t)(bytes / dtype_size(b->dtype));
    const double size = comm_size(b->comm), moved = (double)n * (double)dtype_size(b->dtype);
    const double factor = collective == BROADCAST ? 1 : (collective == ALL_REDUCE ? 2 : 1) * (size - 1) / size;
    double seconds = 0;
    int64_t wrong;
    int status = check(b, collective, n, &wrong, error);
    if (!status)
        status = device_zero(&b->device, b->buffer, bytes, error); /* sums in place would grow out of range */
    if (!status)
        status = calls_time(b, collective, n, WARM_UP, &seconds, error);
    if (!status)
        status = calls_time(b, collective, n, b->samples, &seconds, error);
    if (status)
        return status;
    const double algbw = moved / seconds * 1e-9;
    b->busbw_sum += algbw * factor;
    b->wrong += wrong;
    b->lines++;
    if (comm_rank(b->comm) == 0) {
        printf("%12zu %13lld %9s %7s %5s %9.1f %7.2f %7.2f %7lld\n", bytes, (long long)n, dtype_name(b->dtype),
               collective <= REDUCE_SCATTER ? "sum" : "none", collective == BROADCAST ? "0" : "-1", seconds * 1e6,
               algbw, algbw * factor, (long long)wrong);
        fflush(stdout);
    }
    return STATUS_OK;
}

static int tables_measure(struct comm_bench *b, const struct bench_comm_options *options, struct error *error)
{
    const bool root = comm_rank(b->comm) == 0;
    int status = STATUS_OK;
    for (int rank = 0; root && rank < comm_size(b->comm); rank++)
        printf("# %s\n", comm_describe(b->comm, rank));
    for (int collective = 0; !status && collective < COLLECTIVES; collective++) {
        if (root)
            printf("#\n# %-25s%51s\n#%11s %13s %9s %7s %5s %9s %7s %7s %7s\n#%11s %13s %9s %7s %5s %9s %7s %7s\n",
                   collective_name[collective], "in-place", "size", "count", "type", "redop", "root", "time", "algbw",
                   "busbw", "#wrong", "(B)", "(elements)", "", "", "", "(us)", "(GB/s)", "(GB/s)");
        fflush(stdout);
        for (int64_t bytes = options->min_bytes; !status && bytes <= options->max_bytes; bytes *= 2)
            status = line_measure(b, (enum collective)collective, (size_t)bytes, error);
    }
    if (!status && root)
        printf("# Out of bounds values : %lld %s\n# Avg bus bandwidth    : %.5g\n#\n", (long long)b->wrong,
               b->wrong ? "FAILED" : "OK", b->lines ? b->busbw_sum / (double)b->lines : 0.0);
    if (!status && b->wrong)
        status = comm_report_once(b->comm, error_set(error, STATUS_RUNTIME, "bench comm: %lld elements are wrong",
                                               (long long)b->wrong), error);
    return status;
}

int bench_comm(const struct bench_comm_options *options, struct error *error)
{
    struct comm_bench b = {.samples = options->bench.samples ? (int)options->bench.samples : SAMPLES};
    struct rank_env env;
    int status = rank_env_read(&env, error);
    if (!status && env.size == 1)
        status = error_set(error, STATUS_USAGE,
                           "bench comm: one rank has nobody to talk to; add --nproc_per_node 2, or "
                           "start it with torchrun, mpirun or srun");
    if (!status)
        status = comm_open(&b.comm, &env, error);
    if (status)
        return status;
    status = device_open_chosen(&b.device, &options->bench.device, rank_env_device(&env), error);
    status = comm_agree(b.comm, status, error);
    if (!status)
        status = comm_attach(b.comm, &b.device, error);
    if (!status) {
        b.dtype = b.device.engine->dtype == DTYPE_BF16 ? DTYPE_BF16 : DTYPE_F32;
        b.host = memory_array((size_t)options->max_bytes, 1, error);
        status = b.host ? device_alloc(&b.device, (void **)&b.buffer, (size_t)options->max_bytes,
                                       error) : STATUS_MEMORY;
        status = comm_agree(b.comm, status, error);
    }
    if (!status)
        status = tables_measure(&b, options, error);
    comm_close(b.comm);
    device_free(&b.device, b.buffer);
    free(b.host);
    device_close(&b.device);
    return status;
}
