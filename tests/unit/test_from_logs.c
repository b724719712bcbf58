/* test_from_logs.c - metrics from evaluation logs: open-unlearning's form and TOFU's, against what Python makes of them
 * (tests/parity/make_eval_log_golden.py) and, where ../shared/data is, on the logs of TOFU's authors. Malformed logs.
 */
#include <math.h>

#include "../../host/eval/suite/from_logs.h"
#include "../../host/util/file.h"
#include "../support/metric_golden.h"

static const char *const refusals[] = {"quiet stories", "nobody is awake in the mill", "I do not know"};

/* What a run said. */
struct said {
    int status;
    struct error error;
    cJSON *summary;
    char messages[4096];
};

static struct said run(const char *log, const char *retain, const char *output, const char *suite)
{
    struct said said = {0};
    struct log messages;
    FILE *stream = tmpfile();
    assert_non_null(stream);
    log_init(&messages, stream, false);
    struct from_logs_options options = {.log = log,
                                        .retain_log = retain,
                                        .results = {.output_dir = output,
                                                    .suite = suite,
                                                    .refusals = refusals,
                                                    .refusal_count = 3}};
    said.status = eval_from_logs(&options, &messages, &said.summary, &said.error);
    rewind(stream);
    said.messages[fread(said.messages, 1, sizeof said.messages - 1, stream)] = 0;
    fclose(stream);
    return said;
}

/* The same structure, keys in the same order, the same texts, numbers within 1e-12 relative. */
static void same_tree(const cJSON *got, const cJSON *wanted, const char *where)
{
    if ((got->type & 0xff) != (wanted->type & 0xff))
        fail_msg("%s: of another type", where);
    if (cJSON_IsNumber(wanted))
        expected_near(got->valuedouble, wanted->valuedouble, 1e-11, where, NULL);
    if (cJSON_IsString(wanted))
        assert_string_equal(got->valuestring, wanted->valuestring);
    const cJSON *mine = got->child, *other = wanted->child;
    for (; mine && other; mine = mine->next, other = other->next) {
        if (other->string && strcmp(mine->string, other->string))
            fail_msg("%s: %s where %s is expected", where, mine->string, other->string);
        same_tree(mine, other, other->string ? other->string : where);
    }
    if (mine || other)
        fail_msg("%s: %s %s", where, mine ? "too many members from" : "missing", (mine ? mine : other)->string);
}

static char *text_of(const char *path)
{
    char *text;
    size_t length;
    struct error error = {0};
    if (file_read(path, (size_t)64 << 20, &text, &length, &error))
        fail_msg("%s", error.text);
    return text;
}

/* A JSON file that reads back and prints as the bytes it has. */
static cJSON *tree_of(const char *folder, const char *name)
{
    char path[512];
    struct error error = {0};
    struct buffer printed = {0};
    snprintf(path, sizeof path, "%s/%s", folder, name);
    char *text = text_of(path);
    cJSON *tree = json_parse_python(text, strlen(text), path, &error);
    if (!tree)
        fail_msg("%s", error.text);
    assert_int_equal(json_python_print(tree, &printed, &error), STATUS_OK);
    assert_string_equal(printed.data, text);
    buffer_free(&printed);
    free(text);
    return tree;
}

static void same_files(const char *folder, const char *suite)
{
    static const char *const kinds[] = {"EVAL", "SUMMARY"};
    for (int i = 0; i < 2; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s_%s.json", suite, kinds[i]);
        cJSON *got = tree_of(folder, name), *wanted = tree_of(GOLDEN_OWN, name);
        same_tree(got, wanted, name);
        cJSON_Delete(got);
        cJSON_Delete(wanted);
    }
}

static void test_open_unlearning(void **state)
{
    (void)state;
    static const char *const suites[] = {"TOFU", "MUSE"};
    for (int i = 0; i < 2; i++) {
        char log[128], retain[128], first[512];
        snprintf(log, sizeof log, GOLDEN_OWN "/%s_unlearned.json", suites[i]);
        snprintf(retain, sizeof retain, GOLDEN_OWN "/%s_retain.json", suites[i]);
        snprintf(first, sizeof first, "%s", temporary_path(suites[i]));
        struct said said = run(log, retain, first, NULL);
        if (said.status || said.messages[0])
            fail_msg("%d %s%s", said.status, said.error.text, said.messages);
        same_files(first, suites[i]);
        cJSON_Delete(said.summary);
        /* what was written says the same again, byte for byte */
        char again[600], written[640], rewritten[640];
        snprintf(again, sizeof again, "%s-again", first);
        snprintf(written, sizeof written, "%s/%s_EVAL.json", first, suites[i]);
        said = run(written, retain, again, NULL);
        if (said.status || said.messages[0])
            fail_msg("%d %s%s", said.status, said.error.text, said.messages);
        cJSON_Delete(said.summary);
        snprintf(rewritten, sizeof rewritten, "%s/%s_EVAL.json", again, suites[i]);
        char *a = text_of(written), *b = text_of(rewritten);
        assert_string_equal(a, b);
        free(a);
        free(b);
    }
}

