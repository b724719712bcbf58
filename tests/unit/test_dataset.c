/* test_dataset.c - rows, lists of template answers, prompt templates, and which answer a row gets. */
#include "../support/temporary.h"

#include "../../host/io/data/dataset.h"
#include "../../host/util/file.h"

static void test_rows(void **state)
{
    (void)state;
    static const struct {
        const char *text, *question, *answer; /* of the last row */
        int rows, line;
    } cases[] = {
        {"{\"question\":\"q\",\"answer\":\"a\"}", "q", "a", 1, 1},
        {"{\"question\":\"q\",\"answer\":\"a\"}\n{\"answer\":\"b\",\"question\":\"r\"}\n", "r", "b", 2, 2},
        {"\xef\xbb\xbf\r\n\n {\"question\":\"q\",\"answer\":\"a\"}\r\n\t\r\n", "q", "a", 1, 3},
        {"[{\"question\":\"q\",\"answer\":\"a\"},\n\n{\"question\":\"r\",\"answer\":\"b\"}]", "r", "b", 2, 2},
        {"\xef\xbb\xbf\n[{\"question\":\"q\",\"answer\":\"a\"}]\n", "q", "a", 1, 1},
        {"{\"question\":\" q \\n\",\"answer\":\"\\u00e9 \",\"x\":[1,{}]}", " q \n", "\xc3\xa9 ", 1, 1},
        {"{\"question\":\"q\xe2\x80\xa8r\",\"answer\":\"a\"}", "q\xe2\x80\xa8r", "a", 1, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dataset data;
        struct error error = {0};
        const char *path = temporary_file("rows.json", cases[i].text, strlen(cases[i].text));
        if (dataset_read(&data, path, "question", "answer", &error))
            fail_msg("case %zu: %s", i, error.text);
        assert_int_equal(data.rows, cases[i].rows);
        assert_string_equal(data.path, path);
        assert_string_equal(data.row[data.rows - 1].question, cases[i].question);
        assert_string_equal(data.row[data.rows - 1].answer, cases[i].answer);
        assert_int_equal(data.row[data.rows - 1].line, cases[i].line);
        dataset_free(&data);
        dataset_free(&data);
    }
}

static void test_rows_malformed(void **state)
{
    (void)state;
#define ROW "{\"question\":\"q\",\"answer\":\"a\"}\n"
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "rows.json: has no rows; expected JSON objects with the keys question and answer"},
        {" \n\t\r\n", "rows.json: has no rows"},
        {"[]", "rows.json: has no rows"},
        {ROW "{\"question\":\"q\"}", "rows.json:2: answer: the key is missing; expected a string"},
        {ROW "\n{\"answer\":\"q\"}", "rows.json:3: question: the key is missing"},
        {"{\"question\":\"q\",\"answer\":3}", "rows.json:1: answer: expected a string, found a number"},
        {"{\"question\":null,\"answer\":\"a\"}", "rows.json:1: question: expected a string, found null"},
        {"{\"question\":\"q\",\"answer\":[\"a\"]}", "rows.json:1: answer: expected a string, found an array"},
        {"{\"question\":\"q\",\"answer\":\"\"}", "rows.json:1: answer: expected text, found an empty string"},
        {"{\"question\":\"\",\"answer\":\"a\"}", "rows.json:1: question: expected text, found an empty string"},
        {"{\"Question\":\"q\",\"answer\":\"a\"}", "rows.json:1: question: the key is missing"},
        {ROW "\"text\"", "rows.json:2: expected an object with the key question, found a string"},
        {ROW "{\"question\":\"q\"", "rows.json:2: offset 15: expected ',' or '}', found the end of the text"},
        {ROW "{\"question\":\"q\",\"answer\":\"a\"} x", "rows.json:2: offset 30: expected the end of the text"},
        {"{\n\"question\":\"q\",\"answer\":\"a\"}", "rows.json:1: offset 1: expected a key in double quotes"},
        {"plain text", "rows.json:1: offset 0: expected a JSON value, found 'p'"},
        {"[" ROW ",3]", "rows.json: element 2: expected an object with the key question, found a number"},
        {"[" ROW "]" ROW, "rows.json: offset 32: expected the end of the text, found '{'"},
        {"[" ROW, "rows.json: offset 31: expected ',' or ']', found the end"},
        {"{\"question\":\"q\",\"answer\":\"\xff\"}", "rows.json: offset 26: expected UTF-8"},
        {"{\"question\":\"q\",\"question\":\"r\",\"answer\":\"a\"}", "rows.json:1: offset 16: duplicate key"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dataset data;
        struct error error = {0};
        const char *path = temporary_file("rows.json", cases[i].text, strlen(cases[i].text));
        int status = dataset_read(&data, path, "question", "answer", &error);
        assert_error(&error, status, STATUS_INPUT, cases[i].message);
        assert_null(data.row);
    }
    struct dataset data;
    struct error error = {0};
    const char *path = temporary_file("rows.json", "{\"q\0\":1}", 8);
    assert_error(&error, dataset_read(&data, path, "question", "answer", &error), STATUS_INPUT,
                 "rows.json: offset 3: expected text, found a zero byte");
    assert_error(&error, dataset_read(&data, temporary_path("none"), "question", "answer", &error), STATUS_INPUT,
                 "none: cannot be opened");
#undef ROW
}

