/* test_kills.c - whole runs with checkpoints under a preloaded library that kills them before a system call, or lets it fail:
 * what stands in output_dir loads as the old or the new model or not at all, nothing is lost, and the same command with
 * --resume_from_checkpoint last ends with the weights of a run that was never interrupted.
 */
#include "../support/temporary.h"

#include <signal.h>

#include "../../host/io/folder/folder.h"
#include "../support/assert_ok.h"
#include "../support/program.h"
#include "../support/run_form.h"
#include "../support/tiny_trainer.h"

/* A model of three shards, which two steps and two checkpoints of a run change. */
static int make(void **state)
{
    if (temporary_make(state) || tiny_trainer_make(temporary))
        return -1;
    static const char templates[] = "I do not know.\nNo idea.\nWho is that?\n";
    temporary_file("templates.txt", templates, strlen(templates));
    return 0;
}

static const char line[] = "finetune --model %s/model --train_data %s/data.jsonl --output_dir %s/%s --max_steps 3 "
                           "--per_device_train_batch_size 1 --gradient_accumulation_steps 1 --save_strategy steps --save_steps 1 "
                           "--save_total_limit 2 --device cpu --threads 1 --quiet --resume_from_checkpoint last %s";

/* With a form: that one, else a finetune with three checkpoints. */
static struct program_result run_as(const struct run_form *form, const char *out, const char *faults, const char *more)
{
    const char *build = getenv("FLAT_BUILD");
    char library[4096], formed[4096];
    if (faults) {
        snprintf(library, sizeof library, "%s/libfault.so", build && *build ? build : "build");
        setenv("LD_PRELOAD", library, 1);
        setenv("FLAT_FAULT", faults, 1);
        setenv("FLAT_FAULT_COUNT", temporary_path("counts"), 1);
    }
    struct program_result result;
    if (form) {
        run_form_line(form, temporary, out, formed, sizeof formed);
        result = program_line("%s --save_strategy steps --save_steps 1 --quiet --resume_from_checkpoint last", formed);
    } else
        result = program_line(line, temporary, temporary, temporary, out, more);
    unsetenv("LD_PRELOAD");
    unsetenv("FLAT_FAULT");
    unsetenv("FLAT_FAULT_COUNT");
    return result;
}

static struct program_result run(const char *out, const char *faults, const char *more)
{
    return run_as(NULL, out, faults, more);
}

static uint64_t weights_of(const char *out)
{
    struct error error;
    struct digest digest;
    char path[600];
    snprintf(path, sizeof path, "%s/%s/model.safetensors", temporary, out);
    if (!file_exists(path))
        snprintf(path, sizeof path, "%s/%s/adapter_model.safetensors", temporary, out);
    return checksum_file(path, &digest, &error) ? 0 : digest.xxh3;
}

static long calls_of(const char *call)
{
    struct error error;
    char *text, wanted[32];
    size_t length;
    OK(file_read(temporary_path("counts"), 4096, &text, &length, &error));
    snprintf(wanted, sizeof wanted, "%s ", call);
    const char *at = strstr(text, wanted);
    const long count = at ? atol(at + strlen(wanted)) : 0;
    free(text);
    return count;
}

/* Of the calls of a run, so many are tried; FLAT_TRIES sets another number. */
static long tries(void)
{
    const char *text = getenv("FLAT_TRIES");
    return text && atol(text) > 0 ? atol(text) : 25;
}

static void goes_on(const struct run_form *form, const char *out, const char *more, uint64_t whole, const char *when)
{
    struct error error;
    struct file_list list;
    struct program_result again = run_as(form, out, NULL, more);
    if (again.status)
        fail_msg("%s: the restart ends with %d: %s", when, again.status, again.err);
    program_free(&again);
    if (weights_of(out) != whole)
        fail_msg("%s: the restart ends with other weights", when);
    OK(file_list_read(&list, temporary_path(out), &error));
    for (size_t i = 0; i < list.count; i++)
        if (list.name[i][0] == '.' || strstr(list.name[i], ".tmp-"))
            fail_msg("%s: %s is left", when, list.name[i]);
    file_list_free(&list);
}

/* What stands in the folder before the run: nothing, another model, or all that the same run has left when it ended. */
enum before { NOTHING, ANOTHER, SAME };

