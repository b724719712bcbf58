/* metric_golden.h - the golden files of the metrics: a small set that is committed, and the full one of ../shared/data,
 * whose tests are skipped where that folder is missing. Both were made by the original libraries and have one form.
 */
#ifndef FLAT_TESTS_METRIC_GOLDEN_H
#define FLAT_TESTS_METRIC_GOLDEN_H
#include "../../host/io/json/json.h"
#include "temporary.h"

#define GOLDEN_OWN "tests/golden/metrics"
#define GOLDEN_FULL "../shared/data/golden/metrics"

/* A file of a golden folder, NULL when it is absent; cJSON_Delete. Fails the test for one that cannot be read. */
cJSON *expected_read(const char *folder, const char *name);
/* The array or object of that key, which must be there. */
const cJSON *expected_list(const cJSON *object, const char *key);
/* A text with its NULs, which JSON readers refuse; free(). */
char *expected_text(const cJSON *object, const char *key, size_t *length);
/* A number, NAN for null. */
double expected_number(const cJSON *object, const char *key);
double expected_value(const cJSON *value);
/* An array of numbers; free(). */
double *expected_numbers(const cJSON *object, const char *key, size_t *count);
/* Fails unless |got - wanted| <= bound, or both are NAN or the same infinity; prints the record. */
void expected_close(double got, double wanted, double bound, const char *what, const cJSON *record);
/* The same with a bound relative to `wanted`; a wanted 0 must be 0. */
void expected_near(double got, double wanted, double bound, const char *what, const cJSON *record);

/* Two tests of one check: over the committed file, and over the full one. check(const cJSON *golden). */
#define GOLDEN_TEST(metric, file)                                                                                      \
    static void test_##metric##_own(void **state)                                                                      \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        cJSON *golden = expected_read(GOLDEN_OWN, file);                                                               \
        assert_non_null(golden);                                                                                       \
        check_##metric(golden);                                                                                        \
        cJSON_Delete(golden);                                                                                          \
    }                                                                                                                  \
    static void test_##metric##_full(void **state)                                                                     \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        cJSON *golden = expected_read(GOLDEN_FULL, file);                                                              \
        if (!golden)                                                                                                   \
            skip();                                                                                                    \
        check_##metric(golden);                                                                                        \
        cJSON_Delete(golden);                                                                                          \
    }
#define GOLDEN_TESTS(metric) cmocka_unit_test(test_##metric##_own), cmocka_unit_test(test_##metric##_full)

#endif