static void test_answers(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text;
        const char *answer[3];
    } cases[] = {
        {"a.txt", "one\n  two \r\n\n\"three\"", {"one", "two", "\"three\""}},
        {"a.TXT", "\xef\xbb\xbfone", {"one"}},
        {"a.jsonl", "\"one\"\n{\"answer\":\"two\",\"x\":1}\r\n\n\"th\\nree\"", {"one", "two", "th\nree"}},
        {"a.jsonl", "I'm one.\r\nThat's two.\n{three}", {"I'm one.", "That's two.", "{three}"}},
        {"a.json", "[\"one\", {\"answer\":\"two\"},\n\"three\"]", {"one", "two", "three"}},
        {"a.csv", "one\ntwo\nthree", {"one", "two", "three"}},
        {"a.csv", "Refusal Response\none\ntwo\n", {"one", "two"}},
        {"a.csv", "answer,n\none,1\r\ntwo,2\r\n", {"one", "two"}},
        {"a.csv", "one\nanswer", {"one", "answer"}},
        {"a.csv", "\"response\"\n\"a, \"\"b\"\" c\"\n\"two\nlines\"\n\n  three ", {"a, \"b\" c", "two\nlines",
         "  three "}},
        {"a.csv", "\xef\xbb\xbf\"one\",,\"x,\n\"\ntwo,,\n", {"one", "two"}},
        {"a.csv", "on\re\r", {"on\re"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct answer_list list;
        struct error error = {0};
        const char *path = temporary_file(cases[i].name, cases[i].text, strlen(cases[i].text));
        if (answer_list_read(&list, path, &error))
            fail_msg("case %zu: %s", i, error.text);
        int count = 0;
        while (count < 3 && cases[i].answer[count])
            count++;
        assert_int_equal(list.count, count);
        for (int k = 0; k < count; k++)
            assert_string_equal(list.text[k], cases[i].answer[k]);
        answer_list_free(&list);
    }
}

static void test_answers_malformed(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text, *message;
    } cases[] = {
        {"a.txt", "\n \n", "a.txt: has no answers"},
        {"a.csv", "", "a.csv: has no answers"},
        {"a.csv", "answer\n", "a.csv: has no answers"},
        {"a.json", "[]", "a.json: has no answers"},
        {"a.md", "one", "a.md: expected a name that ends in .txt, .csv, .json or .jsonl"},
        {"answers", "one", "answers: expected a name that ends in"},
        {"a.csv", "one\n\"two", "a.csv:2: the quote that begins here is never closed"},
        {"a.csv", "\"one\n\"x\ntwo", "a.csv:2: expected a comma or the end of the line after a closing quote"},
        {"a.csv", "I am \"not\" sure", "a.csv:1: a quote inside a cell"},
        {"a.csv", "one\nI'm sorry, no.", "a.csv:2: expected 1 cells as in the first record, found 2; an answer with"},
        {"a.csv", "one,1\n,2", "a.csv:2: expected an answer in the first column, found an empty cell"},
        {"a.csv", "one\n\"\"", "a.csv:2: expected an answer in the first column"},
        {"a.jsonl", "\"one\"\n3", "a.jsonl:2: expected an object with the key answer, found a number"},
        {"a.jsonl", "\"one\"\n{\"response\":\"x\"}", "a.jsonl:2: answer: the key is missing"},
        {"a.jsonl", "\"one\"\n\"\"", "a.jsonl:2: answer: expected text, found an empty string"},
        {"a.jsonl", "\"one\"\n\"two", "a.jsonl:2: offset 4: expected a closing quote"},
        {"a.json", "[\"one\",{}]", "a.json: element 2: answer: the key is missing"},
        {"a.txt", "on\xff", "a.txt: offset 2: expected UTF-8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct answer_list list;
        struct error error = {0};
        const char *path = temporary_file(cases[i].name, cases[i].text, strlen(cases[i].text));
        int status = answer_list_read(&list, path, &error);
        assert_error(&error, status, STATUS_INPUT, cases[i].message);
        assert_null(list.text);
    }
}

static void test_templates(void **state)
{
    (void)state;
    static const struct {
        const char *name, *prompt, *full;
    } cases[] = {
        {"llama2_chat", "[INST] Who? [/INST]", "[INST] Who? [/INST]Me."},
        {"llama3_chat",
         "<|start_header_id|>user<|end_header_id|>\n\nWho?<|eot_id|>"
         "<|start_header_id|>assistant<|end_header_id|>\n\n",
         "<|start_header_id|>user<|end_header_id|>\n\nWho?<|eot_id|>"
         "<|start_header_id|>assistant<|end_header_id|>\n\nMe.<|eot_id|>"},
        {"phi", "Question: Who?\nAnswer:", "Question: Who?\nAnswer: Me."},
        {"qa", "Question: Who?\nAnswer:", "Question: Who?\nAnswer: Me."},
        {"plain", "Who?", "Who? Me."},
    };
    char *prompt, *full;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct prompt_template *template_ = prompt_template_find(cases[i].name);
        assert_non_null(template_);
        assert_non_null(strstr(prompt_template_names(), cases[i].name));
        assert_int_equal(prompt_template_apply(template_, "Who?", "Me.", &prompt, &full, NULL), STATUS_OK);
        assert_string_equal(prompt, cases[i].prompt);
        assert_string_equal(full, cases[i].full);
        free(prompt);
        free(full);
    }
    assert_null(prompt_template_find("vicuna"));
    /* tags of the user's own: one space only, of user_end when answer_start is empty, never of the question */
    static const struct {
        struct prompt_template tags;
        const char *prompt, *full;
    } custom[] = {
        {{"custom", "U:", "  ", "", "!"}, "U:q  ", "U:q   a!"},
        {{"custom", "U:", " ", "A:", ""}, "U:q  A:", "U:q  A:a"},
        {{"custom", "", "", "", ""}, "q ", "q a"},
    };
    for (size_t i = 0; i < sizeof custom / sizeof *custom; i++) {
        assert_int_equal(prompt_template_apply(&custom[i].tags, "q ", "a", &prompt, &full, NULL), STATUS_OK);
        assert_string_equal(prompt, custom[i].prompt);
        assert_string_equal(full, custom[i].full);
        free(prompt);
        free(full);
    }
}

