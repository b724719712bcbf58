/* bench.c - `flat bench kernels`; see bench.h. */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

#include "../util/memory.h"

static int quick_check(const struct option_set *set, void *values, struct error *error)
{
    (void)error;
    struct bench_options *options = values;
    if (options->quick && !option_given(set, "time_budget"))
        options->time_budget = 0.5;
    return STATUS_OK;
}

static const struct option bench_rows[] = {
    {.name = "samples", OPTION_FIELD(struct bench_options, samples), .initial = "0", .max = OPTION_COUNT_MAX,
     .help = "samples of each case; 0 is 50 of kernels and comm, 10 of steps, 5 of io"},
};
static const char *const picks_names[] = {"off", "timed", NULL};
static const struct option case_rows[] = {
    {.name = "list", OPTION_FIELD(struct bench_options, list), .help = "print the names of what would be measured"},
    {.name = "filter", OPTION_FIELD(struct bench_options, filter),
     .help = "measure only what has this in its name; several with commas"},
    {.name = "quick", OPTION_FIELD(struct bench_options, quick),
     .help = "the fewest rows of every shape; half a second per case unless --time_budget says otherwise"},
    {.name = "time_budget", OPTION_FIELD(struct bench_options, time_budget), .initial = "0", .max = HUGE_VAL,
     .help = "seconds after which a case makes do with fewer samples (5 of kernels, 3 of steps); 0 takes them all"},
    {.name = "matmul_picks", OPTION_FIELD(struct bench_options, matmul_picks), .choices = picks_names, .initial = "timed",
     .help = "a GPU's matrix products: the fastest of the library's proposals for each, as a training has it, or the first; kept nowhere"},
};
static const struct option json_rows[] = {
    {.name = "json", OPTION_FIELD(struct bench_options, json), .operand = "FILE", .help = "also write the figures there"},
};
static const struct option kernels_rows[] = {
    {.name = "float32", OPTION_FIELD(struct bench_options, float32), .help = "of a GPU's kernels also those in float32"},
    {.name = "csv", OPTION_FIELD(struct bench_options, csv), .operand = "FILE",
     .help = "also write the figures there, one line per case"},
    {.name = "baseline", OPTION_FIELD(struct bench_options, baseline), .operand = "FILE",
     .help = "an earlier --json; exit code 1 when a case has become slower beyond the noise of both"},
    {.name = "reference", OPTION_FIELD(struct bench_options, reference), .operand = "FILE",
     .help = "times of other programs by the same names; shows the fastest"},
};
#define BENCH_GROUP(rows) OPTION_GROUP("Measurement", rows, struct bench_options)
const struct option_group bench_option_group = {BENCH_GROUP(bench_rows)},
                          bench_case_option_group = {BENCH_GROUP(case_rows), .check = quick_check},
                          bench_json_option_group = {BENCH_GROUP(json_rows)},
                          bench_kernels_option_group = {BENCH_GROUP(kernels_rows)};

/* What a case may take on a CPU, so that a run ends in minutes, and with --quick in about one. */
#define CPU_BYTES 400e6
#define CPU_FLOPS 10e9
#define QUICK_BYTES 170e6
#define QUICK_FLOPS 5e9
#define CACHE_CPU ((size_t)32 << 20)
#define CACHE_GPU ((size_t)64 << 20)

/* Check, then time, then a second time when it seems slower than the baseline: one bad moment is no regression. */
static int case_measure(struct bench *bench, const struct bench_case *c, struct bench_record *record, struct error *error)
{
    struct bench_arrays arrays;
    *record = (struct bench_record){.op = c->op, .shape = c->shape, .dtype = c->dtype, .rows = c->rows,
                                    .bytes = c->bytes, .flops = c->flops};
    snprintf(record->name, sizeof record->name, "%s", c->name);
    int status = bench->oracle.context ? bench_check(c, &bench->device, &bench->oracle, &record->error, error) : STATUS_OK;
    if (status)
        return status;
    status = bench_arrays_make(&arrays, bench, c, error);
    record->sets = arrays.sets;
    record->wrong = record->error.of_allowed > 1;
    for (int attempt = 0; attempt < 2 && !status && !record->wrong; attempt++) {
        struct bench_timing timing = {0};
        status = bench_time(bench, c, &arrays, &timing, error);
        if (!attempt || timing.median < record->timing.median)
            record->timing = timing;
        record->of_limit = bench_limit_seconds(bench, c) / record->timing.median;
        bench_baseline_compare(bench, record);
        if (!record->slower)
            break;
    }
    bench_arrays_free(&arrays, bench);
    return status;
}

static int case_run(struct bench *bench, struct bench_case *c, struct error *error)
{
    struct bench_record record;
    int status = memory_grow(&bench->record, &bench->capacity, bench->records + 1, sizeof *bench->record, error);
    if (!status)
        status = case_measure(bench, c, &record, error);
    if (status)
        return status;
    bench->record[bench->records++] = record;
    bench_print_record(bench, &record, stdout);
    fflush(stdout);
    /* as they come: a run that is cut short leaves what it has measured */
    return *bench->options->json ? bench_write_json(bench, bench->options->json, error) : STATUS_OK;
}

