/* test_metric_tofu.c - truth ratios, TOFU's tables and their CSV files, against numpy and scipy on the logs that TOFU's
 * authors published (../shared/data) and on two of our own (tests/golden/metrics).
 */
#include <math.h>

#include "../../host/eval/metric/ks.h"
#include "../../host/eval/metric/mean.h"
#include "../../host/eval/metric/probability.h"
#include "../../host/eval/metric/rouge.h"
#include "../../host/eval/metric/utility.h"
#include "../../host/eval/suite/tofu_csv.h"
#include "../support/metric_golden.h"

static void check_field(const cJSON *record, const char *key, double got)
{
    const cJSON *wanted = json_member(record, key);
    if (cJSON_IsNull(wanted)) /* an infinity, or 0 / 0 */
        assert_false(isfinite(got));
    else if (wanted)
        expected_near(got, wanted->valuedouble, 1e-12, key, record);
}

static void check_truth_ratio(const cJSON *golden)
{
    const double eps = OPEN_UNLEARNING_EPS;
    const cJSON *item;
    cJSON_ArrayForEach(item, expected_list(golden, "items"))
    {
        size_t count;
        double *wrong = expected_numbers(item, "average_perturb_loss", &count);
        double right = expected_number(item, "avg_paraphrased_loss"), loss = expected_number(item, "avg_gt_loss");
        double geo = truth_ratio(TRUTH_RATIO_GEOMETRIC, right, wrong, count, 0);
        double arith = truth_ratio(TRUTH_RATIO_ARITHMETIC, right, wrong, count, 0);
        double own = truth_ratio(TRUTH_RATIO_GEOMETRIC, right, wrong, count, eps);
        check_field(item, "geo", geo);
        check_field(item, "arith", arith);
        check_field(item, "forget_quality_stat", 1 / geo);
        check_field(item, "min_geo", truth_ratio_closer_to_1(geo, 0));
        check_field(item, "min_arith", truth_ratio_closer_to_1(arith, 0));
        check_field(item, "one_minus_geo", truth_ratio_true_better(geo));
        check_field(item, "one_minus_arith", truth_ratio_true_better(arith));
        check_field(item, "ou_score", own);
        check_field(item, "ou_closer_to_1", truth_ratio_closer_to_1(own, eps));
        check_field(item, "ou_true_better", truth_ratio_true_better(own));
        check_field(item, "ou_prob_mean", truth_ratio(TRUTH_RATIO_PROBABILITY, right, wrong, count, eps));
        check_field(item, "prob", answer_probability(loss));
        check_field(item, "prob_normalised", answer_probability_normalised(loss, wrong, count, 0));
        check_field(item, "ou_prob_normalised", answer_probability_normalised(loss, wrong, count, eps));
        free(wrong);
    }
    print_message("%d items within 1e-12\n", cJSON_GetArraySize(expected_list(golden, "items")));
}

static const struct {
    const char *file, *name;
    enum tofu_set set;
} parts[] = {{"eval_log.json", "Retain", TOFU_RETAIN},
             {"eval_real_author_wo_options.json", "Real Authors", TOFU_REAL_AUTHORS},
             {"eval_real_world_wo_options.json", "Real World", TOFU_WORLD_FACTS},
             {"eval_log_forget.json", "Forget", TOFU_FORGET}};

/* The rows of one part of a log, read into arrays; rows_free. */
static struct tofu_rows rows_read(const cJSON *log, int part)
{
    const cJSON *members = expected_list(log, parts[part].file), *list;
    struct tofu_rows rows = {0};
    rows.rouge = expected_numbers(members, "rougeL_recall", &rows.rows);
    rows.answer_loss = expected_numbers(members, "avg_gt_loss", &rows.rows);
    rows.right_loss = expected_numbers(members, "avg_paraphrased_loss", &rows.rows);
    const cJSON *losses = expected_list(members, "average_perturb_loss");
    rows.wrong_answers = (size_t)cJSON_GetArraySize(losses->child);
    double *wrong = calloc(rows.rows * rows.wrong_answers, sizeof *wrong), *next = wrong;
    cJSON_ArrayForEach(list, losses)
    {
        const cJSON *loss;
        assert_int_equal(cJSON_GetArraySize(list), rows.wrong_answers);
        cJSON_ArrayForEach(loss, list) *next++ = loss->valuedouble;
    }
    rows.wrong_loss = wrong;
    return rows;
}

