/* test_metric_statistics.c - metrics of numbers against what the original libraries say of them: KS, AUC, PrivLeak,
 * min-k, memorization, means, composite scores, bootstrap intervals.
 */
#include <math.h>

#include "../../host/eval/metric/auc.h"
#include "../../host/eval/metric/bootstrap.h"
#include "../../host/eval/metric/composite.h"
#include "../../host/eval/metric/ks.h"
#include "../../host/eval/metric/mean.h"
#include "../../host/eval/metric/membership.h"
#include "../../host/eval/metric/memorization.h"
#include "../../host/eval/metric/perplexity.h"
#include "../support/metric_golden.h"

/* The generator that the golden file names. */
static double *ks_sample(uint64_t seed, size_t count, uint64_t mod, double add)
{
    double *values = calloc(count, sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < count; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        uint64_t u = seed >> 40;
        values[i] = (double)(mod ? u % mod : u) + add;
    }
    return values;
}

static double ks_p(const double *x, size_t n, const double *y, size_t m, enum ks_method method, double *statistic)
{
    struct ks ks;
    struct error error = {0};
    if (ks_test(x, n, y, m, method, &ks, &error))
        fail_msg("%s", error.text);
    *statistic = ks.statistic;
    return ks.p;
}

static double worst_true, worst_auto, worst_asymptotic;

static void note(double *worst, double got, double wanted)
{
    double off = wanted != 0 && !isnan(wanted) ? fabs(got - wanted) / wanted : 0;
    *worst = off > *worst ? off : *worst;
}

static void check_ks_pair(const double *x, size_t n, const double *y, size_t m, const cJSON *record)
{
    double statistic, exact = ks_p(x, n, y, m, KS_AUTO, &statistic), wanted = expected_number(record, "p_auto");
    expected_close(statistic, expected_number(record, "statistic"), 1e-15, "statistic", record);
    expected_near(exact, wanted, 1e-12, "p_auto", record);
    note(&worst_auto, exact, wanted);
    double slow = ks_p(x, n, y, m, KS_ASYMPTOTIC, &statistic);
    wanted = expected_number(record, "p_asymp");
    expected_near(slow, wanted, 1e-9, "p_asymp", record);
    note(&worst_asymptotic, slow, wanted);
    if (json_member(record, "p_true")) {
        expected_near(exact, expected_number(record, "p_true"), 1e-13, "p_true", record);
        note(&worst_true, exact, expected_number(record, "p_true"));
    }
}

/* p of every statistic h / n of two samples of n: 0 .. n-1 against the same moved up by h - 1/2. */
static void check_ks_table(const cJSON *table)
{
    size_t n = (size_t)atoi(table->string), h = 0;
    double *x = calloc(n, sizeof *x), *y = calloc(n, sizeof *y), statistic;
    const cJSON *p;
    cJSON_ArrayForEach(p, table)
    {
        for (size_t i = 0; i < n; i++) {
            x[i] = (double)i;
            y[i] = h ? (double)i + (double)h - 0.5 : x[i];
        }
        expected_near(ks_p(x, n, y, n, KS_EXACT, &statistic), p->valuedouble, 1e-12, "table", p);
        expected_close(statistic, (double)h / (double)n, 1e-15, "statistic", p);
        h++;
    }
    assert_int_equal(h, n + 1);
    free(x);
    free(y);
}

static void check_ks(const cJSON *golden)
{
    const cJSON *record;
    size_t n, m;
    worst_true = worst_auto = worst_asymptotic = 0;
    cJSON_ArrayForEach(record, expected_list(golden, "given"))
    {
        double *x = expected_numbers(record, "x", &n), *y = expected_numbers(record, "y", &m);
        check_ks_pair(x, n, y, m, record);
        free(x);
        free(y);
    }
    cJSON_ArrayForEach(record, expected_list(golden, "cases"))
    {
        n = (size_t)expected_number(record, "n");
        m = (size_t)expected_number(record, "m");
        uint64_t mod = (uint64_t)expected_number(record, "mod");
        double *x = ks_sample((uint64_t)expected_number(record, "seed_x"), n, mod, 0);
        double *y = ks_sample((uint64_t)expected_number(record, "seed_y"), m, mod, expected_number(record, "add_y"));
        check_ks_pair(x, n, y, m, record);
        free(x);
        free(y);
    }
    cJSON_ArrayForEach(record, expected_list(golden, "equal_size_tables")) check_ks_table(record);
    print_message("%d cases; worst relative error: counted %.1e, auto %.1e, asymptotic %.1e\n",
                  cJSON_GetArraySize(expected_list(golden, "cases")), worst_true, worst_auto, worst_asymptotic);
}

