/* report_examples.c - questions with the answers of both models side by side; see report.h. */
#include <string.h>

#include "../../eval/suite/before_after.h"
#include "report.h"

static const cJSON *row_of(const struct eval_log *log, const char *set, const char *index)
{
    return log->metrics ? json_member(before_after_rows(log, set), index) : NULL;
}

/* A member of a row as text; NULL where it is not there. */
static const char *text_of(const cJSON *row, const char *key)
{
    const cJSON *value = json_member(row, key);
    return cJSON_IsString(value) ? value->valuestring : NULL;
}

/* The answer to this question, not to another one of that number. */
static void answer_cell(struct html *html, const struct eval_log *log, const char *set, const char *index, const char *input)
{
    const cJSON *row = row_of(log, set, index);
    const char *asked = text_of(row, "input"), *answer = text_of(row, "generation");
    html_words(html, asked && answer && !strcmp(asked, input) ? answer : "\xe2\x80\x93");
}

static bool has_answers(const struct report_run *run)
{
    return run->before.metrics || run->after.metrics;
}

static void example_row(struct html *html, const struct report *report, const char *set, const cJSON *row, const char *input)
{
    const char *truth = text_of(row, "ground_truth");
    html_markup(html, "<tr>");
    html_words(html, input);
    html_words(html, truth ? truth : "");
    for (int i = 0; i < report->runs; i++) {
        const struct report_run *run = &report->run[i];
        if (has_answers(run) && report_base_is_new(report, i))
            answer_cell(html, &run->before, set, row->string, input);
        if (has_answers(run))
            answer_cell(html, &run->after, set, row->string, input);
    }
    html_markup(html, "</tr>\n");
}

static void set_table(struct html *html, const struct report *report, const char *set, const cJSON *rows)
{
    int left = report->examples;
    html_markup(html, "<div class=\"wide\"><table class=\"examples\">\n<caption>");
    html_text(html, set);
    html_markup(html, "</caption>\n<thead><tr><th scope=\"col\">Question</th><th scope=\"col\">True answer</th>\n");
    for (int i = 0; i < report->runs; i++) {
        if (!has_answers(&report->run[i]))
            continue;
        if (report_base_is_new(report, i))
            html_element(html, "th", NULL, report->runs > 1 ? "before" : "Before");
        html_element(html, "th", NULL, report->runs > 1 ? report->run[i].name : "After");
    }
    html_markup(html, "</tr></thead>\n<tbody>\n");
    for (const cJSON *row = rows->child; row && left > 0; row = row->next) {
        const char *input = text_of(row, "input");
        if (row->string && input && left--)
            example_row(html, report, set, row, input);
    }
    html_markup(html, "</tbody></table></div>\n");
}

void report_examples(struct html *html, const struct report *report)
{
    bool any = false;
    for (int s = 0; s < report->sets && report->examples > 0; s++) {
        const cJSON *rows = NULL;
        for (int i = 0; i < report->runs && !rows; i++) {
            const struct report_run *run = &report->run[i];
            rows = run->after.metrics ? before_after_rows(&run->after, report->set[s]) : NULL;
            if (!rows && run->before.metrics)
                rows = before_after_rows(&run->before, report->set[s]);
        }
        if (!rows)
            continue;
        html_markup(html, "%s", any ? "" : "<section id=\"examples\"><h2>Answers side by side</h2>\n");
        set_table(html, report, report->set[s], rows);
        any = true;
    }
    html_markup(html, "%s", any ? "</section>\n" : "");
}
