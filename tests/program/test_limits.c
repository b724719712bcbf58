/* test_limits.c - the limits of a shell (ulimit) and of OpenMP's runtime: stack, threads' stacks, threads, address space, size
 * and number of files, at several values each. The program runs, or ends with one line and a documented exit code, and leaves
 * no temporaries (none that the next run does not take away, where files cannot even be listed).
 *
 * Below about 18 KB of stack and 11 MB of address space the dynamic linker ends before the program begins.
 */
#include "../support/temporary.h"

#include <sys/wait.h>

#include "../../host/util/file.h"
#include "../support/assert_ok.h"
#include "../support/program.h"
#include "../support/small_model.h"

#define UNLEARN "unlearn --model @/sharded --forget_data @/data.jsonl --template.file @/templates.txt --output_dir @/out " \
                "--max_steps 2 --per_device_train_batch_size 1 --gradient_accumulation_steps 1 --save_strategy steps --save_steps 1 " \
                "--final_eval_rows 1 --overwrite_output_dir --device cpu --quiet "

static int make(void **state)
{
    if (temporary_make(state))
        return -1;
    small_model_make(temporary);
    return 0;
}

/* How a run ended: its exit code, or 128 and the signal; the lines on stderr that are no warnings. */
struct end {
    int status, lines;
    char said[4096];
};

/* A command line under settings of the shell ("ulimit -s 64;", "NAME=value"), with @ for the temporary folder in both. */
static struct end run(const char *settings, const char *line)
{
    struct end end = {0};
    struct error error;
    char command[8192], said[600], *text;
    const char *build = getenv("FLAT_BUILD"), *part[] = {settings, build && *build ? build : "build", "/flat ", line};
    size_t used, length;
    directory_remove(temporary_path("out"));
    snprintf(said, sizeof said, "%s", temporary_path("said"));
    used = (size_t)snprintf(command, sizeof command, "exec >/dev/null 2>%s; ", said);
    for (int i = 0; i < 4; i++)
        for (const char *at = part[i]; *at; at++)
            used += (size_t)snprintf(command + used, sizeof command - used, *at == '@' ? "%s" : "%.1s",
                                     *at == '@' ? temporary : at);
    const int status = system(command);
    end.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    OK(file_read(said, sizeof end.said - 1, &text, &length, &error));
    memcpy(end.said, text, length);
    free(text);
    for (const char *at = end.said; *at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : "")
        end.lines += *at != '\n' && strncmp(at, "warning: ", 9) != 0;
    return end;
}

static void assert_nothing_left(const char *settings)
{
    struct error error;
    struct file_list list;
    if (!file_exists(temporary_path("out")))
        return;
    OK(file_list_read(&list, temporary_path("out"), &error));
    for (size_t i = 0; i < list.count; i++)
        if (list.name[i][0] == '.' || strstr(list.name[i], ".tmp-"))
            fail_msg("%s: %s is left", settings, list.name[i]);
    file_list_free(&list);
}

/* A run that did not end well said why in one line. */
static void end_check(const struct end *end, const char *settings)
{
    if (end->status > STATUS_MEMORY || (end->status && end->lines != 1))
        fail_msg("%s: exit code %d: %s", settings, end->status, end->said);
}

static void expect(const char *settings, const char *line, int status, const char *text)
{
    const struct end end = run(settings, line);
    end_check(&end, settings);
    assert_nothing_left(settings);
    if (end.status != status || !strstr(end.said, text))
        fail_msg("%s: exit code %d, expected %d and \"%s\": %s", settings, end.status, status, text, end.said);
}

/* One that is too small is refused before anything is done; with the least that is not, every command runs. */
static void test_stack(void **state)
{
    (void)state;
    static const char *const lines[] = {
        UNLEARN "--threads 2", UNLEARN "--threads 2 --lora.r 2",
        "score --model @/sharded --data @/data.jsonl --device cpu --threads 2 --quiet",
        "generate --model @/sharded --data @/data.jsonl --max_new_tokens 3 --device cpu --threads 2 --quiet",
        "eval --model @/model --forget_data @/data.jsonl --template.file @/templates.txt --output_dir @/out --max_new_tokens 3 "
        "--device cpu --threads 2 --quiet",
        "attack --model @/model --target_model @/other --forget_data @/data.jsonl --attacks relearn,quantize,sample --leak_k 1 "
        "--max_new_tokens 3 --output_dir @/out --device cpu --threads 2 --quiet",
        "combine --model @/sharded --models @/other --weights=-1 --output_dir @/out --quiet",
        "plan --model @/sharded --forget_data @/data.jsonl --template.file @/templates.txt", "help unlearn"};
    static const char *const small[] = {"ulimit -s 24; exec ", "ulimit -s 64; exec ", "ulimit -s 128; exec ",
                                        "ulimit -s 400; exec "};
    for (size_t i = 0; i < sizeof small / sizeof *small; i++)
        expect(small[i], lines[0], STATUS_MEMORY, "error: the stack is limited to ");
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        expect("ulimit -s 512; exec ", lines[i], STATUS_OK, "");
}

