/* test_report.c - `flat report`: one page that stands alone and is well-formed, in which no text of a model, of data or of a path
 * becomes markup; of a real run, of several, of folders where parts are missing; what is refused.
 */
#include "../support/temporary.h"

#include <ctype.h>

#include "../../host/cli/report/html.h"
#include "../../host/util/file.h"
#include "../support/eval_model.h"
#include "../support/program.h"

static int make(void **state)
{
    return temporary_make(state) || eval_model_make(temporary_path("model")) ? -1 : 0;
}

static void folder_make(const char *name)
{
    struct error error;
    if (file_make_directory(temporary_path(name), &error))
        fail_msg("%s", error.text);
}

static void text_make(const char *name, const char *text)
{
    temporary_file(name, text, strlen(text));
}

static char *page_of(const char *name)
{
    char *text;
    size_t length;
    struct error error;
    if (file_read(temporary_path(name), 1 << 24, &text, &length, &error))
        fail_msg("%s", error.text);
    return text;
}

/* How often a text stands in another. */
static int count_of(const char *page, const char *text)
{
    int count = 0;
    for (const char *at = page; (at = strstr(at, text)); at += strlen(text))
        count++;
    return count;
}

/* Every tag is one that the program writes, opens and closes in order, and brings no attribute that loads or runs anything. */
static void expect_well_formed(const char *page)
{
    static const char *const known[] = {
        "html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "h3", "p", "section", "div", "table", "caption",
        "thead", "tbody", "tr", "th", "td", "ul", "li", "b", "svg", "rect", "text", "line", "circle", "path"};
    char open[64][16];
    int depth = 0;
    assert_int_equal(strncmp(page, "<!DOCTYPE html>\n<html lang=\"en\">", 32), 0);
    for (const char *at = page + 16; (at = strchr(at, '<')); at++) {
        const bool closes = at[1] == '/';
        char name[16] = "";
        for (size_t i = 0; i < sizeof name - 1 && isalnum((unsigned char)at[1 + closes + i]); i++)
            name[i] = at[1 + closes + i];
        const char *end = strchr(at, '>');
        bool is_known = false;
        assert_non_null(end);
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            is_known |= !strcmp(name, known[i]);
        if (!is_known)
            fail_msg("a tag that nobody writes: %.60s", at);
        for (const char *a = at; a < end; a++)
            if (*a == ' ' && (!strncmp(a + 1, "src", 3) || !strncmp(a + 1, "href", 4) || !strncmp(a + 1, "on", 2)))
                fail_msg("an attribute that loads or runs: %.60s", at);
        if (closes) {
            if (!depth || strcmp(open[--depth], name))
                fail_msg("%s closes %s: ...%.60s", name, depth ? open[depth] : "nothing", at);
        } else if (end[-1] != '/' && strcmp(name, "meta")) {
            assert_true(depth < 64);
            snprintf(open[depth++], sizeof *open, "%s", name);
        }
        at = end;
        if (!strcmp(name, "style") && !closes)
            at = strstr(at, "</style>") - 1;
    }
    assert_int_equal(depth, 0);
    assert_null(strstr(page, "url("));
    assert_null(strstr(page, "@import"));
    assert_null(strstr(page, "javascript"));
    assert_non_null(strstr(page, "content=\"default-src 'none'; style-src 'unsafe-inline'\""));
}

/* ---- texts ---- */

