/* report_page.c - the page around its sections: style, overview, curves; see report.h. */
#include <math.h>
#include <string.h>

#include "../../util/version.h"
#include "../plot/plot.h"
#include "report.h"

static const char style[] =
    ":root{color-scheme:light dark;--ink:#1f2328;--pale:#59636e;--line:#d5dae0;--page:#fff;--stripe:#f6f8fa;--mark:#8a3b00}\n"
    "@media screen and (prefers-color-scheme:dark){:root{--ink:#e6edf3;--pale:#9aa4af;--line:#343b44;--page:#0d1117;"
    "--stripe:#161b22;--mark:#ff9248}}\n"
    "*{box-sizing:border-box}body{margin:0 auto;max-width:72rem;padding:1.5rem;background:var(--page);color:var(--ink);"
    "font:1rem/1.5 -apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,'DejaVu Sans',sans-serif}\n"
    "h1{font-size:1.6rem;margin:0 0 .25rem}h2{font-size:1.25rem;margin:2.25rem 0 .5rem;border-bottom:1px solid var(--line)}"
    "h3{font-size:1rem;margin:1.25rem 0 .25rem;overflow-wrap:anywhere}p{margin:.25rem 0 .75rem;color:var(--pale);max-width:48rem}\n"
    "nav a{margin-right:1rem}a{color:inherit}\n"
    ".wide{overflow-x:auto;margin:.5rem 0 1rem}table{border-collapse:collapse;font-size:.9rem}"
    "caption{text-align:left;font-weight:600;padding:.25rem 0;overflow-wrap:anywhere}\n"
    "th,td{padding:.3rem .7rem .3rem 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}"
    "th{color:var(--pale);font-weight:600;overflow-wrap:break-word}tbody tr:nth-child(even){background:var(--stripe)}\n"
    ".number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}th.number{white-space:normal}"
    ".words{white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:plaintext;min-width:11rem}"
    ".examples{width:100%;table-layout:auto}.value{font-family:ui-monospace,'DejaVu Sans Mono',monospace;font-size:.85em;"
    "overflow-wrap:break-word;max-width:34rem}\n"
    ".findings{padding-left:1.2rem}.findings li{color:var(--mark);margin:.25rem 0}.differs td:first-child{font-weight:600}"
    ".failed{color:var(--mark)}svg{max-width:100%;height:auto}\n"
    "@media print{body{max-width:none;padding:0;font-size:10pt}.wide{overflow:visible}nav{display:none}table{font-size:8pt}"
    "th,td{padding:.15rem .4rem .15rem 0}.words{min-width:0}.value{overflow-wrap:anywhere}svg{max-height:16cm}tr,svg{break-inside:avoid}h2,h3,caption{break-after:avoid}"
    "thead{display:table-header-group}}\n";