/* Samples that do not overlap have the smallest p there is, 2 / C(2n, n). */
static void test_ks_extremes(void **state)
{
    (void)state;
    double low[400], high[400], statistic;
    for (size_t i = 0; i < 400; i++) {
        low[i] = (double)i;
        high[i] = i ? 1000 + (double)i : INFINITY;
    }
    for (size_t n = 40; n <= 400; n += 40) {
        double p = 2;
        for (size_t k = 1; k <= n; k++)
            p *= (double)k / (double)(n + k);
        expected_near(ks_p(low, n, high, n, KS_AUTO, &statistic), p, 1e-13, "p", NULL);
    }
    /* above 10,000 the method changes, and says much the same */
    size_t n = 10001, m = 900;
    double *x = ks_sample(1, n, 0, 0), *y = ks_sample(2, m, 0, 400000);
    double exact = ks_p(x, n, y, m, KS_EXACT, &statistic), chosen = ks_p(x, n, y, m, KS_AUTO, &statistic);
    assert_true(chosen == ks_p(x, n, y, m, KS_ASYMPTOTIC, &statistic));
    assert_true(chosen != exact);
    expected_near(chosen, exact, 0.05, "methods", NULL);
    free(x);
    free(y);
}

static void test_refused(void **state)
{
    (void)state;
    struct error error = {0};
    struct ks ks;
    struct interval interval;
    double number[] = {1, NAN}, auc, score;
    assert_error(&error, ks_test(number, 0, number, 1, KS_AUTO, &ks, &error), STATUS_INPUT,
                 "first sample has 0 values");
    assert_error(&error, ks_test(number, 1, number, 2, KS_AUTO, &ks, &error), STATUS_NONFINITE,
                 "value 1 of the second sample is not a number");
    assert_error(&error, auc_score(number, 1, number, 0, &auc, &error), STATUS_INPUT, "groups have 1 and 0 scores");
    assert_error(&error, auc_score(number, 2, number, 1, &auc, &error), STATUS_NONFINITE,
                 "score 1 of the negative group is not a number");
    assert_error(&error, membership_min_k(number, 1, 1.5, MIN_K_MUSE, &score, &error), STATUS_INPUT, "share is 1.5");
    assert_error(&error, membership_min_k(number, 1, NAN, MIN_K_MUSE, &score, &error), STATUS_INPUT, "share is nan");
    struct bootstrap_options options = bootstrap_defaults;
    options.level = 1;
    assert_error(&error, bootstrap_mean(number, 1, &options, &interval, &error), STATUS_INPUT, "at level 1; expected");
    options = bootstrap_defaults;
    options.resamples = 0;
    assert_error(&error, bootstrap_mean(number, 1, &options, &interval, &error), STATUS_INPUT, "0 resamples");
}

static void check_auc(const cJSON *golden)
{
    const cJSON *record;
    cJSON_ArrayForEach(record, expected_list(golden, "cases"))
    {
        size_t n, m;
        double *forget = expected_numbers(record, "forget", &n), *holdout = expected_numbers(record, "holdout", &m),
               auc;
        assert_int_equal(auc_score(forget, n, holdout, m, &auc, NULL), STATUS_OK);
        expected_close(auc, expected_number(record, "auc_open_unlearning"), 1e-12, "auc", record);
        expected_close(1 - auc, expected_number(record, "auc_muse"), 1e-12, "auc", record);
        free(forget);
        free(holdout);
    }
    cJSON_ArrayForEach(record, expected_list(golden, "privleak"))
    {
        double auc = expected_number(record, "auc"), retain = expected_number(record, "auc_retrain");
        expected_near(privleak_open_unlearning(auc, retain), expected_number(record, "open_unlearning"), 1e-12,
                      "privleak", record);
        expected_near(privleak_muse(auc, retain), expected_number(record, "muse"), 1e-12, "muse", record);
        expected_near(auc_relative_difference(auc, retain), expected_number(record, "rel_diff"), 1e-12, "difference",
                      record);
    }
    expected_close(1 - MUSE_NEWS_RETRAIN_AUC, 0.4772, 1e-12, "news", NULL);
    expected_close(1 - MUSE_BOOKS_RETRAIN_AUC, 0.5393, 1e-12, "books", NULL);
}