static void rows_free(struct tofu_rows *rows)
{
    free((void *)(uintptr_t)rows->rouge);
    free((void *)(uintptr_t)rows->answer_loss);
    free((void *)(uintptr_t)rows->right_loss);
    free((void *)(uintptr_t)rows->wrong_loss);
}

static double check_log(const cJSON *log, const cJSON *wanted, enum truth_ratio_form form, double eps,
                        struct tofu_figures *figures)
{
    for (int part = 0; part < 4; part++) {
        struct tofu_rows rows = rows_read(log, part);
        const cJSON *set = expected_list(expected_list(wanted, "sets"), parts[part].name);
        assert_int_equal(rows.rows, expected_number(set, "n"));
        struct tofu_figures *got = figures + parts[part].set;
        *got = tofu_figures_of(parts[part].set, &rows, form, eps);
        expected_near(got->rouge, expected_number(set, "rougeL_recall"), 1e-12, "rouge", set);
        expected_near(got->probability, expected_number(set, "prob"), 1e-12, "probability", set);
        expected_near(got->truth_ratio, expected_number(set, "truth_ratio"), 1e-12, "truth ratio", set);
        rows_free(&rows);
    }
    double utility = model_utility(figures);
    expected_near(utility, expected_number(wanted, "model_utility"), 1e-12, "utility", wanted);
    return utility;
}

/* The truth ratios of the forget rows; free(). */
static double *forget_ratios(const cJSON *log, size_t *count)
{
    struct tofu_rows rows = rows_read(log, 3);
    double *ratio = calloc(rows.rows, sizeof *ratio);
    for (size_t i = 0; i < rows.rows; i++)
        ratio[i] = truth_ratio(TRUTH_RATIO_GEOMETRIC, rows.right_loss[i], rows.wrong_loss + i * rows.wrong_answers,
                               rows.wrong_answers, 0);
    *count = rows.rows;
    rows_free(&rows);
    return ratio;
}

static struct ks check_quality(const cJSON *unlearned, const cJSON *retain, const cJSON *wanted)
{
    size_t n, m;
    double *x = forget_ratios(unlearned, &n), *y = forget_ratios(retain, &m);
    n = (size_t)expected_number(wanted, "n") < n ? (size_t)expected_number(wanted, "n") : n;
    m = (size_t)expected_number(wanted, "m") < m ? (size_t)expected_number(wanted, "m") : m;
    struct ks ks, inverted;
    assert_int_equal(ks_test(x, n, y, m, KS_AUTO, &ks, NULL), STATUS_OK);
    expected_close(ks.statistic, expected_number(wanted, "statistic"), 1e-15, "statistic", wanted);
    expected_near(ks.p, expected_number(wanted, "p"), 1e-9, "p", wanted);
    for (size_t i = 0; i < n; i++)
        x[i] = 1 / (x[i] + OPEN_UNLEARNING_EPS);
    for (size_t i = 0; i < m; i++)
        y[i] = 1 / (y[i] + OPEN_UNLEARNING_EPS);
    assert_int_equal(ks_test(x, n, y, m, KS_AUTO, &inverted, NULL), STATUS_OK);
    assert_true(inverted.p == ks.p && inverted.statistic == ks.statistic);
    free(x);
    free(y);
    return ks;
}

/* The stored ROUGE recalls of every generation of a log, recomputed: how many there are. */
static int check_recalls(const cJSON *log)
{
    int texts = 0;
    for (int part = 0; part < 4; part++) {
        const cJSON *members = expected_list(log, parts[part].file), *said;
        cJSON_ArrayForEach(said, expected_list(members, "generated_text"))
        {
            const char *given = cJSON_GetArrayItem(said, 1)->valuestring,
                       *truth = cJSON_GetArrayItem(said, 2)->valuestring;
            struct rouge rouge;
            assert_int_equal(rouge_score(truth, strlen(truth), given, strlen(given), true, &rouge, NULL), STATUS_OK);
            assert_true(rouge.rouge1.recall == expected_number(expected_list(members, "rouge1_recall"), said->string));
            assert_true(rouge.rougeL.recall == expected_number(expected_list(members, "rougeL_recall"), said->string));
            texts++;
        }
    }
    return texts;
}

