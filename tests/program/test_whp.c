/* test_whp.c - score, generate and eval with a reinforced model whose logits are combined with the model's: against
 * transformers (tests/parity/make_whp_golden.py) on every engine; batches, ranks, resumed output; what is refused.
 */
#include "../support/temporary.h"

#include <math.h>

#include "../../host/io/json/json.h"
#include "../../host/util/file.h"
#include "../../host/eval/score.h"
#include "../support/eval_model.h"
#include "../support/program.h"
#include "../support/op_test.h"
#include "../support/tiny_model.h"

static cJSON *golden;
static char model[600], reinforced[600], rows[600];

static int make(void **state)
{
    struct error error = {0};
    struct buffer text = {0};
    if (temporary_make(state) || !(golden = json_read("tests/golden/whp.json", &error)))
        return -1;
    snprintf(model, sizeof model, "%s/model", temporary);
    snprintf(reinforced, sizeof reinforced, "%s/reinforced", temporary);
    snprintf(rows, sizeof rows, "%s/rows.jsonl", temporary);
    int status = eval_model_make(model);
    for (const cJSON *row = json_member(golden, "rows")->child; row && !status; row = row->next) {
        status = json_print(row, &text, &error);
        status = status ? status : buffer_append(&text, "\n", 1, &error);
    }
    if (!status)
        status = file_write(rows, text.data, text.length, &error);
    buffer_free(&text);
    if (status)
        return -1;
    struct program_result result = program_line("combine --merge_method linear --models %s --weights %g --output_dir %s --quiet",
                                                model, json_member(golden, "scale")->valuedouble, reinforced);
    status = result.status;
    if (status)
        fprintf(stderr, "%s\n", result.err);
    program_free(&result);
    return status;
}

static int unmake(void **state)
{
    cJSON_Delete(golden);
    return temporary_remove(state);
}

/* The JSON line that begins at *at, which moves on behind it. */
static cJSON *line_next(char **at)
{
    struct error error = {0};
    char *end = strchr(*at, '\n');
    assert_non_null(end);
    cJSON *json = json_parse(*at, (size_t)(end - *at), "output", &error);
    if (!json)
        fail_msg("%s", error.text);
    *at = end + 1;
    return json;
}

static struct program_result run(const char *command, double alpha, const char *more)
{
    struct program_result result = program_line("%s --model %s --reinforced_model %s --whp_alpha %g --data %s --device cpu "
                                                "--quiet %s", command, model, reinforced, alpha, rows, more);
    program_expect(&result, STATUS_OK);
    return result;
}

static void score_check(const char *engine, const cJSON *wanted, double got_sum, double got_mean, double bound)
{
    const double sum = json_member(wanted, "logprob_sum")->valuedouble, mean = json_member(wanted, "prob_mean")->valuedouble;
    if (!(fabs(got_sum - sum) <= bound * fmax(1, fabs(sum)) && fabs(got_mean - mean) <= bound))
        fail_msg("%s: %.9g and %.9g, expected %.9g and %.9g", engine, got_sum, got_mean, sum, mean);
}

static void test_scores(void **state)
{
    (void)state;
    for (const cJSON *part = json_member(golden, "alphas")->child; part; part = part->next)
        for (int batch = 1; batch <= 8; batch += 7) {
            struct program_result result = run("score", json_member(part, "alpha")->valuedouble,
                                               batch == 1 ? "--batch_size 1" : "--batch_size 8");
            char *at = result.out;
            for (const cJSON *wanted = json_member(part, "results")->child; wanted; wanted = wanted->next) {
                cJSON *got = line_next(&at);
                score_check("flat score", wanted, json_member(got, "logprob_sum")->valuedouble,
                            json_member(got, "prob_mean")->valuedouble, 1e-5);
                cJSON_Delete(got);
            }
            program_free(&result);
        }
}

struct engine_pair {
    struct device device;
    struct model_config config;
    struct model model[2];
    struct weights weights[2];
    const cJSON *results;
    const char *engine;
    double bound;
};

static int scored(void *user, int begin, int count, const struct score *score, struct error *error)
{
    const struct engine_pair *pair = user;
    (void)error;
    for (int i = 0; i < count; i++)
        score_check(pair->engine, cJSON_GetArrayItem(pair->results, begin + i), score[i].logprob_sum, score[i].prob_mean,
                    pair->bound);
    return STATUS_OK;
}