/* Every share's score of one list of values. */
static void check_shares(const double *values, size_t count, const cJSON *record, const char *key, enum min_k_rule rule)
{
    const cJSON *share;
    cJSON_ArrayForEach(share, expected_list(record, key))
    {
        double score;
        assert_int_equal(membership_min_k(values, count, atof(share->string), rule, &score, NULL), STATUS_OK);
        expected_close(score, expected_value(share), 1e-10, key, record);
    }
}

static void check_minkpp(const cJSON *golden)
{
    const cJSON *record;
    cJSON_ArrayForEach(record, expected_list(golden, "cases"))
    {
        size_t n, m;
        double *logprob = expected_numbers(record, "logprob", &n), *mean = expected_numbers(record, "mu", &m);
        double *variance = expected_numbers(record, "sigma2_two_pass", &m);
        double *standard = expected_numbers(record, "minkpp_token", &m);
        assert_int_equal(n, m);
        expected_close(-mean_of(logprob, n), expected_number(record, "loss"), 1e-10, "loss", record);
        for (size_t i = 0; i < n; i++) {
            double got = membership_standardise(logprob[i], mean[i], variance[i]);
            expected_close(got, standard[i], 1e-10, "standardised", record);
            standard[i] = got;
        }
        check_shares(logprob, n, record, "min_k", MIN_K_OPEN_UNLEARNING);
        check_shares(logprob, n, record, "min_k_muse", MIN_K_MUSE);
        check_shares(standard, n, record, "min_kpp", MIN_K_OPEN_UNLEARNING);
        free(logprob);
        free(mean);
        free(variance);
        free(standard);
    }
}

static void check_memorization(const cJSON *golden)
{
    const cJSON *record;
    cJSON_ArrayForEach(record, expected_list(golden, "memorization"))
    {
        size_t n, m;
        double *argmax = expected_numbers(record, "argmax", &n), *labels = expected_numbers(record, "labels", &m);
        int32_t said[64], wanted[64];
        assert_true(n == m && n <= 64);
        for (size_t i = 0; i < n; i++) {
            said[i] = (int32_t)argmax[i];
            wanted[i] = (int32_t)labels[i];
        }
        expected_close(exact_memorization(said, wanted, n), expected_number(record, "em"), 1e-15, "em", record);
        expected_close(extraction_strength(said, wanted, n, EXTRACTION_OPEN_UNLEARNING), expected_number(record, "es"),
                       1e-15, "es", record);
        expected_close(extraction_strength(said, wanted, n, EXTRACTION_PAPER), expected_number(record, "es_paper"),
                       1e-15, "es_paper", record);
        free(argmax);
        free(labels);
    }
}

static void test_composite(void **state)
{
    (void)state;
    cJSON *golden = expected_read(GOLDEN_OWN, "composite.json");
    const cJSON *record;
    cJSON_ArrayForEach(record, expected_list(golden, "scores"))
    {
        size_t n, m;
        double *auc = expected_numbers(record, "auc", &n), *retain = expected_numbers(record, "retain_auc", &m);
        double memorization = memorization_score(
            expected_number(record, "extraction_strength"), expected_number(record, "exact_memorization"),
            expected_number(record, "paraphrase_probability"), expected_number(record, "truth_ratio"));
        double privacy = privacy_score(auc, retain, n);
        double utility = utility_score(expected_number(record, "model_utility"), expected_number(record, "fluency"));
        expected_near(memorization, expected_number(record, "memorization"), 1e-12, "memorization", record);
        expected_near(privacy, expected_number(record, "privacy"), 1e-12, "privacy", record);
        expected_near(utility, expected_number(record, "utility"), 1e-12, "utility", record);
        expected_near(overall_score(memorization, privacy, utility), expected_number(record, "overall"), 1e-12,
                      "overall", record);
        free(auc);
        free(retain);
    }
    cJSON_Delete(golden);
    expected_close(forget_quality_gap(0, 0.5, 2.5, 0.25), 2.75, 1e-12, "gap", NULL);
    assert_true(isnan(privacy_score((double[]){0.5}, (double[]){0}, 1)));
    assert_true(isnan(privacy_score(NULL, NULL, 0)));
}

