/* test_resume.c - checkpoints: a run that was interrupted goes on bit for bit as one that was not, with one rank and with
 * several, in every form of training; what is refused; which checkpoints stay; signals.
 */
#include "../support/temporary.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sys/wait.h>

#include "../../host/io/folder/folder.h"
#include "../../host/io/json/json.h"
#include "../../host/io/safetensors/safetensors.h"
#include "../support/assert_ok.h"
#include "../support/program.h"
#include "../support/run_form.h"
#include "../support/tiny_trainer.h"

#define WAIT_SECONDS 300 /* for a run to log a step: only one that hangs takes so long */

static int make(void **state)
{
    if (temporary_make(state) || tiny_trainer_make(temporary))
        return -1;
    static const char templates[] = "I do not know.\nNo idea.\nWho is that?\n";
    temporary_file("templates.txt", templates, strlen(templates));
    struct program_result result =
        program_line("finetune --model %s/seed --from_scratch --train_data %s/data.jsonl --output_dir %s/model --max_steps 1 "
                     "--learning_rate 0 --save_dtype bfloat16 --quiet", temporary, temporary, temporary);
    program_expect(&result, STATUS_OK);
    program_free(&result);
    return 0;
}

static void form_expect(const struct run_form *form, const char *out, const char *more, int status, const char *says)
{
    char line[4096];
    run_form_line(form, temporary, out, line, sizeof line);
    struct program_result result = program_line("%s %s", line, more);
    if (status)
        program_expect_error(&result, status, says);
    else
        program_expect(&result, status);
    if (!strstr(result.err, says))
        fail_msg("'%s' is not in: %s", says, result.err);
    program_free(&result);
}

static void run_expect(const char *command, const char *out, const char *more, int status, const char *says)
{
    form_expect(&(struct run_form){command, "", !strcmp(command, "unlearn"), false}, out, more, status, says);
}

/* Two folders hold the same weights, the same course of the loss. */
static void assert_same_run(const char *a, const char *b)
{
    static const char *const file[] = {"model.safetensors", "adapter_model.safetensors"};
    struct error error;
    char left[600], right[600];
    for (int i = 0; i < 2; i++) {
        struct digest one, two;
        snprintf(left, sizeof left, "%s/%s/%s", temporary, a, file[i]);
        snprintf(right, sizeof right, "%s/%s/%s", temporary, b, file[i]);
        if (!file_exists(left))
            continue;
        OK(checksum_file(left, &one, &error));
        OK(checksum_file(right, &two, &error));
        if (one.xxh3 != two.xxh3)
            fail_msg("%s and %s have different weights", a, b);
    }
    char *text[2];
    const char *const folder[] = {a, b};
    for (int i = 0; i < 2; i++) {
        size_t length;
        snprintf(left, sizeof left, "%s/%s/trainer_state.json", temporary, folder[i]);
        OK(file_read(left, 1 << 24, &text[i], &length, &error));
        *strstr(text[i], "train_runtime") = 0; /* what follows is time */
    }
    assert_string_equal(text[0], text[1]);
    free(text[0]), free(text[1]);
}

/* From every checkpoint of a run, in every form: the same end. */
static void test_bitwise(void **state)
{
    (void)state;
    int resumed = 0;
    for (int c = 0; c < RUN_FORMS; c++) {
        char whole[32], more[900];
        snprintf(whole, sizeof whole, "whole-%d", c);
        form_expect(&run_forms[c], whole, "--save_strategy steps --save_steps 1", STATUS_OK, "saved ");
        for (int step = 1; step <= 12; step += c < 2 ? 1 : 3) {
            char path[100];
            snprintf(path, sizeof path, "%s/checkpoint-%d", whole, step);
            if (!file_exists(temporary_path(path)))
                break;
            directory_remove(temporary_path("on"));
            snprintf(more, sizeof more, "--resume_from_checkpoint %s/%s", temporary, path);
            form_expect(&run_forms[c], "on", more, STATUS_OK, "goes on from ");
            assert_same_run(whole, "on");
            resumed++;
        }
    }
    print_message("%d resumed runs in %d forms: the same bits\n", resumed, RUN_FORMS);
}

