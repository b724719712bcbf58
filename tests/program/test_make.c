/* test_make.c - the Makefile as a user meets it: names it does not know, what it builds unasked, install and uninstall. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../support/program.h" /* brings the program into this test's build */
#include "../support/temporary.h"

static char said[1 << 20];

/* Runs a command of the shell in this folder, not as a part of the make that runs the tests; what it prints is in `said`. */
static int shell(const char *format, ...)
{
    char command[4096] = "unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES; ";
    size_t used = strlen(command);
    va_list list;
    va_start(list, format);
    vsnprintf(command + used, sizeof command - used, format, list);
    va_end(list);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    said[fread(said, 1, sizeof said - 1, pipe)] = 0;
    int status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static const char *build_folder(void)
{
    const char *build = getenv("FLAT_BUILD");
    return build && *build ? build : "build";
}

/* Refused before anything is built, whatever stands beside it. */
static void test_unknown_names(void **state)
{
    (void)state;
    static const struct {
        const char *goals, *says;
    } rows[] = {
        {"test-jsn", "no target 'test-jsn'; did you mean test-json?"},
        {"bench-nrom", "no target 'bench-nrom'; did you mean bench-norm?"},
        {"flat instal", "no target 'instal'; did you mean install?"},
        {"zzzzzzzzz", "no target 'zzzzzzzzz'; make alone lists what there is"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int status = shell("make BUILD=%s/never %s 2>&1", temporary, rows[i].goals);
        if (status != 2 || !strstr(said, rows[i].says))
            fail_msg("make %s: exit code %d: %s", rows[i].goals, status, said);
        assert_int_equal(access(temporary_path("never/host"), F_OK), -1);
    }
}

/* A dry run shows the compiler of CUDA only where a GPU or the word asks for it. A test's build is what it includes. */
static void test_builds(void **state)
{
    (void)state;
    const bool gpu = access("/dev/nvidia0", F_OK) == 0;
    static const char *const goals[] = {"flat", "bench", "bench-norm", "install", "demo"};
    for (size_t i = 0; i < sizeof goals / sizeof *goals && !gpu; i++) {
        assert_int_equal(shell("make -n BUILD=%s/never NVCC=the_cuda_compiler %s 2>&1", temporary, goals[i]), 0);
        if (strstr(said, "the_cuda_compiler -"))
            fail_msg("make %s compiles CUDA", goals[i]);
        assert_non_null(strstr(said, "/never/host/util/error.o"));
    }
    assert_int_equal(shell("make -n BUILD=%s/never NVCC=the_cuda_compiler CUDA=1 flat 2>&1", temporary), 0);
    assert_non_null(strstr(said, "the_cuda_compiler -std"));
    assert_int_equal(shell("make BUILD=%s/never NVCC= CUDA=1 flat 2>&1", temporary), 2);
    assert_non_null(strstr(said, "CUDA=1, but there is no nvcc"));
    assert_int_equal(shell("make -n BUILD=%s/never test-json 2>&1", temporary), 0);
    assert_non_null(strstr(said, "/never/host/io/json/json.o"));
    assert_null(strstr(said, "/never/host/train/"));
    assert_null(strstr(said, "libflat"));
}

/* What is installed runs from anywhere, knows its shapes, is stripped; uninstall leaves no file. */
static void test_install(void **state)
{
    (void)state;
    if (shell("make BUILD=%s CUDA= PREFIX=%s/prefix install-files 2>&1", build_folder(), temporary))
        fail_msg("%s", said);
    assert_int_equal(shell("cd / && %s/prefix/bin/flat bench step --list 2>&1", temporary), 0);
    assert_non_null(strstr(said, "llama-2-7b/tofu/"));
    assert_int_equal(shell("cd / && %s/prefix/bin/flat bench kernels --device cpu --list 2>&1", temporary), 0);
    assert_int_equal(shell("nm %s/prefix/bin/flat 2>&1", temporary), 0);
    assert_non_null(strstr(said, "no symbols"));
    assert_int_equal(shell("make BUILD=%s PREFIX=%s/prefix uninstall 2>&1", build_folder(), temporary), 0);
    assert_int_equal(shell("find %s/prefix -type f", temporary), 0);
    assert_string_equal(said, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_unknown_names), cmocka_unit_test(test_builds),
                                       cmocka_unit_test(test_install)};
    return cmocka_run_group_tests(tests, temporary_make, temporary_remove);
}
