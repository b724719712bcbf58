/* test_log.c - a message is one write, so that the lines of several processes on one stderr do not break each other. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../host/util/log.h"

static void expect_written(int end, const char *expected)
{
    char text[512];
    const ssize_t bytes = read(end, text, sizeof text - 1);
    assert_true(bytes > 0);
    text[bytes] = 0;
    assert_string_equal(text, expected);
}

static void test_one_write(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe2(ends, O_DIRECT), 0); /* a read gives what one write wrote */
    FILE *stream = fdopen(ends[1], "w");
    assert_non_null(stream);
    assert_int_equal(setvbuf(stream, NULL, _IONBF, 0), 0); /* as stderr is */
    struct log log;
    struct error error;
    log_init(&log, stream, false);
    log_info(&log, "%d rows", 3);
    expect_written(ends[0], "3 rows\n");
    log_warning(&log, "%s is 100 %% used", "disk");
    expect_written(ends[0], "warning: disk is 100 % used\n");
    log.color = true;
    log_warning(&log, "row %d", 7);
    expect_written(ends[0], "\033[33mwarning:\033[0m row 7\n");
    log.color = false;
    error_set(&error, STATUS_RUNTIME, "out: %s", "no room");
    log_error(&log, &error);
    expect_written(ends[0], "error: out: no room\n");
    log.quiet = true;
    log_info(&log, "unsaid");
    log_warnings(&log, "one\ntwo\n");
    expect_written(ends[0], "warning: one\n");
    expect_written(ends[0], "warning: two\n");
    fclose(stream);
    close(ends[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_one_write)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