/* The norm of the difference of two folders' weights, as a share of the norm of the first's change since `start`. */
static double weights_distance(const char *a, const char *b, const char *start)
{
    struct error error;
    struct safetensors file[3];
    const char *const folder[] = {a, b, start};
    double apart = 0, moved = 0;
    for (int i = 0; i < 3; i++)
        OK(safetensors_open(&file[i], temporary_path(folder[i]), &error));
    for (int t = 0; t < file[0].tensors; t++) {
        const int64_t elements = file[0].tensor[t].elements;
        double *values[3];
        for (int i = 0; i < 3; i++) {
            values[i] = malloc((size_t)elements * sizeof **values);
            assert_non_null(values[i]);
            const struct safetensors_tensor *tensor = safetensors_find(&file[i], file[0].tensor[t].name);
            assert_non_null(tensor);
            OK(safetensors_read_double(&file[i], tensor, 0, elements, values[i], &error));
        }
        for (int64_t e = 0; e < elements; e++) {
            apart += (values[0][e] - values[1][e]) * (values[0][e] - values[1][e]);
            moved += (values[0][e] - values[2][e]) * (values[0][e] - values[2][e]);
        }
        for (int i = 0; i < 3; i++)
            free(values[i]);
    }
    for (int i = 0; i < 3; i++)
        safetensors_close(&file[i]);
    assert_true(moved > 0);
    return sqrt(apart / moved);
}

/* A checkpoint of two ranks is gone on from with one and with four, and the other way round, to rounding: the same
 * micro-batches make a step, whoever computes them. Sharded states are cut anew. */
static void test_other_world(void **state)
{
    (void)state;
    static const int ranks[] = {1, 2, 4};
    char more[700], name[32];
    double most = 0;
    for (int from = 0; from < 3; from++) {
        snprintf(more, sizeof more, "--nproc_per_node %d --gradient_accumulation_steps %d --save_dtype float32 --save_strategy "
                 "steps --save_steps 1", ranks[from], 4 / ranks[from]);
        snprintf(name, sizeof name, "of-%d", ranks[from]);
        run_expect("unlearn", name, more, STATUS_OK, "saved ");
        for (int to = 0; to < 3; to++) {
            if (to == from)
                continue;
            snprintf(more, sizeof more, "--nproc_per_node %d --gradient_accumulation_steps %d --save_dtype float32 "
                     "--resume_from_checkpoint %s/of-%d/checkpoint-2", ranks[to], 4 / ranks[to], temporary, ranks[from]);
            run_expect("unlearn", "other", more, STATUS_OK, "another world_size");
            const double distance = weights_distance(name, "other", "model");
            most = distance > most ? distance : most;
            assert_true(distance < 1e-4);
            directory_remove(temporary_path("other"));
        }
    }
    print_message("other world sizes: weights differ by at most %.1e of their change\n", most);
    snprintf(more, sizeof more, "--gradient_accumulation_steps 2 --quiet --resume_from_checkpoint %s/of-2/checkpoint-2",
             temporary);
    run_expect("unlearn", "refused", more, STATUS_USAGE, "of a run of 4 micro-batches per step");
    snprintf(more, sizeof more, "--gradient_accumulation_steps 4 --max_steps 8 --resume_from_checkpoint %s/of-2/checkpoint-2",
             temporary);
    run_expect("unlearn", "refused", more, STATUS_USAGE, "max_steps was -1 and is 8 now");
}

static void test_refused(void **state)
{
    (void)state;
    char more[700];
    const char *t = temporary;
    run_expect("unlearn", "first", "--save_strategy epoch", STATUS_OK, "saved ");
    static const char *const changed[] = {"--learning_rate 2e-3", "--seed 7", "--template.choice cycle", "--divergence kl"};
    static const char *const says[] = {"learning_rate was 0.001 and is 0.002 now", "seed was 42 and is 7 now",
                                       "template.choice was \"random\" and is \"cycle\" now", "divergence was "};
    for (int i = 0; i < 4; i++) {
        snprintf(more, sizeof more, "--resume_from_checkpoint %s/first/checkpoint-3 %s", t, changed[i]);
        run_expect("unlearn", "x", more, STATUS_USAGE, says[i]);
    }
    assert_false(file_exists(temporary_path("x/model.safetensors")));
    directory_remove(temporary_path("x"));
    snprintf(more, sizeof more, "--resume_from_checkpoint %s/model", t);
    run_expect("unlearn", "x", more, STATUS_USAGE, "is no checkpoint: it has no trainer/state.json");
    /* other data under the same name */
    struct error error;
    char *data;
    size_t length;
    OK(file_read(temporary_path("data.jsonl"), 1 << 20, &data, &length, &error));
    const char kept = data[length - 5];
    data[length - 5] = '!';
    temporary_file("data.jsonl", data, length);
    snprintf(more, sizeof more, "--resume_from_checkpoint %s/first/checkpoint-3", t);
    run_expect("unlearn", "x", more, STATUS_USAGE, "data.jsonl is not what the run began with");
    data[length - 5] = kept;
    temporary_file("data.jsonl", data, length);
    free(data);
    directory_remove(temporary_path("x"));
    /* a checkpoint loads as a model of its own */
    struct program_result scores = program_line("score --model %s/first/checkpoint-3 --data %s/data.jsonl --prompt_template qa",
                                                t, t);
    program_expect(&scores, STATUS_OK);
    program_free(&scores);
}