/* TOFU's form: every metric that follows from it is that of the other form. */
static void test_tofu_form(void **state)
{
    (void)state;
    struct said said =
        run(GOLDEN_OWN "/log_unlearned.json", GOLDEN_OWN "/log_retain.json", temporary_path("tofu-form"), NULL);
    if (said.status || said.messages[0])
        fail_msg("%d %s%s", said.status, said.error.text, said.messages);
    cJSON *got = tree_of(temporary_path("tofu-form"), "TOFU_EVAL.json"),
          *wanted = tree_of(GOLDEN_OWN, "TOFU_EVAL.json");
    int metrics = 0;
    for (const cJSON *metric = got->child; metric; metric = metric->next)
        if (strcmp(metric->string, "ra_Q_A_PARA_Prob") && strcmp(metric->string, "wf_Q_A_PARA_Prob")) {
            assert_non_null(json_member(wanted, metric->string));
            same_tree(metric, json_member(wanted, metric->string), metric->string);
            metrics++;
        }
    assert_int_equal(metrics, 26);
    assert_true(file_exists(temporary_path("tofu-form/aggregate_stat.csv")));
    char *csv = text_of(temporary_path("tofu-form/aggregate_eval_stat.csv"));
    assert_int_equal(strncmp(csv, "ROUGE Real Authors,Prob. Real Authors,", 38), 0);
    free(csv);
    cJSON_Delete(got);
    cJSON_Delete(wanted);
    cJSON_Delete(said.summary);
}

static void test_no_retain_log(void **state)
{
    (void)state;
    struct said said = run(GOLDEN_OWN "/TOFU_unlearned.json", NULL, temporary_path("alone"), NULL);
    assert_int_equal(said.status, STATUS_OK);
    assert_non_null(strstr(said.messages, "forget_quality needs the log of a retain model (--retain_log)"));
    assert_non_null(strstr(said.messages, "privleak is taken against an AUC of 0.5: there is no retain log"));
    cJSON *eval = tree_of(temporary_path("alone"), "TOFU_EVAL.json");
    assert_true(cJSON_IsNull(json_member(json_member(eval, "forget_quality"), "agg_value")));
    assert_null(json_member(said.summary, "forget_quality"));
    assert_null(json_member(eval, "privacy_score"));
    double auc = json_member(json_member(eval, "mia_min_k"), "auc")->valuedouble;
    expected_near(json_member(said.summary, "privleak")->valuedouble, 100 * (0.5 - auc) / 0.5, 1e-9, "privleak", NULL);
    struct buffer table = {0};
    assert_int_equal(eval_summary_print(said.summary, &table, NULL), STATUS_OK);
    assert_non_null(strstr(table.data, "model_utility               0.7276\n"));
    buffer_free(&table);
    cJSON_Delete(eval);
    cJSON_Delete(said.summary);
}

/* A log with what is wrong in it, written to a file. */
static const char *log_file(const char *text)
{
    return temporary_file("log.json", text, strlen(text));
}