static void test_escaping(void **state)
{
    (void)state;
    static const struct {
        const char *text, *html;
    } cases[] = {
        {"<script>alert(\"1\") & 'x'</script>", "&lt;script&gt;alert(&quot;1&quot;) &amp; &#39;x&#39;&lt;/script&gt;"},
        {"&lt;", "&amp;lt;"},
        {"a\tb\nc", "a\tb\nc"},
        {"a\x01\x1b\x7f" "b\r", "a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" "b\xef\xbf\xbd"},
        {"\xc2\x85\xef\xbf\xbe", "\xef\xbf\xbd\xef\xbf\xbd"},               /* U+0085, U+FFFE */
        {"\xff<\xe2\x82", "\xef\xbf\xbd&lt;\xef\xbf\xbd"},                 /* no UTF-8 */
        {"\xe2\x82\xac \xf0\x9f\x98\x80", "\xe2\x82\xac \xf0\x9f\x98\x80"}, /* stays */
        {"", ""},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct error error = {0};
        struct html html = {.error = &error};
        html_markup(&html, "%s", "");
        html_text(&html, cases[c].text);
        assert_int_equal(html.status, STATUS_OK);
        assert_string_equal(html.text.data, cases[c].html);
        buffer_free(&html.text);
    }
}

#define HOSTILE "</td><script>alert(1)</script><img src=x onerror=alert(2)>"

/* Every place that takes a text of others takes this one. */
static void test_hostile(void **state)
{
    (void)state;
    char hostile[64];
    snprintf(hostile, sizeof hostile, "<b onclick='x'>&amp;");
    folder_make(hostile);
    char path[200];
#define FILE_MAKE(name, text) snprintf(path, sizeof path, "%s/%s", hostile, name), text_make(path, text)
#define FOLDER_MAKE(name) snprintf(path, sizeof path, "%s/%s", hostile, name), folder_make(path)
    FOLDER_MAKE("evals");
    FOLDER_MAKE("evals/before");
    FOLDER_MAKE("evals/after");
    FOLDER_MAKE("<i>");
    FILE_MAKE("run.json", "{\"command\": [\"flat\", \"un'learn\", \"" HOSTILE "\", \"\"], \"config\": {\"method\": \"" HOSTILE "\", \"" HOSTILE
              "\": [\"" HOSTILE "\"], \"model_name_or_path\": \"" HOSTILE "\", \"" HOSTILE "x\": {\"" HOSTILE "\": \"" HOSTILE "\"}}, "
              "\"host\": \"" HOSTILE "\", \"device\": \"" HOSTILE "\", \"total_steps\": 3, \"result\": {\"step\": 1, \"steps\": 2, "
              "\"early_stopping\": {\"stop_reason\": \"" HOSTILE "\"}}, \"inputs\": {\"" HOSTILE "\": {\"bytes\": 3, \"xxh3\": \"" HOSTILE
              "\"}}, \"files\": {\"" HOSTILE "\": {\"bytes\": 12345678901, \"xxh3\": \"" HOSTILE "\"}}}");
    FILE_MAKE("metrics.jsonl", "{\"step\": 1, \"loss\": 2, \"prob_" HOSTILE "\": 0.5}\n{\"step\": 2, \"eval\": \"" HOSTILE
              "\", \"prob_mean\": 0.25}\n");
#define QA(answer) "{\"forget_mean_prob\": {\"agg_value\": 0.5}, \"" HOSTILE "_mean_prob\": {\"agg_value\": 0.25}, \"forget_ROUGE\": " \
                   "{\"agg_value\": 1, \"value_by_index\": {\"0\": {\"rouge1_recall\": 1, \"rougeL_f1\": 1, \"rougeL_recall\": 1, " \
                   "\"input\": \"" HOSTILE "\", \"ground_truth\": \"" HOSTILE "\", \"generation\": \"" answer "\"}}}}"
    FILE_MAKE("evals/before/QA_EVAL.json", QA(HOSTILE));
    FILE_MAKE("evals/after/QA_EVAL.json", QA("\\u202e\\u0007" HOSTILE));
    FILE_MAKE("<i>/X_SUMMARY.json", "{\"" HOSTILE "\": 1, \"text\": \"" HOSTILE "\", \"nan\": NaN, \"none\": null, \"list\": [1]}");
    FILE_MAKE("attack_" "<u>.json", "{\"" HOSTILE "\": \"" HOSTILE "\", \"rows\": [{\"" HOSTILE "\": 1, \"b\": \"" HOSTILE "\"}, {\"b\": 2}], "
              "\"deep\": {\"" HOSTILE "\": true, \"deeper\": {\"rows\": [{\"" HOSTILE "\": null}]}}}");
    const char *const arguments[] = {"report", temporary_path(hostile), NULL};
    struct program_result result = program_run(arguments, NULL, 0);
    program_expect(&result, STATUS_OK);
    program_free(&result);
    snprintf(path, sizeof path, "%s/report.html", hostile);
    char *page = page_of(path);
    expect_well_formed(page);
    assert_null(strstr(page, "<script"));
    assert_null(strstr(page, "<img"));
    assert_null(strstr(page, "<i>"));
    assert_null(strstr(page, "<b onclick"));
    assert_true(count_of(page, "&lt;script&gt;alert(1)&lt;/script&gt;") >= 25);
    assert_non_null(strstr(page, "<td class=\"words\" dir=\"auto\">\xe2\x80\xae\xef\xbf\xbd&lt;/td&gt;"));
    assert_non_null(strstr(page, "flat &#39;un&#39;\\&#39;&#39;learn&#39; &#39;&lt;/td&gt;"));
    assert_non_null(strstr(page, "1, the best of 2 of 3, ended by "));
    assert_non_null(strstr(page, ">12345678901<"));
    free(page);
}