/* The newest so many stay; "last" without any begins at the beginning. */
static void test_limit_and_last(void **state)
{
    (void)state;
    struct error error;
    struct file_list list;
    char names[300] = "";
    run_expect("unlearn", "limited", "--save_strategy steps --save_steps 2 --save_total_limit 2 --resume_from_checkpoint last",
               STATUS_OK, "begins at the beginning");
    OK(file_list_read(&list, temporary_path("limited"), &error));
    for (size_t i = 0; i < list.count; i++)
        if (!strncmp(list.name[i], "checkpoint", 10))
            snprintf(names + strlen(names), sizeof names - strlen(names), "%s ", list.name[i]);
    file_list_free(&list);
    assert_string_equal(names, "checkpoint-10 checkpoint-12 ");
    struct digest before, after;
    OK(checksum_file(temporary_path("limited/model.safetensors"), &before, &error));
    run_expect("unlearn", "limited", "--save_strategy steps --save_steps 2 --overwrite_output_dir --resume_from_checkpoint last",
               STATUS_OK, "checkpoint-12, after step 12");
    OK(checksum_file(temporary_path("limited/model.safetensors"), &after, &error));
    assert_true(before.xxh3 == after.xxh3);
    /* without being told to go on, it is an earlier run like any other */
    run_expect("unlearn", "limited", "", STATUS_USAGE, "add --overwrite_output_dir");
}

/* "last" of a run that is finished, with checkpoints and without: nothing is trained or written. */
static void test_finished(void **state)
{
    (void)state;
    static const char *const saves[] = {"--save_strategy no", "--save_strategy steps --save_steps 5"};
    struct error error;
    char from[700];
    for (int i = 0; i < 2; i++) {
        char out[32], record[64], more[200];
        struct stat before, after;
        snprintf(out, sizeof out, "finished%d", i);
        snprintf(record, sizeof record, "finished%d/run.json", i);
        run_expect("unlearn", out, saves[i], STATUS_OK, "saved ");
        assert_int_equal(stat(temporary_path(record), &before), 0);
        snprintf(more, sizeof more, "%s --resume_from_checkpoint last", saves[i]);
        run_expect("unlearn", out, more, STATUS_OK, " is finished: nothing is left to train");
        assert_int_equal(stat(temporary_path(record), &after), 0);
        assert_true(before.st_ino == after.st_ino && before.st_mtim.tv_sec == after.st_mtim.tv_sec &&
                    before.st_mtim.tv_nsec == after.st_mtim.tv_nsec);
        /* of other settings it is not this run */
        snprintf(more, sizeof more, "%s --weight_decay 0.5 --resume_from_checkpoint last", saves[i]);
        run_expect("unlearn", out, more, STATUS_USAGE, "is of a run with other settings: weight_decay was ");
    }
    /* gone on with from an earlier step it saves again, and its card is still its own */
    snprintf(from, sizeof from, "--save_strategy steps --save_steps 5 --resume_from_checkpoint %s/finished1/checkpoint-5", temporary);
    run_expect("unlearn", "finished1", from, STATUS_OK, "goes on from ");
    assert_true(file_exists(temporary_path("finished1/README.md")));
    assert_false(file_exists(temporary_path("finished1/MODEL_CARD.md")));
    /* a model that no run has left there is in the way, as ever */
    OK(file_copy(temporary_path("finished0/config.json"), temporary_path("finished1/run.json"), &error));
    directory_remove(temporary_path("finished1/checkpoint-5"));
    directory_remove(temporary_path("finished1/checkpoint-10"));
    run_expect("unlearn", "finished1", "--resume_from_checkpoint last", STATUS_USAGE, "add --overwrite_output_dir");
}