struct forms {
    double arithmetic, geometric, open_unlearning;
    struct tofu_figures training[TOFU_SETS], leaderboard[TOFU_SETS];
};

static struct forms check_forms(const cJSON *log, const cJSON *wanted)
{
    struct forms forms;
    struct tofu_figures figures[TOFU_SETS];
    forms.arithmetic = check_log(log, expected_list(wanted, "utils"), TRUTH_RATIO_ARITHMETIC, 0, forms.training);
    forms.geometric = check_log(log, expected_list(wanted, "aggregate"), TRUTH_RATIO_GEOMETRIC, 0, forms.leaderboard);
    forms.open_unlearning =
        check_log(log, expected_list(wanted, "open_unlearning"), TRUTH_RATIO_GEOMETRIC, OPEN_UNLEARNING_EPS, figures);
    return forms;
}

/* A file of the table has the header and, but for the last digits of sums, the row of the golden one. */
static void check_csv(enum tofu_csv form, const struct tofu_table *table, const cJSON *wanted)
{
    struct buffer out = {0};
    struct error error = {0};
    const cJSON *cell;
    assert_int_equal(tofu_csv_print(form, table, &out, &error), STATUS_OK);
    char *at = out.data;
    cJSON_ArrayForEach(cell, expected_list(wanted, "header"))
    {
        assert_int_equal(strncmp(at, cell->valuestring, strlen(cell->valuestring)), 0);
        at += strlen(cell->valuestring) + (cell->next ? 1 : 2);
    }
    cJSON_ArrayForEach(cell, expected_list(wanted, "row"))
    {
        if (cJSON_IsNumber(cell))
            expected_near(strtod(at, NULL), cell->valuedouble, 1e-9, "cell", wanted);
        at += strcspn(at, ",\r") + 1;
    }
    buffer_free(&out);
}

/* The numbers of the golden row printed: the golden file, byte for byte. */
static void check_csv_bytes(enum tofu_csv form, const cJSON *wanted)
{
    static const enum tofu_set order[] = {TOFU_REAL_AUTHORS, TOFU_WORLD_FACTS, TOFU_RETAIN, TOFU_FORGET};
    const cJSON *row = expected_list(wanted, "row");
    double cell[16] = {0};
    for (int i = 0; i < 16; i++)
        cell[i] = cJSON_IsNumber(cJSON_GetArrayItem(row, i)) ? cJSON_GetArrayItem(row, i)->valuedouble : 0;
    struct ks quality = {.p = cell[13], .statistic = cell[15]};
    struct tofu_table table = {.model_utility = cell[12], .forget_quality = &quality};
    for (int i = 0; i < 4; i++)
        table.figures[order[i]] = (struct tofu_figures){cell[3 * i], cell[3 * i + 1], cell[3 * i + 2]};
    if (form == TOFU_CSV_LEADERBOARD) {
        table.method = cJSON_GetArrayItem(row, 14)->valuestring;
        table.submitted_by = cJSON_GetArrayItem(row, 15)->valuestring;
    }
    struct buffer out = {0};
    assert_int_equal(tofu_csv_print(form, &table, &out, NULL), STATUS_OK);
    assert_string_equal(out.data, json_member(wanted, "text")->valuestring);
    buffer_free(&out);
}

static void test_own_logs(void **state)
{
    (void)state;
    cJSON *golden = expected_read(GOLDEN_OWN, "tofu_aggregate.json");
    cJSON *unlearned = expected_read(GOLDEN_OWN, "log_unlearned.json"),
          *retain = expected_read(GOLDEN_OWN, "log_retain.json");
    const cJSON *logs = expected_list(golden, "logs"), *quality = expected_list(golden, "forget_quality");
    struct forms forms = check_forms(unlearned, expected_list(logs, "unlearned"));
    check_forms(retain, expected_list(logs, "retain"));
    struct ks ks = check_quality(unlearned, retain, expected_list(quality, "unlearned_vs_retain"));
    assert_int_equal(check_recalls(unlearned) + check_recalls(retain), 64);
    struct tofu_table table = {.model_utility = forms.geometric, .forget_quality = &ks, .method = "x,y"};
    memcpy(table.figures, forms.leaderboard, sizeof table.figures);
    check_csv(TOFU_CSV_LEADERBOARD, &table, expected_list(golden, "aggregate_eval_stat_csv"));
    table.model_utility = forms.arithmetic;
    memcpy(table.figures, forms.training, sizeof table.figures);
    check_csv(TOFU_CSV_TRAINING, &table, expected_list(golden, "aggregate_stat_csv"));
    check_csv_bytes(TOFU_CSV_LEADERBOARD, expected_list(golden, "aggregate_eval_stat_csv"));
    check_csv_bytes(TOFU_CSV_TRAINING, expected_list(golden, "aggregate_stat_csv"));
    cJSON_Delete(golden);
    cJSON_Delete(unlearned);
    cJSON_Delete(retain);
}

