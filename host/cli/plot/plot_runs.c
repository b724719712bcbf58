/* plot_runs.c - see plot.h. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../io/json/json.h"
#include "../../util/file.h"
#include "chart.h"
#include "plot.h"

enum { PROBABILITY, LOSS, GRADIENT, RATE, SLOPE, PANELS };

/* Which key of a training line goes where; a key that ends in '_' is a family of series, named by what follows. */
static const struct {
    const char *key;
    int panel;
} source[] = {
    {"prob_", PROBABILITY}, {"loss", LOSS},           {"loss_", LOSS},
    {"grad_norm", GRADIENT}, {"learning_rate", RATE}, {"slope_", SLOPE},
};

struct curves {
    struct chart_panel panel[PANELS];
    int64_t steps;
    double epochs;
    const char *run; /* what the lines of this run are called; "" where there is only one */
    int run_color;
    char method[64], machines[160];
};

/* Of one run: template and forget have the same colours in every panel, others take what is left in turn. Of several:
 * each run has its colour. */
static int series_color(const struct curves *curves, const struct chart_panel *panel, const char *name)
{
    if (*curves->run)
        return curves->run_color;
    if (!*name || strcmp(name, "template") == 0)
        return 0;
    if (strcmp(name, "forget") == 0)
        return 1;
    int color = 2;
    for (size_t i = 0; i < panel->count; i++)
        color += panel->series[i].color >= 2;
    return color;
}

static int series_find(struct curves *curves, struct chart_panel *panel, const char *name, bool marked, const char *where,
                       struct chart_series **series, struct error *error)
{
    char full[sizeof (*series)->name];
    snprintf(full, sizeof full, "%s%s%s", curves->run, *curves->run && *name ? " " : "", name);
    for (size_t i = 0; i < panel->count; i++)
        if (panel->series[i].marked == marked && strcmp(panel->series[i].name, full) == 0) {
            *series = &panel->series[i];
            return STATUS_OK;
        }
    if (panel->count == CHART_SERIES_MAX)
        return error_set(error, STATUS_INPUT, "%s: more than %d lines in the panel '%s'; plot fewer runs", where,
                         CHART_SERIES_MAX, panel->title);
    *series = &panel->series[panel->count];
    memcpy((*series)->name, full, sizeof full);
    (*series)->color = series_color(curves, panel, name);
    (*series)->marked = marked;
    (*series)->dashed = marked || (*curves->run && strcmp(name, "template") == 0);
    panel->count++;
    return STATUS_OK;
}

static int curve_add(struct curves *curves, int panel, const char *name, bool marked, int64_t step, const cJSON *value,
                     const char *where, struct error *error)
{
    if (!cJSON_IsNumber(value) && !cJSON_IsNull(value))
        return error_set(error, STATUS_INPUT, "%s: %s: expected a number or null", where, value->string);
    struct chart_series *series = NULL;
    int status = series_find(curves, &curves->panel[panel], name, marked, where, &series, error);
    double y = cJSON_IsNumber(value) ? value->valuedouble : NAN;
    return status ? status : chart_series_add(series, (double)step, y, error);
}

static int training_line(struct curves *curves, const cJSON *line, int64_t step, const char *where, struct error *error)
{
    int status = STATUS_OK;
    for (const cJSON *item = line->child; item && !status; item = item->next)
        for (size_t i = 0; i < sizeof source / sizeof source[0] && !status; i++) {
            size_t length = strlen(source[i].key);
            bool family = source[i].key[length - 1] == '_';
            if (strncmp(item->string, source[i].key, length) == 0 && (family || !item->string[length]))
                status = curve_add(curves, source[i].panel, item->string + length, false, step, item, where, error);
        }
    curves->steps = step > curves->steps ? step : curves->steps;
    return status ? status : json_get_double_or(line, where, "epoch", &curves->epochs, error);
}

