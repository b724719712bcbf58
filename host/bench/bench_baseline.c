/* bench_baseline.c - earlier figures and those of other programs, by the names of cases; see bench.h. */
#include <string.h>

#include "../io/json/json.h"
#include "bench.h"

#define NOISE_LEAST 0.05

/* seconds.<key> of a case of a file; 0 when it is not there. */
static double case_seconds(const cJSON *item, const char *key)
{
    const cJSON *seconds = json_member(json_member(item, "seconds"), key);
    return cJSON_IsNumber(seconds) && seconds->valuedouble > 0 ? seconds->valuedouble : 0;
}

/* The file's tree, every case with a name and a median. */
static int file_read_cases(cJSON **tree, const char *path, const char *what, struct error *error)
{
    if (!*path)
        return STATUS_OK;
    *tree = json_read(path, error);
    if (!*tree)
        return error->status;
    const cJSON *cases = json_member(*tree, "cases"), *item;
    if (!cJSON_IsArray(cases))
        return error_set(error, STATUS_INPUT, "%s: expected an object with the list \"cases\", as %s", path, what);
    cJSON_ArrayForEach(item, cases)
        if (!cJSON_IsString(json_member(item, "name")) || case_seconds(item, "median") == 0)
            return error_set(error, STATUS_INPUT, "%s: every case needs \"name\" and \"seconds\": {\"median\": ...}, as %s",
                             path, what);
    return STATUS_OK;
}

int bench_baseline_read(struct bench *bench, struct error *error)
{
    int status = file_read_cases(&bench->baseline, bench->options->baseline, "'flat bench kernels --json' writes it", error);
    if (!status)
        status = file_read_cases(&bench->reference, bench->options->reference, "benches/pytorch/kernels.py writes it", error);
    return status;
}

/* p10 to p90 as a share of the median; the baseline may lack the two. */
static double spread(double p10, double median, double p90) { return p10 > 0 && p90 > 0 ? (p90 - p10) / median : 0; }

void bench_baseline_compare(const struct bench *bench, struct bench_record *record)
{
    const struct bench_timing *timing = &record->timing;
    const cJSON *item;
    record->slower = false;
    cJSON_ArrayForEach(item, json_member(bench->baseline, "cases")) {
        if (strcmp(json_member(item, "name")->valuestring, record->name))
            continue;
        double before = case_seconds(item, "median"), noise = NOISE_LEAST;
        double own = spread(timing->p10, timing->median, timing->p90);
        double other = spread(case_seconds(item, "p10"), before, case_seconds(item, "p90"));
        noise = own > noise ? own : noise;
        noise = other > noise ? other : noise;
        record->baseline_ratio = timing->median / before;
        record->slower = record->baseline_ratio > 1 + noise;
    }
    record->reference = NULL;
    cJSON_ArrayForEach(item, json_member(bench->reference, "cases")) {
        if (strcmp(json_member(item, "name")->valuestring, record->name))
            continue;
        double ratio = case_seconds(item, "median") / timing->median;
        if (record->reference && ratio >= record->reference_ratio)
            continue;
        const cJSON *reference = json_member(item, "reference");
        record->reference = cJSON_IsString(reference) ? reference->valuestring : "reference";
        record->reference_ratio = ratio;
    }
}

int bench_baseline_count_missing(const struct bench *bench)
{
    int missing = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, json_member(bench->baseline, "cases")) {
        const char *name = json_member(item, "name")->valuestring;
        bool measured = !bench_filter_takes(bench->options->filter, name);
        for (size_t i = 0; i < bench->records && !measured; i++)
            measured = !strcmp(bench->record[i].name, name);
        missing += !measured;
    }
    return missing;
}
