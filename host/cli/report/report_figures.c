/* report_figures.c - what was measured: before and after, by the suites, under attack; see report.h. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../../eval/suite/before_after.h"
#include "report.h"

static bool has_log(const struct report_run *run)
{
    return run->before.metrics || run->after.metrics;
}

/* ---- before and after -------------------------------------------------------------------------------------------- */

static void figure_cell(struct html *html, const struct eval_log *log, const char *set, const struct before_after_figure *figure)
{
    const double value = log->metrics ? before_after_value(log, set, figure->suffix) : NAN;
    if (figure->percent && isfinite(value))
        html_markup(html, "<td class=\"number\">%.0f %%</td>\n", 100 * value);
    else
        html_number(html, value, 4);
}

static bool figure_is_there(const struct report *report, const char *set, const struct before_after_figure *figure)
{
    for (int i = 0; i < report->runs; i++) {
        const struct eval_log *const log[] = {&report->run[i].before, &report->run[i].after};
        for (int k = 0; k < 2; k++)
            if (log[k]->metrics && !isnan(before_after_value(log[k], set, figure->suffix)))
                return true;
    }
    return false;
}

static void figures_head(struct html *html, const struct report *report)
{
    html_markup(html, "<thead><tr><th scope=\"col\">Set</th><th scope=\"col\">Figure</th>\n");
    for (int i = 0; i < report->runs; i++) {
        if (!has_log(&report->run[i]))
            continue;
        if (report_base_is_new(report, i))
            html_element(html, "th", "number", report->runs > 1 ? "before" : "Before");
        html_element(html, "th", "number", report->runs > 1 ? report->run[i].name : "After");
    }
    html_markup(html, "</tr></thead>\n<tbody>\n");
}

void report_figures(struct html *html, const struct report *report)
{
    if (!report->sets)
        return;
    html_markup(html, "<section id=\"figures\"><h2>Before and after</h2>\n<p>P(answer): mean probability of an answer's tokens. "
                      "Both models were asked the same questions, greedily.</p>\n<div class=\"wide\"><table>\n");
    figures_head(html, report);
    for (int s = 0; s < report->sets; s++)
        for (int f = 0; f < BEFORE_AFTER_FIGURES; f++) {
            const struct before_after_figure *figure = &before_after_figure[f];
            if (!figure_is_there(report, report->set[s], figure))
                continue;
            html_markup(html, "<tr>");
            html_element(html, "td", NULL, report->set[s]);
            html_element(html, "td", NULL, figure->label);
            for (int i = 0; i < report->runs; i++) {
                if (has_log(&report->run[i]) && report_base_is_new(report, i))
                    figure_cell(html, &report->run[i].before, report->set[s], figure);
                if (has_log(&report->run[i]))
                    figure_cell(html, &report->run[i].after, report->set[s], figure);
            }
            html_markup(html, "</tr>\n");
        }
    html_markup(html, "</tbody></table></div></section>\n");
}

/* What looks wrong about a run, as the end of the run said it. */
void report_findings(struct html *html, const struct report *report)
{
    const char *set[REPORT_SETS_MAX];
    bool any = false;
    for (int i = 0; i < report->runs; i++) {
        const struct report_run *run = &report->run[i];
        struct buffer lines = {0};
        int sets = 0;
        for (int s = 0; s < report->sets; s++)
            if (run->after.metrics && !isnan(before_after_value(&run->after, report->set[s], "mean_prob")))
                set[sets++] = report->set[s];
        const struct before_after logs = {&run->before, &run->after, set, sets};
        if (run->before.metrics && run->after.metrics && !html->status)
            html->status = before_after_findings(&logs, &lines, html->error);
        for (char *line = lines.data, *end; line && *line && !html->status; line = end + 1) {
            end = strchr(line, '\n');
            *end = 0;
            html_markup(html, "%s", any ? "" : "<section id=\"findings\"><h2>What to look at</h2><ul class=\"findings\">\n");
            html_markup(html, "<li>");
            if (report->runs > 1) {
                html_markup(html, "<b>");
                html_text(html, run->name);
                html_markup(html, "</b>: ");
            }
            html_text(html, line);
            html_markup(html, "</li>\n");
            any = true;
        }
        buffer_free(&lines);
    }
    html_markup(html, "%s", any ? "</ul></section>\n" : "");
}

/* ---- the suites -------------------------------------------------------------------------------------------------- */

static const cJSON *summary_of(const struct report_run *run, const char *name)
{
    for (int k = 0; k < run->summaries; k++)
        if (!strcmp(run->summary[k].name, name))
            return run->summary[k].json;
    return NULL;
}

/* What is neither a number nor a text, as it stands in the file; the beginning of a long one. */
static void json_cell(struct html *html, const cJSON *value)
{
    enum { MOST = 400 };
    struct buffer text = {0};
    if (!html->status)
        html->status = json_print(value, &text, html->error);
    if (text.length > MOST)
        memcpy(text.data + MOST - 3, "...", 4);
    html_element(html, "td", "value", text.data);
    buffer_free(&text);
}

static void value_cell(struct html *html, const cJSON *value)
{
    if (cJSON_IsNumber(value) || !value || cJSON_IsNull(value))
        html_number(html, cJSON_IsNumber(value) ? value->valuedouble : NAN, 5);
    else if (cJSON_IsString(value))
        html_element(html, "td", NULL, value->valuestring);
    else
        json_cell(html, value);
}

