/* test_eval.c - the suites of `flat eval` end to end on a tiny model (tests/golden/eval), against what transformers,
 * rouge-score, sacrebleu and scipy make of the same questions (tests/parity/make_eval_golden.py); the same bytes from
 * several ranks and from an evaluation that was killed; figures during a training and the table after it; what is refused.
 */
#include "../support/temporary.h"

#include <math.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../host/io/json/json.h"
#include "../../host/util/file.h"
#include "../support/comm_ranks.h"
#include "../support/eval_model.h"
#include "../support/program.h"

#define COMMON "--model %s/model --device cpu --max_new_tokens 24 --refusals " EVAL "/refusals.txt --quiet "
#define TOFU "--suite tofu --forget_data " EVAL "/tofu/forget01_perturbed.json --retain_log " EVAL "/expected/TOFU_retain.json "

static int model_make(void **state)
{
    return temporary_make(state) || eval_model_make(temporary_path("model")) ? -1 : 0;
}

/* The same members; texts equal; ROUGE, BLEU and counts equal but for the order of sums, what is made of log-probs within
 * 1e-4. */
static void same_tree(const cJSON *got, const cJSON *wanted, const char *where)
{
    if ((got->type & 0xff) != (wanted->type & 0xff))
        fail_msg("%s: of another type", where);
    const double bound = strstr(where, "rouge") || strstr(where, "BLEU") || strstr(where, "ROUGE") ? 1e-9 : 1e-4;
    if (cJSON_IsNumber(wanted) &&
        !(fabs(got->valuedouble - wanted->valuedouble) <= bound * fmax(1, fabs(wanted->valuedouble))))
        fail_msg("%s: %.9g, expected %.9g", where, got->valuedouble, wanted->valuedouble);
    if (cJSON_IsString(wanted) && strcmp(got->valuestring, wanted->valuestring))
        fail_msg("%s: \"%s\", expected \"%s\"", where, got->valuestring, wanted->valuestring);
    const cJSON *mine = got->child;
    for (const cJSON *other = wanted->child; other; other = other->next, mine = mine->next) {
        char path[600];
        if (!mine)
            fail_msg("%s: lacks %s", where, other->string ? other->string : "elements");
        snprintf(path, sizeof path, "%.500s/%s", where, other->string ? other->string : "");
        if (other->string && strcmp(mine->string, other->string))
            fail_msg("%s: %s where %s is expected", where, mine->string, other->string);
        same_tree(mine, other, path);
    }
    if (mine)
        fail_msg("%s: %s is too much", where, mine->string ? mine->string : "an element");
}

static void expect_golden(const char *folder, const char *suite)
{
    char got_path[600], wanted_path[600];
    struct error error = {0};
    snprintf(got_path, sizeof got_path, "%s/%s/%s_EVAL.json", temporary, folder, suite);
    snprintf(wanted_path, sizeof wanted_path, EVAL "/expected/%s_EVAL.json", suite);
    cJSON *got = json_read_python(got_path, 1 << 24, &error), *wanted = json_read_python(wanted_path, 1 << 24, &error);
    if (!got || !wanted)
        fail_msg("%s", error.text);
    same_tree(got, wanted, suite);
    cJSON_Delete(got);
    cJSON_Delete(wanted);
    snprintf(got_path, sizeof got_path, "%s/%s/%s_EVAL.partial.jsonl", temporary, folder, suite);
    assert_false(file_exists(got_path)); /* it is over */
}

static void expect_run(struct program_result result)
{
    program_expect(&result, STATUS_OK);
    program_free(&result);
}

static void test_suites(void **state)
{
    (void)state;
    struct program_result tofu = program_line("eval " COMMON TOFU "-o %s/tofu", temporary, temporary);
    program_expect(&tofu, STATUS_OK);
    assert_string_equal(tofu.err, "");
    assert_non_null(strstr(tofu.out, "\nmodel_utility "));
    program_free(&tofu);
    expect_golden("tofu", "TOFU");
    assert_true(file_exists(temporary_path("tofu/aggregate_stat.csv")));
    expect_run(program_line("eval " COMMON "--suite muse --data_dir " EVAL "/muse --num_fewshot 2 -o %s/muse", temporary,
                            temporary));
    expect_golden("muse", "MUSE");
    expect_run(program_line("eval " COMMON "--suite harry_potter --forget_data " EVAL
                            "/text.txt --prefix_words 12 --continuation_words 8 -o %s/hp", temporary, temporary));
    expect_golden("hp", "HP");
    expect_run(program_line("eval " COMMON "--forget_data " EVAL "/qa_forget.jsonl --eval_data facts=" EVAL
                            "/qa_facts.jsonl -o %s/qa", temporary, temporary));
    expect_golden("qa", "QA");
}

