/* test_lm_eval_rows.c - tools/lm_eval_rows.py: the rows that it makes of tasks' documents are the requests of lm-evaluation-harness, and
 * the figures that it makes of log-probabilities are the harness's (tests/golden/lm_eval.json, by make_lm_eval_golden.py); there and
 * back through `flat score`; what is refused. Skipped where there is no python3.
 */
#include "../support/temporary.h"

#include <math.h>
#include <sys/wait.h>

#include "../../host/io/json/json.h"
#include "../../host/util/file.h"
#include "../support/program.h"

#define EVAL "tests/golden/eval"

static cJSON *golden;

static int make(void **state)
{
    struct error error = {0};
    golden = json_read("tests/golden/lm_eval.json", &error);
    return golden ? temporary_make(state) : -1;
}

static int end(void **state)
{
    cJSON_Delete(golden);
    return temporary_remove(state);
}

static void need_python(void)
{
    if (system("python3 -c '' 2>/dev/null"))
        skip();
}

/* The tool's exit code; its output goes to a file. */
static int tool(const char *arguments, const char *output)
{
    char command[2000];
    snprintf(command, sizeof command, "python3 tools/lm_eval_rows.py %s >%s/%s 2>%s/said", arguments, temporary, output, temporary);
    const int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static char *text_of(const char *name)
{
    char *text;
    size_t length;
    struct error error;
    if (file_read(temporary_path(name), 1 << 24, &text, &length, &error))
        fail_msg("%s", error.text);
    return text;
}

static void lines_write(const char *name, const struct buffer *lines)
{
    temporary_file(name, lines->data, lines->length);
}

/* What the tool calls a task of the harness. */
static const char *task_of(const char *name)
{
    return !strncmp(name, "mmlu", 4) ? "mmlu" : !strncmp(name, "wmdp", 4) ? "wmdp" : name;
}

/* Rows of the task's documents, into rows.jsonl; expects the harness's requests. */
static void rows_expect(const cJSON *documents)
{
    struct error error;
    struct buffer lines = {0};
    const cJSON *document, *request;
    char arguments[700];
    cJSON_ArrayForEach(document, documents)
    {
        assert_int_equal(json_print(json_member(document, "row"), &lines, &error), STATUS_OK);
        assert_int_equal(buffer_append(&lines, "\n", 1, &error), STATUS_OK);
    }
    lines_write("documents.jsonl", &lines);
    buffer_free(&lines);
    snprintf(arguments, sizeof arguments, "rows %s %s/documents.jsonl%s", task_of(documents->string), temporary,
             strcmp(documents->string, "wmdp_bio") ? "" : " --subject biology");
    if (tool(arguments, "rows.jsonl"))
        fail_msg("%s: %s", documents->string, text_of("said"));
    char *text = text_of("rows.jsonl"), *line = text;
    int number = 0;
    cJSON_ArrayForEach(document, documents)
    {
        int choice = 0;
        cJSON_ArrayForEach(request, json_member(document, "requests"))
        {
            char *stop = strchr(line, '\n');
            assert_non_null(stop);
            cJSON *row = json_parse(line, (size_t)(stop - line), "rows.jsonl", &error);
            assert_non_null(row);
            assert_string_equal(json_member(row, "prompt")->valuestring, cJSON_GetArrayItem(request, 0)->valuestring);
            assert_string_equal(json_member(row, "answer")->valuestring, cJSON_GetArrayItem(request, 1)->valuestring);
            assert_int_equal(json_member(row, "document")->valueint, number);
            assert_int_equal(json_member(row, "choice")->valueint, choice++);
            cJSON_Delete(row);
            line = stop + 1;
        }
        number++;
    }
    assert_string_equal(line, "");
    free(text);
}

/* Lines as `flat score --tokens` writes them, with these sums spread over three tokens and an end of sequence. */
static void scores_write(const cJSON *documents)
{
    struct error error;
    struct buffer lines = {0};
    char *text = text_of("rows.jsonl"), *line = text;
    const cJSON *document, *sum;
    cJSON_ArrayForEach(document, documents)
        cJSON_ArrayForEach(sum, json_member(document, "logprobs"))
        {
            char *stop = strchr(line, '\n');
            assert_int_equal(buffer_printf(&lines, &error, "%.*s, \"token_logprobs\": [%.17g, %.17g, %.17g, -5.5]}\n",
                                           (int)(stop - line - 1), line, 0.5 * sum->valuedouble, 0.25 * sum->valuedouble,
                                           0.25 * sum->valuedouble), STATUS_OK);
            line = stop + 1;
        }
    lines_write("scores.jsonl", &lines);
    buffer_free(&lines);
    free(text);
}

static double mean_of_figure(const cJSON *documents, const char *name)
{
    const cJSON *document;
    double sum = 0;
    cJSON_ArrayForEach(document, documents)
    {
        const cJSON *figure = json_member(json_member(document, "figures"), name);
        sum += figure ? figure->valuedouble : NAN;
    }
    return sum / cJSON_GetArraySize(documents);
}

static cJSON *accuracy(const char *files)
{
    char arguments[700];
    struct error error;
    snprintf(arguments, sizeof arguments, "accuracy %s", files);
    if (tool(arguments, "accuracy.json"))
        fail_msg("%s", text_of("said"));
    cJSON *json = json_read(temporary_path("accuracy.json"), &error);
    assert_non_null(json);
    return json;
}

static void test_harness(void **state)
{
    (void)state;
    need_python();
    const cJSON *documents;
    char file[600];
    snprintf(file, sizeof file, "%s/scores.jsonl", temporary);
    cJSON_ArrayForEach(documents, golden)
    {
        static const char *const names[] = {"acc", "acc_norm"};
        rows_expect(documents);
        scores_write(documents);
        cJSON *json = accuracy(file);
        const cJSON *result = json_member(json_member(json, "results"), task_of(documents->string));
        for (int i = 0; i < 2; i++) {
            char key[32];
            snprintf(key, sizeof key, "%s,none", names[i]);
            const double wanted = mean_of_figure(documents, names[i]);
            const cJSON *got = json_member(result, key);
            if (isnan(wanted) != !got || (got && fabs(got->valuedouble - wanted) > 1e-12))
                fail_msg("%s: %s: %g, the harness has %g", documents->string, names[i], got ? got->valuedouble : NAN, wanted);
        }
        cJSON_Delete(json);
    }
}

/* There and back with a model: every choice gets its score, and one of them is the best. */
static void test_score(void **state)
{
    (void)state;
    need_python();
    static const char *const files[] = {EVAL "/model/config.json", EVAL "/model/model.safetensors", "configs/demo/model/tokenizer.json",
                                        "configs/demo/model/tokenizer_config.json"};
    struct error error;
    assert_int_equal(file_make_directory(temporary_path("model"), &error), STATUS_OK);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char to[600];
        snprintf(to, sizeof to, "%s/model%s", temporary, strrchr(files[i], '/'));
        assert_int_equal(file_copy(files[i], to, &error), STATUS_OK);
    }
    rows_expect(json_member(golden, "piqa"));
    struct program_result result = program_line("score --model %s/model --data %s/rows.jsonl --tokens --device cpu --quiet --output %s/out.jsonl",
                                                temporary, temporary, temporary);
    program_expect(&result, STATUS_OK);
    program_free(&result);
    char file[600];
    snprintf(file, sizeof file, "%s/out.jsonl", temporary);
    cJSON *json = accuracy(file);
    const cJSON *piqa = json_member(json_member(json, "results"), "piqa");
    assert_int_equal(json_member(piqa, "samples")->valueint, 2);
    const double acc = json_member(piqa, "acc,none")->valuedouble;
    assert_true(acc == 0 || acc == 0.5 || acc == 1);
    assert_true(json_member(json, "mean_acc")->valuedouble == acc);
    cJSON_Delete(json);
}

