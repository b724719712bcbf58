/* bench_report.c - the table, the JSON and the CSV of `flat bench kernels`; see bench.h. */
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#include "../io/json/json.h"
#include "../util/clock.h"
#include "../util/file.h"
#include "../util/version.h"
#include "bench.h"

/* What a record achieves: flops where the products are its limit, bytes otherwise; a second. */
static double achieved(const struct bench *bench, const struct bench_record *record, const char **unit)
{
    const struct bench_limits *limits = &bench->limits;
    double memory = limits->copy > limits->read ? limits->copy : limits->read;
    memory = memory > limits->scale ? memory : limits->scale;
    bool by_flops = record->flops / limits->product[record->dtype] > record->bytes / memory;
    *unit = by_flops ? "GFLOP/s" : "GB/s";
    return (by_flops ? record->flops : record->bytes) / record->timing.median;
}

void bench_print_header(const struct bench *bench, FILE *stream)
{
    const struct bench_limits *limits = &bench->limits;
    const struct device *device = &bench->device;
    fprintf(stream, "%s: %s\n", device->engine->name, device->engine->describe(device->context));
    fprintf(stream, "limits, measured now: copy %.1f, scale %.1f, read %.1f GB/s; matrix product", 1e-9 * limits->copy,
            1e-9 * limits->scale, 1e-9 * limits->read);
    for (int dtype = 0; dtype < 4; dtype++)
        if (limits->product[dtype] > 0)
            fprintf(stream, " %s %.1f GFLOP/s", dtype_name((enum dtype)dtype), 1e-9 * limits->product[dtype]);
    fprintf(stream, "\n");
    fprintf(stream, "arrays rotate over at least 2 copies and %.0f MB; samples: %d", 4e-6 * (double)bench->cache_bytes,
            bench->options->samples ? (int)bench->options->samples : BENCH_SAMPLES);
    if (bench->options->time_budget > 0)
        fprintf(stream, ", or what fits in %g s (at least %d)", bench->options->time_budget, BENCH_SAMPLES_MIN);
    fprintf(stream, "\n%-66s %9s %9s %9s %4s %9s %8s %8s %7s %8s\n", "case", "time us", "p10", "p90", "n", "MB", "achieved",
            "", "limit", "error");
}

void bench_print_record(const struct bench *bench, const struct bench_record *record, FILE *stream)
{
    const struct bench_timing *t = &record->timing;
    if (record->wrong) {
        fprintf(stream, "%-66s WRONG: off by %.2e, %.1f times what is allowed\n", record->name, record->error.difference,
                record->error.of_allowed);
        return;
    }
    const char *unit;
    double rate = achieved(bench, record, &unit);
    fprintf(stream, "%-66s %9.1f %9.1f %9.1f %4d %9.2f %8.2f %-8s %6.1f%% %8.1e", record->name, 1e6 * t->median, 1e6 * t->p10,
            1e6 * t->p90, t->samples, 1e-6 * record->bytes, 1e-9 * rate, unit, 100 * record->of_limit,
            record->error.difference);
    if (record->baseline_ratio > 0)
        fprintf(stream, "  %.2fx of the baseline's time%s", record->baseline_ratio, record->slower ? " SLOWER" : "");
    if (record->reference)
        fprintf(stream, "  %s takes %.2fx", record->reference, record->reference_ratio);
    fprintf(stream, "\n");
}

void bench_print_summary(const struct bench *bench, FILE *stream)
{
    fprintf(stream, "%zu cases", bench->records);
    if (bench->left_out)
        fprintf(stream, ", %d left out as too large for this %s", bench->left_out,
                bench->options->quick ? "quick run" : bench->gpu ? "device's memory" : "kind of device");
    if (bench->baseline_missing)
        fprintf(stream, ", %d of the baseline not measured", bench->baseline_missing);
    fprintf(stream, "\n");
}

/* "model name" of /proc/cpuinfo; the machine's architecture where there is none. */
static void processor_name(char *out, size_t bytes)
{
    struct utsname system;
    snprintf(out, bytes, "%s", uname(&system) == 0 ? system.machine : "unknown");
    FILE *file = fopen("/proc/cpuinfo", "re");
    char line[256];
    while (file && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) || !colon)
            continue;
        colon[strcspn(colon, "\n")] = 0;
        snprintf(out, bytes, "%s", colon + 2);
        break;
    }
    if (file)
        fclose(file);
}

