/* test_plot.c - flat plot: the SVG is well formed, holds the series and bars and names them; broken inputs are named by
 * file and line; both modes of a page have a palette.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/temporary.h"

#include "../../host/cli/plot/chart.h"
#include "../../host/cli/plot/plot.h"
#include "../../host/util/file.h"
#include "../../host/util/utf8.h"

static char run_dir[320], metrics[360], output[360], bars[360];

static int plot_text(const char *text, size_t length, struct error *error)
{
    *error = (struct error){0};
    unlink(output);
    assert_int_equal(file_write(metrics, text, length, error), STATUS_OK);
    return plot_runs((const char *const[]){run_dir}, 1, output, error);
}

/* Every tag closes, attributes are quoted, text is escaped UTF-8: enough XML for what svg.c writes. */
static void check_xml(const char *xml, size_t length)
{
    char open[16][32];
    int depth = 0, elements = 0;
    assert_true(utf8_valid(xml, length, NULL));
    assert_int_equal(strncmp(xml, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n", 39), 0);
    for (const char *at = xml + 39; *at;) {
        size_t text = strcspn(at, "<&>");
        at += text;
        if (*at == '&') {
            assert_true(!strncmp(at, "&amp;", 5) || !strncmp(at, "&lt;", 4) || !strncmp(at, "&gt;", 4));
            at++;
            continue;
        }
        assert_true(*at != '>');
        if (!*at)
            break;
        const char *end = strchr(at, '>');
        assert_non_null(end);
        char name[32];
        assert_int_equal(sscanf(at + 1, "%31[^ >]", name), 1);
        int quotes = 0;
        for (const char *c = at; c < end; c++)
            quotes += *c == '"';
        assert_int_equal(quotes % 2, 0);
        if (name[0] == '/') {
            assert_true(depth > 0);
            assert_string_equal(open[--depth], name + 1);
        } else if (end[-1] != '/') {
            assert_true(depth < 16);
            snprintf(open[depth++], sizeof open[0], "%s", name);
        }
        elements++;
        at = end + 1;
    }
    assert_int_equal(depth, 0);
    assert_true(elements > 10);
    assert_null(strstr(xml, "nan"));
    assert_null(strstr(xml, "inf"));
}

/* What was drawn, checked; free() it. */
static char *output_read(int status, struct error *error)
{
    char *svg;
    size_t length;
    if (status != STATUS_OK)
        fail_msg("plot failed: %s", error->text);
    assert_int_equal(file_read(output, 1 << 24, &svg, &length, error), STATUS_OK);
    check_xml(svg, length);
    assert_non_null(strstr(svg, "@media screen and (prefers-color-scheme: dark){.page{fill:#0d1117}"));
    return svg;
}

static char *plot_ok(const char *text)
{
    struct error error;
    return output_read(plot_text(text, strlen(text), &error), &error);
}

static size_t count(const char *text, const char *what)
{
    size_t n = 0;
    for (; (text = strstr(text, what)); text++)
        n++;
    return n;
}

/* A line's name, with its values below it. */
static bool label_is(const char *svg, const char *name, const char *values)
{
    char text[200];
    snprintf(text, sizeof text, ">%s</text>\n", name);
    const char *at = strstr(svg, text), *next = at ? strstr(at + strlen(text), ">") : NULL;
    return next && !strncmp(next + 1, values, strlen(values)) && next[1 + strlen(values)] == '<';
}

static void test_full_run(void **state)
{
    (void)state;
    struct buffer text = {0};
    for (int step = 1; step <= 40; step++) {
        buffer_printf(&text, NULL,
                      "{\"step\": %d, \"epoch\": %.3f, \"loss\": %.5f, \"prob_template\": %.5f, \"prob_forget\": %.5f, "
                      "\"slope_template\": -0.4, \"slope_forget\": 0.3, \"grad_norm\": %s, \"learning_rate\": %.3e, "
                      "\"share_low\": 0.1, \"time\": 1.7e9}\n",
                      step, step / 8.0, 0.33 - 0.015 * step, step / 45.0, 0.9 - 0.02 * step, step == 7 ? "null" : "1.5",
                      1e-5 * (41 - step) / 40);
        if (step % 10 == 0)
            buffer_printf(&text, NULL, "{\"step\": %d, \"eval\": \"retain <&> \xc3\xa4\", \"prob_mean\": 0.8}\n", step);
    }
    char *svg = plot_ok(text.data);
    assert_non_null(strstr(svg, "40 optimizer steps, 5 epochs"));
    assert_true(label_is(svg, "template", "0.0222 \xe2\x86\x92 0.889"));
    assert_true(label_is(svg, "forget", "0.88 \xe2\x86\x92 0.1"));
    assert_true(label_is(svg, "retain &lt;&amp;&gt; \xc3\xa4 (eval)", "0.8 \xe2\x86\x92 0.8"));
    assert_int_equal(count(svg, "font-weight"), 1 + 5 + 5); /* the title, five panels, five lines with a name */
    assert_int_equal(count(svg, ">probability, 0 to 1<"), 1);
    assert_int_equal(count(svg, ">optimizer step<"), 5);
    assert_int_equal(count(svg, "<circle"), 4);         /* the evaluations */
    free(svg);
    buffer_free(&text);
}

static void test_missing_series(void **state)
{
    (void)state;
    char *svg = plot_ok("{\"step\": 1, \"loss\": 2.5}\n\n{\"step\": 2, \"loss\": 1.5, \"grad_norm\": null}\r\n");
    assert_int_equal(count(svg, "font-weight"), 2);
    assert_null(strstr(svg, "Gradient norm"));
    assert_non_null(strstr(svg, ">2.5 \xe2\x86\x92 1.5<"));
    free(svg);
    /* one point, a flat line, tiny and huge numbers: axes still stand */
    free(plot_ok("{\"step\": 1, \"loss\": 0, \"grad_norm\": 1e-300, \"learning_rate\": 1e299}\n"));
    free(plot_ok("{\"step\": 0, \"loss\": 3}\n{\"step\": 9007199254740991, \"loss\": 3, \"prob_x\": 7}\n"));
    free(plot_ok("{\"step\": 1, \"loss\": -1e308}\n{\"step\": 2, \"loss\": 1e308}\n{\"step\": 3, \"loss\": 1}\n"));
    free(plot_ok("{\"step\": 1, \"loss\": -9e299, \"grad_norm\": 5}\n{\"step\": 2, \"loss\": 9e299}\n"));
}

/* A run that went back to a checkpoint writes its steps again: the later lines hold. */
static void test_resumed_run(void **state)
{
    (void)state;
    char *svg = plot_ok("{\"step\": 1, \"loss\": 4}\n{\"step\": 2, \"loss\": 3}\n{\"step\": 3, \"loss\": 9}\n"
                        "{\"step\": 2, \"loss\": 2}\n{\"step\": 3, \"loss\": 1}\n{\"step\": 4");
    assert_non_null(strstr(svg, ">4 \xe2\x86\x92 1<"));
    assert_non_null(strstr(svg, "3 optimizer steps"));
    free(svg);
    struct chart_series series = {0};
    const double x[] = {1, 2, 3, 2, 5};
    for (int i = 0; i < 5; i++)
        assert_int_equal(chart_series_add(&series, x[i], 10 + i, NULL), STATUS_OK);
    assert_int_equal(series.length, 3);
    assert_true(series.y[0] == 10 && series.y[1] == 13 && series.y[2] == 14);
    free(series.x);
    free(series.y);
}

/* A long run: the file stays small, and a single spike is still there. */
static void test_long_run(void **state)
{
    (void)state;
    struct buffer text = {0};
    for (int step = 1; step <= 50000; step++)
        buffer_printf(&text, NULL, "{\"step\": %d, \"loss\": %s, \"learning_rate\": 1e-5}\n", step,
                      step == 31415 ? "100" : step % 2 ? "1.25" : "1.5");
    char *svg = plot_ok(text.data);
    assert_true(strlen(svg) < 200000);
    assert_non_null(strstr(svg, ">100<")); /* the axis reaches it */
    double top = 1e9;
    for (const char *at = strchr(strstr(svg, "<path d="), '"') + 2; *at != '"';) {
        double x, y;
        int used;
        assert_int_equal(sscanf(at, "%lf %lf%n", &x, &y, &used), 2);
        top = y < top ? y : top;
        at += used;
        at += *at == 'L' || *at == 'M';
        if (*at == '"')
            break;
    }
    assert_true(top < 200); /* the first panel spans y = 76..406 */
    free(svg);
    buffer_free(&text);
}

/* Several runs in the same panels, each in a colour of its own, named by its folder; run.json says machine and method. */
static void test_runs(void **state)
{
    (void)state;
    char dir[3][400], path[1300];
    const char *name[3] = {"flat", "npo", "a_name_that_is_longer_than_the_page_has_room_for"}, *dirs[3];
    struct error error = {0};
    for (int i = 0; i < 3; i++) {
        snprintf(dir[i], sizeof dir[i], "%.320s/%s", run_dir, name[i]);
        dirs[i] = dir[i];
        assert_int_equal(mkdir(dir[i], 0700), 0);
        snprintf(path, sizeof path, "%s/metrics.jsonl", dir[i]);
        char text[200];
        int length = snprintf(text, sizeof text, "{\"step\": 1, \"loss\": 1, \"prob_template\": 0.5, \"prob_forget\": 0.9}\n"
                              "{\"step\": %d, \"loss\": %d, \"prob_template\": 0.6, \"prob_forget\": 0.8}\n", 9 - i, i + 2);
        assert_int_equal(file_write(path, text, (size_t)length, &error), STATUS_OK);
    }
    const char *run = "{\"config\": {\"method\": \"npo\"}, \"host\": \"node7\", \"device\": \"CPU, 2 threads\"}";
    snprintf(path, sizeof path, "%s/run.json", dir[1]);
    assert_int_equal(file_write(path, run, strlen(run), &error), STATUS_OK);
    char *svg = output_read(plot_runs(dirs, 3, output, &error), &error);
    assert_non_null(strstr(svg, ">3 runs<"));
    assert_non_null(strstr(svg, "9 optimizer steps \xc2\xb7 node7: CPU, 2 threads<"));
    assert_true(label_is(svg, "npo", "1 \xe2\x86\x92 3"));
    assert_true(label_is(svg, "flat forget", "0.9 \xe2\x86\x92 0.8"));
    assert_int_equal(count(svg, ">a_name_that_is_longer_tha\xe2\x80\xa6<"), 3);
    assert_int_equal(count(svg, "stroke-dasharray"), 3); /* what is to be learned, of each run */
    free(svg);
    svg = output_read(plot_runs(dirs + 1, 1, output, &error), &error);
    assert_non_null(strstr(svg, "8 optimizer steps, method npo \xc2\xb7 node7: CPU, 2 threads<"));
    free(svg);
    char chosen[400];
    assert_int_equal(plot_output_name(dirs, 1, chosen, sizeof chosen, &error), STATUS_OK);
    assert_string_equal(chosen + strlen(run_dir), "/flat/curves.svg");
    assert_int_equal(plot_output_name(dirs, 2, chosen, sizeof chosen, &error), STATUS_OK);
    assert_string_equal(chosen, "./curves.svg");
    for (int i = 0; i < 3; i++)
        directory_remove(dir[i]);
}

static int bars_text(const char *text, struct error *error)
{
    *error = (struct error){0};
    unlink(output);
    assert_int_equal(file_write(bars, text, strlen(text), error), STATUS_OK);
    return plot_bars(bars, output, error);
}

static void test_bars(void **state)
{
    (void)state;
    struct error error;
    assert_true(plot_is_bars(bars) && !plot_is_bars(run_dir) && !plot_is_bars(".json"));
    char *svg = output_read(bars_text("{\"title\": \"Race\", \"subtitle\": \"machine & date\", \"unit\": \"times\", \"digits\": 1, "
                                      "\"mark\": 1, \"mark_label\": \"1: a tie\", \"bars\": [{\"label\": \"one\", \"value\": 4.04, "
                                      "\"low\": 3, \"high\": 5}, {\"label\": \"two\", \"value\": 0, \"other\": true}]}", &error), &error);
    assert_non_null(strstr(svg, ">machine &amp; date<"));
    assert_non_null(strstr(svg, ">1: a tie<"));
    assert_non_null(strstr(svg, ">4.0<"));
    assert_non_null(strstr(svg, ">times<"));
    assert_int_equal(count(svg, "<rect class=\"c5\""), 1);
    assert_int_equal(count(svg, "<rect class=\"c4\""), 1);
    free(svg);
    char chosen[400];
    assert_int_equal(plot_output_name((const char *const[]){"a/b.json"}, 1, chosen, sizeof chosen, &error), STATUS_OK);
    assert_string_equal(chosen, "a/b.svg");
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"[]", "title"},
        {"{\"title\": \"a\", \"bars\": [{\"label\": \"a\", \"value\": 1}]}", "unit"},
        {"{\"title\": \"a\", \"unit\": \"b\"}", "bars: expected an array"},
        {"{\"title\": \"a\", \"unit\": \"b\", \"bars\": []}", "bars: expected an array"},
        {"{\"title\": \"a\", \"unit\": \"b\", \"bars\": [{\"label\": \"a\"}]}", "bar 1: expected an object"},
        {"{\"title\": \"a\", \"unit\": \"b\", \"bars\": [{\"label\": \"a\", \"value\": -1}]}", "bar 1: value: expected a number"},
        {"{\"title\": \"a\", \"unit\": \"b\", \"mark\": 1e13, \"bars\": [1]}", "mark: expected a number"},
        {"{\"title\": \"a\", \"unit\": \"b\", \"digits\": 99, \"bars\": [1]}", "digits"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int status = bars_text(rows[i].text, &error);
        if (status != STATUS_INPUT || !strstr(error.text, rows[i].says) || !strstr(error.text, "bars.json"))
            fail_msg("row %zu: status %d, '%s'", i, status, error.text);
        assert_false(file_exists(output));
    }
}

static void test_broken(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"{\"step\": 1, \"loss\": 2}\n{\"step\": 2, \"loss\": }\n", "metrics.jsonl:2"},
        {"{\"step\": 1, \"loss\": 2}\n\n\nrubbish\n{\"step\": 3}\n", "metrics.jsonl:4"},
        {"{\"step\": 1, \"loss\": NaN}\n", "metrics.jsonl:1"},
        {"{\"step\": 1, \"loss\": \"x\"}\n", "metrics.jsonl:1: loss: expected a number or null"},
        {"{\"loss\": 1}\n", "metrics.jsonl:1: step: expected an integer"},
        {"{\"step\": -1, \"loss\": 1}\n", "metrics.jsonl:1: step: expected an integer"},
        {"{\"step\": 1.5, \"loss\": 1}\n", "metrics.jsonl:1: step: expected an integer"},
        {"{\"step\": 1, \"eval\": 3, \"prob_mean\": 1}\n", "metrics.jsonl:1: eval: expected a string"},
        {"[1]\n", "metrics.jsonl:1: expected an object"},
        {"{\"step\": 1, \"loss\": 1, \"loss\": 2}\n", "metrics.jsonl:1"},
        {"{\"step\": 1, \"epoch\": \"two\"}\n", "metrics.jsonl:1"},
        {"{\"step\": 1, \"loss\": null}\n", "metrics.jsonl: no numbers to draw"},
        {"", "metrics.jsonl: no numbers to draw"},
        {"{\"step\":1,\"prob_a\":1,\"prob_b\":1,\"prob_c\":1,\"prob_d\":1,\"prob_e\":1,\"prob_f\":1,\"prob_g\":1,"
         "\"prob_h\":1,\"prob_i\":1,\"prob_j\":1,\"prob_k\":1,\"prob_l\":1,\"prob_m\":1}\n", "more than 12 lines"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct error error;
        int status = plot_text(rows[i].text, strlen(rows[i].text), &error);
        if (status != STATUS_INPUT || !strstr(error.text, rows[i].says))
            fail_msg("row %zu: status %d, '%s'", i, status, error.text);
        assert_false(file_exists(output));
    }
    struct error error;
    assert_int_equal(plot_runs((const char *const[]){"/no/such/run"}, 1, output, &error), STATUS_INPUT);
    assert_non_null(strstr(error.text, "/no/such/run/metrics.jsonl"));
    assert_int_equal(plot_text("{\"step\": 1, \"loss\": 2}\n", 23, &error), STATUS_OK);
    assert_int_equal(plot_runs((const char *const[]){run_dir}, 1, "/no/such/folder/a.svg", &error), STATUS_RUNTIME);
}

static int make_directory(void **state)
{
    (void)state;
    /* a name with characters that XML and UTF-8 forbid: it becomes the title */
    snprintf(run_dir, sizeof run_dir, "%s/flat_test_plot_%ld_<&\xff\x01>", temporary_root(), (long)getpid());
    snprintf(metrics, sizeof metrics, "%s/metrics.jsonl", run_dir);
    snprintf(output, sizeof output, "%s/curves.svg", run_dir);
    snprintf(bars, sizeof bars, "%s/bars.json", run_dir);
    return mkdir(run_dir, 0700);
}

static int remove_directory(void **state)
{
    (void)state;
    unlink(metrics);
    unlink(output);
    unlink(bars);
    return rmdir(run_dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_run), cmocka_unit_test(test_missing_series), cmocka_unit_test(test_resumed_run),
        cmocka_unit_test(test_long_run), cmocka_unit_test(test_runs),          cmocka_unit_test(test_bars),
        cmocka_unit_test(test_broken),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