static void test_pick(void **state)
{
    (void)state;
    enum { COUNT = 7, ROWS = 70000 };
    int histogram[COUNT] = {0}, same_next_row = 0, same_next_epoch = 0, same_next_seed = 0;
    for (int row = 0; row < ROWS; row++) {
        int pick = template_pick(TEMPLATE_RANDOM, 42, 0, row, COUNT);
        assert_in_range(pick, 0, COUNT - 1);
        assert_int_equal(pick, template_pick(TEMPLATE_RANDOM, 42, 0, row, COUNT));
        histogram[pick]++;
        same_next_row += pick == template_pick(TEMPLATE_RANDOM, 42, 0, row + 1, COUNT);
        same_next_epoch += pick == template_pick(TEMPLATE_RANDOM, 42, 1, row, COUNT);
        same_next_seed += pick == template_pick(TEMPLATE_RANDOM, 43, 0, row, COUNT);
        assert_int_equal(template_pick(TEMPLATE_CYCLE, 42, 3, row, COUNT), (row + 3) % COUNT);
        assert_int_equal(template_pick(TEMPLATE_FIXED, 42, 3, row, COUNT), 0);
    }
    /* 10,000 are expected of each, with a standard deviation of 93 */
    for (int i = 0; i < COUNT; i++)
        assert_in_range(histogram[i], 9500, 10500);
    assert_in_range(same_next_row, 9500, 10500);
    assert_in_range(same_next_epoch, 9500, 10500);
    assert_in_range(same_next_seed, 9500, 10500);
    assert_int_equal(template_pick(TEMPLATE_RANDOM, 42, 0, 0, 1), 0);
    /* part of a run's reproducibility: these must never change */
    static const int expected[8] = {57, 33, 94, 57, 68, 93, 72, 10};
    for (int row = 0; row < 8; row++)
        assert_int_equal(template_pick(TEMPLATE_RANDOM, 42, 1, row, 99), expected[row]);
}

/* The real TOFU, where it is at hand. */
static void test_tofu(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int rows;
    } cases[] = {{"full", 4000}, {"forget01", 40}, {"forget10", 400}, {"retain90", 3600}, {"world_facts_perturbed",
        117}};
    const char *shared = getenv("FLAT_SHARED");
    char path[600];
    struct error error = {0};
    struct answer_list list;
    snprintf(path, sizeof path, "%s/data/tofu/idontknow.jsonl", shared ? shared : "../shared");
    if (!file_exists(path)) {
        print_message("skipped: %s is not there\n", path);
        skip();
    }
    assert_int_equal(answer_list_read(&list, path, &error), STATUS_OK);
    assert_int_equal(list.count, 100); /* the last line has no newline */
    assert_string_equal(list.text[0], "I'm not certain about that.");
    assert_string_equal(list.text[99], "I'm not sure I can help with that.");
    answer_list_free(&list);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dataset data;
        snprintf(path, sizeof path, "%s/data/tofu/%s.json", shared ? shared : "../shared", cases[i].name);
        assert_int_equal(dataset_read(&data, path, "question", "answer", &error), STATUS_OK);
        assert_int_equal(data.rows, cases[i].rows);
        assert_int_equal(data.row[data.rows - 1].line, cases[i].rows);
        dataset_free(&data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),    cmocka_unit_test(test_rows_malformed),    cmocka_unit_test(test_answers),
        cmocka_unit_test(test_templates), cmocka_unit_test(test_answers_malformed), cmocka_unit_test(test_pick),
        cmocka_unit_test(test_tofu),
    };
    return cmocka_run_group_tests(tests, temporary_make, temporary_remove);
}
