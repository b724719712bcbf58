/* plot.c - see plot.h. */
#include "plot.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../io/json/json.h"
#include "../util/file.h"
#include "chart.h"

enum { PROBABILITY, LOSS, GRADIENT, RATE, SLOPE, PANELS };

/* Which key of a training line goes where; a key that ends in '_' is a family of series, named by what follows. */
static const struct {
    const char *key;
    int panel;
} source[] = {
    {"prob_", PROBABILITY}, {"loss", LOSS}, {"grad_norm", GRADIENT}, {"learning_rate", RATE}, {"slope_", SLOPE},
};

struct curves {
    struct chart_panel panel[PANELS];
    int64_t steps;
    double epochs;
};

/* Template and forget have the same colours in every panel; others take what is left in turn. */
static int series_color(const struct chart_panel *panel, const char *name)
{
    if (!*name || strcmp(name, "template") == 0)
        return 0;
    if (strcmp(name, "forget") == 0)
        return 1;
    int color = 2;
    for (size_t i = 0; i < panel->count; i++)
        color += panel->series[i].color >= 2;
    return color;
}

static int series_find(struct chart_panel *panel, const char *name, bool marked, const char *where,
                       struct chart_series **series, struct error *error)
{
    for (size_t i = 0; i < panel->count; i++)
        if (panel->series[i].marked == marked && strcmp(panel->series[i].name, name) == 0) {
            *series = &panel->series[i];
            return STATUS_OK;
        }
    if (panel->count == CHART_SERIES_MAX)
        return error_set(error, STATUS_INPUT, "%s: more than %d series in the panel '%s'; plot a part of the file",
                         where, CHART_SERIES_MAX, panel->title);
    *series = &panel->series[panel->count];
    snprintf((*series)->name, sizeof (*series)->name, "%s", name);
    (*series)->color = series_color(panel, name);
    (*series)->marked = marked;
    panel->count++;
    return STATUS_OK;
}

static int curve_add(struct curves *curves, int panel, const char *name, bool marked, int64_t step, const cJSON *value,
                     const char *where, struct error *error)
{
    if (!cJSON_IsNumber(value) && !cJSON_IsNull(value))
        return error_set(error, STATUS_INPUT, "%s: %s: expected a number or null", where, value->string);
    struct chart_series *series = NULL;
    int status = series_find(&curves->panel[panel], name, marked, where, &series, error);
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
    curves->steps = step;
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

int plot_run(const char *run_dir, const char *output, struct error *error)
{
    static const struct chart_panel empty[PANELS] = {
        [PROBABILITY] = {.title = "Mean token probability of answers", .y_max = 1},
        [LOSS] = {.title = "Loss"},
        [GRADIENT] = {.title = "Gradient norm", .from_zero = true},
        [RATE] = {.title = "Learning rate", .from_zero = true},
        [SLOPE] = {.title = "Slope of the loss in the probability"},
    };
    struct error ignored;
    error = error ? error : &ignored;
    char path[4096], subtitle[96];
    struct buffer text = {0};
    struct curves *curves = memory_array(1, sizeof *curves, error);
    if (!curves)
        return STATUS_MEMORY;
    memcpy(curves->panel, empty, sizeof empty);
    int status = file_join(path, sizeof path, run_dir, "metrics.jsonl", error);
    if (!status)
        status = metrics_read(curves, path, error);
    if (!status) {
        int n = snprintf(subtitle, sizeof subtitle, "%lld optimizer steps", (long long)curves->steps);
        if (curves->epochs > 0)
            snprintf(subtitle + n, sizeof subtitle - (size_t)n, ", %.3g epochs", curves->epochs);
        status = chart_draw(run_dir, subtitle, "optimizer step", curves->panel, PANELS, &text, error);
        if (status == STATUS_INPUT)
            error_prefix(error, "%s", path);
    }
    if (!status)
        status = file_write(output, text.data, text.length, error);
    for (int i = 0; i < PANELS; i++)
        chart_panel_free(&curves->panel[i]);
    free(curves);
    buffer_free(&text);
    return status;
}
