/* test_emulation.c - the emulation's own test: every planted bug is seen by the checks that should see it, and correct
 * kernels by none.
 *
 * A case is one run of build/emu/<flavour>/selftest (make emu-selftest), in a process of its own because most cases end
 * in a report or a signal. A flavour that was not built (no clang: no checker) is skipped with a message.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
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

extern char **environ;

enum { FLAVOURS = 3, SEEDS = 6 };
static const char *const flavours[FLAVOURS] = {"plain", "asan", "check"};

/* ---- running one case ----------------------------------------------------------------------------------------- */

struct run {
    int status;        /* exit status, or 128 + signal */
    char output[8192]; /* stdout and stderr together, cut off */
};

static void selftest_path(char *path, size_t bytes, int flavour)
{
    const char *build = getenv("EMU_BUILD");
    snprintf(path, bytes, "%s/%s/selftest", build ? build : "build/emu", flavours[flavour]);
}

static bool flavour_is_built(int flavour)
{
    char path[512];
    selftest_path(path, sizeof path, flavour);
    if (access(path, X_OK) == 0)
        return true;
    print_message("%s is not there (make emu-selftest): flavour skipped\n", path);
    return false;
}

/* Reads a pipe to its end and keeps what fits. */
static void read_all(int pipe, char *output, size_t bytes)
{
    char rest[1024];
    size_t used = 0;
    for (;;) {
        const bool full = used == bytes - 1;
        const ssize_t n = read(pipe, full ? rest : output + used, full ? sizeof rest : bytes - 1 - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        used += full ? 0 : (size_t)n;
    }
    output[used] = 0;
}

static void run_selftest(struct run *run, int flavour, int seed, const char *mode, const char *name,
                         const char *variant)
{
    char path[512], seed_text[16];
    int ends[2], status;
    pid_t child;
    posix_spawn_file_actions_t actions;
    selftest_path(path, sizeof path, flavour);
    snprintf(seed_text, sizeof seed_text, "%d", seed);
    char *const arguments[] = {path, (char *)mode, (char *)name, (char *)variant, NULL};
    assert_int_equal(setenv("EMU_SEED", seed_text, 1), 0);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
    assert_int_equal(posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO), 0);
    assert_int_equal(posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO), 0);
    assert_int_equal(posix_spawn_file_actions_addclose(&actions, ends[0]), 0);
    assert_int_equal(posix_spawn(&child, path, &actions, NULL, arguments, environ), 0);
    assert_int_equal(posix_spawn_file_actions_destroy(&actions), 0);
    assert_int_equal(close(ends[1]), 0);
    read_all(ends[0], run->output, sizeof run->output);
    assert_int_equal(close(ends[0]), 0);
    while (waitpid(child, &status, 0) < 0)
        assert_int_equal(errno, EINTR);
    run->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* The line "hash ..." of the output, which stands for all results. */
static void result_of(const struct run *run, char *line, size_t bytes)
{
    const char *start = strstr(run->output, "hash ");
    snprintf(line, bytes, "%.*s", start ? (int)strcspn(start, "\n") : 0, start ? start : "");
}

static void expect_success(const struct run *run, int flavour, int seed, const char *what)
{
    if (run->status != 0)
        fail_msg("%s, %s, seed %d: status %d:\n%s", what, flavours[flavour], seed, run->status, run->output);
}

/* ---- planted bugs --------------------------------------------------------------------------------------------- */

/* What must be seen in each flavour: a text of the report, DIFFERS for results that are not those of the correct twin
 * under at least one seed, or NULL where that check cannot see the bug. */
#define DIFFERS ""

struct planted {
    const char *name;
    const char *seen[FLAVOURS]; /* plain, asan, check */
};

