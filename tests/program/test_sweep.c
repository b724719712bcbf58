/* test_sweep.c - `flat sweep` end to end on a tiny model: the grid and what it leaves out, seeded draws, cases, landmarks, runs
 * that fail, models that are removed; a sweep that is killed at random points and continued ends with the same table, byte for
 * byte but for times; what is refused.
 */
#include "../support/temporary.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "../../host/io/json/json.h"
#include "../../host/util/file.h"
#include "../support/eval_model.h"
#include "../support/program.h"

static int model_make(void **state)
{
    return temporary_make(state) || eval_model_make(temporary_path("model")) ? -1 : 0;
}

/* A config with the common keys and `more` in front of them. */
static const char *config_make(const char *name, const char *more)
{
    char text[4096];
    snprintf(text, sizeof text,
             "{%s\"model_name_or_path\": \"%s/model\", \"forget_data\": \"" EVAL "/qa_forget.jsonl\", \"prompt_template\": \"qa\","
             " \"template\": {\"file\": \"" EVAL "/refusals.txt\"}, \"retain_data\": \"configs/demo/retain.jsonl\", \"max_steps\": 3,"
             " \"per_device_train_batch_size\": 2, \"gradient_accumulation_steps\": 1, \"threads\": 1, \"device\": \"cpu\","
             " \"save_strategy\": \"steps\", \"save_steps\": 1,"
             " \"eval\": {\"max_new_tokens\": 4, \"threads\": 1, \"eval_rows\": 3}}", more, temporary);
    return temporary_file(name, text, strlen(text));
}

static struct program_result sweep(const char *config, const char *out, const char *more)
{
    return program_line("sweep %s --output_dir %s/%s --quiet %s", config, temporary, out, more);
}

static char *text_of(const char *out, const char *name)
{
    char path[600], *text;
    size_t length;
    struct error error = {0};
    snprintf(path, sizeof path, "%s/%s/%s", temporary, out, name);
    if (file_read(path, 1 << 24, &text, &length, &error))
        fail_msg("%s", error.text);
    return text;
}

static cJSON *json_of(const char *out, const char *name)
{
    struct error error = {0};
    char *text = text_of(out, name);
    cJSON *json = json_parse(text, strlen(text), name, &error);
    if (!json)
        fail_msg("%s", error.text);
    free(text);
    return json;
}

static bool is_there(const char *out, const char *name)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s/%s", temporary, out, name);
    return file_exists(path);
}

static int rows_with(const cJSON *rows, const char *status)
{
    int count = 0;
    const cJSON *row;
    cJSON_ArrayForEach(row, rows) count += !strcmp(json_member(row, "status")->valuestring, status);
    return count;
}

/* Six runs: beta is npo's alone, so that flat has two runs and not four; a rate beyond all numbers fails. */
static const char grid[] = "\"method\": [\"flat\", \"npo\"], \"beta\": [0.1, 0.5], \"learning_rate\": [1e-3, 1e30], ";

static void test_grid(void **state)
{
    (void)state;
    const char *config = config_make("grid.json", grid);
    struct program_result result = sweep(config, "grid", "");
    program_expect(&result, STATUS_OK);
    assert_non_null(strstr(result.out, "| run | method | beta | learning_rate | forget_mean_prob (less is better) |"));
    assert_non_null(strstr(result.out, "| before |"));
    cJSON *table = json_of("grid", "sweep.json");
    const cJSON *rows = json_member(table, "rows"), *row;
    assert_int_equal(cJSON_GetArraySize(rows), 7);
    assert_int_equal(rows_with(rows, "failed"), 3);
    assert_int_equal(rows_with(rows, "done"), 4);
    int fronts = 0;
    cJSON_ArrayForEach(row, rows)
    {
        char weights[100], checkpoint[100];
        const char *name = json_member(row, "run")->valuestring;
        const bool front = cJSON_IsTrue(json_member(row, "front"));
        snprintf(weights, sizeof weights, "runs/%s/model/model.safetensors", name);
        snprintf(checkpoint, sizeof checkpoint, "runs/%s/model/checkpoint-1", name);
        assert_int_equal(is_there("grid", weights), front); /* kept: those of the front */
        assert_false(is_there("grid", checkpoint));
        fronts += front;
        if (!strcmp(json_member(row, "status")->valuestring, "failed"))
            assert_true(*json_member(row, "error")->valuestring);
        else if (!json_member(row, "model"))
            assert_int_equal(json_member(row, "steps")->valuedouble, 3);
    }
    assert_true(fronts >= 1);
    char *picture = text_of("grid", "front.svg"), *csv = text_of("grid", "sweep.csv");
    assert_non_null(strstr(picture, ">before<"));
    assert_non_null(strstr(csv, "run,landmark,status,error,front,method,beta,learning_rate,steps,seconds,forget_Prob"));
    free(picture), free(csv);
    cJSON_Delete(table);
    program_free(&result);
    /* what is over is not done again: only the table is written */
    char *before = text_of("grid", "runs/001/train.log");
    result = sweep(config, "grid", "");
    program_expect(&result, STATUS_OK);
    char *after = text_of("grid", "runs/001/train.log");
    assert_string_equal(before, after);
    free(before), free(after);
    program_free(&result);
}

