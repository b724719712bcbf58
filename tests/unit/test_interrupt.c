/* test_interrupt.c - the signals that ask a run to stop: noted, the second SIGINT of a run alone ends it, released again;
 * ignored where the process was started so. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../host/util/interrupt.h"

static void test_noted(void **state)
{
    (void)state;
    static const int number[] = {SIGINT, SIGTERM, SIGUSR1};
    static const char *const name[] = {"SIGINT", "SIGTERM", "SIGUSR1"};
    for (int i = 0; i < 3; i++) {
        interrupt_catch(false);
        assert_int_equal(interrupt_pending(), 0);
        for (int times = 0; times < 3; times++)
            raise(number[i]);
        assert_int_equal(interrupt_pending(), number[i]);
        assert_string_equal(interrupt_name(number[i]), name[i]);
    }
    interrupt_release();
}

/* How a child ends that gets `number` twice: its exit code, or the signal's number negated. */
static int child_end(bool second_kills, bool release, int number)
{
    int state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        interrupt_catch(second_kills);
        raise(number);
        if (interrupt_pending() != number)
            _exit(1);
        if (release)
            interrupt_release();
        raise(number);
        _exit(7);
    }
    assert_int_equal(waitpid(child, &state, 0), child);
    return WIFSIGNALED(state) ? -WTERMSIG(state) : WEXITSTATUS(state);
}

static void test_second(void **state)
{
    (void)state;
    assert_int_equal(child_end(true, false, SIGINT), -SIGINT);
    assert_int_equal(child_end(false, false, SIGINT), 7);
    assert_int_equal(child_end(true, false, SIGTERM), -SIGTERM);
    assert_int_equal(child_end(false, true, SIGTERM), -SIGTERM);
}

/* What a shell has told its background job to ignore stays so, and no other signal with it. */
static void test_ignored(void **state)
{
    (void)state;
    signal(SIGINT, SIG_IGN);
    interrupt_catch(true);
    raise(SIGINT);
    raise(SIGINT);
    assert_int_equal(interrupt_pending(), 0);
    raise(SIGTERM);
    assert_int_equal(interrupt_pending(), SIGTERM);
    interrupt_release();
    raise(SIGINT);
    signal(SIGINT, SIG_DFL);
}

int main(void)
{
    signal(SIGINT, SIG_DFL); /* these tests may run in the background themselves */
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_noted), cmocka_unit_test(test_second),
                                       cmocka_unit_test(test_ignored)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