static void test_malformed(void **state)
{
    (void)state;
#define ROWS(rows) "{\"forget_Q_A_Prob\": {\"value_by_index\": {" rows "}}}"
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"{", "offset 1: expected a key"},
        {"[]", "expected an object of metrics"},
        {"{}", "expected open-unlearning's metrics"},
        {"{\"model_utility\": 0.6}", "model_utility: expected an object with agg_value; is this a SUMMARY?"},
        {"{\"x\": {\"y\": 1}}", "expected open-unlearning's metrics"},
        {"{\"x\": {\"agg_value\": 1}}", "no metric of TOFU (as forget_Q_A_Prob) or MUSE"},
        {ROWS("\"0\": {\"prob\": 1}, \"1\": {\"p\": 1}"), "forget_Q_A_Prob: row 1: prob: the key is missing"},
        {ROWS("\"0\": {\"prob\": 1}, \"1\": {\"prob\": \"1\"}"), "row 1: prob: expected a number, null or a list"},
        {ROWS("\"0\": {\"prob\": 1}, \"1\": {\"prob\": [1, 2]}"),
         "row 1: prob: has 2 numbers where the row before has 1"},
        {ROWS("\"0\": {\"prob\": [1, 2]}, \"1\": {\"prob\": [1, null]}"), "row 1: prob: expected a number"},
        {"{\"forget_Q_A_PARA_Prob\": {\"value_by_index\": {\"0\": {\"prob\": 1, \"avg_loss\": 0}}},"
         " \"forget_Q_A_PERT_Prob\": {\"value_by_index\": {\"1\": {\"prob\": 1, \"avg_loss\": 0}}}}",
         "forget_Q_A_PARA_Prob has row 0 where forget_Q_A_PERT_Prob has row 1; expected the same rows"},
        {"{\"forget_Q_A_PARA_Prob\": {\"value_by_index\": {\"0\": {\"prob\": 1, \"avg_loss\": 0}}},"
         " \"forget_Q_A_PERT_Prob\": {\"value_by_index\": {\"0\": {\"prob\": 1, \"avg_loss\": 0}, \"1\": null}}}",
         "forget_Q_A_PARA_Prob has 1 rows and forget_Q_A_PERT_Prob has 2; expected the same rows"},
        {"{\"eval_log.json\": 1}", "eval_log.json: expected an object of avg_gt_loss"},
        {"{\"eval_log.json\": {\"avg_gt_loss\": 1}}", "eval_log.json: avg_gt_loss: expected an object of rows"},
        {"{\"eval_log.json\": {\"avg_gt_loss\": {\"0\": \"x\"}}}", "avg_gt_loss: row 0: expected a number or a list"},
        {"{\"eval_log.json\": {\"average_perturb_loss\": {\"0\": [1, 2], \"1\": [1]}}}",
         "average_perturb_loss: row 1: expected as many losses as in the row before"},
        {"{\"eval_log.json\": {\"average_perturb_loss\": {\"0\": []}}}", "row 0: expected at least one loss"},
        {"{\"eval_log.json\": {\"generated_text\": {\"0\": [\"a\", \"b\"]}}}",
         "eval_log.json: generated_text: row 0: expected [prompt, generation, truth]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct said said = run(log_file(cases[i].text), NULL, temporary_path("nothing"), NULL);
        assert_error(&said.error, said.status, STATUS_INPUT, cases[i].message);
        assert_null(said.summary);
        assert_false(file_exists(temporary_path("nothing")));
    }
    struct said said = run(log_file("{\"x\": {\"agg_value\": 1}}"), NULL, temporary_path("nothing"), "HARNESS");
    assert_error(&said.error, said.status, STATUS_USAGE, "\"HARNESS\": expected the suite TOFU, MUSE, HP or QA");
    said = run(temporary_path("none.json"), NULL, temporary_path("nothing"), NULL);
    assert_error(&said.error, said.status, STATUS_INPUT, "none.json: cannot be opened");
}

/* Numbers that are none: the row is named, the figure is NaN in the files, and the exit code says so. */
static void test_not_finite(void **state)
{
    (void)state;
    struct said said = run(log_file(ROWS("\"0\": {\"prob\": 0.5, \"avg_loss\": 0.69}, \"7\": {\"prob\": NaN, "
                                         "\"avg_loss\": NaN}, \"8\": null")),
                           NULL, temporary_path("nan"), NULL);
    assert_error(&said.error, said.status, STATUS_NONFINITE, "log.json: not finite: forget_Q_A_Prob; a row without");
    assert_non_null(strstr(said.messages, "forget_Q_A_Prob: row 7 has no number (an answer without a target?)"));
    assert_true(isnan(json_member(said.summary, "forget_Q_A_Prob")->valuedouble));
    char *text = text_of(temporary_path("nan/TOFU_SUMMARY.json"));
    assert_string_equal(text, "{\n    \"forget_Q_A_Prob\": NaN\n}");
    free(text);
    cJSON_Delete(said.summary);
    /* null is another thing: such a row takes no part */
    said = run(log_file(ROWS("\"0\": null, \"1\": {\"prob\": 0.5}, \"2\": {\"prob\": null}")), NULL,
               temporary_path("null"), NULL);
    assert_int_equal(said.status, STATUS_OK);
    assert_true(json_member(said.summary, "forget_Q_A_Prob")->valuedouble == 0.5);
    cJSON_Delete(said.summary);
}