/* ---- runs ---- */

#define UNLEARN "unlearn --model %s/model --forget_data " EVAL "/qa_forget.jsonl --template.file " EVAL "/refusals.txt " \
                "--num_train_epochs 2 --per_device_train_batch_size 2 --gradient_accumulation_steps 1 --prompt_template qa " \
                "--device cpu --quiet --save_dtype float32 --eval_data facts=" EVAL "/tofu/world_facts_perturbed.json " \
                "--eval_strategy epoch "

static void expect_ok(struct program_result result)
{
    program_expect(&result, STATUS_OK);
    program_free(&result);
}

static void test_runs(void **state)
{
    (void)state;
    expect_ok(program_line(UNLEARN "--learning_rate 3e-4 --output_dir %s/one", temporary, temporary));
    expect_ok(program_line(UNLEARN "--learning_rate 1e-4 --divergence kl --output_dir %s/two", temporary, temporary));
    expect_ok(program_line("eval %s/one --suite tofu --forget_data " EVAL "/tofu/forget01_perturbed.json --device cpu --quiet "
                           "--max_new_tokens 8 -o %s/one/evals/tofu", temporary, temporary));
    struct program_result result = program_line("report %s/one", temporary);
    program_expect(&result, STATUS_OK);
    assert_non_null(strstr(result.out, "/one/report.html\n"));
    program_free(&result);
    char *page = page_of("one/report.html");
    expect_well_formed(page);
    static const char *const section[] = {"overview", "curves", "figures", "examples", "suites", "settings", "provenance"};
    for (size_t i = 0; i < sizeof section / sizeof *section; i++) {
        char tag[64];
        snprintf(tag, sizeof tag, "<section id=\"%s\">", section[i]);
        assert_int_equal(count_of(page, tag), 1);
    }
    assert_int_equal(count_of(page, "<svg "), 1);
    assert_non_null(strstr(page, "Ada Lum lives in Aldmoor and is a baker."));
    assert_non_null(strstr(page, "evals/tofu/TOFU_SUMMARY.json"));
    assert_non_null(strstr(page, "<td>model_utility</td>"));
    assert_non_null(strstr(page, "<td>divergence</td>"));
    assert_null(strstr(page, "<section id=\"attacks\">"));
    free(page);
    expect_ok(program_line("report %s/one %s/two %s/model/../one -o %s/three.html --examples 1", temporary, temporary, temporary,
                           temporary));
    page = page_of("three.html");
    expect_well_formed(page);
    assert_non_null(strstr(page, "<th class=\"number\">before</th>"));
    assert_int_equal(count_of(page, "<th class=\"number\">before</th>"), 1); /* they began with one model */
    const char *differs = strstr(page, "<tr class=\"differs\"><td>learning_rate</td>");
    assert_non_null(differs);
    assert_true(strstr(page, "<tr><td>seed</td>") > differs); /* what differs comes first */
    assert_int_equal(count_of(page, "<svg "), 1);
    free(page);
    expect_ok(program_line("report %s/one -o %s/none.html --examples 0", temporary, temporary));
    page = page_of("none.html");
    assert_null(strstr(page, "<section id=\"examples\">"));
    free(page);
}