static char *text_of(const char *folder)
{
    char path[600], *text;
    size_t length;
    struct error error = {0};
    snprintf(path, sizeof path, "%s/%s/TOFU_EVAL.json", temporary, folder);
    if (file_read(path, 1 << 24, &text, &length, &error))
        fail_msg("%s", error.text);
    return text;
}

static void same_bytes(const char *one, const char *other)
{
    char *a = text_of(one), *b = text_of(other);
    assert_string_equal(a, b);
    free(a);
    free(b);
}

/* What rank 1 alone cannot open ends both with its status, said once and naming it; nobody waits. */
static void test_rank_fails(void **state)
{
    (void)state;
    static const struct {
        const char *flags, *message;
        int status;
    } cases[] = {
        {"--model model$RANK --refusals refusals.txt --forget_data rows.jsonl", "model1", STATUS_INPUT},
        {"--model model --refusals refusals$RANK.txt --forget_data rows.jsonl", "refusals1.txt", STATUS_INPUT},
        {"--model model --refusals refusals.txt --forget_data rows$RANK.jsonl", "rows1.jsonl", STATUS_INPUT},
        {"--model model --refusals refusals.txt --forget_data rows.jsonl --max_new_tokens 2$RANK", "what is evaluated", STATUS_USAGE},
    };
    char program[4096], command[5000], link[600];
    const char *build = getenv("FLAT_BUILD"), *words[] = {"/bin/sh", "-c", command, NULL};
    assert_non_null(realpath(build && *build ? build : "build", program));
    static const char row[] = "{\"question\": \"Which animal can purr?\", \"answer\": \"cat\"}\n";
    temporary_file("rows.jsonl", row, strlen(row));
    temporary_file("rows0.jsonl", row, strlen(row));
    temporary_file("refusals.txt", "No.\n", 4);
    temporary_file("refusals0.txt", "No.\n", 4);
    snprintf(link, sizeof link, "%s/model0", temporary);
    assert_int_equal(symlink("model", link), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ranks ranks;
        snprintf(command, sizeof command, "cd %s && exec %s/flat eval --device cpu --quiet %s", temporary, program, cases[i].flags);
        ranks_start(&ranks, 2, words, NULL);
        ranks_wait(&ranks, RANKS_SECONDS);
        ranks_expect(&ranks, 0, cases[i].status, cases[i].message);
        ranks_expect(&ranks, 0, cases[i].status, "rank 1");
        ranks_silent(&ranks, 1, cases[i].status);
        ranks_free(&ranks);
    }
}

/* Small batches, so that there is something to share and to interrupt. */
#define SMALL TOFU "--batch_size 2 --batch_tokens 300 "

static void test_ranks(void **state)
{
    (void)state;
    expect_run(program_line("eval " COMMON SMALL "-o %s/one", temporary, temporary));
    expect_run(program_line("eval " COMMON SMALL "-o %s/two --nproc_per_node 2", temporary, temporary));
    expect_run(program_line("eval " COMMON SMALL "-o %s/four --nproc_per_node 4", temporary, temporary));
    same_bytes("one", "two");
    same_bytes("one", "four");
}

