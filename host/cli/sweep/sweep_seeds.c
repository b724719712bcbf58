/* sweep_seeds.c - runs that differ in their seed alone, as one line: mean, least and largest of both metrics; see sweep.h. */
#include <math.h>

#include "sweep.h"

static bool alike_but_for_seed(const struct sweep *sweep, const struct sweep_row *a, const struct sweep_row *b)
{
    for (size_t k = 0; k < sweep->keys; k++) {
        const cJSON *x = json_member(a->settings, sweep->key[k]), *y = json_member(b->settings, sweep->key[k]);
        if (option_name_equal(sweep->key[k], "seed"))
            continue;
        if (!x != !y || (x && !cJSON_Compare(x, y, true)))
            return false;
    }
    return true;
}

static bool is_first(const struct sweep *sweep, size_t row)
{
    for (size_t i = sweep->landmarks; i < row; i++)
        if (alike_but_for_seed(sweep, &sweep->row[i], &sweep->row[row]))
            return false;
    return true;
}

struct spread {
    double sum, least, largest;
    int count;
};

static struct spread spread_of(const struct sweep *sweep, size_t row, const char *metric)
{
    struct spread spread = {0, INFINITY, -INFINITY, 0};
    for (size_t i = row; i < sweep->rows; i++) {
        const double value = sweep_figure(&sweep->row[i], metric);
        if (!alike_but_for_seed(sweep, &sweep->row[row], &sweep->row[i]) || !isfinite(value))
            continue;
        spread.sum += value;
        spread.least = fmin(spread.least, value);
        spread.largest = fmax(spread.largest, value);
        spread.count++;
    }
    return spread;
}

static int spread_print(const struct spread *spread, struct buffer *out, struct error *error)
{
    return spread->count ? buffer_printf(out, error, " %.4g (%.4g to %.4g) |", spread->sum / spread->count, spread->least,
                                         spread->largest)
                         : buffer_printf(out, error, " - |");
}

static int line_print(const struct sweep *sweep, size_t row, struct buffer *out, struct error *error)
{
    const struct spread forget = spread_of(sweep, row, sweep_forget_metric(sweep));
    const struct spread utility = spread_of(sweep, row, sweep_utility_metric(sweep));
    int status = buffer_printf(out, error, "|");
    for (size_t k = 0; k < sweep->keys && !status; k++)
        if (!option_name_equal(sweep->key[k], "seed"))
            status = sweep_setting_cell(&sweep->row[row], sweep->key[k], out, error);
    if (!status)
        status = buffer_printf(out, error, " %d |", forget.count);
    if (!status)
        status = spread_print(&forget, out, error);
    if (!status)
        status = spread_print(&utility, out, error);
    return status ? status : buffer_printf(out, error, "\n");
}

int sweep_seeds_print(const struct sweep *sweep, struct buffer *out, struct error *error)
{
    bool seeds = false;
    size_t others = 0;
    for (size_t k = 0; k < sweep->keys; k++) {
        seeds = seeds || option_name_equal(sweep->key[k], "seed");
        others += !option_name_equal(sweep->key[k], "seed");
    }
    if (!seeds)
        return STATUS_OK;
    int status = buffer_printf(out, error, "\nOver seeds, the mean (least to largest) of runs that ended well:\n\n|");
    for (size_t k = 0; k < sweep->keys && !status; k++)
        if (!option_name_equal(sweep->key[k], "seed"))
            status = buffer_printf(out, error, " %s |", sweep->key[k]);
    if (!status)
        status = buffer_printf(out, error, " runs | %s | %s |\n|", sweep_forget_metric(sweep), sweep_utility_metric(sweep));
    for (size_t k = 0; k < others + 3 && !status; k++)
        status = buffer_printf(out, error, "---|");
    if (!status)
        status = buffer_printf(out, error, "\n");
    for (size_t i = sweep->landmarks; i < sweep->rows && !status; i++)
        if (is_first(sweep, i))
            status = line_print(sweep, i, out, error);
    return status;
}
