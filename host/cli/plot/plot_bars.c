/* plot_bars.c - see plot.h. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../io/json/json.h"
#include "../../util/file.h"
#include "chart.h"
#include "plot.h"

bool plot_is_bars(const char *path)
{
    size_t length = strlen(path);
    return length > 5 && strcmp(path + length - 5, ".json") == 0;
}

static int number_read(const cJSON *object, const char *where, const char *key, double *value, struct error *error)
{
    int status = json_get_double_or(object, where, key, value, error);
    if (!status && (!(*value >= 0) || *value > 1e12))
        return error_set(error, STATUS_INPUT, "%s: %s: expected a number from 0 to 1e12, found %g", where, key, *value);
    return status;
}

static int bar_read(const cJSON *item, const char *path, size_t number, struct chart_bar *bar, struct error *error)
{
    char where[4200];
    snprintf(where, sizeof where, "%s: bar %zu", path, number);
    if (!cJSON_IsObject(item) || !json_member(item, "value"))
        return error_set(error, STATUS_INPUT, "%s: expected an object with label and value", where);
    int status = json_get_string(item, where, "label", &bar->label, error);
    if (!status)
        status = number_read(item, where, "value", &bar->value, error);
    if (!status)
        status = number_read(item, where, "low", &bar->low, error);
    if (!status)
        status = number_read(item, where, "high", &bar->high, error);
    return status ? status : json_get_bool_or(item, where, "other", &bar->other, error);
}

/* The strings stay those of the tree. */
static int bars_read(const cJSON *tree, const char *path, struct chart_bars *bars, struct error *error)
{
    int64_t digits = 2;
    const cJSON *list = json_member(tree, "bars"), *item;
    int status = json_get_string(tree, path, "title", &bars->head.title, error);
    if (!status)
        status = json_get_string_or(tree, path, "subtitle", &bars->head.subtitle, error);
    if (!status)
        status = json_get_string(tree, path, "unit", &bars->unit, error);
    if (!status)
        status = json_get_int_or(tree, path, "digits", 0, 9, &digits, error);
    if (!status)
        status = number_read(tree, path, "mark", &bars->mark, error);
    if (!status)
        status = json_get_string_or(tree, path, "mark_label", &bars->mark_label, error);
    if (status)
        return status;
    bars->digits = (int)digits;
    if (!cJSON_IsArray(list) || !list->child)
        return error_set(error, STATUS_INPUT, "%s: bars: expected an array of bars", path);
    cJSON_ArrayForEach(item, list)
    {
        if (bars->count == CHART_BARS_MAX)
            return error_set(error, STATUS_INPUT, "%s: bars: more than %d", path, CHART_BARS_MAX);
        if ((status = bar_read(item, path, bars->count + 1, &bars->bar[bars->count], error)))
            return status;
        bars->count++;
    }
    return STATUS_OK;
}

int plot_bars(const char *path, const char *output, struct error *error)
{
    struct buffer text = {0};
    struct chart_bars *bars = memory_array(1, sizeof *bars, error);
    if (!bars)
        return STATUS_MEMORY;
    *bars = (struct chart_bars){.head.subtitle = "", .mark_label = ""};
    cJSON *tree = json_read(path, error);
    int status = tree ? bars_read(tree, path, bars, error) : error->status;
    if (!status)
        status = chart_bars_draw(bars, &text, error);
    if (!status)
        status = file_write(output, text.data, text.length, error);
    buffer_free(&text);
    cJSON_Delete(tree);
    free(bars);
    return status;
}