static int evaluation_line(struct curves *curves, const cJSON *line, const cJSON *eval, int64_t step, const char *where,
                           struct error *error)
{
    const cJSON *value = json_member(line, "prob_mean");
    if (!cJSON_IsString(eval))
        return error_set(error, STATUS_INPUT, "%s: eval: expected a string, the name of the evaluation", where);
    char name[64];
    snprintf(name, sizeof name, "%.48s (eval)", eval->valuestring);
    return value ? curve_add(curves, PROBABILITY, name, true, step, value, where, error) : STATUS_OK;
}

static int line_read(struct curves *curves, const char *text, size_t length, const char *where, struct error *error)
{
    cJSON *line = json_parse(text, length, where, error);
    if (!line)
        return error->status;
    int64_t step = -1;
    const cJSON *value = json_member(line, "step"), *eval = json_member(line, "eval");
    int status = STATUS_OK;
    if (!cJSON_IsObject(line))
        status = error_set(error, STATUS_INPUT, "%s: expected an object of metrics", where);
    else if (!value || !json_integer(value, &step) || step < 0)
        status = error_set(error, STATUS_INPUT, "%s: step: expected an integer of at least 0", where);
    else if (eval)
        status = evaluation_line(curves, line, eval, step, where, error);
    else
        status = training_line(curves, line, step, where, error);
    cJSON_Delete(line);
    return status;
}

static int metrics_read(struct curves *curves, const char *path, struct error *error)
{
    char *text;
    size_t length, at = 0;
    int status = file_read(path, (size_t)1 << 30, &text, &length, error);
    if (status)
        return status;
    for (int number = 1; at < length && !status; number++) {
        const char *line = text + at, *end = memchr(line, '\n', length - at);
        size_t bytes = end ? (size_t)(end - line) : length - at;
        at += bytes + 1;
        if (bytes == 0 || (bytes == 1 && *line == '\r'))
            continue;
        char where[4200];
        snprintf(where, sizeof where, "%s:%d", path, number);
        status = line_read(curves, line, bytes, where, error);
        if (status == STATUS_INPUT && !end)
            status = STATUS_OK; /* half a line: its writer is at work, or was killed */
    }
    free(text);
    return status;
}

/* run.json says the method and the machine; a folder without one is plotted without them. Only a want of memory is a failure. */
static int run_read(struct curves *curves, const char *run_dir, struct error *error)
{
    struct error ignored = {0};
    char path[4096];
    const char *method = "", *host = "", *device = "";
    if (file_join(path, sizeof path, run_dir, "run.json", &ignored) || !file_exists(path))
        return STATUS_OK;
    cJSON *tree = json_read(path, &ignored);
    if (ignored.status == STATUS_MEMORY) {
        *error = ignored;
        return STATUS_MEMORY;
    }
    const cJSON *config = tree ? json_member(tree, "config") : NULL;
    if (config && json_get_string_or(config, path, "method", &method, &ignored))
        method = "";
    if (tree && (json_get_string_or(tree, path, "host", &host, &ignored) ||
                 json_get_string_or(tree, path, "device", &device, &ignored)))
        host = device = "";
    snprintf(curves->method, sizeof curves->method, "%s", method);
    char machine[sizeof curves->machines];
    snprintf(machine, sizeof machine, "%.40s%s%.80s", host, *host && *device ? ": " : "", device);
    if (!strstr(curves->machines, machine)) {
        size_t used = strlen(curves->machines);
        snprintf(curves->machines + used, sizeof curves->machines - used, "%s%s", used ? "; " : "", machine);
    }
    cJSON_Delete(tree);
    return STATUS_OK;
}

/* The last part of a path; all of it where another run's is the same. */
static const char *run_name(const char *const *run_dirs, size_t count, size_t own)
{
    const char *slash = strrchr(run_dirs[own], '/'), *name = slash && slash[1] ? slash + 1 : run_dirs[own];
    for (size_t i = 0; i < count; i++) {
        const char *other = strrchr(run_dirs[i], '/');
        if (i != own && strcmp(other && other[1] ? other + 1 : run_dirs[i], name) == 0)
            return run_dirs[own];
    }
    return name;
}