static const struct planted planted_bugs[] = {
    {"write_past_end", {"wrote past the end", "heap-buffer-overflow", "out of bounds, at"}},
    {"write_past_shared_array", {NULL, "index 64 out of bounds", "shared memory: write of 4 bytes out of bounds"}},
    {"write_past_dynamic_shared", {NULL, "use-after-poison", "shared memory: write of 4 bytes out of bounds"}},
    {"misaligned_vector", {"not a multiple of 16", "not a multiple of 16", "not a multiple of 16"}},
    {"misaligned_raw_vector", {NULL, "misaligned address", NULL}},
    {"vector_load_of_shared", {"of shared memory through", "of shared memory through", "of shared memory through"}},
    {"missing_barrier", {DIFFERS, DIFFERS, "race on shared memory"}},
    {"missing_warp_sync", {DIFFERS, DIFFERS, "uninitialised shared memory"}},
    {"half_warp_sync", {DIFFERS, DIFFERS, "uninitialised shared memory"}},
    {"missing_atomic", {NULL, NULL, "race on device memory"}},
    {"missing_fence", {NULL, NULL, "race on device memory"}},
    {"uninitialised_shared", {DIFFERS, DIFFERS, "uninitialised shared memory"}},
    {"missing_barrier_of_array", {NULL, NULL, "shared memory"}},
    {"missing_copy_wait", {DIFFERS, DIFFERS, "still writing"}},
    {"missing_copy_commit", {DIFFERS, DIFFERS, "still writing"}},
    {"copy_over_reader", {DIFFERS, DIFFERS, "race on shared memory"}},
    {"divergent_barrier", {"divergent __syncthreads", "divergent __syncthreads", "divergent __syncthreads"}},
    {"barrier_after_return", {"returned", "returned", "returned"}},
    {"shuffle_in_half_warp", {"__shfl_xor_sync", "__shfl_xor_sync", "__shfl_xor_sync"}},
    {"shuffle_from_outside_mask", {"not in mask", "not in mask", "not in mask"}},
    {"different_warp_functions", {"diverged", "diverged", "diverged"}},
    {"deadlock", {"deadlock", "deadlock", "deadlock"}},
    {"spin", {"watchdog: kernel spin", "watchdog: kernel spin", "watchdog: kernel spin"}},
};
enum { PLANTED_BUGS = sizeof planted_bugs / sizeof *planted_bugs };

static void expect_planted(const struct planted *bug, int flavour)
{
    struct run run;
    char correct[64], result[64];
    const char *seen = bug->seen[flavour];
    if (!seen)
        return;
    run_selftest(&run, flavour, 0, "bug", bug->name, "correct");
    result_of(&run, correct, sizeof correct);
    for (int seed = 0; seed < SEEDS; seed++) {
        run_selftest(&run, flavour, seed, "bug", bug->name, "planted");
        result_of(&run, result, sizeof result);
        if (*seen ? run.status != 0 && strstr(run.output, seen) != NULL : strcmp(correct, result) != 0)
            return;
        if (*seen) /* a report does not depend on luck */
            fail_msg("%s, %s: no report of \"%s\" (status %d):\n%s", bug->name, flavours[flavour], seen, run.status,
                     run.output);
    }
    fail_msg("%s, %s: the results are right under all %d seeds", bug->name, flavours[flavour], SEEDS);
}

static void test_planted_bugs(void **state)
{
    (void)state;
    assert_int_equal(setenv("EMU_WATCHDOG", "1", 1), 0);
    for (int flavour = 0; flavour < FLAVOURS; flavour++)
        for (int i = 0; flavour_is_built(flavour) && i < PLANTED_BUGS; i++)
            expect_planted(&planted_bugs[i], flavour);
    assert_int_equal(unsetenv("EMU_WATCHDOG"), 0);
}

/* No false alarm, and the same bits under every schedule. */
static void test_correct_twins(void **state)
{
    (void)state;
    struct run run;
    char first[64], result[64];
    for (int flavour = 0; flavour < FLAVOURS; flavour++) {
        for (int i = 0; flavour_is_built(flavour) && i < PLANTED_BUGS; i++) {
            for (int seed = 0; seed < SEEDS; seed += 3) {
                run_selftest(&run, flavour, seed, "bug", planted_bugs[i].name, "correct");
                expect_success(&run, flavour, seed, planted_bugs[i].name);
                result_of(&run, seed ? result : first, sizeof result);
            }
            assert_true(*first);
            assert_string_equal(first, result);
        }
    }
}

/* ---- the rest ------------------------------------------------------------------------------------------------- */

