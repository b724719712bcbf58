/* test_early_stopping.c - runs that end when a measurement says so, and folders that hold the best model: by the rule itself, and
 * by whole runs whose folder is what was measured; on ranks, with adapters, and after an interruption.
 */
#include "../support/temporary.h"

#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../host/io/json/json.h"
#include "../../host/train/early_stopping.h"
#include "../../host/util/file.h"
#include "../support/eval_model.h"
#include "../support/program.h"

static int make(void **state)
{
    return temporary_make(state) || eval_model_make(temporary_path("model")) ? -1 : 0;
}

/* ---- the rule ---- */

static struct early_stopping rule(const struct early_stopping_options *options, const double *values, int count)
{
    struct early_stopping stopping;
    early_stopping_init(&stopping, options);
    for (int i = 0; i < count && !stopping.reason; i++)
        early_stopping_take(&stopping, i + 1, values[i]);
    return stopping;
}

static void test_rule(void **state)
{
    (void)state;
    static const struct {
        const char *metric;
        enum early_stopping_mode mode;
        double threshold;
        int64_t patience;
        double min_delta, values[6];
        int count;
        enum stop_reason reason;
        int64_t best_step;
        double last;
    } cases[] = {
        {"eval_forget_prob_mean", STOPPING_AUTO, 0.3, 0, 0, {0.5, 0.3, 0.1}, 3, STOP_THRESHOLD, 2, 0.3},
        {"eval_forget_loss", STOPPING_AUTO, 3, 0, 0, {1, 2, 3.5, 9}, 4, STOP_THRESHOLD, 3, 3.5},
        {"eval_kept_prob_mean", STOPPING_AUTO, -1, 2, 0, {0.5, 0.6, 0.6, 0.4, 0.9}, 5, STOP_PATIENCE, 2, 0.4},
        {"eval_kept_loss", STOPPING_AUTO, -1, 2, 0, {3, 2, 2.5, 1.9, 2}, 5, STOP_NOT, 4, 2},
        {"eval_kept_loss", STOPPING_AUTO, -1, 2, 0.2, {3, 2, 2.5, 1.9, 2}, 5, STOP_PATIENCE, 2, 1.9},
        {"eval_kept_prob_mean", STOPPING_MIN, 0.4, 0, 0, {0.9, 0.5, 0.39}, 3, STOP_THRESHOLD, 3, 0.39}, /* a budget */
        {"eval_kept_prob_mean", STOPPING_AUTO, -1, 3, 0, {NAN, 0.5, INFINITY, NAN, NAN}, 5, STOP_PATIENCE, 2, NAN},
        {"eval_kept_prob_mean", STOPPING_AUTO, 0.1, 2, 0, {NAN, NAN}, 2, STOP_PATIENCE, 0, NAN},
        {"eval_a_loss_b_prob_mean", STOPPING_MAX, -1, 1, 0, {0.1, 0.2}, 2, STOP_NOT, 2, 0.2},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const struct early_stopping_options options = {cases[c].metric, cases[c].mode, cases[c].threshold, cases[c].patience,
                                                       cases[c].min_delta, false};
        struct early_stopping stopping = rule(&options, cases[c].values, cases[c].count), read;
        if (stopping.reason != cases[c].reason || stopping.best_step != cases[c].best_step ||
            !(stopping.last == cases[c].last || (isnan(stopping.last) && isnan(cases[c].last))))
            fail_msg("case %zu: %s, best of step %lld, last %g", c, early_stopping_reason(&stopping),
                     (long long)stopping.best_step, stopping.last);
        /* there and back, as a checkpoint keeps it */
        struct error error = {0};
        cJSON *json = cJSON_CreateObject();
        assert_true(early_stopping_add_state(&stopping, json));
        early_stopping_init(&read, &options);
        assert_int_equal(early_stopping_get_state(&read, json, "state", &error), STATUS_OK);
        assert_true(read.best_step == stopping.best_step && read.waited == stopping.waited && read.reason == stopping.reason);
        assert_true(read.best == stopping.best || (isnan(read.best) && isnan(stopping.best)));
        cJSON_Delete(json);
    }
    struct early_stopping named;
    early_stopping_init(&named, &(struct early_stopping_options){.metric = "eval_a_loss_b_prob_mean"});
    assert_string_equal(named.set, "a_loss_b");
}