static int curves_read(struct curves *curves, const char *const *run_dirs, size_t count, struct error *error)
{
    static const struct chart_panel empty[PANELS] = {
        [PROBABILITY] = {.title = "Mean token probability of answers", .unit = "probability, 0 to 1", .y_max = 1},
        [LOSS] = {.title = "Loss", .unit = "as the method defines it, per pair or per answer token"},
        [GRADIENT] = {.title = "Gradient norm", .unit = "L2 norm over all weights, before clipping", .from_zero = true},
        [RATE] = {.title = "Learning rate", .unit = "AdamW's step size", .from_zero = true},
        [SLOPE] = {.title = "Slope of the loss", .unit = "loss per unit of mean token probability"},
    };
    int status = STATUS_OK;
    memcpy(curves->panel, empty, sizeof empty);
    for (size_t i = 0; i < count && !status; i++) {
        char path[4096];
        curves->run = count > 1 ? run_name(run_dirs, count, i) : "";
        curves->run_color = (int)i;
        status = run_read(curves, run_dirs[i], error);
        if (!status)
            status = file_join(path, sizeof path, run_dirs[i], "metrics.jsonl", error);
        if (!status)
            status = metrics_read(curves, path, error);
    }
    return status;
}

static int curves_draw(const struct curves *curves, const char *const *run_dirs, size_t count, struct buffer *out,
                       struct error *error)
{
    char title[4096], subtitle[400];
    size_t used = (size_t)snprintf(subtitle, sizeof subtitle, "%lld optimizer steps", (long long)curves->steps);
    if (curves->epochs > 0)
        used += (size_t)snprintf(subtitle + used, sizeof subtitle - used, ", %.3g epochs", curves->epochs);
    if (*curves->method && count == 1)
        used += (size_t)snprintf(subtitle + used, sizeof subtitle - used, ", method %s", curves->method);
    if (*curves->machines)
        snprintf(subtitle + used, sizeof subtitle - used, " \xc2\xb7 %s", curves->machines);
    if (count > 1)
        snprintf(title, sizeof title, "%zu runs", count);
    else
        snprintf(title, sizeof title, "%s", run_dirs[0]);
    const struct chart_head head = {title, subtitle};
    int status = chart_lines_draw(&head, "optimizer step", curves->panel, PANELS, out, error);
    if (status == STATUS_INPUT)
        error_prefix(error, "%s/metrics.jsonl%s", run_dirs[0], count > 1 ? " and others" : "");
    return status;
}

int plot_runs_draw(const char *const *run_dirs, size_t count, struct buffer *out, struct error *error)
{
    struct curves *curves = memory_array(1, sizeof *curves, error);
    if (!curves)
        return STATUS_MEMORY;
    int status = curves_read(curves, run_dirs, count, error);
    if (!status)
        status = curves_draw(curves, run_dirs, count, out, error);
    for (int i = 0; i < PANELS; i++)
        chart_panel_free(&curves->panel[i]);
    free(curves);
    return status;
}

int plot_runs(const char *const *run_dirs, size_t count, const char *output, struct error *error)
{
    struct buffer text = {0};
    int status = plot_runs_draw(run_dirs, count, &text, error);
    if (!status)
        status = file_write(output, text.data, text.length, error);
    buffer_free(&text);
    return status;
}

int plot_output_name(const char *const *what, size_t count, char *out, size_t out_bytes, struct error *error)
{
    if (plot_is_bars(what[0])) {
        int length = snprintf(out, out_bytes, "%.*s.svg", (int)strlen(what[0]) - 5, what[0]);
        return length < (int)out_bytes ? STATUS_OK : error_set(error, STATUS_USAGE, "%s: the name is too long", what[0]);
    }
    return file_join(out, out_bytes, count > 1 ? "." : what[0], "curves.svg", error);
}