static void test_means(void **state)
{
    (void)state;
    double values[] = {1, NAN, 3};
    assert_true(isnan(mean_of(values, 3)) && isnan(mean_of(values, 0)));
    assert_true(mean_of_present(values, 3) == 2 && isnan(mean_of_present(values + 1, 1)));
    assert_true(harmonic_mean((double[]){1, 0.5}, 2) == 2.0 / 3 && harmonic_mean((double[]){1, 0}, 2) == 0);
    assert_true(isnan(harmonic_mean((double[]){1, -1}, 2)) && isnan(harmonic_mean(values, 3)) &&
                isnan(harmonic_mean(values, 0)));
    expected_close(perplexity(-2 * log(8), 2), 8, 1e-14, "perplexity", NULL);
    assert_true(isnan(perplexity(0, 0)));
    double score = 1;
    assert_int_equal(membership_min_k(values, 0, 0.4, MIN_K_OPEN_UNLEARNING, &score, NULL), STATUS_OK);
    assert_true(score == 0);
    assert_int_equal(membership_min_k(values, 3, 0.4, MIN_K_OPEN_UNLEARNING, &score, NULL), STATUS_OK);
    assert_true(isnan(score));
}

static void test_bootstrap(void **state)
{
    (void)state;
    cJSON *golden = expected_read(GOLDEN_OWN, "bootstrap.json");
    const cJSON *record;
    struct interval interval;
    cJSON_ArrayForEach(record, expected_list(golden, "intervals"))
    {
        size_t n;
        double *values = expected_numbers(record, "values", &n);
        struct bootstrap_options options = {(int)expected_number(record, "resamples"), expected_number(record, "level"),
                                            (uint64_t)expected_number(record, "seed")};
        assert_int_equal(bootstrap_mean(values, n, &options, &interval, NULL), STATUS_OK);
        expected_close(interval.low, expected_number(record, "low"), 1e-12, "low", record);
        expected_close(interval.high, expected_number(record, "high"), 1e-12, "high", record);
        free(values);
    }
    cJSON_Delete(golden);
    assert_int_equal(bootstrap_mean(NULL, 0, &bootstrap_defaults, &interval, NULL), STATUS_OK);
    assert_true(isnan(interval.low) && isnan(interval.high));
    assert_int_equal(bootstrap_mean((double[]){1, NAN}, 2, &bootstrap_defaults, &interval, NULL), STATUS_OK);
    assert_true(isnan(interval.low));
}

/* A 95 % interval holds the truth about 95 times in 100: here for the mean of 100 draws of known mean. */
static void test_bootstrap_coverage(void **state)
{
    (void)state;
    struct bootstrap_options options = {.resamples = 400, .level = 0.95};
    int held = 0, trials = 600;
    for (int t = 0; t < trials; t++) {
        double *values = ks_sample((uint64_t)t + 1, 100, 1000, 0);
        struct interval interval;
        options.seed = (uint64_t)t;
        assert_int_equal(bootstrap_mean(values, 100, &options, &interval, NULL), STATUS_OK);
        held += interval.low <= 499.5 && interval.high >= 499.5;
        free(values);
    }
    print_message("%d of %d intervals hold the mean\n", held, trials);
    assert_in_range(held, trials * 91 / 100, trials * 98 / 100);
}

GOLDEN_TEST(ks, "ks.json")
GOLDEN_TEST(auc, "auc.json")
GOLDEN_TEST(minkpp, "minkpp.json")
GOLDEN_TEST(memorization, "minkpp.json")

int main(void)
{
    const struct CMUnitTest tests[] = {
        GOLDEN_TESTS(ks),
        GOLDEN_TESTS(auc),
        GOLDEN_TESTS(minkpp),
        GOLDEN_TESTS(memorization),
        cmocka_unit_test(test_ks_extremes),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_composite),
        cmocka_unit_test(test_means),
        cmocka_unit_test(test_bootstrap),
        cmocka_unit_test(test_bootstrap_coverage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