/* One summary file of the runs that have it; its names are those of the first that has each. */
static void suite_table(struct html *html, const struct report *report, const char *name)
{
    html_markup(html, "<div class=\"wide\"><table>\n<caption>");
    html_text(html, name);
    html_markup(html, "</caption>\n<thead><tr><th scope=\"col\">Figure</th>\n");
    for (int i = 0; i < report->runs; i++)
        if (summary_of(&report->run[i], name))
            html_element(html, "th", "number", report->run[i].name);
    html_markup(html, "</tr></thead>\n<tbody>\n");
    for (int i = 0; i < report->runs; i++) {
        const cJSON *value;
        cJSON_ArrayForEach(value, summary_of(&report->run[i], name))
        {
            bool shown = false;
            for (int k = 0; k < i; k++)
                shown |= json_member(summary_of(&report->run[k], name), value->string) != NULL;
            if (shown)
                continue;
            html_markup(html, "<tr>");
            html_element(html, "td", NULL, value->string);
            for (int k = 0; k < report->runs; k++)
                if (summary_of(&report->run[k], name))
                    value_cell(html, json_member(summary_of(&report->run[k], name), value->string));
            html_markup(html, "</tr>\n");
        }
    }
    html_markup(html, "</tbody></table></div>\n");
}

void report_suites(struct html *html, const struct report *report)
{
    bool any = false;
    for (int i = 0; i < report->runs; i++)
        for (int k = 0; k < report->run[i].summaries; k++) {
            const char *name = report->run[i].summary[k].name;
            bool shown = false;
            for (int other = 0; other < i; other++)
                shown |= summary_of(&report->run[other], name) != NULL;
            if (shown)
                continue;
            html_markup(html, "%s", any ? "" : "<section id=\"suites\"><h2>Evaluations</h2>\n");
            suite_table(html, report, name);
            any = true;
        }
    html_markup(html, "%s", any ? "</section>\n" : "");
}

/* ---- attacks ----------------------------------------------------------------------------------------------------- */

/* A list of objects: their members are the columns. */
static void rows_table(struct html *html, const cJSON *rows, const char *title)
{
    html_markup(html, "<div class=\"wide\"><table>\n<caption>");
    html_text(html, title);
    html_markup(html, "</caption>\n<thead><tr>\n");
    const cJSON *column, *row;
    cJSON_ArrayForEach(column, rows->child)
        html_element(html, "th", cJSON_IsNumber(column) ? "number" : NULL, column->string);
    html_markup(html, "</tr></thead>\n<tbody>\n");
    cJSON_ArrayForEach(row, rows)
    {
        html_markup(html, "<tr>");
        cJSON_ArrayForEach(column, rows->child)
            value_cell(html, json_member(row, column->string));
        html_markup(html, "</tr>\n");
    }
    html_markup(html, "</tbody></table></div>\n");
}

static bool is_rows(const cJSON *value)
{
    const cJSON *row;
    bool objects = cJSON_IsArray(value) && value->child;
    cJSON_ArrayForEach(row, value)
        objects = objects && cJSON_IsObject(row);
    return objects;
}

/* Single values of an object, dotted names for those of objects in it; lists of objects become tables of their own. */
static void values_rows(struct html *html, const cJSON *object, const char *prefix, int depth)
{
    const cJSON *value;
    cJSON_ArrayForEach(value, object)
    {
        char name[300];
        snprintf(name, sizeof name, "%s%s%s", prefix, *prefix ? "." : "", value->string ? value->string : "");
        if (!strcmp(name, "config"))
            continue; /* what was asked for is in the file */
        if (cJSON_IsObject(value) && depth) {
            values_rows(html, value, name, depth - 1);
        } else if (!cJSON_IsObject(value) && !cJSON_IsArray(value)) {
            html_markup(html, "<tr>");
            html_element(html, "td", NULL, name);
            value_cell(html, value);
            html_markup(html, "</tr>\n");
        }
    }
}

static void lists_tables(struct html *html, const cJSON *object, const char *prefix, int depth)
{
    const cJSON *value;
    cJSON_ArrayForEach(value, object)
    {
        char name[300];
        snprintf(name, sizeof name, "%s%s%s", prefix, *prefix ? "." : "", value->string ? value->string : "");
        if (is_rows(value))
            rows_table(html, value, name);
        else if (cJSON_IsObject(value) && depth)
            lists_tables(html, value, name, depth - 1);
    }
}

void report_attacks(struct html *html, const struct report *report)
{
    bool any = false;
    for (int i = 0; i < report->runs; i++)
        for (int k = 0; k < report->run[i].attacks; k++) {
            const struct report_file *file = &report->run[i].attack[k];
            html_markup(html, "%s", any ? "" : "<section id=\"attacks\"><h2>Attacks</h2>\n");
            html_markup(html, "<h3>");
            html_text(html, report->run[i].name);
            html_markup(html, ": ");
            html_text(html, file->name);
            html_markup(html, "</h3>\n");
            lists_tables(html, file->json, "", 3);
            html_markup(html, "<div class=\"wide\"><table><tbody>\n");
            values_rows(html, file->json, "", 3);
            html_markup(html, "</tbody></table></div>\n");
            any = true;
        }
    html_markup(html, "%s", any ? "</section>\n" : "");
}