/* What a killed evaluation leaves, at every line and in the middle of one: it goes on, with the same result. */
static void test_continued(void **state)
{
    (void)state;
    char partial[600];
    struct error error = {0};
    /* a full disk stops it before the results are written */
    expect_run(program_line("eval " COMMON SMALL "-o %s/whole", temporary, temporary));
    struct program_result stopped = program_run(
        (const char *const[]){"eval", "--model", temporary_path("model"), "--device", "cpu", "--max_new_tokens", "24",
                              "--refusals", EVAL "/refusals.txt", "--suite", "tofu", "--forget_data",
                              EVAL "/tofu/forget01_perturbed.json", "--retain_log", EVAL "/expected/TOFU_retain.json",
                              "--batch_size", "2", "--batch_tokens", "300", "-o", temporary_path("cut"), NULL},
        NULL, 3000);
    program_expect_error(&stopped, STATUS_RUNTIME, "TOFU_EVAL.partial.jsonl: cannot be written");
    program_free(&stopped);
    snprintf(partial, sizeof partial, "%s/cut/TOFU_EVAL.partial.jsonl", temporary);
    char *text;
    size_t length;
    assert_int_equal(file_read(partial, 1 << 20, &text, &length, &error), STATUS_OK);
    assert_in_range(length, 2000, 3000);
    struct program_result again = program_line("eval --model %s/model --device cpu --max_new_tokens 24 --refusals " EVAL
                                               "/refusals.txt " SMALL "-o %s/cut", temporary, temporary);
    program_expect(&again, STATUS_OK);
    assert_non_null(strstr(again.err, "continuing an evaluation: "));
    program_free(&again);
    same_bytes("whole", "cut");
    /* other settings are another evaluation; a line that is no result is refused */
    assert_int_equal(file_write(partial, text, length, &error), STATUS_OK);
    again = program_line("eval --model %s/model --device cpu --max_new_tokens 23 --refusals " EVAL "/refusals.txt " SMALL
                         "-o %s/cut", temporary, temporary);
    program_expect(&again, STATUS_OK);
    assert_non_null(strstr(again.err, "is of another model, other data or settings; it is begun anew"));
    program_free(&again);
    *strstr(text, "\"chunk\": 0") = 'x';
    assert_int_equal(file_write(partial, text, length, &error), STATUS_OK);
    again = program_line("eval " COMMON SMALL "-o %s/cut", temporary, temporary);
    program_expect_error(&again, STATUS_INPUT, "TOFU_EVAL.partial.jsonl: line 2: ");
    program_free(&again);
    free(text);
}

/* ---- in training ---- */

#define UNLEARN "unlearn --model %s/model --forget_data " EVAL "/qa_forget.jsonl --template.file " EVAL "/refusals.txt " \
                "--num_train_epochs 4 --per_device_train_batch_size 2 --gradient_accumulation_steps 1 --learning_rate 3e-4 " \
                "--prompt_template qa --device cpu --quiet --save_dtype float32 "
#define SETS "--eval_data facts=" EVAL "/tofu/world_facts_perturbed.json,retain=" EVAL "/tofu/retain_perturbed.json "

/* The tensors of a model file, behind its header. */
static char *weights_of(const char *folder, size_t *length)
{
    char path[600], *file;
    struct error error = {0};
    uint64_t header;
    snprintf(path, sizeof path, "%s/%s/model.safetensors", temporary, folder);
    assert_int_equal(file_read(path, 1 << 24, &file, length, &error), STATUS_OK);
    memcpy(&header, file, sizeof header);
    *length -= 8 + header;
    memmove(file, file + 8 + header, *length);
    return file;
}

static void same_weights(const char *one, const char *other)
{
    size_t a_length, b_length;
    char *a = weights_of(one, &a_length), *b = weights_of(other, &b_length);
    assert_int_equal(a_length, b_length);
    assert_memory_equal(a, b, a_length);
    free(a);
    free(b);
}

/* prob_mean of a set at a step in metrics.jsonl; NAN when there is no such line. */
static double measured_at(const char *folder, const char *set, int step)
{
    char path[600], *text;
    size_t length;
    double value = NAN;
    struct error error = {0};
    snprintf(path, sizeof path, "%s/%s/metrics.jsonl", temporary, folder);
    assert_int_equal(file_read(path, 1 << 24, &text, &length, &error), STATUS_OK);
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        cJSON *json = json_parse(line, (size_t)(end - line), path, &error);
        assert_non_null(json);
        const cJSON *eval = json_member(json, "eval");
        if (eval && !strcmp(eval->valuestring, set) && json_member(json, "step")->valueint == step)
            value = json_member(json, "prob_mean")->valuedouble;
        cJSON_Delete(json);
    }
    free(text);
    return value;
}

static double summary_of(const char *folder, const char *name)
{
    char path[600];
    struct error error = {0};
    snprintf(path, sizeof path, "%s/%s/QA_SUMMARY.json", temporary, folder);
    cJSON *json = json_read_python(path, 1 << 24, &error);
    assert_non_null(json);
    const double value = json_member(json, name)->valuedouble;
    cJSON_Delete(json);
    return value;
}