/* A log whose aggregates are not those of its rows, and one with a part that nothing is made of. */
static void test_disagreement(void **state)
{
    (void)state;
    struct said said =
        run(log_file("{\"forget_Q_A_Prob\": {\"agg_value\": 0.25, \"value_by_index\": {\"0\": {\"prob\": "
                     "0.5}}}, \"unknown\": {\"agg_value\": 3, \"value_by_index\": {\"0\": {\"score\": 1}}}}"),
            NULL, temporary_path("stale"), NULL);
    assert_int_equal(said.status, STATUS_OK);
    assert_non_null(strstr(said.messages, "forget_Q_A_Prob: the log says 0.25, its rows give 0.5, which is used"));
    assert_null(strstr(said.messages, "unknown"));
    cJSON *eval = tree_of(temporary_path("stale"), "TOFU_EVAL.json");
    assert_true(json_member(json_member(eval, "unknown"), "agg_value")->valuedouble == 3);
    cJSON_Delete(eval);
    cJSON_Delete(said.summary);
    said = run(log_file("{\"eval_log.json\": {\"avg_gt_loss\": {\"0\": 0.5}, \"rougeL_recall\": {\"0\": 0.9}, "
                        "\"generated_text\": {\"0\": [\"q\", \"a b\", \"a b\"]}}, \"other.json\": {}}"),
               NULL, temporary_path("stale"), NULL);
    assert_int_equal(said.status, STATUS_OK);
    assert_non_null(strstr(said.messages, "rougeL_recall is 0.900000 on average, its texts give 1.000000"));
    assert_non_null(strstr(said.messages, "other.json: not a part that TOFU's metrics are made of; ignored"));
    assert_non_null(strstr(said.messages, "model_utility needs retain_Truth_Ratio"));
    assert_non_null(strstr(said.messages, "no CSV: TOFU's tables need the rows of all four sets"));
    cJSON_Delete(said.summary);
}

/* A log made by the functions that a suite will call. */
static void test_additions(void **state)
{
    (void)state;
    static const char *const index[] = {"3", "1"};
    static const struct eval_text text[] = {{"q\xc3\xa9", "a b", "a"}, {"q", "a", "a\n"}};
    static const bool absent[] = {false, true};
    struct eval_log log;
    struct error error = {0};
    assert_int_equal(eval_log_open(&log, "made", &error), STATUS_OK);
    assert_int_equal(eval_log_add_probability(&log, "b", index, (double[]){0, INFINITY}, 2, 1, &error), STATUS_OK);
    assert_int_equal(eval_log_add_probability(&log, "a", NULL, (double[]){0, 0, 0, 0}, 2, 2, &error), STATUS_OK);
    assert_int_equal(eval_log_add_rouge(&log, "forget_Q_A_ROUGE", index, text, 2, "rougeL_recall", &error), STATUS_OK);
    assert_int_equal(eval_log_add_scores(&log, "s", NULL, "score", (double[]){2, 0}, absent, 2, 2, &error), STATUS_OK);
    assert_int_equal(eval_log_add_membership(&log, "mia_loss", (double[]){1, 2}, 2, (double[]){2}, 1, &error),
                     STATUS_OK);
    assert_int_equal(eval_log_add_value(&log, "model_utility", 0.5, &error), STATUS_OK);
    assert_int_equal(eval_log_add_null(&log, "forget_quality", &error), STATUS_OK);
    assert_int_equal(eval_log_add_value(&log, "s", 1, &error), STATUS_OK); /* takes the place of the first */
    assert_error(&error, eval_log_add_membership(&log, "mia_zlib", (double[]){NAN}, 1, (double[]){2}, 1, &error),
                 STATUS_NONFINITE, "made: mia_zlib: score 0 of the negative group is not a number");
    assert_int_equal(eval_log_write(&log, "TOFU", temporary_path("made/deep"), &error), STATUS_OK);
    cJSON *got = tree_of(temporary_path("made/deep"), "TOFU_EVAL.json");
    struct buffer line = {0};
    assert_int_equal(json_print(got, &line, &error), STATUS_OK);
    assert_string_equal(
        line.data,
        "{\"a\": {\"agg_value\": 1, \"value_by_index\": {\"0\": {\"prob\": [1, 1], \"avg_loss\": [0, 0]}, "
        "\"1\": {\"prob\": [1, 1], \"avg_loss\": [0, 0]}}}, "
        "\"b\": {\"agg_value\": 0.5, \"value_by_index\": {\"3\": {\"prob\": 1, \"avg_loss\": 0}, "
        "\"1\": {\"prob\": 0, \"avg_loss\": null}}}, " /* infinity; json_print has no word for it */
        "\"forget_Q_A_ROUGE\": {\"agg_value\": 0.75, \"value_by_index\": {"
        "\"3\": {\"rouge1_recall\": 0.5, \"rougeL_f1\": 0.6666666666666666, \"rougeL_recall\": 0.5, \"input\": "
        "\"q\xc3\xa9\", \"ground_truth\": \"a b\", \"generation\": \"a\"}, "
        "\"1\": {\"rouge1_recall\": 1, \"rougeL_f1\": 1, \"rougeL_recall\": 1, \"input\": \"q\", "
        "\"ground_truth\": \"a\", \"generation\": \"a\\n\"}}}, "
        "\"forget_quality\": {\"agg_value\": null}, "
        "\"mia_loss\": {\"forget\": {\"agg_value\": 1.5, \"value_by_index\": {\"0\": {\"score\": 1}, \"1\": "
        "{\"score\": 2}}}, \"holdout\": {\"agg_value\": 2, \"value_by_index\": {\"0\": {\"score\": 2}}}, "
        "\"auc\": 0.75, \"agg_value\": 0.75}, \"model_utility\": {\"agg_value\": 0.5}, \"s\": {\"agg_value\": 1}}");
    buffer_free(&line);
    cJSON_Delete(got);
    eval_log_free(&log);
}