static void test_no_retain_log(void **state)
{
    (void)state;
    struct tofu_table table = {.model_utility = NAN};
    struct buffer out = {0};
    table.figures[TOFU_FORGET].rouge = 1;
    assert_int_equal(tofu_csv_print(TOFU_CSV_LEADERBOARD, &table, &out, NULL), STATUS_OK);
    assert_non_null(strstr(out.data, "\r\n0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,0.0,0.0,nan,,,\r\n"));
    out.length = 0;
    assert_int_equal(tofu_csv_print(TOFU_CSV_TRAINING, &table, &out, NULL), STATUS_OK);
    assert_non_null(strstr(out.data, ",1.0,0.0,0.0,nan,,,\r\n"));
    buffer_free(&out);
}

/* The numbers of the paper and of the public leaderboard. */
static void test_official_logs(void **state)
{
    (void)state;
    cJSON *golden = expected_read(GOLDEN_FULL, "tofu_aggregate.json");
    cJSON *full = expected_read("../shared/data/tofu_eval_logs", "llama2-7b_full.json");
    cJSON *retain = expected_read("../shared/data/tofu_eval_logs", "llama2-7b_retain90.json");
    if (!golden || !full || !retain)
        skip();
    const cJSON *logs = expected_list(golden, "logs"), *wanted;
    struct forms a = check_forms(full, expected_list(logs, "full")),
                 b = check_forms(retain, expected_list(logs, "retain90"));
    expected_close(a.arithmetic, 0.585886, 5e-7, "arithmetic, full", NULL);
    expected_close(b.arithmetic, 0.575240, 5e-7, "arithmetic, retain90", NULL);
    expected_close(a.geometric, 0.622677, 5e-7, "geometric, full", NULL);
    expected_close(b.geometric, 0.613745, 5e-7, "geometric, retain90", NULL);
    cJSON_ArrayForEach(wanted, expected_list(golden, "forget_quality"))
    {
        const char *vs = strstr(wanted->string, "_vs_");
        bool swapped = !strncmp(wanted->string, "retain90", 8);
        const cJSON *other = strncmp(vs + 4, "full", 4) ? retain : full;
        check_quality(swapped ? retain : full, !strcmp(vs, "_vs_itself") ? retain : other, wanted);
    }
    struct ks ks =
        check_quality(full, retain, expected_list(expected_list(golden, "forget_quality"), "full_vs_retain90"));
    expected_near(ks.p, 1.834066e-21, 1e-6, "forget quality", NULL);
    int texts = check_recalls(full) + check_recalls(retain);
    print_message("utility %.6f %.6f arithmetic, %.6f %.6f geometric; forget quality %.6e; ROUGE of %d texts equal\n",
                  a.arithmetic, b.arithmetic, a.geometric, b.geometric, ks.p, texts);
    assert_int_equal(texts, 1634);
    struct tofu_table table = {.model_utility = a.geometric, .forget_quality = &ks};
    memcpy(table.figures, a.leaderboard, sizeof table.figures);
    check_csv(TOFU_CSV_LEADERBOARD, &table, expected_list(golden, "aggregate_eval_stat_csv_full_against_retain90"));
    table.model_utility = a.arithmetic;
    memcpy(table.figures, a.training, sizeof table.figures);
    check_csv(TOFU_CSV_TRAINING, &table, expected_list(golden, "aggregate_stat_csv_full_against_retain90"));
    cJSON_Delete(golden);
    cJSON_Delete(full);
    cJSON_Delete(retain);
}

GOLDEN_TEST(truth_ratio, "truth_ratio.json")

int main(void)
{
    const struct CMUnitTest tests[] = {
        GOLDEN_TESTS(truth_ratio),
        cmocka_unit_test(test_own_logs),
        cmocka_unit_test(test_no_retain_log),
        cmocka_unit_test(test_official_logs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