static void page_begin(struct html *html, const struct report *report)
{
    html_markup(html, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta http-equiv=\""
                      "Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
                      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>");
    for (int i = 0; i < report->runs; i++) {
        html_markup(html, "%s", i ? ", " : "");
        html_text(html, report->run[i].name);
    }
    html_markup(html, " - flat report</title>\n<style>");
    if (!html->status)
        html->status = buffer_append(&html->text, style, sizeof style - 1, html->error);
    html_markup(html, "</style>\n</head>\n<body>\n<header><h1>");
    for (int i = 0; i < report->runs; i++) {
        html_markup(html, "%s", i ? ", " : "");
        html_text(html, report->run[i].name);
    }
    html_markup(html, "</h1>\n<p>What %s did and what was measured of it. Written by flat %s.</p>\n</header>\n",
                report->runs > 1 ? "these runs" : "this run", FLAT_VERSION);
}

/* ---- overview ---------------------------------------------------------------------------------------------------- */

static double result_number(const struct report_run *run, const char *key)
{
    const cJSON *value = json_member(json_member(run->record, "result"), key);
    return cJSON_IsNumber(value) ? value->valuedouble : NAN;
}

/* "npo", or "fine-tuning" where there was nothing to forget. */
static const char *method_of(const struct report_run *run)
{
    const char *method = report_setting(run, "method");
    return *method ? method : report_config(run) ? "fine-tuning" : "\xe2\x80\x93";
}

/* Which step was saved, of how many, and why no more were made. */
static void steps_cell(struct html *html, const struct report_run *run)
{
    const cJSON *reason = json_member(json_member(json_member(run->record, "result"), "early_stopping"), "stop_reason"),
                *total = json_member(run->record, "total_steps");
    const double saved = result_number(run, "step"), made = result_number(run, "steps");
    if (!json_member(run->record, "result")) {
        html_markup(html, "<td class=\"failed\">nothing saved</td>\n");
        return;
    }
    html_markup(html, "<td>");
    if (isfinite(saved) && isfinite(made) && saved != made)
        html_markup(html, "%.0f, the best of ", saved);
    html_markup(html, "%.0f", isfinite(made) ? made : cJSON_IsNumber(total) ? total->valuedouble : 0);
    if (cJSON_IsString(reason) && strcmp(reason->valuestring, "steps") && cJSON_IsNumber(total)) {
        html_markup(html, " of %.0f, ended by ", total->valuedouble);
        html_text(html, reason->valuestring);
    }
    html_markup(html, "</td>\n");
}

static void overview(struct html *html, const struct report *report)
{
    static const struct {
        const char *key, *title;
    } figure[] = {{"prob_template", "P(template)"}, {"prob_forget", "P(forget)"}, {"prob_retain", "P(retain)"},
                  {"prob_answer", "P(answer)"},     {"change_survives", "Change that survives rounding"},
                  {"skipped_steps", "Skipped steps"}};
    enum { FIGURES = sizeof figure / sizeof *figure };
    bool shown[FIGURES] = {false};
    for (int i = 0; i < report->runs; i++)
        for (int f = 0; f < FIGURES; f++)
            shown[f] |= isfinite(result_number(&report->run[i], figure[f].key));
    html_markup(html, "<section id=\"overview\"><h2>Overview</h2>\n<p>Probabilities are of the rows that were trained on, under the "
                      "model that was saved.</p>\n<div class=\"wide\"><table>\n<thead><tr><th scope=\"col\">Run</th><th "
                      "scope=\"col\">Method</th><th scope=\"col\">Model</th><th scope=\"col\">Steps</th>\n");
    for (int f = 0; f < FIGURES; f++)
        if (shown[f])
            html_element(html, "th", "number", figure[f].title);
    html_markup(html, "</tr></thead>\n<tbody>\n");
    for (int i = 0; i < report->runs; i++) {
        const struct report_run *run = &report->run[i];
        html_markup(html, "<tr>");
        html_element(html, "td", NULL, run->name);
        html_element(html, "td", NULL, method_of(run));
        html_element(html, "td", "value", report_setting(run, "model_name_or_path"));
        steps_cell(html, run);
        for (int f = 0; f < FIGURES; f++)
            if (shown[f])
                html_number(html, result_number(run, figure[f].key), 4);
        html_markup(html, "</tr>\n");
    }
    html_markup(html, "</tbody></table></div></section>\n");
}

/* ---- curves ------------------------------------------------------------------------------------------------------ */

/* The picture of `flat plot`, in the page; where it cannot be drawn, the page says why. */
static void curves(struct html *html, const struct report *report)
{
    const char *path[REPORT_RUNS_MAX];
    size_t count = 0;
    struct buffer svg = {0};
    struct error error = {0};
    for (int i = 0; i < report->runs; i++)
        if (report->run[i].has_metrics)
            path[count++] = report->run[i].path;
    html_markup(html, "<section id=\"curves\"><h2>Curves</h2>\n");
    const int status = count ? plot_runs_draw(path, count, &svg, &error) : STATUS_OK;
    const char *picture = !status && svg.data ? strstr(svg.data, "<svg") : NULL;
    if (status == STATUS_MEMORY && !html->status) {
        *html->error = error;
        html->status = status;
    } else if (picture && !html->status) {
        html->status = buffer_append(&html->text, picture, strlen(picture), html->error);
    } else {
        html_element(html, "p", "failed", status ? error.text : "There is no metrics.jsonl: nothing was logged during the training.");
    }
    if (picture && (int)count < report->runs)
        html_markup(html, "<p>%d of the folders have no metrics.jsonl.</p>\n", report->runs - (int)count);
    html_markup(html, "</section>\n");
    buffer_free(&svg);
}

int report_write(const struct report *report, struct buffer *out, struct error *error)
{
    struct html html = {.error = error};
    page_begin(&html, report);
    overview(&html, report);
    report_findings(&html, report);
    curves(&html, report);
    report_figures(&html, report);
    report_examples(&html, report);
    report_suites(&html, report);
    report_attacks(&html, report);
    report_settings(&html, report);
    report_provenance(&html, report);
    html_markup(&html, "</body>\n</html>\n");
    *out = html.text;
    return html.status;
}