/* The same below the program, on every engine. */
static void test_engines(void **state)
{
    (void)state;
    enum { ROWS = 8 };
    static const double bounds[] = {1e-5, 1e-6, 1e-5, 5e-2};
    const char *const folder[] = {model, reinforced};
    struct batch_sequence sequence[ROWS];
    int32_t ids[ROWS][64], first[ROWS + 1];
    struct error error = {0};
    for (int i = 0; i < ROWS; i++) {
        const cJSON *list = cJSON_GetArrayItem(json_member(golden, "ids"), i);
        sequence[i] = (struct batch_sequence){ids[i], cJSON_GetArraySize(list),
                                              cJSON_GetArrayItem(json_member(golden, "answer_begin"), i)->valueint};
        for (int k = 0; k < sequence[i].length; k++)
            ids[i][k] = cJSON_GetArrayItem(list, k)->valueint;
        first[i] = i;
    }
    first[ROWS] = ROWS;
    for (int e = 0; e < OP_TEST_VARIANTS; e++) {
        struct engine_pair pair = {.engine = op_test_engines[e], .bound = bounds[e]};
        const enum dtype dtype = tiny_device_open(&pair.device, pair.engine, 2);
        int status = STATUS_OK;
        for (int i = 0; i < 2 && !status; i++) {
            status = model_config_read(&pair.config, folder[i], &error);
            status = status ? status : model_create(&pair.model[i], &pair.config, dtype, &error);
            status = status ? status : weights_open(&pair.weights[i], &pair.model[i], folder[i], &error);
        }
        pair.model[0].wide_logits = true;
        pair.model[0].reinforced = &pair.model[1];
        pair.weights[0].reinforced = &pair.weights[1];
        for (const cJSON *part = json_member(golden, "alphas")->child; part && !status; part = part->next) {
            struct scorer scorer = {&pair.model[0], &pair.device, &pair.weights[0], 3, false};
            pair.model[0].whp_alpha = json_member(part, "alpha")->valuedouble;
            pair.results = json_member(part, "results");
            status = scorer_run(&scorer, sequence, first, ROWS, scored, &pair, &error);
            scorer_close(&scorer);
            model_release(&pair.model[0]);
        }
        if (status)
            fail_msg("%s: %s", pair.engine, error.text);
        for (int i = 0; i < 2; i++) {
            weights_close(&pair.weights[i]);
            model_free(&pair.model[i]);
        }
        device_close(&pair.device);
    }
}

static void test_texts(void **state)
{
    (void)state;
    static const char *const batches[] = {"1", "3", "8"};
    for (const cJSON *part = json_member(golden, "alphas")->child; part; part = part->next)
        for (int i = 0; i < 3; i++) {
            char more[100];
            snprintf(more, sizeof more, "--max_new_tokens 16 --batch_size %s", batches[i]);
            struct program_result result = run("generate", json_member(part, "alpha")->valuedouble, more);
            char *at = result.out;
            for (const cJSON *wanted = json_member(part, "results")->child; wanted; wanted = wanted->next) {
                cJSON *got = line_next(&at);
                assert_string_equal(json_member(got, "text")->valuestring, json_member(wanted, "text")->valuestring);
                cJSON_Delete(got);
            }
            program_free(&result);
        }
}

/* alpha 0 is the model alone, and so is a reinforced model that raises nothing: itself. */
static void test_nothing_taken(void **state)
{
    (void)state;
    struct program_result alone = program_line("score --model %s --data %s --device cpu --quiet", model, rows);
    struct program_result zero = run("score", 0, "");
    struct program_result same = program_line("score --model %s --reinforced_model %s --whp_alpha 4 --data %s --device cpu --quiet",
                                              model, model, rows);
    program_expect(&alone, STATUS_OK);
    program_expect(&same, STATUS_OK);
    assert_string_equal(alone.out, zero.out);
    assert_string_equal(alone.out, same.out);
    program_free(&alone);
    program_free(&zero);
    program_free(&same);
}

