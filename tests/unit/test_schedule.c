/* test_schedule.c - learning rates against transformers' get_scheduler (tests/parity/make_schedule_golden.py), and the
 * older warmup_ratio.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "../../host/io/json/json.h"
#include "../../host/train/schedule.h"

/* By the row of the option: names and numbers are what a user gets. */
static enum schedule_type type_of(const char *name)
{
    struct schedule_options options = {0};
    struct error error = {0};
    struct option_set set;
    const struct option *option;
    option_set_init(&set, "test");
    assert_int_equal(option_set_add(&set, &schedule_option_group, &options, &error), STATUS_OK);
    assert_int_equal(option_set_find(&set, "lr_scheduler_type", NULL, &option, &error), STATUS_OK);
    assert_int_equal(option_set_text(&set, option, name, OPTION_FROM_FLAG, NULL, &error), STATUS_OK);
    option_set_free(&set);
    return options.lr_scheduler_type;
}

static void test_transformers(void **state)
{
    (void)state;
    struct error error = {0};
    cJSON *rows = json_read("tests/golden/schedules.json", &error);
    int compared = 0;
    assert_non_null(rows);
    for (const cJSON *row = rows->child; row; row = row->next) {
        const struct schedule_options options = {.lr_scheduler_type = type_of(json_member(row, "type")->valuestring),
                                          .learning_rate = json_member(row, "learning_rate")->valuedouble,
                                          .warmup_steps = json_member(row, "warmup_steps")->valuedouble};
        const int64_t total = (int64_t)json_member(row, "total")->valuedouble;
        int64_t step = 0;
        for (const cJSON *want = json_member(row, "rates")->child; want; want = want->next, step++, compared++) {
            const double rate = schedule_rate(&options, step, total);
            if (!(fabs(rate - want->valuedouble) <= 1e-15 * options.learning_rate))
                fail_msg("%s, warm-up %g, step %d of %d: %.17g, expected %.17g", json_member(row, "type")->valuestring,
                         options.warmup_steps, (int)step, (int)total, rate, want->valuedouble);
        }
        assert_int_equal(step, total);
    }
    assert_int_equal(compared, 7 * 8 * (1 + 2 + 7 + 20));
    cJSON_Delete(rows);
}

/* warmup_ratio is a fraction up to 1, all steps; a warmup_steps of 1 is one step. */
static void test_warmup_ratio(void **state)
{
    (void)state;
    static const struct {
        double steps, ratio;
        int64_t total, warmup;
    } cases[] = {{0, 0, 10, 0},     {0, 1, 10, 10},    {0, 0.05, 10, 1},  {0, 0.5, 7, 4},   {1, 0, 10, 1},
                 {0.999, 0, 10, 10}, {0.1, 0, 10, 1}, {12, 0, 10, 12}, {0, 0.3, 1, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct schedule_options options = {.warmup_steps = cases[i].steps, .warmup_ratio = cases[i].ratio};
        assert_int_equal(schedule_warmup(&options, cases[i].total), cases[i].warmup);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_transformers), cmocka_unit_test(test_warmup_ratio)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