/* ---- runs ---- */

#define UNLEARN "unlearn --model %s/model --forget_data " EVAL "/qa_forget.jsonl --template.file " EVAL "/refusals.txt " \
                "--num_train_epochs 4 --per_device_train_batch_size 2 --gradient_accumulation_steps 1 --learning_rate 3e-4 " \
                "--prompt_template qa --device cpu --save_dtype float32 --final_eval_rows 0 --eval_strategy steps " \
                "--eval_data kept=" EVAL "/tofu/retain_perturbed.json --eval_steps 1 "
/* What unlearning costs: the set that should stay is at its best after the first step. */
#define BEST "--early_stopping_metric eval_kept_prob_mean --load_best_model_at_end "

static void run_expect(int status, const char *says, const char *more, ...)
{
    char line[4000], whole[5000];
    va_list arguments;
    va_start(arguments, more);
    vsnprintf(line, sizeof line, more, arguments);
    va_end(arguments);
    snprintf(whole, sizeof whole, UNLEARN "%s", temporary, line);
    struct program_result result = program_line("%s", whole);
    if (status)
        program_expect_error(&result, status, says);
    else
        program_expect(&result, STATUS_OK);
    if (!strstr(result.err, says))
        fail_msg("'%s' is not in: %s", says, result.err);
    program_free(&result);
}

static cJSON *json_of(const char *name)
{
    struct error error = {0};
    cJSON *json = json_read(temporary_path(name), &error);
    if (!json)
        fail_msg("%s", error.text);
    return json;
}

/* The bytes of a folder's weights behind their header, which names run and step. */
static char *weights_of(const char *folder, const char *file, size_t *length)
{
    char name[600], *bytes;
    struct error error = {0};
    uint64_t header;
    snprintf(name, sizeof name, "%s/%s/%s", temporary, folder, file);
    if (file_read(name, 1 << 24, &bytes, length, &error))
        fail_msg("%s", error.text);
    memcpy(&header, bytes, sizeof header);
    *length -= 8 + header;
    memmove(bytes, bytes + 8 + header, *length);
    return bytes;
}

static bool weights_equal(const char *one, const char *other, const char *file)
{
    size_t a_length, b_length;
    char *a = weights_of(one, file, &a_length), *b = weights_of(other, file, &b_length);
    const bool equal = a_length == b_length && !memcmp(a, b, a_length);
    free(a);
    free(b);
    return equal;
}

/* The last line of metrics.jsonl; and in *value the figure that was measured of a set at a step. */
static cJSON *metrics_of(const char *folder, const char *set, int step, double *value)
{
    char name[600], *text;
    size_t length;
    struct error error = {0};
    cJSON *last = NULL;
    snprintf(name, sizeof name, "%s/%s/metrics.jsonl", temporary, folder);
    assert_int_equal(file_read(name, 1 << 24, &text, &length, &error), STATUS_OK);
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        cJSON_Delete(last);
        last = json_parse(line, (size_t)(end - line), name, &error);
        const cJSON *eval = json_member(last, "eval");
        if (eval && !strcmp(eval->valuestring, set) && json_member(last, "step")->valueint == step)
            *value = json_member(last, "prob_mean")->valuedouble;
    }
    free(text);
    return last;
}

static bool has(const char *folder, const char *name)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s/%s", temporary, folder, name);
    return file_exists(path);
}

