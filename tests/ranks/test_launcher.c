/* test_launcher.c - `flat ... --nproc_per_node`: the ranks run, their codes come back, and none is left behind. */
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../host/util/clock.h"
#include "../support/program.h"
#include "../support/temporary.h"

#define LONG_RUN "bench comm --device cpu --nproc_per_node 3 --min_bytes 4096 --max_bytes 4096 --samples 100000000"

static void test_run(void **state)
{
    (void)state;
    struct program_result result = program_line("bench comm --device cpu --nproc_per_node 3 --min_bytes 64 "
                                                "--max_bytes 40000 --samples 2");
    program_expect(&result, 0);
    assert_non_null(strstr(result.out, "# rank 2: host "));
    assert_non_null(strstr(result.out, "# Out of bounds values : 0 OK"));
    program_free(&result);
}

static void test_refused(void **state)
{
    (void)state;
    struct program_result result = program_line("bench comm --device cpu");
    program_expect_error(&result, 2, "add --nproc_per_node 2");
    program_free(&result);
    result = program_line("bench comm --nproc_per_node 0");
    program_expect_error(&result, 2, "nproc_per_node");
    program_free(&result);
    setenv("RANK", "0", 1);
    result = program_line("bench comm --nproc_per_node 2");
    program_expect_error(&result, 2, "nproc_per_node: RANK is set");
    program_free(&result);
    unsetenv("RANK");
    /* all ranks fail alike: their own code, and one line of the launcher beside theirs */
    result = program_line("bench comm --device cuda --nproc_per_node 2");
    if (access("/dev/nvidia0", F_OK)) {
        assert_true(result.status == 1 || result.status == 2);
        assert_non_null(strstr(result.err, "error: rank 0 of 2 ended with exit code"));
    }
    program_free(&result);
}

/* A daemon may have closed the standard streams: the socket that rank 0 inherits must not get their numbers. */
static void test_streams_closed(void **state)
{
    (void)state;
    const char *build = getenv("FLAT_BUILD");
    char line[4096];
    snprintf(line, sizeof line, "'%s/flat' bench comm --device cpu --nproc_per_node 2 --min_bytes 64 --max_bytes 64 "
             "--samples 2 <&- >/dev/null 2>&-", build && *build ? build : "build");
    assert_int_equal(system(line), 0);
}

/* ---- real processes ---------------------------------------------------------------------------------------------- */

/* The children of a process, and theirs are none of ours. */
static int children_of(pid_t parent, pid_t *child, int max)
{
    int count = 0;
    DIR *directory = opendir("/proc");
    assert_non_null(directory);
    for (struct dirent *entry; (entry = readdir(directory));) {
        char path[300], line[512];
        int own = atoi(entry->d_name), of = 0;
        snprintf(path, sizeof path, "/proc/%d/stat", own);
        FILE *file = own ? fopen(path, "r") : NULL;
        const char *after = file && fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
        if (after && sscanf(after, ") %*c %d", &of) == 1 && of == parent && count < max)
            child[count++] = own;
        if (file)
            fclose(file);
    }
    closedir(directory);
    return count;
}

#define HANG_SECONDS 300.0 /* nothing here takes so long, on a loaded machine either */

enum { TEXT_PATH = 256 }; /* room for the name of what a run says */

/* A long run with its three ranks: the launcher's id; out gets the ranks' ids, text the file of what it says. */
static pid_t long_run(pid_t rank[3], char text[TEXT_PATH])
{
    char program[512], copy[] = LONG_RUN;
    char *argv[32] = {program};
    const char *build = getenv("FLAT_BUILD");
    int count = 1;
    snprintf(program, sizeof program, "%s/flat", build ? build : "build");
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " "))
        argv[count++] = word;
    snprintf(text, TEXT_PATH, "%s/flat-launcher-XXXXXX", temporary_root());
    int fd = mkstemp(text);
    assert_true(fd >= 0);
    fflush(NULL);
    pid_t launcher = fork();
    if (!launcher) {
        dup2(fd, 1);
        dup2(fd, 2);
        close(fd);
        alarm(2 * (unsigned)HANG_SECONDS);
        execv(program, argv);
        _exit(127);
    }
    close(fd);
    /* until they talk to each other */
    for (double deadline = clock_seconds() + HANG_SECONDS; clock_seconds() < deadline; usleep(20000)) {
        char said[4096] = "";
        FILE *file = fopen(text, "r");
        size_t length = file ? fread(said, 1, sizeof said - 1, file) : 0;
        said[length] = 0;
        if (file)
            fclose(file);
        if (strstr(said, "# all_reduce") && children_of(launcher, rank, 3) == 3)
            return launcher;
    }
    fail_msg("the ranks did not begin");
    return 0;
}

static int launcher_wait(pid_t launcher, double *seconds)
{
    int state;
    const double start = clock_seconds();
    assert_int_equal(waitpid(launcher, &state, 0), launcher);
    *seconds = clock_seconds() - start;
    return WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
}

static void nobody_left(const pid_t rank[3])
{
    double deadline = clock_seconds() + HANG_SECONDS; /* init reaps them when it comes to it */
    for (int i = 0; i < 3; i++)
        while (kill(rank[i], 0) == 0) {
            char path[64], line[256] = "";
            snprintf(path, sizeof path, "/proc/%d/stat", (int)rank[i]);
            FILE *file = fopen(path, "r");
            if (file && !fgets(line, sizeof line, file))
                line[0] = 0;
            if (file)
                fclose(file);
            if (strstr(line, ") Z"))
                break;
            if (clock_seconds() > deadline)
                fail_msg("rank process %d is left: %s", (int)rank[i], line);
            usleep(20000);
        }
}

static void says(const char *text, const char *wanted)
{
    static char said[65536];
    FILE *file = fopen(text, "r");
    assert_non_null(file);
    size_t length = fread(said, 1, sizeof said - 1, file);
    said[length] = 0;
    fclose(file);
    if (*wanted && !strstr(said, wanted))
        fail_msg("expected \"%s\" in: %s", wanted, said);
    unlink(text);
}

/* One rank is killed: the others say whom they miss, and the code is that of a lost peer. */
static void test_rank_killed(void **state)
{
    (void)state;
    pid_t rank[3];
    char text[TEXT_PATH];
    double seconds;
    pid_t launcher = long_run(rank, text);
    kill(rank[1], SIGKILL);
    int status = launcher_wait(launcher, &seconds);
    print_message("killed rank: %.2f s\n", seconds);
    nobody_left(rank);
    says(text, "it ended without a goodbye");
    assert_int_equal(status, 6);
}

/* The launcher is killed: no rank outlives it. */
static void test_launcher_killed(void **state)
{
    (void)state;
    pid_t rank[3];
    char text[TEXT_PATH];
    double seconds;
    pid_t launcher = long_run(rank, text);
    kill(launcher, SIGKILL);
    assert_int_equal(launcher_wait(launcher, &seconds), 128 + SIGKILL);
    nobody_left(rank);
    says(text, "");
}

/* A signal to the launcher reaches the ranks, and is no loss of one. */
static void test_signal(void **state)
{
    (void)state;
    pid_t rank[3];
    char text[TEXT_PATH];
    double seconds;
    pid_t launcher = long_run(rank, text);
    kill(launcher, SIGTERM);
    int status = launcher_wait(launcher, &seconds);
    nobody_left(rank);
    says(text, "stopped by signal 15 (Terminated)");
    assert_int_equal(status, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_run), cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_streams_closed),
                                       cmocka_unit_test(test_rank_killed), cmocka_unit_test(test_launcher_killed),
                                       cmocka_unit_test(test_signal)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
