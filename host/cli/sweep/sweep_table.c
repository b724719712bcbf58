/* sweep_table.c - a row per run as Markdown, CSV and JSON, and the picture; see sweep.h. Times stand in their own column
 * "seconds", so that tables of the same sweep differ in nothing else.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../util/file.h"
#include "../plot/chart.h"
#include "sweep.h"

/* ---- text ---- */

static const char *status_of(const struct sweep_row *row)
{
    const cJSON *status = json_member(row->result, "status");
    return cJSON_IsString(status) ? status->valuestring : "not run";
}

static const char *error_of(const struct sweep_row *row)
{
    const cJSON *why = json_member(row->result, "error");
    return cJSON_IsString(why) ? why->valuestring : "";
}

static int number_print(double value, struct buffer *out, struct error *error)
{
    return isfinite(value) ? buffer_printf(out, error, "%.4g", value) : buffer_printf(out, error, "-");
}

static int markdown_row(const struct sweep *sweep, const struct sweep_row *row, struct buffer *out, struct error *error)
{
    const cJSON *steps = json_member(row->result, "steps"), *seconds = json_member(row->result, "seconds");
    int status = buffer_printf(out, error, "| %s%s |", row->name, row->front ? " *" : "");
    for (size_t k = 0; k < sweep->keys && !status; k++)
        status = sweep_setting_cell(row, sweep->key[k], out, error);
    const double figure[] = {sweep_figure(row, sweep_forget_metric(sweep)), sweep_figure(row, sweep_utility_metric(sweep))};
    for (int i = 0; i < 2 && !status; i++) {
        status = buffer_printf(out, error, " ");
        if (!status)
            status = number_print(figure[i], out, error);
        if (!status)
            status = buffer_printf(out, error, " |");
    }
    if (!status)
        status = buffer_printf(out, error, steps ? " %.0f |" : " |", steps ? steps->valuedouble : 0);
    if (!status)
        status = buffer_printf(out, error, seconds ? " %.1f |" : " |", seconds ? seconds->valuedouble : 0);
    struct buffer said = {0};
    if (!status)
        status = buffer_printf(&said, error, "%s%s%s", row->landmark ? "landmark" : status_of(row), *error_of(row) ? ": " : "",
                               error_of(row));
    if (!status)
        status = sweep_cell_print(said.data, out, error);
    buffer_free(&said);
    return status ? status : buffer_printf(out, error, "\n");
}

static int markdown_print(const struct sweep *sweep, struct buffer *out, struct error *error)
{
    const char *forget = sweep_forget_metric(sweep), *utility = sweep_utility_metric(sweep);
    int status = buffer_printf(out, error, "| run |");
    for (size_t k = 0; k < sweep->keys && !status; k++)
        status = buffer_printf(out, error, " %s |", sweep->key[k]);
    if (!status)
        status = buffer_printf(out, error, " %s (%s is better) | %s | steps | seconds | status |\n|---|", forget,
                               sweep_more_is_better(sweep) ? "more" : "less", utility);
    for (size_t k = 0; k < sweep->keys + 5 && !status; k++)
        status = buffer_printf(out, error, "---|");
    if (!status)
        status = buffer_printf(out, error, "\n");
    for (size_t i = 0; i < sweep->rows && !status; i++)
        status = markdown_row(sweep, &sweep->row[i], out, error);
    if (!status)
        status = buffer_printf(out, error, "\n\\* no other run is better in both metrics.\n");
    return status ? status : sweep_seeds_print(sweep, out, error);
}

/* RFC 4180. */
static int csv_cell(const char *text, struct buffer *out, struct error *error)
{
    if (!strpbrk(text, ",\"\r\n"))
        return buffer_printf(out, error, "%s", text);
    int status = buffer_printf(out, error, "\"");
    for (; *text && !status; text++)
        status = buffer_printf(out, error, *text == '"' ? "\"\"" : "%c", *text);
    return status ? status : buffer_printf(out, error, "\"");
}

static int csv_value(const cJSON *value, struct buffer *out, struct error *error)
{
    struct buffer text = {0};
    int status = buffer_append(out, ",", 1, error);
    if (!status)
        status = sweep_value_print(value, &text, error);
    if (!status && text.data && !cJSON_IsNull(value))
        status = csv_cell(text.data, out, error);
    buffer_free(&text);
    return status;
}

/* Those of the row that has most are those of all: the scoring is the same, and the attacks are of the runs alone. */
static const cJSON *figure_names(const struct sweep *sweep)
{
    const cJSON *names = NULL;
    for (size_t i = 0; i < sweep->rows; i++) {
        const cJSON *figures = json_member(sweep->row[i].result, "figures");
        if (figures && (!names || cJSON_GetArraySize(figures) > cJSON_GetArraySize(names)))
            names = figures;
    }
    return names;
}