/* What run.json says of the end of a run. */
static void result_expect(const char *folder, int step, int steps, const char *reason, int best_step)
{
    char name[100];
    snprintf(name, sizeof name, "%s/run.json", folder);
    cJSON *run = json_of(name);
    const cJSON *result = json_member(run, "result"), *stopping = json_member(result, "early_stopping");
    double value = NAN;
    cJSON *last = metrics_of(folder, "kept", best_step, &value);
    assert_int_equal(json_member(result, "step")->valueint, step);
    assert_int_equal(json_member(result, "steps")->valueint, steps);
    assert_string_equal(json_member(stopping, "stop_reason")->valuestring, reason);
    assert_int_equal(json_member(stopping, "best_step")->valueint, best_step);
    assert_string_equal(json_member(last, "stop_reason")->valuestring, reason);
    assert_int_equal(json_member(last, "step")->valueint, steps);
    assert_int_equal(json_member(last, "saved_step")->valueint, step);
    if (strstr(json_member(stopping, "metric")->valuestring, "kept_prob"))
        assert_true(json_member(stopping, "best")->valuedouble == value);
    cJSON_Delete(last);
    cJSON_Delete(run);
}

/* The run ends at the first measurement at or below the threshold, as one of so many steps would. */
static void test_threshold(void **state)
{
    (void)state;
    double value = NAN, before = NAN;
    run_expect(STATUS_OK, "early_stopping_threshold: eval_forget_prob_mean has not come to 0",
               "--early_stopping_metric eval_forget_prob_mean --early_stopping_threshold 0 --save_strategy steps --save_steps 1 "
               "--logging_steps 3 --output_dir %s/whole", temporary);
    result_expect("whole", 8, 8, "steps", 8);
    cJSON_Delete(metrics_of("whole", "forget", 5, &value));
    cJSON_Delete(metrics_of("whole", "forget", 4, &before));
    assert_true(value < before); /* it is forgotten step by step */
    char says[100];
    snprintf(says, sizeof says, "ended after step 5 of 8: eval_forget_prob_mean is %.4g", value);
    run_expect(STATUS_OK, says, "--early_stopping_metric eval_forget_prob_mean --early_stopping_threshold %.17g "
               "--logging_steps 3 --output_dir %s/ends", value, temporary);
    result_expect("ends", 5, 5, "threshold", 5);
    assert_true(weights_equal("ends", "whole/checkpoint-5", "model.safetensors"));
    cJSON *trainer = json_of("ends/trainer_state.json");
    const cJSON *history = json_member(trainer, "log_history");
    assert_int_equal(cJSON_GetArraySize(history), 3); /* steps 1 to 3, the open window of 4 and 5, the summary */
    assert_int_equal(json_member(cJSON_GetArrayItem(history, 1), "step")->valueint, 5);
    assert_int_equal(json_member(trainer, "global_step")->valueint, 5);
    assert_true(json_member(trainer, "best_metric")->valuedouble == value);
    cJSON_Delete(trainer);
    run_expect(STATUS_OK, "is 0.",
               "--early_stopping_metric eval_forget_prob_mean --early_stopping_threshold 1 --output_dir %s/at_once", temporary);
    result_expect("at_once", 1, 1, "threshold", 1);
}