static void test_refused(void **state)
{
    (void)state;
    need_python();
    static const struct {
        const char *text, *arguments, *says;
    } cases[] = {
        {"{\"question\": \"a\"}\n", "rows boolq", "bad.jsonl: row 1: no row of boolq: KeyError 'passage'"},
        {"{\"goal\": \"a\", \"sol1\": \"b\", \"sol2\": \"c\", \"label\": 7}\n", "rows piqa", "the right choice is 7 of 2"},
        {"{\"sentence\": \"no gap\", \"option1\": \"b\", \"option2\": \"c\", \"answer\": \"1\"}\n", "rows winogrande", "row 1"},
        {"{\"task\": \"piqa\", \"document\": 0, \"choice\": 0, \"right\": 1, \"answer\": \" b\"}\n", "accuracy", "score with --tokens"},
        {"{\"task\": \"piqa\", \"document\": 0, \"choice\": 1, \"right\": 1, \"answer\": \" b\", \"token_logprobs\": [-1, -2]}\n",
         "accuracy", "choices of document 0 are missing"},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        char arguments[700];
        temporary_file("bad.jsonl", cases[c].text, strlen(cases[c].text));
        snprintf(arguments, sizeof arguments, "%s %s/bad.jsonl", cases[c].arguments, temporary);
        assert_int_equal(tool(arguments, "nothing"), 1);
        char *said = text_of("said");
        if (!strstr(said, cases[c].says))
            fail_msg("'%s' is not in: %s", cases[c].says, said);
        free(said);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_harness), cmocka_unit_test(test_score), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, make, end);
}