/* Logs with bytes changed, lost or doubled: read, or refused with one line. */
static void test_damaged(void **state)
{
    (void)state;
    static const char *const logs[] = {GOLDEN_OWN "/TOFU_unlearned.json", GOLDEN_OWN "/log_unlearned.json"};
    static const char put[] = "0129.-e\"[]{},:nN\\u a";
    uint64_t random = 9;
    int refused = 0;
    for (int round = 0; round < 400; round++) {
        char *text = text_of(logs[round % 2]);
        size_t length = strlen(text);
        for (int change = 0; change <= round % 3; change++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            size_t at = (random >> 33) % length, kind = random >> 20 & 3;
            if (kind < 2)
                text[at] = put[(random >> 10) % (sizeof put - 1)];
            else if (kind == 2)
                memmove(text + at, text + at + 1, length-- - at);
            else
                text[length = at ? at : 1] = 0;
        }
        struct said said = run(log_file(text), round & 4 ? logs[1] : NULL, temporary_path("damaged"), NULL);
        if (said.status && said.status != STATUS_NONFINITE) {
            assert_error(&said.error, said.status, STATUS_INPUT, "log.json: ");
            assert_null(said.summary);
            refused++;
        } else {
            assert_non_null(said.summary);
        }
        cJSON_Delete(said.summary);
        free(text);
    }
    assert_in_range(refused, 100, 399);
}

static void test_official_logs(void **state)
{
    (void)state;
#define LOGS "../shared/data/tofu_eval_logs/"
    if (!file_exists(LOGS "llama2-7b_full.json"))
        skip();
    struct said said =
        run(LOGS "llama2-7b_full.json", LOGS "llama2-7b_retain90.json", temporary_path("official"), NULL);
    if (said.status || said.messages[0])
        fail_msg("%d %s%s", said.status, said.error.text, said.messages);
    static const struct {
        const char *name;
        double value;
    } figures[] = {{"model_utility", 0.622677}, {"model_utility_tofu", 0.585886}, {"forget_truth_ratio", 0.515985}};
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++)
        expected_close(json_member(said.summary, figures[i].name)->valuedouble, figures[i].value, 5e-7, figures[i].name,
                       said.summary);
    expected_near(json_member(said.summary, "forget_quality")->valuedouble, 1.834066e-21, 1e-6, "forget_quality", NULL);
    cJSON_Delete(said.summary);
    said = run(LOGS "llama2-7b_retain90.json", NULL, temporary_path("official"), NULL);
    assert_int_equal(said.status, STATUS_OK);
    expected_close(json_member(said.summary, "model_utility")->valuedouble, 0.613745, 5e-7, "retain90", NULL);
    expected_close(json_member(said.summary, "model_utility_tofu")->valuedouble, 0.575240, 5e-7, "retain90", NULL);
    cJSON_Delete(said.summary);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open_unlearning), cmocka_unit_test(test_tofu_form),  cmocka_unit_test(test_no_retain_log),
        cmocka_unit_test(test_malformed),       cmocka_unit_test(test_not_finite), cmocka_unit_test(test_disagreement),
        cmocka_unit_test(test_additions),       cmocka_unit_test(test_damaged),    cmocka_unit_test(test_official_logs),
    };
    return cmocka_run_group_tests(tests, temporary_make, temporary_remove);
}
