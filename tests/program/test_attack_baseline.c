/* test_attack_baseline.c - `flat attack --baseline_log`: the table with another run's figures of the target and the retain model is
 * the measured one, and a log that was made otherwise is refused.
 */
#include "../support/temporary.h"

#include <stdlib.h>

#include "../../host/util/file.h"
#include "../../host/util/memory.h"
#include "../support/attack_models.h"
#include "../support/program.h"

#define THREE "--target_model %s/target --retain_model %s/retain "

static int models_make(void **state)
{
    return temporary_make(state) || attack_models_make(temporary) ? -1 : 0;
}

static char *text_of(const char *name)
{
    char path[700], *text;
    size_t length;
    struct error error = {0};
    snprintf(path, sizeof path, "%s/%s", temporary, name);
    if (file_read(path, 1 << 24, &text, &length, &error))
        fail_msg("%s", error.text);
    return text;
}

/* Lines of `text`, those that have `part` with `from` instead of `to`, as FILE of the temporary folder. */
static void log_make(const char *file, const char *text, const char *part, const char *from, const char *to)
{
    char path[700];
    struct error error = {0};
    struct buffer out = {0};
    for (const char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        const char *found = strstr(line, part), *at = found && found < end ? strstr(line, from) : NULL;
        at = at && at < end ? at : NULL;
        assert_int_equal(buffer_append(&out, line, (size_t)((at ? at : end) - line), &error), STATUS_OK);
        if (at)
            assert_int_equal(buffer_printf(&out, &error, "%s%.*s", to, (int)(end - at) - (int)strlen(from), at + strlen(from)), STATUS_OK);
        assert_int_equal(buffer_printf(&out, &error, "\n"), STATUS_OK);
    }
    snprintf(path, sizeof path, "%s/%s", temporary, file);
    assert_int_equal(file_write(path, out.data, out.length, &error), STATUS_OK);
    buffer_free(&out);
}

#define ALL                                                                                                                                \
    "--text_data " EVAL "/text.txt --text_tokens 16 --neighbor_data " EVAL "/qa_forget.jsonl --template.file " EVAL "/refusals.txt "       \
    "--probe_data %s/probes.jsonl --unrelated_data configs/demo/retain.jsonl --attack_budget 2 " ASK

/* With the log of a run that was attacked alike the table is the same to the last byte, and the other models are not asked again. */
static void test_baseline(void **state)
{
    (void)state;
    char path[700];
    struct error error = {0};
    static const char probes[] = "{\"prompt\": \"Who?\", \"answer\": \"A poet.\", \"kind\": \"short\"}\n"
                                 "{\"prompt\": \"Where?\", \"answer\": \"In a town.\"}\n";
    snprintf(path, sizeof path, "%s/probes.jsonl", temporary);
    assert_int_equal(file_write(path, probes, sizeof probes - 1, &error), STATUS_OK);
    static const struct { const char *model, *log, *out; } run[] = {
        {"retain", "", "other"}, {"forgot", "", "measured"}, {"forgot", "other/attack.jsonl", "taken"}};
    for (size_t i = 0; i < sizeof run / sizeof *run; i++)
        program_expect_ok(program_line("attack --model %s/%s " THREE "--output_dir %s/%s %s%s%s " ALL,
                            temporary, run[i].model, temporary, temporary, temporary, run[i].out, *run[i].log ? "--baseline_log " : "",
                            *run[i].log ? temporary : "", *run[i].log ? "/other/attack.jsonl" : "", temporary));
    char *measured = text_of("measured/attack.md"), *taken = text_of("taken/attack.md");
    assert_string_equal(measured, taken);
    free(measured);
    free(taken);
    measured = text_of("measured/attack.jsonl"), taken = text_of("taken/attack.jsonl");
    assert_string_equal(strchr(measured, '\n'), strchr(taken, '\n')); /* but for the header, which names the folders */
    free(measured);
    free(taken);
    /* figures are really taken: what the log says is what the table says */
    char *log = text_of("other/attack.jsonl");
    log_make("told.jsonl", log, "\"K in int8\", \"model\": \"target\"", "\"values\": [", "\"values\": [null, ");
    struct program_result result = program_line("attack --model %s/forgot " THREE "--output_dir "
                                                "%s/told --baseline_log %s/told.jsonl " ALL, temporary, temporary, temporary, temporary,
                                                temporary, temporary);
    program_expect_error(&result, STATUS_INPUT, "\"K in int8\" of the target model: 5 values, expected 4");
    program_free(&result);
    free(log);
}

/* A log of another way of asking, of other models or files, and what is no log. */
static void test_baseline_refused(void **state)
{
    (void)state;
    program_expect_ok(program_line("attack --model %s/forgot " THREE "--attacks quantize --output_dir "
                        "%s/base " ASK, temporary, temporary, temporary, temporary));
    char *log = text_of("base/attack-quantize.jsonl");
    log_make("words.jsonl", log, "\"model\": \"retain\"", "\"values\": [", "\"values\": [\"a\", ");
    log_make("half.jsonl", log, "\"compute_dtype\"", "\"float32\"", "\"bfloat16\"");
    log_make("none.jsonl", log, "\"config\"", "\"config\"", "\"conf\"");
    log_make("broken.jsonl", log, "\"model\": \"retain\"", "\"values\": [", "\"values\": [[");
    free(log);
    static const struct { const char *log, *more, *target, *says; int status; } cases[] = {
        {"base/attack-quantize.jsonl", "--eval_max_length 100", "target", "made with eval_max_length 512, here 100", STATUS_USAGE},
        {"base/attack-quantize.jsonl", "--forget_data configs/demo/retain.jsonl", "target", "made with another forget_data", STATUS_USAGE},
        {"base/attack-quantize.jsonl", "", "retain", "made of another target model", STATUS_USAGE},
        {"half.jsonl", "", "target", "made with compute_dtype \"bfloat16\", here \"float32\"", STATUS_USAGE},
        {"words.jsonl", "", "target", "values of \"K\": expected numbers", STATUS_INPUT},
        {"none.jsonl", "", "target", "expected \"config\"", STATUS_INPUT},
        {"broken.jsonl", "", "target", "broken.jsonl:", STATUS_INPUT},
        {"absent.jsonl", "", "target", "absent.jsonl", STATUS_INPUT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct program_result result = program_line("attack --model %s/forgot --target_model %s/%s --retain_model %s/retain --attacks "
                                                    "quantize --output_dir %s/refused " ASK "--baseline_log %s/%s %s", temporary, temporary,
                                                    cases[i].target, temporary, temporary, temporary, cases[i].log, cases[i].more);
        program_expect_error(&result, cases[i].status, cases[i].says);
        program_free(&result);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_baseline), cmocka_unit_test(test_baseline_refused)};
    return cmocka_run_group_tests(tests, models_make, temporary_remove);
}