static void test_demo_kernels(void **state)
{
    (void)state;
    static const char *const modes[] = {"demo", "features", "matmul", "graph", "streams"};
    struct run run;
    char first[64] = "", result[64];
    for (int flavour = 0; flavour < FLAVOURS; flavour++)
        for (size_t i = 0; flavour_is_built(flavour) && i < sizeof modes / sizeof *modes; i++)
            for (int seed = 0; seed < SEEDS; seed++) {
                run_selftest(&run, flavour, seed, modes[i], NULL, NULL);
                expect_success(&run, flavour, seed, modes[i]);
                result_of(&run, seed ? result : first, sizeof result);
                if (seed)
                    assert_string_equal(first, result);
            }
}

/* Streams that run late and interleaved: events are kept, a missing one shows, and so does a host read too early. */
static void test_streams(void **state)
{
    (void)state;
    struct run run;
    char correct[64], result[64];
    if (!flavour_is_built(0))
        skip();
    assert_int_equal(setenv("EMU_ASYNC", "1", 1), 0);
    int different = 0;
    for (int seed = 0; seed < SEEDS; seed++) {
        run_selftest(&run, 0, seed, "graph", NULL, NULL);
        expect_success(&run, 0, seed, "graph");
        run_selftest(&run, 0, seed, "streams", NULL, NULL);
        expect_success(&run, 0, seed, "streams");
        assert_non_null(strstr(run.output, "early -1\n"));
        result_of(&run, correct, sizeof correct);
        assert_string_equal(correct, "hash 211");
        run_selftest(&run, 0, seed, "streams-planted", NULL, NULL);
        result_of(&run, result, sizeof result);
        different += strcmp(correct, result) != 0;
    }
    assert_int_equal(unsetenv("EMU_ASYNC"), 0);
    assert_true(different > 0);
}

static const struct planted host_cases[] = {
    {"device_pointer_on_host", {"dereferenced a device pointer", NULL, "dereferenced a device pointer"}},
    {"host_pointer_in_kernel", {"dereferences host pointer", NULL, "dereferences host pointer"}},
    {"uninitialised_global", {"NaN", "NaN", "uninitialised device memory"}},
    {"stack_overflow", {"stack overflow", "stack-overflow", "stack overflow"}},
    {"matmul_uninitialised", {NULL, NULL, "cublasLtMatmul reads uninitialised"}},
};

static void test_host_misuse(void **state)
{
    (void)state;
    static const char *const refusals[] = {"copies", "launches", "capture", "matmul"}; /* checked inside, end with 0 */
    struct run run;
    for (int flavour = 0; flavour < FLAVOURS; flavour++) {
        if (!flavour_is_built(flavour))
            continue;
        for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
            run_selftest(&run, flavour, 0, "host", refusals[i], NULL);
            expect_success(&run, flavour, 0, refusals[i]);
        }
        for (size_t i = 0; i < sizeof host_cases / sizeof *host_cases; i++) {
            const char *seen = host_cases[i].seen[flavour];
            if (!seen)
                continue;
            run_selftest(&run, flavour, 0, "host", host_cases[i].name, NULL);
            if (run.status == 0 || !strstr(run.output, seen))
                fail_msg("%s, %s: no report of \"%s\" (status %d):\n%s", host_cases[i].name, flavours[flavour], seen,
                         run.status, run.output);
        }
    }
}

/* An access that goes round load_* and store_* is missing from the plain count, and the checker's count has it. */
static void test_counters(void **state)
{
    (void)state;
    struct run run;
    if (!flavour_is_built(2))
        skip();
    run_selftest(&run, 2, 0, "bug", "uncounted_read", "correct");
    assert_non_null(strstr(run.output, "counter uncounted_read launches 1 read 128 written 128 checked 128 128"));
    run_selftest(&run, 2, 0, "bug", "uncounted_read", "planted");
    assert_non_null(strstr(run.output, "counter uncounted_read launches 1 read 0 written 128 checked 128 128"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_planted_bugs), cmocka_unit_test(test_correct_twins), cmocka_unit_test(test_demo_kernels),
        cmocka_unit_test(test_streams),      cmocka_unit_test(test_host_misuse),   cmocka_unit_test(test_counters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
