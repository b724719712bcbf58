/* test_attack_scores.c - leak@k against the mean over all subsets of the draws, counted one by one; R and Q on rows with known
 * answers.
 */
#include "../support/temporary.h"

#include <math.h>

#include "../../host/cli/attack/attack.h"
#include "../../host/eval/metric/leak.h"

/* Over every subset of k of n < 16 draws. */
static double leak_counted(const double *score, int n, int k)
{
    double sum = 0, subsets = 0;
    for (unsigned chosen = 0; chosen < 1u << n; chosen++) {
        double largest = -INFINITY;
        if (__builtin_popcount(chosen) != k)
            continue;
        for (int i = 0; i < n; i++)
            if (chosen >> i & 1)
                largest = fmax(largest, score[i]);
        sum += largest;
        subsets++;
    }
    return sum / subsets;
}

static void test_leak(void **state)
{
    (void)state;
    unsigned seed = 3;
    for (int n = 1; n <= 12; n++)
        for (int k = 1; k <= n; k++)
            for (int round = 0; round < 4; round++) {
                double score[12];
                for (int i = 0; i < n; i++) { /* few values, so that there are equal ones */
                    seed = seed * 1103515245u + 12345u;
                    score[i] = (double)(seed >> 16 & 7) / 7;
                }
                const double counted = leak_counted(score, n, k), got = leak_at_k(score, (size_t)n, (size_t)k);
                if (fabs(counted - got) > 1e-12)
                    fail_msg("n %d, k %d: %.15g, counted %.15g", n, k, got, counted);
            }
    double many[1000];
    for (int i = 0; i < 1000; i++)
        many[i] = i == 500;
    assert_true(fabs(leak_at_k(many, 1000, 64) - 0.064) < 1e-12); /* the one that tells is among 64 of 1000 */
}

static void test_scores(void **state)
{
    (void)state;
    static const size_t all[] = {0, 1, 2};
    static const double low[] = {0.1, 0.2, 0.3}, middle[] = {0.2, 0.3, 0.4}, high[] = {0.5, 0.6, 0.7};
    const struct attack_pairs half = {low, high, low, middle}, same = {low, high, low, high}, more = {low, middle, low, high},
                              none = {high, low, low, high}, loses = {low, high, high, low};
    assert_true(fabs(relearning_score(&half, all, 3) - 0.25) < 1e-12);
    assert_true(relearning_score(&same, all, 3) == 1);
    assert_true(relearning_score(&more, all, 3) == 1);  /* never above 1 */
    assert_true(relearning_score(&none, all, 3) == 1);  /* the unlearned model gains nothing */
    assert_true(relearning_score(&loses, all, 3) == 0); /* the retain model does not either, and this one does */
    assert_true(fabs(quantization_score(&half, all, 3) - 1.0 / 3) < 1e-12);
    assert_true(quantization_score(&none, all, 3) == 1);
    static const double zero[] = {0, 0, 0};
    const struct attack_pairs nothing = {zero, zero, NULL, NULL};
    assert_true(quantization_score(&nothing, all, 3) == 1);
    static const size_t one[] = {2, 2};
    assert_true(fabs(quantization_score(&half, one, 2) - 3.0 / 7) < 1e-12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_leak), cmocka_unit_test(test_scores)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