/* What the model before thinks of the answers of a log: as `flat score` has it, of answers that are not empty. */
static void fluency_expect(const char *folder)
{
    struct error error = {0};
    struct buffer rows = {0};
    char path[600];
    double sum = 0;
    int count = 0;
    snprintf(path, sizeof path, "%s/%s/QA_EVAL.json", temporary, folder);
    cJSON *log = json_read_python(path, 1 << 24, &error);
    assert_non_null(log);
    const cJSON *row, *loss = json_member(log, "forget_generation_loss"), *said = json_member(json_member(log, "forget_ROUGE"), "value_by_index");
    cJSON_ArrayForEach(row, said)
    {
        const char *input = json_member(row, "input")->valuestring, *question = strstr(input, "Question: ");
        const char *answer = json_member(row, "generation")->valuestring;
        const cJSON *own = json_member(json_member(json_member(loss, "value_by_index"), row->string), "score");
        assert_non_null(question);
        assert_int_equal(!*answer, !own);
        if (!*answer)
            continue;
        assert_int_equal(buffer_printf(&rows, &error, "{\"question\": "), STATUS_OK);
        assert_int_equal(json_print_string(question + 10, strcspn(question + 10, "\n"), &rows, &error), STATUS_OK);
        assert_int_equal(buffer_printf(&rows, &error, ", \"answer\": "), STATUS_OK);
        assert_int_equal(json_print_string(answer, strlen(answer), &rows, &error), STATUS_OK);
        assert_int_equal(buffer_printf(&rows, &error, "}\n"), STATUS_OK);
    }
    temporary_file("answers.jsonl", rows.data, rows.length);
    buffer_free(&rows);
    struct program_result scores = program_line("score --model %s/model --data %s/answers.jsonl --prompt_template qa --device cpu", temporary,
                                                temporary);
    program_expect(&scores, STATUS_OK);
    for (char *line = scores.out, *end; (end = strchr(line, '\n')); line = end + 1, count++) {
        cJSON *score = json_parse(line, (size_t)(end - line), "scores", &error);
        sum -= json_member(score, "logprob_sum")->valuedouble / json_member(score, "num_tokens")->valuedouble;
        cJSON_Delete(score);
    }
    program_free(&scores);
    assert_true(count > 0);
    assert_float_equal(json_member(loss, "agg_value")->valuedouble, sum / count, 1e-5);
    cJSON_Delete(log);
}

/* Looking changes nothing; what is said during the training is what the table says of the models before and after, on one
 * rank and on two. */