/* Attacks of each run are figures of its row; the second run takes those of the model before from the first. */
static void test_attacks(void **state)
{
    (void)state;
    static const char asked[] = "\"method\": [\"flat\", \"grad_ascent\"], \"learning_rate\": 1e-3, \"attack\": {\"attacks\": "
                                "\"quantize,sample\", \"leak_k\": \"1,2\", \"max_new_tokens\": 4, \"eval_rows\": 3, \"threads\": 1}, ";
    struct program_result result = sweep(config_make("attacks.json", asked), "attacks", "");
    program_expect(&result, STATUS_OK);
    program_free(&result);
    char *csv = text_of("attacks", "sweep.csv");
    assert_non_null(strstr(csv, ",attack_k_p_answer_of_the_forget_set,attack_k_in_int8,attack_q_int8,attack_k_in_nf4,attack_q_nf4,"
                                "attack_rouge_l_recall_of_the_greedy_answer,attack_leak_1_by_2_draws,attack_leak_2_by_2_draws\n"));
    free(csv);
    cJSON *table = json_of("attacks", "sweep.json");
    for (int run = 1; run <= 2; run++) {
        char name[100];
        snprintf(name, sizeof name, "runs/%03d/attacks/attack-quantize-sample.json", run);
        cJSON *attack = json_of("attacks", name);
        const cJSON *row = cJSON_GetArrayItem(json_member(table, "rows"), run), *q = cJSON_GetArrayItem(json_member(attack, "rows"), 2);
        assert_string_equal(json_member(q, "measure")->valuestring, "Q, int8");
        assert_true(json_member(json_member(row, "figures"), "attack_q_int8")->valuedouble == json_member(q, "unlearned")->valuedouble);
        assert_string_equal(json_member(row, "status")->valuestring, "done");
        assert_null(json_member(row, "error"));
        const char *baseline = json_member(json_member(attack, "config"), "baseline_log")->valuestring;
        assert_true(run == 1 ? !*baseline : strstr(baseline, "/runs/001/attacks/") != NULL);
        cJSON_Delete(attack);
    }
    cJSON_Delete(table);
}

/* Attacks that fail are said in the row, and its scoring stays; with what they lacked --retry_failed does them. */
static void test_attacks_fail(void **state)
{
    (void)state;
    char more[600];
    snprintf(more, sizeof more, "\"method\": [\"flat\"], \"learning_rate\": 1e-3, \"keep_models\": \"none\", \"attack\": {\"attacks\": "
             "\"disrupt\", \"neighbor_data\": \"%s/later.jsonl\", \"threads\": 1}, ", temporary);
    const char *config = config_make("lacks.json", more);
    for (int retry = 0; retry < 2; retry++) {
        struct program_result result = sweep(config, "lacks", retry ? "--retry_failed" : "");
        program_expect(&result, STATUS_OK);
        program_free(&result);
        cJSON *table = json_of("lacks", "sweep.json");
        const cJSON *row = cJSON_GetArrayItem(json_member(table, "rows"), 1), *why = json_member(row, "error");
        assert_string_equal(json_member(row, "status")->valuestring, "done");
        assert_true(cJSON_IsNumber(json_member(json_member(row, "figures"), "forget_mean_prob")));
        assert_true(retry ? !why : strstr(why->valuestring, "later.jsonl") != NULL);
        assert_int_equal(is_there("lacks", "runs/001/model/model.safetensors"), !retry); /* kept until nothing is left to do */
        cJSON_Delete(table);
        static const char late[] = "{\"question\": \"Who?\", \"answer\": \"A poet.\"}\n";
        temporary_file("later.jsonl", late, sizeof late - 1);
    }
}