static int csv_print(const struct sweep *sweep, struct buffer *out, struct error *error)
{
    const cJSON *names = figure_names(sweep), *name;
    int status = buffer_printf(out, error, "run,landmark,status,error,front");
    for (size_t k = 0; k < sweep->keys && !status; k++)
        status = buffer_printf(out, error, ",%s", sweep->key[k]);
    if (!status)
        status = buffer_printf(out, error, ",steps,seconds");
    cJSON_ArrayForEach(name, names) status = status ? status : buffer_printf(out, error, ",%s", name->string);
    for (size_t i = 0; i < sweep->rows && !status; i++) {
        const struct sweep_row *row = &sweep->row[i];
        status = buffer_printf(out, error, "\n%s,%s,%s,", row->name, row->landmark ? "true" : "false", status_of(row));
        if (!status)
            status = csv_cell(error_of(row), out, error);
        if (!status)
            status = buffer_printf(out, error, ",%s", row->front ? "true" : "false");
        for (size_t k = 0; k < sweep->keys && !status; k++)
            status = csv_value(json_member(row->settings, sweep->key[k]), out, error);
        if (!status)
            status = csv_value(json_member(row->result, "steps"), out, error);
        if (!status)
            status = csv_value(json_member(row->result, "seconds"), out, error);
        cJSON_ArrayForEach(name, names) status =
            status ? status : csv_value(json_member(json_member(row->result, "figures"), name->string), out, error);
    }
    return status ? status : buffer_printf(out, error, "\n");
}

static bool json_row(cJSON *list, const struct sweep_row *row)
{
    cJSON *item = cJSON_CreateObject();
    bool ok = item && cJSON_AddItemToArray(list, item) && json_add_string(item, "run", row->name) &&
              (!row->landmark || json_add_string(item, "model", row->landmark)) && json_add_bool(item, "front", row->front);
    cJSON *settings = ok ? cJSON_Duplicate(row->settings, true) : NULL;
    ok = settings && cJSON_AddItemToObject(item, "settings", settings) && json_add_string(item, "status", status_of(row));
    for (const cJSON *part = row->result ? row->result->child : NULL; part && ok; part = part->next) {
        if (!strcmp(part->string, "status"))
            continue;
        cJSON *copy = cJSON_Duplicate(part, true);
        ok = copy && cJSON_AddItemToObject(item, part->string, copy);
    }
    return ok;
}

static int json_table_write(const struct sweep *sweep, const char *path, struct error *error)
{
    cJSON *json = cJSON_CreateObject();
    bool ok = json && json_add_string(json, "forget_metric", sweep_forget_metric(sweep)) &&
              json_add_bool(json, "forget_more_is_better", sweep_more_is_better(sweep)) &&
              json_add_string(json, "utility_metric", sweep_utility_metric(sweep));
    cJSON *list = ok ? cJSON_AddArrayToObject(json, "rows") : NULL;
    ok = list;
    for (size_t i = 0; i < sweep->rows && ok; i++)
        ok = json_row(list, &sweep->row[i]);
    int status = ok ? json_write(json, path, error) : error_set(error, STATUS_MEMORY, "out of host memory");
    cJSON_Delete(json);
    return status;
}

/* ---- the picture ---- */

/* p-values span decades, so their logarithm is drawn. */
static bool in_decades(const struct sweep *sweep)
{
    return !strcmp(sweep_forget_metric(sweep), "forget_quality");
}

static int picture_write(const struct sweep *sweep, const char *path, struct error *error)
{
    const char *forget = sweep_forget_metric(sweep), *utility = sweep_utility_metric(sweep);
    char y_title[160];
    struct buffer text = {0};
    struct chart_point *point = memory_array(sweep->rows, sizeof *point, error);
    size_t points = 0;
    if (!point)
        return STATUS_MEMORY;
    snprintf(y_title, sizeof y_title, "%s%.100s (%s is better)", in_decades(sweep) ? "log10 " : "", forget,
             sweep_more_is_better(sweep) ? "more" : "less");
    for (size_t i = 0; i < sweep->rows; i++) {
        const struct sweep_row *row = &sweep->row[i];
        const double x = sweep_figure(row, utility), y = sweep_figure(row, forget);
        const double drawn = in_decades(sweep) ? log10(fmax(y, 1e-300)) : y;
        if (isfinite(x) && isfinite(drawn))
            point[points++] = (struct chart_point){row->name, x, drawn, row->landmark, row->front};
    }
    const struct chart_points chart = {.head = {"Forgetting against utility", "the line joins the runs that no other beats in both"},
                                       .x_title = utility, .y_title = y_title, .point = point, .count = points};
    int status = points ? chart_points_draw(&chart, &text, error) : STATUS_OK;
    if (!status && points)
        status = file_write(path, text.data, text.length, error);
    buffer_free(&text);
    free(point);
    return status;
}

int sweep_table_write(const struct sweep *sweep, struct buffer *markdown, struct error *error)
{
    static const char *const names[] = {"sweep.md", "sweep.csv", "sweep.json", "front.svg"};
    char path[4][4096];
    struct buffer text = {0}, csv = {0};
    int status = STATUS_OK;
    for (int i = 0; i < 4 && !status; i++)
        status = file_join(path[i], sizeof path[i], sweep->options->output_dir, names[i], error);
    if (!status)
        status = markdown_print(sweep, &text, error);
    if (!status)
        status = file_write(path[0], text.data, text.length, error);
    if (!status)
        status = csv_print(sweep, &csv, error);
    if (!status)
        status = file_write(path[1], csv.data, csv.length, error);
    if (!status)
        status = json_table_write(sweep, path[2], error);
    if (!status)
        status = picture_write(sweep, path[3], error);
    if (!status && markdown)
        status = buffer_append(markdown, text.data, text.length, error);
    buffer_free(&text);
    buffer_free(&csv);
    return status;
}