static void test_training(void **state)
{
    (void)state;
    struct program_result plain = program_line(UNLEARN "--final_eval_rows 0 --output_dir %s/plain", temporary, temporary);
    program_expect(&plain, STATUS_OK);
    assert_string_equal(plain.out, "");
    assert_string_equal(plain.err, "");
    program_free(&plain);
    struct program_result table = program_line(UNLEARN SETS "--eval_strategy epoch --output_dir %s/table", temporary, temporary);
    program_expect(&table, STATUS_OK);
    assert_non_null(strstr(table.out, "\nforget           P(answer) "));
    assert_non_null(strstr(table.out, "\nfacts            P(answer) "));
    assert_non_null(strstr(table.out, "\n  before  Ada Lum lives in Aldmoor and is a baker.\n  after "));
    assert_null(strstr(table.err, "nothing outside the forget set"));
    program_free(&table);
    same_weights("plain", "table");
    for (int step = 0; step <= 8; step += 2)
        assert_true(isfinite(measured_at("table", "facts", step)));
    assert_true(isnan(measured_at("table", "facts", 3)));
    static const char *const sets[] = {"facts", "retain"};
    for (int i = 0; i < 2; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s_mean_prob", sets[i]);
        assert_float_equal(measured_at("table", sets[i], 0), summary_of("table/evals/before", name), 1e-6);
        assert_float_equal(measured_at("table", sets[i], 8), summary_of("table/evals/after", name), 1e-6);
    }
    fluency_expect("table/evals/before");
    fluency_expect("table/evals/after");
    expect_run(program_line(UNLEARN SETS "--eval_strategy steps --eval_steps 3 --final_eval_rows 0 --nproc_per_node 2 "
                            "--output_dir %s/ranks", temporary, temporary));
    /* in the middle of an epoch, where the next step's rows are packed ahead */
    expect_run(program_line(UNLEARN "--final_eval_rows 0 --per_device_train_batch_size 1 --output_dir %s/single_plain", temporary,
                            temporary));
    expect_run(program_line(UNLEARN SETS "--final_eval_rows 0 --per_device_train_batch_size 1 --eval_strategy steps --eval_steps 1 "
                            "--output_dir %s/single", temporary, temporary));
    same_weights("single", "single_plain");
    expect_run(program_line(UNLEARN "--final_eval_rows 0 --nproc_per_node 2 --output_dir %s/ranks_plain", temporary,
                            temporary));
    same_weights("ranks", "ranks_plain");
    assert_float_equal(measured_at("ranks", "retain", 0), measured_at("table", "retain", 0), 1e-6);
    assert_true(isfinite(measured_at("ranks", "facts", 3)) && isfinite(measured_at("ranks", "facts", 4)));
    /* nothing but the forget set: the table says so, after it */
    struct program_result alone = program_line(UNLEARN "--output_dir %s/alone", temporary, temporary);
    program_expect(&alone, STATUS_OK);
    assert_non_null(strstr(alone.err, "warning: nothing outside the forget set was measured"));
    program_free(&alone);
    struct program_result none = program_line(UNLEARN "--eval_strategy epoch --output_dir %s/none", temporary, temporary);
    program_expect_error(&none, STATUS_USAGE, "eval_strategy: there is nothing to look at; add --eval_data NAME=FILE");
    program_free(&none);
    none = program_line(UNLEARN "--eval_data a=%s/none.jsonl --output_dir %s/none", temporary, temporary, temporary);
    program_expect_error(&none, STATUS_INPUT, "none.jsonl");
    program_free(&none);
    assert_false(file_exists(temporary_path("none")));
}

static void test_refused(void **state)
{
    (void)state;
    static const char bad[] = "{\"question\": \"a\", \"answer\": \"b\", \"perturbed_answer\": [\"c\", \"d\"]}\n"
                              "{\"question\": \"a\", \"answer\": \"b\", \"perturbed_answer\": [\"c\"]}\n";
    static const struct {
        const char *flags, *message;
        int status;
    } cases[] = {
        {"", "forget_data: the suite qa needs rows", STATUS_USAGE},
        {"--suite tofu", "forget_data: the suite tofu needs it", STATUS_USAGE},
        {"--suite muse", "data_dir: the suite muse needs the folder", STATUS_USAGE},
        {"--suite muse --data_dir " EVAL, "none of MUSE's files is there", STATUS_INPUT},
        {"--eval_data facts", "eval_data: expected NAME=FILE, found \"facts\"", STATUS_USAGE},
        {"--eval_data a=" EVAL "/qa_facts.jsonl,a=" EVAL "/qa_facts.jsonl", "there are two sets named a", STATUS_USAGE},
        {"--eval_data a=none.jsonl", "none.jsonl", STATUS_INPUT},
        {"--suite harry_potter --forget_data " EVAL "/text.txt", "no passage of more than 200 words", STATUS_INPUT},
        {"--forget_data " EVAL "/text.txt --eval_max_length 64", "running text has no answer to compare a continuation with", STATUS_INPUT},
        {"--suite none --forget_data x", "suite: expected one of", STATUS_USAGE},
        {"--from_logs x.json", "output_dir: figures of a log are written somewhere", STATUS_USAGE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct program_result result = program_line("eval --model %s/model --device cpu %s", temporary, cases[i].flags);
        program_expect_error(&result, cases[i].status, cases[i].message);
        program_free(&result);
    }
    temporary_file("bad.json", bad, sizeof bad - 1);
    struct program_result result = program_line("eval " COMMON "--suite tofu --forget_data %s/bad.json", temporary, temporary);
    program_expect_error(&result, STATUS_INPUT, "bad.json:2: perturbed_answer: expected a list of 2 texts, as in the first row");
    program_free(&result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_suites),
        cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_rank_fails),
        cmocka_unit_test(test_continued),
        cmocka_unit_test(test_training),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, model_make, temporary_remove);
}