cJSON *bench_context_json(const struct bench_options *options, const struct device *device)
{
    cJSON *context = cJSON_CreateObject();
    char date[32], processor[200], load[32] = "";
    time_t now = (time_t)clock_wall();
    struct tm utc;
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    processor_name(processor, sizeof processor);
    FILE *file = fopen("/proc/loadavg", "re");
    if (file && !fgets(load, sizeof load, file))
        *load = 0;
    if (file)
        fclose(file);
    load[strcspn(load, " ")] = 0;
    bool ok = context && json_add_string(context, "date", date) && json_add_string(context, "commit", version_commit()) &&
              json_add_string(context, "processor", processor) && json_add_string(context, "load", load) &&
              json_add_number(context, "time_budget", options->time_budget) &&
              json_add_bool(context, "quick", options->quick) &&
              json_add_string(context, "matmul_picks", options->matmul_picks ? "timed" : "off");
    if (ok && device->engine)
        ok = json_add_string(context, "engine", device->engine->name) &&
             json_add_string(context, "device", device->engine->describe(device->context));
    if (ok)
        return context;
    cJSON_Delete(context);
    return NULL;
}

static bool limits_add(cJSON *context, const struct bench_limits *limits)
{
    cJSON *object = cJSON_AddObjectToObject(context, "limits");
    bool ok = object && json_add_number(object, "copy_bytes_per_second", limits->copy) &&
              json_add_number(object, "scale_bytes_per_second", limits->scale) &&
              json_add_number(object, "read_bytes_per_second", limits->read);
    for (int dtype = 0; dtype < 4 && ok; dtype++) {
        char key[64];
        snprintf(key, sizeof key, "product_%s_flops_per_second", dtype_name((enum dtype)dtype));
        ok = limits->product[dtype] == 0 || json_add_number(object, key, limits->product[dtype]);
    }
    return ok;
}

static bool record_add(cJSON *cases, const struct bench_record *r)
{
    cJSON *item = cJSON_CreateObject();
    if (!cJSON_AddItemToArray(cases, item))
        return false;
    bool ok = json_add_string(item, "name", r->name) && json_add_string(item, "op", r->op->name) &&
              json_add_string(item, "shape_of", r->shape->model) && json_add_string(item, "dtype", dtype_name(r->dtype)) &&
              json_add_int(item, "rows", r->rows) && json_add_int(item, "cols", r->shape->cols) &&
              json_add_int(item, "depth", r->shape->depth) && json_add_int(item, "copies", r->sets) &&
              json_add_number(item, "bytes", r->bytes) && json_add_number(item, "flops", r->flops) &&
              json_add_number(item, "error", r->error.difference) &&
              json_add_number(item, "error_of_allowed", r->error.of_allowed) && json_add_bool(item, "wrong", r->wrong);
    if (!ok || r->wrong)
        return ok;
    cJSON *seconds = cJSON_AddObjectToObject(item, "seconds");
    ok = seconds && json_add_number(seconds, "median", r->timing.median) && json_add_number(seconds, "p10", r->timing.p10) &&
         json_add_number(seconds, "p90", r->timing.p90) && json_add_int(item, "samples", r->timing.samples) &&
         json_add_int(item, "calls_of_a_sample", r->timing.calls) && json_add_number(item, "of_limit", r->of_limit);
    if (ok && r->reference)
        ok = json_add_string(item, "reference", r->reference) && json_add_number(item, "reference_time_ratio", r->reference_ratio);
    if (ok && r->baseline_ratio > 0)
        ok = json_add_number(item, "baseline_time_ratio", r->baseline_ratio) && json_add_bool(item, "slower", r->slower);
    return ok;
}

int bench_write_json(const struct bench *bench, const char *path, struct error *error)
{
    cJSON *tree = cJSON_CreateObject(), *context = bench_context_json(bench->options, &bench->device), *cases = NULL;
    bool ok = tree && context && limits_add(context, &bench->limits) && cJSON_AddItemToObject(tree, "context", context);
    if (ok)
        cases = cJSON_AddArrayToObject(tree, "cases");
    else
        cJSON_Delete(context);
    ok = ok && cases;
    for (size_t i = 0; i < bench->records && ok; i++)
        ok = record_add(cases, &bench->record[i]);
    int status = ok ? json_write(tree, path, error) : error_set(error, STATUS_MEMORY, "out of host memory");
    cJSON_Delete(tree);
    return status;
}

/* One line per case, times in seconds. */
int bench_write_csv(const struct bench *bench, const char *path, struct error *error)
{
    struct buffer text = {0};
    int status = buffer_printf(&text, error, "name,op,dtype,shape_of,rows,cols,depth,samples,median,p10,p90,bytes,flops,"
                                             "of_limit,error\n");
    for (size_t i = 0; i < bench->records && !status; i++) {
        const struct bench_record *r = &bench->record[i];
        status = buffer_printf(&text, error, "%s,%s,%s,%s,%lld,%lld,%lld,%d,%.9g,%.9g,%.9g,%.17g,%.17g,%.4f,%.3g\n", r->name,
                               r->op->name, dtype_name(r->dtype), r->shape->model, (long long)r->rows,
                               (long long)r->shape->cols, (long long)r->shape->depth, r->timing.samples, r->timing.median,
                               r->timing.p10, r->timing.p90, r->bytes, r->flops, r->of_limit, r->error.difference);
    }
    if (!status)
        status = file_write(path, text.data, text.length, error);
    buffer_free(&text);
    return status;
}