/* A stopping rule ends each run where it is met. */
static void test_stopping(void **state)
{
    (void)state;
    static const char rule[] = "\"method\": \"grad_ascent\", \"learning_rate\": [1e-6, 3e-2], \"eval_strategy\": \"steps\", "
                               "\"eval_steps\": 1, \"early_stopping_metric\": \"eval_forget_prob_mean\", "
                               "\"early_stopping_threshold\": 0.4, ";
    struct program_result result = sweep(config_make("stopping.json", rule), "stopping", "");
    program_expect(&result, STATUS_OK);
    cJSON *table = json_of("stopping", "sweep.json");
    const cJSON *rows = json_member(table, "rows");
    assert_int_equal(json_member(cJSON_GetArrayItem(rows, 1), "steps")->valuedouble, 3);
    assert_true(json_member(cJSON_GetArrayItem(rows, 2), "steps")->valuedouble < 3);
    cJSON_Delete(table);
    program_free(&result);
}

static void test_draws_and_cases(void **state)
{
    (void)state;
    static const char many[] = "\"learning_rate\": [1e-5, 2e-5, 3e-5, 4e-5], \"seed\": [1, 2, 3, 4], \"keep_models\": \"none\", ";
    const char *config = config_make("draws.json", many);
    struct program_result one = sweep(config, "draws", "--draws 3 --draw_seed 7"), other;
    program_expect(&one, STATUS_OK);
    other = sweep(config, "draws2", "--draws 3 --draw_seed 7");
    program_expect(&other, STATUS_OK);
    char *plan = text_of("draws", "plan.json"), *plan2 = text_of("draws2", "plan.json");
    assert_string_equal(plan, plan2);
    free(plan), free(plan2);
    cJSON *table = json_of("draws", "sweep.json");
    assert_int_equal(cJSON_GetArraySize(json_member(table, "rows")), 4);
    assert_false(is_there("draws", "runs/001/model/model.safetensors"));
    cJSON_Delete(table);
    program_free(&one), program_free(&other);
    config = config_make("cases.json", "\"cases\": [{\"method\": \"grad_ascent\"}, {\"method\": \"npo\", \"beta\": 0.2, "
                                       "\"lora\": {\"r\": 2}}], \"seed\": [1, 2], ");
    char landmark[400];
    snprintf(landmark, sizeof landmark, "--landmarks again=%s/model", temporary);
    one = sweep(config, "cases", landmark);
    program_expect(&one, STATUS_OK);
    assert_non_null(strstr(one.out, "| again |"));
    assert_non_null(strstr(one.out, "\nOver seeds, "));
    assert_non_null(strstr(one.out, "| method | beta | lora.r | runs |"));
    assert_non_null(strstr(one.out, "\n| grad_ascent |  |  | 2 |"));
    assert_non_null(strstr(one.out, "\n| npo | 0.2 | 2 | 2 |"));
    table = json_of("cases", "sweep.json");
    const cJSON *last = cJSON_GetArrayItem(json_member(table, "rows"), 5), *settings = json_member(last, "settings");
    assert_string_equal(json_member(settings, "method")->valuestring, "npo");
    assert_int_equal(json_member(settings, "lora.r")->valuedouble, 2);
    assert_int_equal(json_member(settings, "seed")->valuedouble, 2);
    assert_string_equal(json_member(last, "status")->valuestring, "done");
    /* the two landmarks are the same model */
    assert_true(cJSON_Compare(json_member(cJSON_GetArrayItem(json_member(table, "rows"), 0), "figures"),
                              json_member(cJSON_GetArrayItem(json_member(table, "rows"), 1), "figures"), true));
    cJSON_Delete(table);
    program_free(&one);
}

