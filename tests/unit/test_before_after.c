/* test_before_after.c - what the table at the end of a run finds wrong: each finding at its bound and not short of it, for the
 * forget set and for others; figures that are not there find nothing.
 */
#include "../support/temporary.h"

#include <math.h>

#include "../../host/eval/suite/before_after.h"

struct figure {
    const char *name;
    double before, after;
};

static void log_fill(struct eval_log *log, const struct figure *figure, int figures, bool after, const char *const *text,
                     const char *set)
{
    struct error error = {0};
    char name[64];
    assert_int_equal(eval_log_open(log, "log", &error), STATUS_OK);
    for (int i = 0; i < figures; i++) {
        const double value = after ? figure[i].after : figure[i].before;
        if (value == value)
            assert_int_equal(eval_log_add_value(log, figure[i].name, value, &error), STATUS_OK);
    }
    if (!text)
        return;
    struct eval_text rows[4];
    for (int i = 0; i < 4; i++)
        rows[i] = (struct eval_text){"question", "truth", text[i]};
    snprintf(name, sizeof name, "%s_ROUGE", set);
    assert_int_equal(eval_log_add_rouge(log, name, NULL, rows, 4, "rougeL_recall", &error), STATUS_OK);
}

/* What is found of forget and kept; "" for nothing. */
static void expect(const char *finding, const struct figure *figure, int figures, const char *const *said_before,
                   const char *const *said_after)
{
    static const char *const sets[] = {"forget", "kept"};
    struct eval_log before, after;
    struct buffer out = {0};
    struct error error = {0};
    log_fill(&before, figure, figures, false, said_before, "kept");
    log_fill(&after, figure, figures, true, said_after, "kept");
    const struct before_after logs = {&before, &after, sets, 2};
    assert_int_equal(before_after_findings(&logs, &out, &error), STATUS_OK);
    const char *text = out.data ? out.data : "";
    if (*finding ? !strstr(text, finding) || strchr(text, '\n') != text + strlen(text) - 1 : *text)
        fail_msg("expected '%s', found '%s'", finding, text);
    buffer_free(&out);
    eval_log_free(&before);
    eval_log_free(&after);
}

#define EXPECT(finding, ...)                                                                                           \
    expect(finding, (const struct figure[]){__VA_ARGS__}, sizeof(struct figure[]){__VA_ARGS__} / sizeof(struct figure), NULL, NULL)

static void test_figures(void **state)
{
    (void)state;
    EXPECT("", {"kept_entropy", 2, 1.9}, {"kept_repetition", 0, 0.1}, {"kept_refusal_rate", 0, 0.05}, {"forget_refusal_rate", 0, 1});
    EXPECT("the entropy of the next token on kept is 0.4 nats (2 before): the model is sure of one token", {"kept_entropy", 2, 0.4});
    EXPECT("", {"kept_entropy", 2, 0.51});
    EXPECT("", {"kept_entropy", 0.4, 0.01}); /* it was sure before */
    EXPECT("", {"forget_entropy", 2, 0.1});  /* as it was asked to be */
    EXPECT("the entropy of the next token on kept is 4.1 nats (2 before): the model no longer knows", {"kept_entropy", 2, 4.1});
    EXPECT("", {"kept_entropy", 2, 3.9});
    EXPECT("", {"kept_entropy", 4, 6.5});
    EXPECT("to the model before, answers to forget are noise, 7.5 nats for a token (its own: 0.3)", {"forget_generation_loss", 0.3, 7.5});
    EXPECT("", {"forget_generation_loss", 0.3, 4.9}, {"kept_generation_loss", 3, 5.5});
    EXPECT("answers to kept repeat themselves, 30 % of their 4-grams (10 % before)", {"kept_repetition", 0.1, 0.3});
    EXPECT("answers to forget repeat themselves", {"forget_repetition", 0, 0.3});
    EXPECT("", {"kept_repetition", 0.2, 0.3});
    EXPECT("", {"kept_repetition", 0, 0.24});
    EXPECT("kept is refused too, 20 % of it (0 % before)", {"kept_refusal_rate", 0, 0.2});
    EXPECT("", {"kept_refusal_rate", 0.2, 0.25});
    EXPECT("", {"kept_entropy", NAN, 9}, {"kept_repetition", NAN, NAN}, {"kept_refusal_rate", NAN, NAN});
}

static void test_texts(void **state)
{
    (void)state;
    static const char *const good[] = {"one", "two", "three", "four"}, *const empty[] = {"", "", "three", "four"},
                     *const same[] = {"a b", "a b", "a b", "four"};
    const struct figure none = {"kept_ROUGE", NAN, NAN};
    expect("", &none, 1, good, good);
    expect("50 % of the answers to kept are empty (0 % before)", &none, 1, good, empty);
    expect("75 % of the answers to kept are the same text (25 % before)", &none, 1, good, same);
    expect("", &none, 1, same, same);
    expect("", &none, 1, empty, empty);
}

static void test_alone(void **state)
{
    (void)state;
    static const char *const sets[] = {"forget"};
    struct eval_log log;
    struct buffer out = {0};
    struct error error = {0};
    assert_int_equal(eval_log_open(&log, "log", &error), STATUS_OK);
    assert_int_equal(before_after_findings(&(struct before_after){&log, &log, sets, 1}, &out, &error), STATUS_OK);
    assert_int_equal(strncmp(out.data, "nothing outside the forget set was measured", 43), 0);
    buffer_free(&out);
    eval_log_free(&log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_figures), cmocka_unit_test(test_texts), cmocka_unit_test(test_alone)};
    return cmocka_run_group_tests(tests, temporary_make, temporary_remove);
}