/* What the folder holds is the best: in its bytes, in what run.json measured, in what is printed. */
static void test_best(void **state)
{
    (void)state;
    static const struct {
        const char *name, *form, *file;
    } cases[] = {
        {"full", "", "model.safetensors"},
        {"lora", "--lora.r 2 --learning_rate 1e-2", "model.safetensors"},
        {"adapter", "--lora.r 2 --lora.output adapter --learning_rate 1e-2 --save_dtype as_read", "adapter_model.safetensors"},
        {"ranks", "--nproc_per_node 2", "model.safetensors"},
        {"zero", "--nproc_per_node 2 --zero 0", "model.safetensors"},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        char kept[64], checkpoint[80], last[80];
        snprintf(kept, sizeof kept, "%s-kept", cases[c].name);
        run_expect(STATUS_OK, "what is saved is the model of step ", BEST "%s --save_strategy steps --save_steps 1 --output_dir %s/%s",
                   cases[c].form, temporary, kept);
        char name[100];
        snprintf(name, sizeof name, "%s/run.json", kept);
        cJSON *run = json_of(name);
        const int best = json_member(json_member(run, "result"), "step")->valueint,
                  steps = json_member(run, "total_steps")->valueint;
        cJSON_Delete(run);
        assert_in_range(best, 1, steps - 2);
        result_expect(kept, best, steps, "steps", best);
        snprintf(checkpoint, sizeof checkpoint, "%s/checkpoint-%d", kept, best);
        snprintf(last, sizeof last, "%s/checkpoint-%d", kept, steps);
        assert_true(weights_equal(kept, checkpoint, cases[c].file));
        assert_false(weights_equal(kept, last, cases[c].file));
        /* without checkpoints of its own the best is kept as one until the end, and no longer; patience ends the run */
        run_expect(STATUS_OK, "was not better than", BEST "--early_stopping_patience 2 %s --output_dir %s/%s", cases[c].form,
                   temporary, cases[c].name);
        result_expect(cases[c].name, best, best + 2, "patience", best);
        assert_true(weights_equal(kept, cases[c].name, cases[c].file));
        for (int step = 1; step <= 8; step++) {
            snprintf(name, sizeof name, "checkpoint-%d", step);
            assert_false(has(cases[c].name, name));
        }
    }
    /* what run.json says was measured is of the folder, and not of the last step */
    cJSON *run = json_of("full/run.json");
    const double said = json_member(json_member(run, "result"), "prob_forget")->valuedouble;
    cJSON_Delete(run);
    struct program_result scores = program_line("score --model %s/full --data " EVAL "/qa_forget.jsonl --prompt_template qa",
                                                temporary);
    double sum = 0;
    int rows = 0;
    program_expect(&scores, STATUS_OK);
    for (const char *line = scores.out; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL, rows++) {
        struct error error;
        cJSON *row = json_parse(line, strcspn(line, "\n"), "scores", &error);
        sum += json_member(row, "prob_mean")->valuedouble;
        cJSON_Delete(row);
    }
    program_free(&scores);
    assert_true(fabs(said - sum / rows) <= 1e-6 * said);
}

/* save_total_limit counts the others: the best stays among them, and goes only for a better one. */
static void test_limit(void **state)
{
    (void)state;
    run_expect(STATUS_OK, "", BEST "--save_strategy steps --save_steps 2 --save_total_limit 1 --output_dir %s/limit", temporary);
    cJSON *run = json_of("limit/run.json");
    const int best = json_member(json_member(run, "result"), "step")->valueint;
    cJSON_Delete(run);
    char name[64];
    for (int step = 1; step <= 8; step++) {
        snprintf(name, sizeof name, "checkpoint-%d", step);
        assert_int_equal(has("limit", name), step == 8 || step == best);
    }
    /* a finished run that is gone on with ends as it did */
    run_expect(STATUS_OK, "goes on from ", BEST "--save_strategy steps --save_steps 2 --save_total_limit 1 --output_dir %s/limit "
               "--resume_from_checkpoint %s/limit/checkpoint-8", temporary, temporary);
    result_expect("limit", best, 8, "steps", best);
}

/* From every checkpoint, and after a signal: the same end, the best kept. */
static void test_resume(void **state)
{
    (void)state;
    run_expect(STATUS_OK, "", BEST "--early_stopping_patience 4 --save_strategy steps --save_steps 1 --output_dir %s/first",
               temporary);
    cJSON *run = json_of("first/run.json");
    const cJSON *result = json_member(run, "result");
    const int best = json_member(result, "step")->valueint, steps = json_member(result, "steps")->valueint;
    cJSON_Delete(run);
    assert_true(steps < 8);
    run_expect(STATUS_OK, "", BEST "--early_stopping_patience 4 --output_dir %s/alone", temporary);
    for (int step = 1; step <= steps; step++) { /* the last one had ended already */
        run_expect(STATUS_OK, "goes on from ", BEST "--early_stopping_patience 4 --save_strategy steps --save_steps 1 --output_dir "
                   "%s/first --resume_from_checkpoint %s/first/checkpoint-%d", temporary, temporary, step);
        result_expect("first", best, steps, "patience", best);
        assert_true(weights_equal("first", "alone", "model.safetensors"));
    }
    char says[100];
    snprintf(says, sizeof says, "the best model so far is of step %d", best);
    run_expect(STATUS_USAGE, says, BEST "--early_stopping_patience 4 --output_dir %s/else --resume_from_checkpoint "
               "%s/first/checkpoint-%d", temporary, temporary, steps);
}

