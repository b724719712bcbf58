/* test_gpu.c - tools/gpu rehearsed on the emulated engine, with stand-ins for NVIDIA's tools: every phase of `quick` runs and
 * leaves its files, few and small; what must stop it stops it.
 */
#include <dirent.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "../../host/io/json/json.h"
#include "../../host/util/file.h"
#include "../support/program.h" /* brings the program into this test's build */
#include "../support/temporary.h"

static char said[1 << 16];

/* Runs tools/gpu with variables before it; its output is in `said`, its exit code comes back. */
static int gpu(const char *variables, const char *arguments)
{
    char command[1024];
    const char *build = getenv("FLAT_BUILD");
    snprintf(command, sizeof command, "BUILD=\"$(realpath '%s')\" PYTHON=no-python %s tools/gpu %s 2>&1",
             build && *build ? build : "build", variables, arguments);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    said[fread(said, 1, sizeof said - 1, pipe)] = 0;
    int status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static int cases_in(const char *name)
{
    struct error error = {0};
    char file[64];
    snprintf(file, sizeof file, "results/%s", name);
    cJSON *tree = json_read(temporary_path(file), &error);
    if (!tree)
        fail_msg("%s: %s", name, error.text);
    int cases = cJSON_GetArraySize(json_member(tree, "cases"));
    cJSON_Delete(tree);
    return cases;
}

static void expect_said(const char *text)
{
    if (!strstr(said, text))
        fail_msg("'%s' is not in: %s", text, said);
}

static void test_quick(void **state)
{
    (void)state;
    char arguments[600];
    snprintf(arguments, sizeof arguments, "rehearse %s/results", temporary);
    if (gpu("", arguments) != 0)
        fail_msg("%s", said);
    static const char *const line[] = {"ok       environment", "ok       tests-first", "ok       tests", "ok       kernels",
                                       "ok       steps", "ok       sanitize", "not run  pytorch: no PyTorch", "not run  large",
                                       "ok       profile", "\ndone; "};
    for (size_t i = 0; i < sizeof line / sizeof *line; i++)
        expect_said(line[i]);
    expect_said("memcheck engine clean");
    assert_true(cases_in("kernels.json") == 2 && cases_in("step.json") == 2);
    int files = 0;
    DIR *folder = opendir(temporary_path("results"));
    assert_non_null(folder);
    for (const struct dirent *entry; (entry = readdir(folder));) {
        char name[200];
        struct stat status;
        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof name, "results/%.100s", entry->d_name);
        assert_int_equal(stat(temporary_path(name), &status), 0);
        if (strspn(entry->d_name, "abcdefghijklmnopqrstuvwxyz.-") != strlen(entry->d_name) || status.st_size >= 16 << 20)
            fail_msg("%s, %lld bytes", entry->d_name, (long long)status.st_size);
        files++;
    }
    closedir(folder);
    assert_in_range(files, 6, 8);
}

/* Nothing else is tried when the first tests fail (here: no memory), and they are run again op by op. */
static void test_stops(void **state)
{
    (void)state;
    char arguments[600];
    snprintf(arguments, sizeof arguments, "rehearse %s/results", temporary);
    assert_int_equal(gpu("EMU_DEVICE_MB=1", arguments), 1);
    expect_said("FAILED   tests-first");
    expect_said("FAILED   why");
    expect_said("\nended: the first tests must pass");
    assert_null(strstr(said, "kernels"));
    snprintf(arguments, sizeof arguments, "quick %s/results", temporary);
    assert_int_equal(gpu("PATH=/usr/bin:/bin", arguments), 1);
    expect_said("FAILED   environment (exit code 1)");
    expect_said("nvidia-smi finds no GPU");
}

static void test_usage(void **state)
{
    (void)state;
    assert_int_equal(gpu("", "quik"), 2);
    expect_said("tools/gpu pack");
    assert_int_equal(gpu("", "full stpe"), 2);
    expect_said("'stpe' is no phase of full: build test");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_quick), cmocka_unit_test(test_stops), cmocka_unit_test(test_usage)};
    return cmocka_run_group_tests(tests, temporary_make, temporary_remove);
}