/* Any one part is enough, and what is not there is said or left out. */
static void test_missing(void **state)
{
    (void)state;
    static const struct {
        const char *folder, *file, *text, *says;
    } cases[] = {
        {"only_run", "run.json", "{\"config\": {\"method\": \"flat\"}}", "There is no metrics.jsonl"},
        {"only_metrics", "metrics.jsonl", "{\"step\": 1, \"loss\": 2}\n{\"step\": 2, \"loss\": 1}\n{\"st", "There is no run.json"},
        {"no_points", "metrics.jsonl", "{\"step\": 1, \"loss\": null}\n", "no numbers to draw"},
        {"broken_metrics", "metrics.jsonl", "{\"step\": -1}\n", "expected an integer of at least 0"},
        {"only_summary", "TOFU_SUMMARY.json", "{\"forget_quality\": 0.5, \"x\": NaN}", "<td>forget_quality</td>"},
        {"only_attack", "attack.json", "{\"relearn\": {\"steps\": 10, \"rows\": [{\"a\": 1}]}}", "<td>relearn.steps</td>"},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        char name[200];
        folder_make(cases[c].folder);
        snprintf(name, sizeof name, "%s/%s", cases[c].folder, cases[c].file);
        text_make(name, cases[c].text);
        expect_ok(program_line("report %s/%s", temporary, cases[c].folder));
        snprintf(name, sizeof name, "%s/report.html", cases[c].folder);
        char *page = page_of(name);
        expect_well_formed(page);
        if (!strstr(page, cases[c].says))
            fail_msg("%s: '%s' is not in the page", cases[c].folder, cases[c].says);
        free(page);
    }
    expect_ok(program_line("report %s/only_run %s/only_metrics %s/only_summary -o %s/mixed.html", temporary, temporary, temporary,
                           temporary));
    char *page = page_of("mixed.html");
    expect_well_formed(page);
    assert_non_null(strstr(page, "2 of the folders have no metrics.jsonl"));
    free(page);
}

static void test_refused(void **state)
{
    (void)state;
    folder_make("empty");
    folder_make("bad");
    text_make("bad/run.json", "{\"config\": ");
    folder_make("array");
    text_make("array/TOFU_SUMMARY.json", "[1]");
    folder_make("wrong");
    folder_make("wrong/evals");
    folder_make("wrong/evals/after");
    text_make("wrong/evals/after/QA_EVAL.json", "{\"forget_mean_prob\": 3}");
    static const struct {
        const char *arguments, *message;
        int status;
    } cases[] = {
        {"none", "no such folder", STATUS_INPUT},
        {"empty", "nothing to report: expected run.json", STATUS_INPUT},
        {"bad", "bad/run.json", STATUS_INPUT},
        {"array", "TOFU_SUMMARY.json: expected an object", STATUS_INPUT},
        {"wrong", "QA_EVAL.json", STATUS_INPUT},
        {"empty -o page.htm", "expected a name that ends in .html", STATUS_USAGE},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct program_result result = program_line("report %s/%s", temporary, cases[c].arguments);
        program_expect_error(&result, cases[c].status, cases[c].message);
        program_free(&result);
    }
    assert_false(file_exists(temporary_path("empty/report.html")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_escaping), cmocka_unit_test(test_hostile), cmocka_unit_test(test_runs),
                                       cmocka_unit_test(test_missing), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, make, temporary_remove);
}
