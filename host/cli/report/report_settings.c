/* report_settings.c - what was asked for, and what made the numbers: options, inputs, versions, machines; see report.h. */
#include <stdio.h>
#include <string.h>

#include "report.h"

/* ---- settings ---------------------------------------------------------------------------------------------------- */

/* The value of a dotted name in a run's settings; NULL where it has none. */
static const cJSON *setting_find(const struct report_run *run, const char *name)
{
    const char *dot = strchr(name, '.');
    char group[64];
    if (!dot)
        return json_member(report_config(run), name);
    snprintf(group, sizeof group, "%.*s", (int)(dot - name), name);
    return json_member(json_member(report_config(run), group), dot + 1);
}

static void setting_cell(struct html *html, const cJSON *value)
{
    struct buffer text = {0};
    if (!html->status && value && !cJSON_IsString(value))
        html->status = json_print(value, &text, html->error);
    html_element(html, "td", "value", cJSON_IsString(value) ? value->valuestring : text.data ? text.data : "\xe2\x80\x93");
    buffer_free(&text);
}

static bool setting_differs(const struct report *report, const char *name)
{
    for (int i = 1; i < report->runs; i++) {
        const cJSON *one = setting_find(&report->run[0], name), *other = setting_find(&report->run[i], name);
        if (!one != !other || (one && !cJSON_Compare(one, other, true)))
            return true;
    }
    return false;
}

/* A row, unless a run before had it, or it is of the other kind: those that differ come first. */
static void setting_row(struct html *html, const struct report *report, int run, const char *name, bool differing)
{
    for (int i = 0; i < run; i++)
        if (setting_find(&report->run[i], name))
            return;
    if (setting_differs(report, name) != differing)
        return;
    html_markup(html, "<tr%s>", differing ? " class=\"differs\"" : "");
    html_element(html, "td", NULL, name);
    for (int i = 0; i < report->runs; i++)
        setting_cell(html, setting_find(&report->run[i], name));
    html_markup(html, "</tr>\n");
}

static void setting_rows(struct html *html, const struct report *report, int run, bool differing)
{
    const cJSON *value, *member;
    cJSON_ArrayForEach(value, report_config(&report->run[run]))
    {
        if (!cJSON_IsObject(value)) {
            setting_row(html, report, run, value->string, differing);
            continue;
        }
        cJSON_ArrayForEach(member, value)
        {
            char name[200];
            snprintf(name, sizeof name, "%s.%s", value->string, member->string);
            setting_row(html, report, run, name, differing);
        }
    }
}

void report_settings(struct html *html, const struct report *report)
{
    bool any = false;
    for (int i = 0; i < report->runs; i++)
        any |= report_config(&report->run[i]) != NULL;
    if (!any)
        return;
    html_markup(html, "<section id=\"settings\"><h2>Settings</h2>\n%s<div class=\"wide\"><table>\n<thead><tr><th "
                      "scope=\"col\">Option</th>\n", report->runs > 1 ? "<p>Options that differ come first.</p>\n" : "");
    for (int i = 0; i < report->runs; i++)
        html_element(html, "th", NULL, report->runs > 1 ? report->run[i].name : "Value");
    html_markup(html, "</tr></thead>\n<tbody>\n");
    for (int differing = report->runs > 1; differing >= 0; differing--)
        for (int i = 0; i < report->runs; i++)
            setting_rows(html, report, i, differing);
    html_markup(html, "</tbody></table></div></section>\n");
}

/* ---- provenance -------------------------------------------------------------------------------------------------- */

static void fact(struct html *html, const char *name, const char *text)
{
    if (!text || !*text)
        return;
    html_markup(html, "<tr>");
    html_element(html, "td", NULL, name);
    html_element(html, "td", "value", text);
    html_markup(html, "</tr>\n");
}

/* The command line as one would type it. */
static void command_fact(struct html *html, const cJSON *command)
{
    const cJSON *word;
    if (!cJSON_IsArray(command))
        return;
    html_markup(html, "<tr><td>command</td><td class=\"value\">");
    cJSON_ArrayForEach(word, command)
    {
        const char *text = cJSON_IsString(word) ? word->valuestring : "";
        const bool quoted = !*text || strpbrk(text, " \t\n\"'\\$&|;<>()*?[]#~`!{}");
        html_markup(html, "%s%s", word == command->child ? "" : " ", quoted ? "&#39;" : "");
        for (const char *at = text; *at; at += *at == '\'') { /* '...'\''...' */
            char piece[4096];
            const int length = (int)strcspn(at, "'");
            snprintf(piece, sizeof piece, "%.*s", length, at);
            html_text(html, piece);
            at += length;
            if (!*at)
                break;
            html_markup(html, "&#39;\\&#39;&#39;");
        }
        html_markup(html, "%s", quoted ? "&#39;" : "");
    }
    html_markup(html, "</td></tr>\n");
}

static void files_table(struct html *html, const cJSON *files, const char *title)
{
    const cJSON *file;
    if (!cJSON_IsObject(files) || !files->child)
        return;
    html_markup(html, "<div class=\"wide\"><table>\n<caption>");
    html_text(html, title);
    html_markup(html, "</caption>\n<thead><tr><th scope=\"col\">File</th><th scope=\"col\" class=\"number\">Bytes</th><th "
                      "scope=\"col\">XXH3</th></tr></thead>\n<tbody>\n");
    cJSON_ArrayForEach(file, files)
    {
        const cJSON *bytes = json_member(file, "bytes"), *digest = json_member(file, "xxh3");
        html_markup(html, "<tr>");
        html_element(html, "td", "value", file->string);
        html_number(html, cJSON_IsNumber(bytes) ? bytes->valuedouble : 0, 16);
        html_element(html, "td", "value", cJSON_IsString(digest) ? digest->valuestring : "");
        html_markup(html, "</tr>\n");
    }
    html_markup(html, "</tbody></table></div>\n");
}

void report_provenance(struct html *html, const struct report *report)
{
    static const char *const key[] = {"run_id", "version", "commit", "started", "host", "engine", "device", "model_type"};
    html_markup(html, "<section id=\"provenance\"><h2>Provenance</h2>\n");
    for (int i = 0; i < report->runs; i++) {
        const struct report_run *run = &report->run[i];
        html_element(html, "h3", NULL, run->path);
        if (!run->record) {
            html_markup(html, "<p>There is no run.json in this folder.</p>\n");
            continue;
        }
        html_markup(html, "<div class=\"wide\"><table><tbody>\n");
        command_fact(html, json_member(run->record, "command"));
        for (size_t k = 0; k < sizeof key / sizeof *key; k++) {
            const cJSON *value = json_member(run->record, key[k]);
            fact(html, key[k], cJSON_IsString(value) ? value->valuestring : NULL);
        }
        html_markup(html, "</tbody></table></div>\n");
        files_table(html, json_member(run->record, "inputs"), "What was read");
        files_table(html, json_member(run->record, "files"), "What was written");
    }
    html_markup(html, "</section>\n");
}