static void test_thread_stacks(void **state)
{
    (void)state;
    expect("OMP_STACKSIZE=16k ", UNLEARN "--threads 2", STATUS_MEMORY, "stacks of 16 KB; expected 128 or more (OMP_STACKSIZE)");
    expect("OMP_STACKSIZE=64k ", UNLEARN "--threads 3", STATUS_MEMORY, "stacks of 64 KB; expected 128 or more (OMP_STACKSIZE)");
    expect("OMP_STACKSIZE=128k ", UNLEARN "--threads 2", STATUS_OK, "");
    expect("OMP_STACKSIZE=16k ", UNLEARN "--threads 1", STATUS_OK, "");
}

/* The n-th thread is refused, as by ulimit -u, once and for good. What libgomp does not get it says itself. */
static void test_threads(void **state)
{
    (void)state;
    const char *build = getenv("FLAT_BUILD");
    int refused = 0;
    for (int n = 1; n <= 8; n++)
        for (int for_good = 0; for_good < 2; for_good++) {
            char settings[4200];
            snprintf(settings, sizeof settings, "LD_PRELOAD=%s/libfault.so FLAT_FAULT=thread:%d%s:EAGAIN ",
                     build && *build ? build : "build", n, for_good ? "+" : "");
            const struct end end = run(settings, UNLEARN "--threads 3");
            end_check(&end, settings);
            assert_nothing_left(settings);
            refused += end.status != STATUS_OK;
        }
    assert_true(refused >= 2 * 3);
}

/* The dynamic linker's own line where it finds no room for a library. */
static bool is_linkers(const struct end *end) { return strstr(end->said, "failed to map segment") != NULL; }

static void test_address_space(void **state)
{
    (void)state;
    enum { FIRST_KB = 11000, LAST_KB = 56000, STEP_KB = 1730 };
    int refused = 0, ran = 0;
    for (int kb = FIRST_KB; kb <= LAST_KB; kb += STEP_KB) {
        char settings[64];
        snprintf(settings, sizeof settings, "ulimit -v %d; exec ", kb);
        const struct end end = run(settings, UNLEARN "--threads 2");
        if (is_linkers(&end))
            continue;
        end_check(&end, settings);
        assert_nothing_left(settings);
        if (end.status && end.status != STATUS_MEMORY)
            fail_msg("%s: exit code %d: %s", settings, end.status, end.said);
        refused += end.status == STATUS_MEMORY;
        ran += end.status == STATUS_OK;
    }
    print_message("address space: %d runs ended with exit code 4, %d ran\n", refused, ran);
    assert_true(refused > 0);
}

/* SIGXFSZ is ignored, and a file that may not grow is a failed write. In blocks of 512 bytes; messages need one. */
static void test_file_size(void **state)
{
    (void)state;
    static const int blocks[] = {1, 2, 4, 6, 10, 20, 30, 60};
    int refused = 0;
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        char settings[64];
        snprintf(settings, sizeof settings, "ulimit -f %d; exec ", blocks[i]);
        const struct end end = run(settings, UNLEARN "--threads 1");
        end_check(&end, settings);
        assert_nothing_left(settings);
        if (end.status && !strstr(end.said, "File too large"))
            fail_msg("%s: exit code %d: %s", settings, end.status, end.said);
        refused += end.status != STATUS_OK;
    }
    assert_true(refused > 4);
    expect("ulimit -f 1000; exec ", UNLEARN "--threads 1", STATUS_OK, "");
}

static void test_file_count(void **state)
{
    (void)state;
    int refused = 0;
    for (int files = 4; files <= 12; files++) {
        char settings[64];
        snprintf(settings, sizeof settings, "ulimit -n %d; exec ", files);
        const struct end end = run(settings, UNLEARN "--threads 1");
        if (strstr(end.said, "error while loading shared libraries"))
            continue;
        end_check(&end, settings);
        refused += end.status != STATUS_OK;
        /* a folder that cannot be listed is not emptied: the next run does it */
        struct program_result next = program_line("verify --finish %s/out", temporary);
        program_free(&next);
        assert_nothing_left(settings);
    }
    assert_true(refused > 2);
    expect("ulimit -n 16; exec ", UNLEARN "--threads 1", STATUS_OK, "");
}

int main(void)
{
#ifdef __SANITIZE_ADDRESS__ /* which takes address space and stack by its own measure */
    return 0;
#endif
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_stack),         cmocka_unit_test(test_thread_stacks),
                                       cmocka_unit_test(test_threads),       cmocka_unit_test(test_address_space),
                                       cmocka_unit_test(test_file_size),     cmocka_unit_test(test_file_count)};
    return cmocka_run_group_tests(tests, make, temporary_remove);
}