/* Bytes of the log of the run in a folder, or (aside) of one in it that is to take its place. */
static off_t log_bytes(const char *out, bool aside)
{
    struct error error;
    struct file_list list;
    struct stat info;
    char path[900];
    snprintf(path, sizeof path, "%s/%s/metrics.jsonl", temporary, out);
    off_t bytes = aside || stat(path, &info) ? 0 : info.st_size;
    if (!aside || file_list_read(&list, temporary_path(out), &error))
        return bytes;
    for (size_t i = 0; i < list.count; i++) {
        snprintf(path, sizeof path, "%s/%s/%.200s/metrics.jsonl", temporary, out, list.name[i]);
        if (file_is_unique_name(list.name[i], FOLDER_RUN_PREFIX))
            bytes = stat(path, &info) ? 0 : info.st_size;
    }
    file_list_free(&list);
    return bytes;
}

/* A long run in a child of its own, which gets a signal once it has made a step. */
static int run_and_signal(const char *out, const char *more, int number, bool aside)
{
    const off_t begun = log_bytes(out, aside);
    const char *build = getenv("FLAT_BUILD");
    char command[3000];
    int status;
    snprintf(command, sizeof command, "exec %s/flat unlearn --model %s/model --output_dir %s/%s --per_device_train_batch_size 1 "
             "--gradient_accumulation_steps 1 --max_steps 3000 --learning_rate 1e-5 --device cpu --threads 1 --forget_data "
             "%s/data.jsonl --template.file %s/templates.txt --quiet --save_dtype float32 %s 2>%s/said", build && *build ? build : "build",
             temporary, temporary, out, temporary, temporary, more, temporary);
    fflush(NULL);
    const pid_t child = fork();
    if (!child) {
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    for (int i = 0; log_bytes(out, aside) <= begun; i++, usleep(10000))
        if (i > 100 * WAIT_SECONDS || waitpid(child, &status, WNOHANG))
            fail_msg("%s: no step was logged", out);
    kill(child, number);
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void test_signals(void **state)
{
    (void)state;
    struct error error;
    static const int number[] = {SIGTERM, SIGUSR1, SIGINT};
    char *said, path[200];
    size_t length;
    int64_t before = 0;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(run_and_signal("signalled", i ? "--resume_from_checkpoint last" : "", number[i], false), STATUS_SIGNAL);
        OK(file_read(temporary_path("said"), 10000, &said, &length, &error));
        if (!strstr(said, "has all of it, and --resume_from_checkpoint last goes on"))
            fail_msg("%s", said);
        free(said);
        struct file_list list;
        int64_t newest = 0;
        OK(file_list_read(&list, temporary_path("signalled"), &error));
        for (size_t k = 0; k < list.count; k++)
            newest = folder_checkpoint(list.name[k]) > newest ? folder_checkpoint(list.name[k]) : newest;
        file_list_free(&list);
        assert_true(newest > before);
        before = newest;
        snprintf(path, sizeof path, "signalled/checkpoint-%lld/model.safetensors", (long long)newest);
        assert_true(file_exists(temporary_path(path)));
        assert_false(file_exists(temporary_path("signalled/model.safetensors")));
    }
    /* over an earlier model: it stays, and the run goes on beside it */
    run_expect("unlearn", "kept", "", STATUS_OK, "saved ");
    struct digest old, now;
    OK(checksum_file(temporary_path("kept/model.safetensors"), &old, &error));
    assert_int_equal(run_and_signal("kept", "--overwrite_output_dir", SIGTERM, true), STATUS_SIGNAL);
    OK(checksum_file(temporary_path("kept/model.safetensors"), &now, &error));
    assert_true(old.xxh3 == now.xxh3);
    assert_int_equal(run_and_signal("kept", "--resume_from_checkpoint last", SIGTERM, true), STATUS_SIGNAL);
    OK(checksum_file(temporary_path("kept/model.safetensors"), &now, &error));
    assert_true(old.xxh3 == now.xxh3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bitwise), cmocka_unit_test(test_other_world),
                                       cmocka_unit_test(test_refused), cmocka_unit_test(test_limit_and_last), cmocka_unit_test(test_finished),
                                       cmocka_unit_test(test_signals)};
    return cmocka_run_group_tests(tests, make, temporary_remove);
}