/* Runs, or lists, one case if it is not too large for this run. */
static int case_visit(struct bench *bench, const struct bench_op *op, const struct bench_shape *shape, int64_t rows,
                      enum dtype dtype, struct error *error)
{
    struct bench_case c;
    int status = bench_case_make(&c, op, shape, rows, dtype, bench->normal, error);
    if (!status && !bench_filter_takes(bench->options->filter, c.name))
        ;
    else if (!status && ((double)bench_case_bytes(&c) > bench->max_bytes || c.flops > bench->max_flops))
        bench->left_out++;
    else if (!status && bench->options->list) {
        bench->records++;
        puts(c.name);
    } else if (!status)
        status = case_run(bench, &c, error);
    bench_case_free(&c);
    return status;
}

static int cases_visit(struct bench *bench, struct error *error)
{
    const enum dtype dtypes[2] = {bench->device.engine->dtype, DTYPE_F32};
    const int64_t end[] = {0}; /* a quick run takes the fewest rows of each shape only */
    int status = STATUS_OK;
    for (const struct bench_op *const *op = bench_ops; *op; op++)
        for (int d = 0; d < (bench->options->float32 && dtypes[0] != DTYPE_F32 ? 2 : 1); d++)
            for (int s = 0; s < (*op)->shapes; s++)
                for (const int64_t *rows = (*op)->shape[s].rows ? end : (*op)->rows; *rows && !status; rows = bench->options->quick ? end : rows + 1)
                    status = case_visit(bench, *op, &(*op)->shape[s], *rows, dtypes[d], error);
    if (!status && !bench->records)
        return error_set(error, STATUS_USAGE, "--filter: no case%s has '%s' in its name; 'flat bench kernels --list' names "
                         "them all", bench->left_out ? " small enough for this run" : "", bench->options->filter);
    return status;
}

/* Of a CPU as the kernel tells it; sysconf gives that of the whole socket, which a virtual machine may not have. */
static size_t last_cache(void)
{
    FILE *file = fopen("/sys/devices/system/cpu/cpu0/cache/index3/size", "re");
    size_t kilobytes;
    bool known = file && fscanf(file, "%zuK", &kilobytes) == 1 && kilobytes > 0;
    if (file)
        fclose(file);
    return known ? kilobytes * 1024 : CACHE_CPU;
}

/* What results are compared with. */
static int oracle_open(struct bench *bench, struct error *error)
{
    char path[4096];
    if (device_library("cpu64", path, sizeof path))
        return device_open(&bench->oracle, "cpu64", 0, (int)bench->options->device.threads, error);
    log_warning(bench->log, "results are not checked: there is no libflat_cpu64.so beside the program in %s; build it with "
                "make", path);
    return STATUS_OK;
}

static int bench_open(struct bench *bench, struct error *error)
{
    const struct bench_options *options = bench->options;
    int status = device_open_chosen(&bench->device, &options->device, 0, error);
    if (status)
        return status;
    bench->gpu = bench_is_gpu(&bench->device);
    bench->cache_bytes = bench->gpu ? CACHE_GPU : last_cache();
    size_t available;
    status = device_status(&bench->device, "memory_free",
                           bench->device.engine->memory_free(bench->device.context, &available), error);
    bench->max_bytes = 0.5 * (double)available;
    bench->max_flops = 1e18;
    if (!bench->gpu) {
        const double bytes = options->quick ? QUICK_BYTES : CPU_BYTES;
        bench->max_bytes = bytes < bench->max_bytes ? bytes : bench->max_bytes;
        bench->max_flops = options->quick ? QUICK_FLOPS : CPU_FLOPS;
    }
    if (!status && options->matmul_picks && bench->device.engine->picks_time)
        status = device_status(&bench->device, "picks_time", bench->device.engine->picks_time(bench->device.context, true), error);
    bench->normal = bench_normal_make(error);
    if (!status && !bench->normal)
        return STATUS_MEMORY;
    return status || options->list ? status : oracle_open(bench, error);
}

/* What the records say of the run as a whole. */
static int verdict(const struct bench *bench, struct error *error)
{
    int wrong = 0, slower = 0;
    for (size_t i = 0; i < bench->records; i++) {
        wrong += bench->record[i].wrong;
        slower += bench->record[i].slower;
    }
    if (wrong)
        return error_set(error, STATUS_RUNTIME, "%d of %zu results are wrong, see WRONG above", wrong, bench->records);
    if (slower)
        return error_set(error, STATUS_RUNTIME, "%d of %zu cases are slower than in %s beyond the noise, see SLOWER above",
                         slower, bench->records, bench->options->baseline);
    return STATUS_OK;
}

int bench_kernels(const struct bench_options *options, struct log *log, struct error *error)
{
    struct bench bench = {.options = options, .log = log};
    int status = bench_baseline_read(&bench, error);
    if (!status)
        status = bench_open(&bench, error);
    if (!status && !options->list) {
        status = bench_limits_measure(&bench, error);
        if (!status)
            bench_print_header(&bench, stdout);
    }
    if (!status)
        status = cases_visit(&bench, error);
    if (!status && !options->list) {
        bench.baseline_missing = bench_baseline_count_missing(&bench);
        bench_print_summary(&bench, stdout);
        if (*options->csv)
            status = bench_write_csv(&bench, options->csv, error);
        if (!status)
            status = verdict(&bench, error);
    }
    cJSON_Delete(bench.baseline);
    cJSON_Delete(bench.reference);
    free(bench.record);
    free(bench.normal);
    device_close(&bench.device);
    device_close(&bench.oracle);
    return status;
}