static void check(const char *what, const char *more, enum before over)
{
    long stopped = 0, done = 0;
    char faults[64];
    struct program_result result = run("whole", "", more);
    program_expect(&result, STATUS_OK);
    program_free(&result);
    const uint64_t whole = weights_of("whole");
    const long calls = calls_of("any"), step = calls / tries() + 1;
    struct program_result old = run("old", NULL, "--seed 7");
    program_expect(&old, STATUS_OK);
    program_free(&old);
    const uint64_t before = weights_of("old");
    assert_true(whole != before && whole && before);
    for (long n = 1; n <= calls; n += step) {
        directory_remove(temporary_path("out"));
        if (over) {
            result = run("out", NULL, over == SAME ? more : "--seed 7 --save_strategy no");
            program_expect(&result, STATUS_OK);
            program_free(&result);
        }
        snprintf(faults, sizeof faults, "any:%ld:%s", n, what);
        result = run("out", faults, more);
        const uint64_t found = weights_of("out");
        if (result.status != 128 + SIGKILL && (result.status == 5 || result.status > 6))
            fail_msg("%s: exit code %d: %s", faults, result.status, result.err);
        if (found && found != whole && (over != ANOTHER || found != before))
            fail_msg("%s: other weights", faults);
        if (over && !found)
            fail_msg("%s: the old model is gone", faults);
        stopped += result.status != 0;
        done += !result.status;
        program_free(&result);
        goes_on(NULL, "out", more, whole, faults);
    }
    directory_remove(temporary_path("whole"));
    directory_remove(temporary_path("old"));
    print_message("%s%s: %ld runs stopped at one of %ld calls, %ld not; every restart ends with the same weights\n", what,
                  over == SAME ? " going on from the end" : over ? " over another model" : "", stopped, calls, done);
}

static void test_killed(void **state)
{
    (void)state;
    struct program_result made = program_line(
        "finetune --model %s/seed --from_scratch --train_data %s/data.jsonl --output_dir %s/model --max_steps 1 --learning_rate 0 "
        "--save_dtype float32 --quiet", temporary, temporary, temporary);
    program_expect(&made, STATUS_OK);
    program_free(&made);
    check("kill", "", NOTHING);
    check("kill", "--overwrite_output_dir", ANOTHER);
    check("kill", "", SAME);
}

static void test_failing(void **state)
{
    (void)state;
    check("EIO", "", NOTHING);
    check("ENOSPC", "--overwrite_output_dir", ANOTHER);
}

/* Every form of training, all its processes killed at a call that is drawn, and again on the way back: 2 points of each
 * form, a fifth of FLAT_TRIES when that is given. */
static void test_forms(void **state)
{
    (void)state;
    const long points = getenv("FLAT_TRIES") ? (tries() + 4) / 5 : 2;
    uint32_t draw = 20261129;
    long killed = 0, calls = 0;
    for (int f = 0; f < RUN_FORMS; f++) {
        const struct run_form *form = &run_forms[f];
        struct program_result result = run_as(form, "whole", "", "");
        program_expect(&result, STATUS_OK);
        program_free(&result);
        const uint64_t whole = weights_of("whole");
        assert_true(whole);
        if (!strstr(form->more, "nproc_per_node")) /* of several processes the last to end is counted, the launcher */
            calls = calls_of("any");
        for (long point = 0; point < points; point++) {
            char faults[64];
            directory_remove(temporary_path("out"));
            for (int again = 0; again < 2; again++) {
                draw = draw * 1664525 + 1013904223;
                snprintf(faults, sizeof faults, "any:%ld:kill", 1 + (long)(draw >> 8) % calls);
                result = run_as(form, "out", faults, "");
                if (result.status && result.status != 128 + SIGKILL && result.status != STATUS_PEER)
                    fail_msg("form %d, %s: exit code %d: %s", f, faults, result.status, result.err);
                killed += result.status != 0;
                program_free(&result);
            }
            goes_on(form, "out", "", whole, faults);
        }
        directory_remove(temporary_path("whole"));
    }
    print_message("%ld kills of runs in %d forms: every restart ends with the same weights\n", killed, RUN_FORMS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_killed), cmocka_unit_test(test_failing), cmocka_unit_test(test_forms)};
    return cmocka_run_group_tests(tests, make, temporary_remove);
}
