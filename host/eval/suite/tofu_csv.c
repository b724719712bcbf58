/* tofu_csv.c - see tofu_csv.h. */
#include "tofu_csv.h"

#include <math.h>
#include <string.h>

#include "../../io/json/json.h"

static const struct {
    enum tofu_set set;
    const char *name;
} columns[] = {{TOFU_REAL_AUTHORS, "Real Authors"},
               {TOFU_WORLD_FACTS, "Real World"},
               {TOFU_RETAIN, "Retain"},
               {TOFU_FORGET, "Forget"}};
enum { COLUMNS = sizeof columns / sizeof *columns, FIGURES = 3 };

static int print_text(const char *text, struct buffer *out, struct error *error)
{
    if (!text || !text[strcspn(text, ",\"\r\n")])
        return buffer_append(out, text ? text : "", text ? strlen(text) : 0, error);
    int status = buffer_append(out, "\"", 1, error);
    for (; *text && !status; text++)
        status = buffer_append(out, *text == '"' ? "\"\"" : text, *text == '"' ? 2 : 1, error);
    return status ? status : buffer_append(out, "\"", 1, error);
}

static int print_number(double value, struct buffer *out, struct error *error)
{
    if (isfinite(value))
        return json_python_print_number(value, out, error);
    return buffer_printf(out, error, "%s", isnan(value) ? "nan" : value > 0 ? "inf" : "-inf");
}

static int print_header(enum tofu_csv form, struct buffer *out, struct error *error)
{
    static const char *const names[][FIGURES] = {{"ROUGE", "Prob.", "Truth Ratio"},
                                                 {"ROUGE", "Probability", "Truth Ratio"}};
    bool leaderboard = form == TOFU_CSV_LEADERBOARD;
    int status = STATUS_OK;
    for (int i = 0; i < COLUMNS * FIGURES && !status; i++) {
        const char *figure = names[form][i % FIGURES], *set = columns[i / FIGURES].name;
        status = buffer_printf(out, error, "%s %s,", leaderboard ? figure : set, leaderboard ? set : figure);
    }
    if (status)
        return status;
    return buffer_printf(out, error, "Model Utility,Forget Quality,%s\r\n",
                         leaderboard ? "Method,Submitted By" : "KS Test PVal Forget,KS Test Forget");
}

/* A field and its comma; a NULL number is an empty field. */
static int print_field(const double *value, struct buffer *out, struct error *error)
{
    int status = value ? print_number(*value, out, error) : STATUS_OK;
    return status ? status : buffer_append(out, ",", 1, error);
}

int tofu_csv_print(enum tofu_csv form, const struct tofu_table *table, struct buffer *out, struct error *error)
{
    const struct ks *quality = table->forget_quality;
    int status = print_header(form, out, error);
    for (int i = 0; i < COLUMNS && !status; i++) {
        const struct tofu_figures *figures = table->figures + columns[i].set;
        status = print_field(&figures->rouge, out, error);
        if (!status)
            status = print_field(&figures->probability, out, error);
        if (!status)
            status = print_field(&figures->truth_ratio, out, error);
    }
    if (!status)
        status = print_field(&table->model_utility, out, error);
    if (!status)
        status = print_field(quality ? &quality->p : NULL, out, error);
    if (!status && form == TOFU_CSV_LEADERBOARD) {
        status = print_text(table->method, out, error);
        if (!status)
            status = buffer_append(out, ",", 1, error);
        if (!status)
            status = print_text(table->submitted_by, out, error);
    } else if (!status) {
        status = print_field(quality ? &quality->p : NULL, out, error);
        if (!status && quality)
            status = print_number(quality->statistic, out, error);
    }
    return status ? status : buffer_append(out, "\r\n", 2, error);
}
