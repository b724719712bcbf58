/* step_report.c - the table and the JSON of `flat bench step`; see step.h. */
#include <math.h>
#include <stdlib.h>

#include "../io/json/json.h"
#include "step.h"

enum { OPS_SHOWN = 5 };

#define X(op, arguments) #op,
static const char *const op_names[] = {ENGINE_OPS(X)};
#undef X

void step_print_header(const struct bench *bench, FILE *stream)
{
    const struct device *device = &bench->device;
    if (bench->step->predict)
        fprintf(stream, "NOT MEASURED: predicted for one GPU in %s, by the rates of flat plan\n", dtype_name(bench->dtype));
    else
        fprintf(stream, "%s: %s\n", device->engine->name, device->engine->describe(device->context));
    fprintf(stream, "flops of a step: 6 (weights of the layers) rows + 6 vocab hidden target_rows + 14 heads head_dim layers "
                    "visible_keys\n");
    fprintf(stream, "%-36s %7s %7s %9s %9s %9s %3s %8s %8s %9s %9s %9s\n", "model/workload/pairs/variant", "rows", "targets",
            "ms", "p10", "p90", "n", "pairs/s", "rows/s", "TFLOP/s", "plan MB", "used MB");
}

static double profile_seconds(const struct profile *profile)
{
    double seconds = 0;
    for (int op = 0; op < ENGINE_OP_COUNT; op++)
        seconds += profile->row[op].seconds;
    return seconds;
}

static int by_time(const void *left, const void *right)
{
    const struct profile_row *const *a = left, *const *b = right;
    return ((*a)->seconds < (*b)->seconds) - ((*a)->seconds > (*b)->seconds);
}

void step_print(const struct step_result *r, FILE *stream)
{
    const struct bench_timing *t = &r->timing;
    if (r->predicted > 0) {
        fprintf(stream, "%-36s %7lld %7lld %9.1f %9s %9s %3s %8.2f %8.0f %9.4f %9.1f\n", r->name, (long long)r->rows,
                (long long)r->targets, 1e3 * r->predicted, "", "", "", r->pairs / r->predicted, (double)r->rows / r->predicted,
                1e-12 * r->flops / r->predicted, 1e-6 * r->planned_bytes);
        return;
    }
    fprintf(stream, "%-36s %7lld %7lld %9.1f %9.1f %9.1f %3d %8.2f %8.0f %9.4f %9.1f", r->name, (long long)r->rows,
            (long long)r->targets, 1e3 * t->median, 1e3 * t->p10, 1e3 * t->p90, t->samples, r->pairs / t->median,
            (double)r->rows / t->median, 1e-12 * r->flops / t->median, 1e-6 * r->planned_bytes);
    fprintf(stream, " %9.1f", 1e-6 * r->measured_bytes);
    if (r->sol > 0)
        fprintf(stream, "  sol %.1f %%", 100 * r->sol);
    fprintf(stream, "\n");
    const double total = profile_seconds(&r->profile);
    const struct profile_row *row[ENGINE_OP_COUNT];
    for (int op = 0; op < ENGINE_OP_COUNT; op++)
        row[op] = &r->profile.row[op];
    qsort(row, ENGINE_OP_COUNT, sizeof *row, by_time);
    for (int i = 0; i < OPS_SHOWN && total > 0; i++)
        fprintf(stream, "%s%s %.1f%%", i ? ", " : "    ", op_names[row[i] - r->profile.row], 100 * row[i]->seconds / total);
    if (isfinite(r->loss))
        fprintf(stream, "%sloss %.9g, P(template) %.4g, P(forget) %.4g", total > 0 ? "; " : "    ", r->loss, r->prob_template,
                r->prob_forget);
    fprintf(stream, "\n");
}

/* Of each op of a step: its share of the time, its calls, and what their contracts say. */
static bool ops_add(cJSON *item, const struct profile *profile)
{
    const double total = profile_seconds(profile);
    cJSON *shares = cJSON_AddObjectToObject(item, "ops_share"), *ops = cJSON_AddObjectToObject(item, "ops");
    bool ok = shares && ops;
    for (int op = 0; op < ENGINE_OP_COUNT && ok; op++) {
        const struct profile_row *row = &profile->row[op];
        if (!row->calls)
            continue;
        cJSON *entry = cJSON_AddObjectToObject(ops, op_names[op]);
        ok = json_add_number(shares, op_names[op], row->seconds / total) && entry && json_add_int(entry, "calls", row->calls) &&
             json_add_number(entry, "bytes", row->bytes) && json_add_number(entry, "flops", row->flops);
    }
    return ok;
}

static bool result_add(cJSON *cases, const struct step_result *r)
{
    cJSON *item = cJSON_CreateObject();
    if (!cJSON_AddItemToArray(cases, item))
        return false;
    bool ok = json_add_string(item, "name", r->name) && json_add_string(item, "model", r->model) &&
              json_add_string(item, "workload", r->workload) && json_add_string(item, "variant", step_variant_name(r->variant)) &&
              json_add_int(item, "pairs", r->pairs) && json_add_int(item, "parameters", r->parameters) &&
              json_add_int(item, "rows", r->rows) && json_add_int(item, "target_rows", r->targets) &&
              json_add_int(item, "visible_keys", r->visible) && json_add_number(item, "flops", r->flops) &&
              json_add_number(item, "planned_bytes", r->planned_bytes);
    if (!ok || r->predicted > 0)
        return ok && json_add_number(item, "predicted_seconds", r->predicted);
    ok = json_add_number(item, "loss", r->loss) && json_add_number(item, "prob_template", r->prob_template) &&
         json_add_number(item, "prob_forget", r->prob_forget) &&
         json_add_number(item, "measured_bytes", r->measured_bytes > 0 ? r->measured_bytes : NAN) &&
         json_add_int(item, "samples", r->timing.samples) &&
         json_add_number(item, "pairs_per_second", r->pairs / r->timing.median) &&
         json_add_number(item, "tokens_per_second", (double)r->rows / r->timing.median) &&
         (r->sol <= 0 || json_add_number(item, "sol", r->sol));
    cJSON *seconds = ok ? cJSON_AddObjectToObject(item, "seconds") : NULL;
    return seconds && json_add_number(seconds, "median", r->timing.median) && json_add_number(seconds, "p10", r->timing.p10) &&
           json_add_number(seconds, "p90", r->timing.p90) && ops_add(item, &r->profile);
}

int step_write_json(const struct bench *bench, const struct step_result *result, size_t results, const char *path,
                    struct error *error)
{
    cJSON *tree = cJSON_CreateObject(), *context = bench_context_json(bench->options, &bench->device), *cases = NULL;
    bool ok = tree && context && cJSON_AddItemToObject(tree, "context", context);
    if (ok)
        cases = cJSON_AddArrayToObject(tree, "cases");
    else
        cJSON_Delete(context);
    ok = ok && cases;
    for (size_t i = 0; i < results && ok; i++)
        ok = result_add(cases, &result[i]);
    int status = ok ? json_write(tree, path, error) : error_set(error, STATUS_MEMORY, "out of host memory");
    cJSON_Delete(tree);
    return status;
}