/* A signal in the middle leaves the best and the newest; going on ends where the run without it ends. */
static void test_signal(void **state)
{
    (void)state;
    const char *build = getenv("FLAT_BUILD");
    char command[4000], metrics[600];
    int status;
    snprintf(metrics, sizeof metrics, "%s/signal/metrics.jsonl", temporary);
    snprintf(command, sizeof command, "exec %s/flat " UNLEARN BEST "--max_steps 300 --output_dir %s/signal 2>%s/said >&2",
             build && *build ? build : "build", temporary, temporary, temporary);
    fflush(NULL);
    const pid_t child = fork();
    if (!child) {
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    double seen = NAN;
    for (int i = 0; i < 60000 && !(seen > 0); i++) {
        usleep(5000);
        if (file_exists(metrics))
            cJSON_Delete(metrics_of("signal", "kept", 2, &seen));
    }
    assert_true(seen > 0);
    kill(child, SIGTERM);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == STATUS_OK) {
        print_message("the run was over before the signal came\n");
        skip();
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == STATUS_SIGNAL);
    assert_false(has("signal", "model.safetensors"));
    run_expect(STATUS_OK, "goes on from ", BEST "--max_steps 300 --output_dir %s/signal --resume_from_checkpoint last", temporary);
    run_expect(STATUS_OK, "", BEST "--max_steps 300 --output_dir %s/quiet", temporary);
    assert_true(weights_equal("signal", "quiet", "model.safetensors"));
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *flags, *message;
    } cases[] = {
        {"--early_stopping_patience 2", "early_stopping_metric: say which figure decides"},
        {"--load_best_model_at_end", "early_stopping_metric: say which figure decides"},
        {"--early_stopping_metric eval_kept_loss", "nothing is decided by it; add early_stopping_threshold"},
        {"--early_stopping_metric kept_loss --early_stopping_patience 1", "expected eval_NAME_prob_mean or eval_NAME_loss"},
        {"--early_stopping_metric eval_loss --early_stopping_patience 1", "expected eval_NAME_prob_mean or eval_NAME_loss"},
        {"--early_stopping_metric eval_gone_loss --early_stopping_patience 1",
         "there is no set gone; name it with --eval_data gone=FILE"},
        {"--early_stopping_metric eval_kept_loss --early_stopping_threshold -0.5", "expected a value of at least 0, or -1"},
        {"--early_stopping_metric eval_kept_loss --early_stopping_patience 1 --eval_strategy no",
         "is not measured; add --eval_strategy epoch or steps"},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        run_expect(STATUS_USAGE, cases[c].message, "--output_dir %s/none %s", temporary, cases[c].flags);
    assert_false(file_exists(temporary_path("none")));
    struct program_result tuned = program_line("finetune --model %s/model --train_data " EVAL "/qa_forget.jsonl --output_dir %s/none "
                                               "--eval_strategy epoch --early_stopping_metric eval_forget_loss "
                                               "--early_stopping_patience 1", temporary, temporary);
    program_expect_error(&tuned, STATUS_USAGE, "there is no set forget");
    program_free(&tuned);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rule),   cmocka_unit_test(test_threshold),
                                       cmocka_unit_test(test_best),   cmocka_unit_test(test_limit),
                                       cmocka_unit_test(test_resume), cmocka_unit_test(test_signal),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, make, temporary_remove);
}