/* The mean probability of the answers, by flat eval and by flat score; and the same bytes from two ranks. */
static void test_eval(void **state)
{
    (void)state;
    struct error error = {0};
    char *text[2], path[700];
    size_t length;
    for (int i = 0; i < 2; i++) {
        struct program_result result = program_line(
            "eval --model %s --reinforced_model %s --whp_alpha 2 --forget_data %s --device cpu --max_new_tokens 8 --quiet "
            "--batch_size 2 --batch_tokens 60 -o %s/eval%d --nproc_per_node %d", model, reinforced, rows, temporary, i, i + 1);
        program_expect(&result, STATUS_OK);
        program_free(&result);
        snprintf(path, sizeof path, "%s/eval%d/QA_EVAL.json", temporary, i);
        if (file_read(path, 1 << 24, &text[i], &length, &error))
            fail_msg("%s", error.text);
    }
    assert_string_equal(text[0], text[1]);
    struct program_result without = program_line(
        "eval --model %s --forget_data %s --device cpu --max_new_tokens 8 --quiet -o %s/alone", model, rows, temporary);
    program_expect(&without, STATUS_OK);
    program_free(&without);
    char *alone;
    snprintf(path, sizeof path, "%s/alone/QA_EVAL.json", temporary);
    if (file_read(path, 1 << 24, &alone, &length, &error))
        fail_msg("%s", error.text);
    assert_string_not_equal(text[0], alone);
    /* a row's number is exp of the mean log-probability of its tokens, as the golden's */
    struct program_result scored = run("score", 2, "");
    char *at = scored.out;
    cJSON *log = json_parse(text[0], strlen(text[0]), "QA_EVAL.json", &error);
    const cJSON *metric = json_member(log, "forget_Prob"), *values = metric ? json_member(metric, "value_by_index") : NULL;
    assert_non_null(values);
    for (const cJSON *value = values->child; value; value = value->next) {
        cJSON *row = line_next(&at);
        const double tokens = json_member(row, "num_tokens")->valuedouble;
        const double wanted = exp(json_member(row, "logprob_sum")->valuedouble / tokens);
        assert_true(fabs(json_member(value, "prob")->valuedouble - wanted) < 1e-5);
        cJSON_Delete(row);
    }
    cJSON_Delete(log);
    program_free(&scored);
    free(alone);
    free(text[0]);
    free(text[1]);
}

static void refuse(int status, const char *text, const char *line)
{
    struct program_result result = program_line("%s", line);
    program_expect_error(&result, status, text);
    program_free(&result);
}

static void test_refused(void **state)
{
    (void)state;
    char line[3000];
#define REFUSE(status, text, ...)                                                                                       \
    snprintf(line, sizeof line, __VA_ARGS__);                                                                          \
    refuse(status, text, line)
    REFUSE(STATUS_INPUT, "a vocabulary of 67 tokens; expected the 1024",
           "score --model %s --reinforced_model tests/golden/models/llama3 --data %s --device cpu --quiet", model, rows);
    REFUSE(STATUS_USAGE, "of no use without reinforced_model", "score --model %s --whp_alpha 2 --data %s --device cpu --quiet",
           model, rows);
    REFUSE(STATUS_USAGE, "whp_alpha", "score --model %s --reinforced_model %s --whp_alpha -1 --data %s --device cpu --quiet", model,
           reinforced, rows);
    /* rows of one alpha are not continued with another */
    char out[700];
    snprintf(out, sizeof out, "%s/out.jsonl", temporary);
    struct program_result begun = program_run(
        (const char *const[]){"score", "--model", model, "--reinforced_model", reinforced, "--whp_alpha", "2", "--data", rows,
                              "--device", "cpu", "--quiet", "--batch_size", "1", "--output", out, NULL}, NULL, 700);
    program_expect(&begun, STATUS_RUNTIME);
    program_free(&begun);
    REFUSE(STATUS_USAGE, "its rows were made with", "score --model %s --reinforced_model %s --whp_alpha 3 --data %s --device cpu "
           "--quiet --batch_size 1 --output %s --resume", model, reinforced, rows, out);
#undef REFUSE
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scores),
        cmocka_unit_test(test_engines),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_nothing_taken),
        cmocka_unit_test(test_eval),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, make, unmake);
}