/* ---- killed and continued ---- */

static pid_t sweep_start(const char *config, const char *out)
{
    const char *build = getenv("FLAT_BUILD");
    char program[4096], output[600];
    snprintf(program, sizeof program, "%s/flat", build && *build ? build : "build");
    snprintf(output, sizeof output, "%s/%s", temporary, out);
    fflush(NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr))
            _exit(127);
        execl(program, "flat", "sweep", config, "--output_dir", output, "--quiet", (char *)NULL);
        _exit(127);
    }
    return child;
}

/* Milliseconds from the start to the end. */
static long sweep_wait(pid_t child, long kill_after, int with, int *code)
{
    int state;
    long waited = 0;
    for (; waitpid(child, &state, WNOHANG) == 0; waited++) {
        if (waited == kill_after)
            kill(child, with);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    *code = WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
    return waited;
}

/* Without what stands in the columns and keys named seconds. */
static void times_drop_csv(char *text)
{
    int column = -1, at = 0;
    char *out = text;
    for (char *in = text; *in; in++) {
        if (column < 0 && !strncmp(in, "seconds,", 8))
            column = at;
        at = *in == '\n' ? 0 : at + (*in == ',');
        if (column < 0 || at != column || *in == ',')
            *out++ = *in;
    }
    *out = 0;
}

static void times_drop_json(char *text)
{
    for (char *at = text; (at = strstr(at, "\"seconds\": ")); at++)
        memset(at, ' ', strcspn(at, "\n"));
}

static void times_drop_markdown(char *text)
{
    for (char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        char *cell[16];
        int cells = 0;
        for (char *at = line; *at && *at != '\n' && cells < 16; at++)
            if (*at == '|')
                cell[cells++] = at;
        if (cells > 3) /* seconds stand before the last column */
            memset(cell[cells - 3] + 1, '-', (size_t)(cell[cells - 2] - cell[cells - 3] - 1));
    }
}

static void spaces_drop(char *text)
{
    char *out = text;
    for (char *in = text; *in; in++)
        if (*in != ' ' && *in != '-')
            *out++ = *in;
    *out = 0;
}

static void same_tables(const char *whole, const char *cut)
{
    static const char *const names[] = {"sweep.csv", "sweep.json", "sweep.md", "front.svg"};
    for (int i = 0; i < 4; i++) {
        char *a = text_of(whole, names[i]), *b = text_of(cut, names[i]);
        for (int k = 0; k < 2; k++) {
            char *text = k ? b : a;
            for (char *at = text; k == 0 && (at = strstr(at, whole)); at += strlen(whole)) /* in the words of a failed run */
                memcpy(at, cut, strlen(whole));
            if (i == 0)
                times_drop_csv(text);
            if (i == 1)
                times_drop_json(text), spaces_drop(text);
            if (i == 2)
                times_drop_markdown(text), spaces_drop(text);
        }
        size_t at = 0;
        while (a[at] && a[at] == b[at])
            at++;
        if (a[at] || b[at])
            fail_msg("%s of %s differs: \"%.200s\", whole \"%.200s\"", names[i], cut, b + (at > 80 ? at - 80 : 0),
                     a + (at > 80 ? at - 80 : 0));
        free(a), free(b);
    }
}

/* Kills at KILLS (10) points of the time that a whole sweep takes, by SIGKILL and by SIGTERM in turn, in one sweep after the
 * other until it is through; the seed of the points is printed. */
static void test_killed(void **state)
{
    (void)state;
    const char *text = getenv("KILLS");
    const int kills = text && atoi(text) > 0 ? atoi(text) : 10;
    char config[600], more[400];
    snprintf(more, sizeof more, "%s\"attack\": {\"attacks\": \"quantize\", \"eval_rows\": 3, \"threads\": 1}, ", grid);
    snprintf(config, sizeof config, "%s", config_make("killed.json", more));
    int code;
    const long took = sweep_wait(sweep_start(config, "whole"), -1, 0, &code);
    unsigned seed = 1;
    assert_int_equal(code, STATUS_OK);
    struct program_result lanes = sweep(config, "lanes", "--gpus 0,1"); /* two at a time: the same table */
    program_expect(&lanes, STATUS_OK);
    program_free(&lanes);
    same_tables("whole", "lanes");
    for (int done = 0, run = 0; done < kills; run++) {
        char out[40];
        snprintf(out, sizeof out, "cut%02d", run); /* as long as "whole" */
        for (code = -1; code != STATUS_OK;) {
            const long after = done < kills ? (long)((seed = seed * 1103515245u + 12345u) >> 8) % (took > 1 ? took : 1) : -1;
            const int with = done % 2 ? SIGTERM : SIGKILL;
            sweep_wait(sweep_start(config, out), after, with, &code);
            if (code != STATUS_OK) {
                /* SIGTERM before the handler is there ends the program as SIGKILL does */
                assert_true(code == 128 + with || (with == SIGTERM && code == STATUS_SIGNAL));
                done++;
            }
        }
        same_tables("whole", out);
    }
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *more, *flags, *message;
        int status;
    } cases[] = {
        {"\"learning_rat\": 1, ", "", "learning_rat: neither 'flat sweep' nor 'flat unlearn' has it; did you mean learning_rate?",
         STATUS_USAGE},
        {"\"attack\": 3, ", "", "attack: expected an object of options of flat attack", STATUS_USAGE},
        {"\"seed\": [], ", "", "seed: an empty list leaves no run", STATUS_USAGE},
        {"\"cases\": 3, ", "", "cases: expected a list of objects", STATUS_USAGE},
        {"\"cases\": [3], ", "", "cases: expected a list of objects", STATUS_USAGE},
        {"\"draws\": \"x\", ", "", "draws: expected", STATUS_USAGE},
        {"\"seed\": 1, ", "--landmarks a", "landmarks: 'a': expected NAME=DIR", STATUS_USAGE},
        {"\"seed\": 1, ", "--landmarks ../a=b", "landmarks: '../a': expected NAME=DIR with a name of letters", STATUS_USAGE},
        {"\"seed\": 1, ", "--landmarks before=b", "landmarks: there are two named before", STATUS_USAGE},
        {"\"learning_rate\": [\"x\"], ", "", "none of 1 runs ended well; the first: ", STATUS_RUNTIME},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[40];
        snprintf(out, sizeof out, "refused%zu", i);
        struct program_result result = sweep(config_make("refused.json", cases[i].more), out, cases[i].flags);
        char *errors = strstr(result.err, "error: ");
        assert_non_null(errors);
        if (result.status != cases[i].status || !strstr(errors, cases[i].message))
            fail_msg("case %zu: status %d: %s", i, result.status, result.err);
        program_free(&result);
    }
    char many[8000] = "{\"model_name_or_path\": \"none\", \"seed\": 1, \"eval\": {";
    for (int i = 0; i < 200; i++)
        snprintf(many + strlen(many), sizeof many - strlen(many), "%s\"o%d\": 1", i ? ", " : "", i);
    strcat(many, "}}");
    struct program_result too_many = sweep(temporary_file("many.json", many, strlen(many)), "many", "");
    program_expect_error(&too_many, STATUS_USAGE, "eval: more than 160 options");
    program_free(&too_many);
    const char *config = config_make("other.json", "\"seed\": [1], ");
    struct program_result result = sweep(config, "other", "");
    program_expect(&result, STATUS_OK);
    program_free(&result);
    result = sweep(config_make("other.json", "\"seed\": [2], "), "other", "");
    program_expect_error(&result, STATUS_USAGE, "holds another sweep, by its plan.json");
    program_free(&result);
    result = program_line("sweep %s/none.json --output_dir %s/none", temporary, temporary);
    program_expect_error(&result, STATUS_USAGE, "none.json");
    program_free(&result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grid),
        cmocka_unit_test(test_attacks),
        cmocka_unit_test(test_attacks_fail),
        cmocka_unit_test(test_stopping),
        cmocka_unit_test(test_draws_and_cases),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, model_make, temporary_remove);
}
