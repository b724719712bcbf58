/* sweep_figures.c - the two metrics of the rows, the front, and how a setting is written; see sweep.h. */
#include <math.h>
#include <string.h>

#include "sweep.h"

double sweep_figure(const struct sweep_row *row, const char *name)
{
    const cJSON *value = json_member(json_member(row->result, "figures"), name);
    return cJSON_IsNumber(value) ? value->valuedouble : NAN;
}

static bool any_has(const struct sweep *sweep, const char *name)
{
    for (size_t i = 0; i < sweep->rows; i++)
        if (json_member(json_member(sweep->row[i].result, "figures"), name))
            return true;
    return false;
}

const char *sweep_forget_metric(const struct sweep *sweep)
{
    if (*sweep->options->forget_metric)
        return sweep->options->forget_metric;
    return any_has(sweep, "forget_quality") ? "forget_quality" : any_has(sweep, "forget_Q_A_Prob") ? "forget_Q_A_Prob"
                                                                                                   : "forget_mean_prob";
}

const char *sweep_utility_metric(const struct sweep *sweep)
{
    if (*sweep->options->utility_metric)
        return sweep->options->utility_metric;
    return any_has(sweep, "model_utility") ? "model_utility" : "retain_mean_prob";
}

bool sweep_more_is_better(const struct sweep *sweep)
{
    const enum sweep_direction said = sweep->options->forget_better;
    return said == SWEEP_HIGHER || (said == SWEEP_AUTO && !strcmp(sweep_forget_metric(sweep), "forget_quality"));
}

void sweep_find_front(struct sweep *sweep)
{
    const char *forget = sweep_forget_metric(sweep), *utility = sweep_utility_metric(sweep);
    const double sign = sweep_more_is_better(sweep) ? 1 : -1;
    for (size_t i = sweep->landmarks; i < sweep->rows; i++) {
        struct sweep_row *row = &sweep->row[i];
        const double x = sweep_figure(row, utility), y = sign * sweep_figure(row, forget);
        row->front = isfinite(x) && isfinite(y);
        for (size_t k = sweep->landmarks; k < sweep->rows && row->front; k++) {
            const double other_x = sweep_figure(&sweep->row[k], utility), other_y = sign * sweep_figure(&sweep->row[k], forget);
            row->front = !(other_x >= x && other_y >= y && (other_x > x || other_y > y));
        }
    }
}

/* A setting, or any value, as a person would write it. */
int sweep_value_print(const cJSON *value, struct buffer *out, struct error *error)
{
    if (!value)
        return STATUS_OK;
    return cJSON_IsString(value) ? buffer_append(out, value->valuestring, strlen(value->valuestring), error)
                                 : json_print(value, out, error);
}

/* A cell of Markdown: no line break, no bar. */
int sweep_cell_print(const char *text, struct buffer *out, struct error *error)
{
    int status = buffer_printf(out, error, " ");
    for (; *text && !status; text++)
        status = buffer_printf(out, error, "%s%c", *text == '|' ? "\\" : "", (unsigned char)*text < ' ' ? ' ' : *text);
    return status ? status : buffer_printf(out, error, " |");
}

int sweep_setting_cell(const struct sweep_row *row, const char *key, struct buffer *out, struct error *error)
{
    struct buffer text = {0};
    int status = sweep_value_print(json_member(row->settings, key), &text, error);
    if (!status)
        status = sweep_cell_print(text.data ? text.data : "", out, error);
    buffer_free(&text);
    return status;
}
