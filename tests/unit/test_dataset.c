/* test_dataset.c - rows in every form and file, lists of template answers, and which answer a row gets. */
#include "../support/temporary.h"

#include <zlib.h>

#include "../../host/io/data/answer_list.h"
#include "../../host/io/data/dataset.h"
#include "../../host/util/file.h"

static const struct dataset_options keys = {"question", "answer"};

static int read_rows(struct dataset *data, const char *name, const char *text, size_t length, unsigned flags,
                     struct error *error)
{
    return dataset_read(data, temporary_file(name, text, length), &keys, flags, error);
}

static void test_rows(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text, *prompt, *answer; /* of the last row; a prompt NULL: messages */
        int rows, line;
        enum dataset_form form;
    } cases[] = {
#define ROW "{\"question\":\"q\",\"answer\":\"a\"}"
        {"r.json", ROW, "q", "a", 1, 1, ROW_QUESTION},
        {"r.json", ROW "\n{\"answer\":\"b\",\"question\":\"r\"}\n", "r", "b", 2, 2, ROW_QUESTION},
        {"r.json", "\xef\xbb\xbf\r\n\n " ROW "\r\n\t\r\n", "q", "a", 1, 3, ROW_QUESTION},
        {"r.json", "[" ROW ",\n\n{\"question\":\"r\",\n\"answer\":\"b\"}]", "r", "b", 2, 3, ROW_QUESTION},
        {"r.json", "\xef\xbb\xbf\n[" ROW "\r\n]\r\n", "q", "a", 1, 2, ROW_QUESTION},
        {"r.json", "{\"question\":\" q \\n\",\"answer\":\"\\u00e9 \",\"x\":[1,{}]}", " q \n", "\xc3\xa9 ", 1, 1, ROW_QUESTION},
        {"r.json", "{\"question\":\"q\xe2\x80\xa8r\",\"answer\":\"a\"}", "q\xe2\x80\xa8r", "a", 1, 1, ROW_QUESTION},
        {"r.json", "{\"question\":\"\",\"answer\":\"a\"}", "", "a", 1, 1, ROW_QUESTION},
        {"r.json", "{\"question\":\"q\",\"answer\":[\"a\",\"b\"]}", "q", "b", 2, 1, ROW_QUESTION},
        {"r.json", "{\"question\":\"q\",\"answer\":\"a\",\"prompt\":1,\"messages\":2,\"text\":3}", "q", "a", 1, 1, ROW_QUESTION},
        {"r.json", "{\"prompt\":\"p \",\"answer\":\"a\"}", "p ", "a", 1, 1, ROW_PROMPT},
        {"r.json", "{\"prompt\":\"\",\"completion\":\"c\"}", "", "c", 1, 1, ROW_PROMPT},
        {"r.json", "{\"prompt\":\"p\",\"completion\":[\"c\",\"d\",\"e\"]}", "p", "e", 3, 1, ROW_PROMPT},
        {"r.json", "{\"text\":\"t\\n\\nu\"}", "t\n\nu", NULL, 1, 1, ROW_TEXT},
        {"r.json", "[\"t\",\n\"u, ]\\\" v\"]", "u, ]\" v", NULL, 2, 2, ROW_TEXT},
        {"r.json", "\"t\"\n\"u\"\n", "u", NULL, 2, 2, ROW_TEXT},
        {"r.json", "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"a\"}]}", NULL, "a", 1,
         1, ROW_MESSAGES},
        {"r.txt", "\xef\xbb\xbfone\n\ntwo \n", "one\n\ntwo \n", NULL, 1, 1, ROW_TEXT},
        {"r.csv", "question,answer\nq,a\n\n\"r, \"\"s\"\"\",\"b\nc\"\n", "r, \"s\"", "b\nc", 2, 4, ROW_QUESTION},
        {"r.csv", "\xef\xbb\xbf,answer,question\r\n0,a,q\r\n", "q", "a", 1, 2, ROW_QUESTION},
        {"r.csv", "answer;question\na, b;q\n", "q", "a, b", 1, 2, ROW_QUESTION},
        {"r.csv", "question\tanswer\nq\ta\n", "q", "a", 1, 2, ROW_QUESTION},
        {"r.csv", "prompt|completion\np|say \"no\"\n", "p", "say \"no\"", 1, 2, ROW_PROMPT},
        {"r.CSV", "id,text\n1,t\n", "t", NULL, 1, 2, ROW_TEXT},
        {"r.tsv", "question\tanswer,x\tanswer\nq\tb\ta\n", "q", "a", 1, 2, ROW_QUESTION},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dataset data;
        struct error error = {0};
        if (read_rows(&data, cases[i].name, cases[i].text, strlen(cases[i].text), DATASET_ANSWERS, &error))
            fail_msg("case %zu: %s", i, error.text);
        const struct dataset_row *last = &data.row[data.rows - 1];
        if (data.rows != cases[i].rows || last->form != cases[i].form || last->line != cases[i].line)
            fail_msg("case %zu: %d rows, form %d, line %d", i, data.rows, last->form, last->line);
        assert_true(!cases[i].prompt == !last->prompt && !cases[i].answer == !last->answer);
        if (cases[i].prompt)
            assert_string_equal(last->prompt, cases[i].prompt);
        if (cases[i].answer)
            assert_string_equal(last->answer, cases[i].answer);
        assert_int_equal(last->whole_file, !strcmp(cases[i].name, "r.txt"));
        dataset_free(&data);
        dataset_free(&data);
    }
}

/* Other keys, which come before all others; and without answers, which need not be there. */
static void test_keys(void **state)
{
    (void)state;
    const struct dataset_options own = {"prompt", "gt"};
    const char *text = "{\"prompt\":\"p\",\"gt\":\"g\",\"question\":\"q\",\"answer\":\"a\"}";
    struct dataset data;
    struct error error = {0};
    assert_int_equal(dataset_read(&data, temporary_file("r.json", text, strlen(text)), &own, DATASET_ANSWERS, &error), 0);
    assert_int_equal(data.row->form, ROW_QUESTION);
    assert_string_equal(data.row->answer, "g");
    dataset_free(&data);
    const struct dataset_options answer = {"question", "gt"};
    text = "{\"prompt\":\"p\",\"gt\":\"g\",\"answer\":\"a\"}";
    assert_int_equal(dataset_read(&data, temporary_file("r.json", text, strlen(text)), &answer, DATASET_ANSWERS, &error), 0);
    assert_int_equal(data.row->form, ROW_PROMPT);
    assert_string_equal(data.row->answer, "g");
    dataset_free(&data);
    text = "{\"question\":\"q\"}\n{\"prompt\":\"p\",\"answer\":1}\n"
           "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"u\"}]}\n"
           "{\"messages\":[{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"assistant\",\"content\":\"a\"}]}\n";
    assert_int_equal(read_rows(&data, "r.json", text, strlen(text), 0, &error), 0);
    assert_int_equal(data.rows, 4);
    assert_null(data.row[0].answer);
    assert_null(data.row[1].answer);
    assert_int_equal(data.row[2].messages, 2);
    assert_string_equal(data.row[2].message[1].content, "u");
    assert_int_equal(data.row[3].messages, 1); /* the answer is not given to who is to write it */
    dataset_free(&data);
}

/* The rows' own JSON: numbers as they are written, one line, a list's text in the place of the list. */
static void test_sources(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text, *source;
    } cases[] = {
        {"r.json", "{\"id\": 1234567890123456789, \"w\":1.0,\"prompt\":\"p\", \"answer\" : \"a\" }",
         "{\"id\": 1234567890123456789, \"w\":1.0, \"prompt\":\"p\", \"answer\" : \"a\"}"},
        {"r.json", "[\n{\n  \"prompt\": \"p, }\\\"\",\r\n  \"x\": [1,\n {\"y\": 2}],\n  \"answer\": \"a\"\n}\n]",
         "{\"prompt\": \"p, }\\\"\", \"x\": [1, {\"y\": 2}], \"answer\": \"a\"}"},
        {"r.json", "{\"prompt\":\"p\",\"answer\":[\"a\",\"b\"],\"n\":1e2}", "{\"prompt\":\"p\", \"n\":1e2, \"answer\": \"b\"}"},
        {"r.csv", "prompt,answer,n\np,\"a\"\"\",010\n", "{\"prompt\": \"p\", \"answer\": \"a\\\"\", \"n\": \"010\"}"},
        {"r.json", "\"t\"", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dataset data;
        struct error error = {0};
        if (read_rows(&data, cases[i].name, cases[i].text, strlen(cases[i].text), DATASET_ANSWERS | DATASET_SOURCES, &error))
            fail_msg("case %zu: %s", i, error.text);
        const char *source = data.row[data.rows - 1].source;
        assert_true(!source == !cases[i].source);
        if (source)
            assert_string_equal(source, cases[i].source);
        dataset_free(&data);
    }
}

static void test_rows_malformed(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text, *message;
    } cases[] = {
        {"r.json", "", "r.json: has no rows; expected JSON objects with the keys question and answer"},
        {"r.json", " \n\t\r\n", "r.json: has no rows"},
        {"r.json", "[]", "r.json: has no rows"},
        {"r.txt", " \n", "r.txt: has no rows"},
        {"r.csv", "", "r.csv: has no rows"},
        {"r.csv", "question,answer\n", "r.csv: has no rows"},
        {"r.json", ROW "\n{\"question\":\"q\"}", "r.json:2: answer: the key is missing; the row has the keys \"question\""},
        {"r.json", ROW "\n\n{\"answer\":\"q\"}", "r.json:3: question: the key is missing, and so are messages, prompt and text; "
         "name the key by --question_key; the row has the keys \"answer\""},
        {"r.json", "{}", "r.json:1: question: the key is missing, and so are messages"},
        {"r.json", "{\"question\":\"q\",\"answer\":3}", "r.json:1: answer: expected a string, found a number"},
        {"r.json", "{\"question\":null,\"answer\":\"a\"}", "r.json:1: question: expected a string, found null"},
        {"r.json", "{\"question\":\"q\",\"answer\":[\"a\",1]}", "r.json:1: answer: expected a list of texts"},
        {"r.json", "{\"question\":\"q\",\"answer\":[]}", "r.json:1: answer: expected a text or a list of them"},
        {"r.json", "{\"question\":\"q\",\"answer\":[\"\"]}", "r.json:1: answer: expected text, found an empty string"},
        {"r.json", "{\"question\":\"q\",\"answer\":\"\"}", "r.json:1: answer: expected text, found an empty string"},
        {"r.json", "{\"Question\":\"q\",\"answer\":\"a\"}", "the row has the keys \"Question\", \"answer\""},
        {"r.json", "{\"prompt\":\"p\",\"text\":\"a\"}", "r.json:1: prompt: neither answer nor completion is there; name the key "
         "by --answer_key; the row has the keys \"prompt\", \"text\""},
        {"r.json", "{\"text\":\"\"}", "r.json:1: text: expected text, found an empty string"},
        {"r.json", ROW "\n3", "r.json:2: expected an object with the keys question and answer, or a text"},
        {"r.json", ROW "\n{\"question\":\"q\"", "r.json:2: offset 15: expected ',' or '}', found the end of the text"},
        {"r.json", ROW "\n{\"question\":\"q\",\"answer\":\"a\"} x", "r.json:2: offset 30: expected the end of the text"},
        {"r.json", "{\n\"question\":\"q\",\"answer\":\"a\"}", "r.json:1: offset 1: expected a key in double quotes"},
        {"r.json", "plain text", "r.json: expected JSON lines or a JSON array, found 'p' at the start; a table must be named "
         ".csv or .tsv, a text .txt"},
        {"r.json", "[" ROW "\n,3]", "r.json:2 (element 2): expected an object with the keys question"},
        {"r.json", "[" ROW "]\n\n" ROW, "r.json:3: expected the end of the text after the array"},
        {"r.json", "[" ROW, "r.json:1 (element 1): expected ',' or ']' after it, found the end of the text"},
        {"r.json", "[" ROW ",\n]", "r.json:2 (element 2): offset 0: expected a JSON value"},
        {"r.json", "[" ROW "\n" ROW "]", "r.json:1 (element 1): offset 30: expected the end of the text"},
        {"r.json", "[,]", "r.json:1 (element 1): offset 0: expected a JSON value"},
        {"r.json", "[\n\n\n{\"question\":\"q\"}]", "r.json:4 (element 1): answer: the key is missing"},
        {"r.json", "{\"question\":\"q\",\"answer\":\"\xff\"}", "r.json: offset 26: expected UTF-8"},
        {"r.json", "{\"question\":\"q\",\"question\":\"r\",\"answer\":\"a\"}", "r.json:1: offset 16: duplicate key"},
        {"r.json", "{\"messages\":[]}", "r.json:1: messages: expected a list of {role, content}"},
        {"r.json", "{\"messages\":[{\"role\":\"user\"}]}", "r.json:1: messages: turn 1: expected an object with the texts role"},
        {"r.json", "{\"messages\":[{\"role\":\"tool\",\"content\":\"x\"}]}", "turn 1: expected the role system, user or assistant, "
         "found 'tool'"},
        {"r.json", "{\"messages\":[{\"role\":\"user\",\"content\":[]}]}", "turn 1: expected an object with the texts role and content"},
        {"r.json", "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}", "expected the last of at least two turns to be the "
         "assistant's, whose text is the answer; found 'user'"},
        {"r.json", "{\"messages\":[{\"role\":\"assistant\",\"content\":\"q\"}]}", "expected the last of at least two turns"},
        {"r.json", "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"a\","
         "\"tool_calls\":[1]}]}", "turn 2: tool_calls is not supported"},
        {"r.json", "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"\","
         "\"tool_calls\":[]}]}", "messages: expected text, found an empty string"},
        {"r.csv", "id,reply\n1,a\n", "r.csv:1: expected titles with one of question, prompt, text above the columns, found "
         "\"id\", \"reply\""},
        {"r.csv", "question,answer,answer\nq,a,b\n", "r.csv:1: the title \"answer\" is there twice"},
        {"r.csv", "question,answer\nq,a,b\n", "r.csv:2: expected 2 cells as there are titles, found 3"},
        {"r.csv", "question,answer\nq,\n", "r.csv:2: answer: expected text, found an empty string"},
        {"r.csv", "question,answer\nq,\"a\n", "r.csv:2: the quote that begins here is never closed"},
        {"r.csv", "question,answer\nq,\"a\"b\n", "r.csv:2: expected a separator or the end of the line after a closing quote"},
        {"r.csv", "Question,answer\nq,a\n", "r.csv:2: question: the key is missing"},
        {"r.parquet", "PAR1xxxx", "r.parquet: is Parquet; convert it: tools/parquet_to_jsonl.py"},
        {"r.xlsx", "PK\3\4", "r.xlsx: is a ZIP archive or a spreadsheet"},
        {"r.json", "\xff\xfe{", "r.json: is UTF-16; expected UTF-8"},
        {"r.json", "\x1f\x8bxxxxxxxxxxxxxxxx", "r.json: offset 4: the gzip data is damaged"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dataset data;
        struct error error = {0};
        int status = read_rows(&data, cases[i].name, cases[i].text, strlen(cases[i].text), DATASET_ANSWERS, &error);
        assert_error(&error, status, STATUS_INPUT, cases[i].message);
        assert_null(data.row);
    }
    struct dataset data;
    struct error error = {0};
    assert_error(&error, read_rows(&data, "r.json", "{\"q\0\":1}", 8, 0, &error), STATUS_INPUT,
                 "r.json: offset 3: expected text, found a zero byte");
    assert_error(&error, dataset_read(&data, temporary_path("none"), &keys, 0, &error), STATUS_INPUT, "none: cannot be opened");
    assert_error(&error, dataset_read(&data, temporary, &keys, 0, &error), STATUS_INPUT, "is a directory; expected a file");
    assert_error(&error, dataset_read(&data, "/dev/zero", &keys, 0, &error), STATUS_INPUT, "/dev/zero: is a device or a socket");
    const char *prompt = "{\"prompt\":\"p\",\"answer\":\"a\"}";
    assert_error(&error, read_rows(&data, "r.json", prompt, strlen(prompt), DATASET_TEMPLATED, &error), STATUS_INPUT,
                 "r.json:1: question: the key is missing; a prompt is taken as it is, without a template; put it into the template "
                 "by --question_key prompt");
#undef ROW
}

static const char *gzip_file(const char *name, const char *text, bool twice)
{
    const char *path = temporary_path(name);
    for (int i = 0; i <= twice; i++) { /* appended to: a stream of its own */
        gzFile file = gzopen(path, i ? "ab" : "wb");
        assert_non_null(file);
        assert_int_equal(gzwrite(file, text, (unsigned)strlen(text)), strlen(text));
        assert_int_equal(gzclose(file), Z_OK);
    }
    return path;
}

static void test_gzip(void **state)
{
    (void)state;
    struct dataset data;
    struct error error = {0};
    char *bytes;
    size_t length;
    const char *path = gzip_file("r.csv.gz", "question,answer\nq,a\n", false);
    assert_int_equal(dataset_read(&data, path, &keys, DATASET_ANSWERS, &error), STATUS_OK);
    assert_string_equal(data.row->answer, "a");
    dataset_free(&data);
    path = gzip_file("r.jsonl.gz", "{\"question\":\"q\",\"answer\":\"a\"}\n", true);
    assert_int_equal(dataset_read(&data, path, &keys, DATASET_ANSWERS, &error), STATUS_OK);
    assert_int_equal(data.rows, 2);
    dataset_free(&data);
    assert_int_equal(file_read(path, 1 << 20, &bytes, &length, &error), STATUS_OK);
    const char *cut = temporary_file("cut.jsonl.gz", bytes, length - 9);
    assert_error(&error, dataset_read(&data, cut, &keys, DATASET_ANSWERS, &error), STATUS_INPUT, "the gzip data is cut off");
    for (size_t i = 0; i < length; i++) { /* any one byte wrong: refused, or no harm done */
        bytes[i] ^= 0x10;
        const char *damaged = temporary_file("damaged.jsonl.gz", bytes, length);
        if (!dataset_read(&data, damaged, &keys, DATASET_ANSWERS, &error))
            dataset_free(&data);
        bytes[i] ^= 0x10;
    }
    free(bytes);
}

/* Rows of a file of several windows, through every form: the texts are long, of several bytes per character and of odd
 * lengths, so that windows end anywhere in them. */
static void test_windows(void **state)
{
    (void)state;
    enum { ROWS = 3000 };
    static const char *const name[] = {"w.jsonl", "w.json", "w.csv", "w.jsonl.gz"};
    static char prompt[ROWS][400];
    for (int i = 0; i < ROWS; i++) {
        int length = snprintf(prompt[i], sizeof prompt[i], "%d ", i);
        for (int k = 0; k < i % 97 + (i % 7 == 0) * 30; k++)
            length += snprintf(prompt[i] + length, sizeof prompt[i] - (size_t)length, "%s", k % 3 ? "\xc3\xa9" : "\xe2\x82\xac");
    }
    for (size_t form = 0; form < sizeof name / sizeof *name; form++) {
        struct buffer text = {0};
        struct error error = {0};
        assert_int_equal(buffer_printf(&text, &error, form == 1 ? " [\n" : form == 2 ? "prompt,answer\r\n" : "\n"), 0);
        for (int i = 0; i < ROWS; i++)
            assert_int_equal(buffer_printf(&text, &error, form == 2 ? "\"%s\",\"a \"\"\n\"\r\n"
                                           : form == 1 ? "{\"prompt\": \"%s\", \"answer\":\n\"a \\\"\\n\"}%s\n"
                                                       : "{\"prompt\": \"%s\", \"answer\": \"a \\\"\\n\"}\n", prompt[i],
                                           i + 1 < ROWS ? "," : "]"), 0);
        const char *path = form == 3 ? gzip_file(name[form], text.data, false)
                                     : temporary_file(name[form], text.data, text.length);
        struct dataset_reader *reader;
        struct dataset window;
        int rows = 0, windows = 0, left = 1;
        assert_int_equal(dataset_reader_open(&reader, path, &keys, DATASET_ANSWERS, &error), STATUS_OK);
        while (left) {
            if (dataset_reader_next(reader, 700, &window, &error))
                fail_msg("%s", error.text);
            assert_true(window.rows <= 700);
            for (int i = 0; i < window.rows; i++, rows++) {
                assert_string_equal(window.row[i].prompt, prompt[rows]);
                assert_string_equal(window.row[i].answer, "a \"\n");
                assert_int_equal(window.row[i].line, form == 1 ? 2 * rows + 2 : form == 2 ? 2 * rows + 2 : rows + 2);
            }
            windows += window.rows > 0;
            left = window.rows;
            dataset_free(&window);
        }
        assert_int_equal(rows, ROWS);
        assert_int_equal(windows, 5);
        dataset_reader_close(reader);
        buffer_free(&text);
    }
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
        {"a.json", "[\"one\", {\"Refusal Response\":\"two\"},\n{\"response\":\"three\"}]", {"one", "two", "three"}},
        {"a.csv", "Refusal Response\none\ntwo\n", {"one", "two"}},
        {"a.csv", "refusal\n\"one, sorry.\"\n", {"one, sorry."}},
        {"a.csv", "id,response\n1,\"one\"\n2,two\n", {"one", "two"}},
        {"a.csv", "answer,n\none,1\r\ntwo,2\r\n", {"one", "two"}},
        {"a.csv", "answer;n\none, or not;1\n", {"one, or not"}},
        {"a.csv", "\"response\"\n\"a, \"\"b\"\" c\"\n\"two\nlines\"\n\n  three ", {"a, \"b\" c", "two\nlines", "  three "}},
        {"a.csv", "\xef\xbb\xbf\"ANSWER\",,\"x,\n\"\none,,\n", {"one"}},
        {"a.csv", "answer\rs\n", {NULL}}, /* no such title: a lone CR ends no line */
        {"a.csv", "answer\non\re\n", {"on\re"}},
        {"a.tsv", "n\tanswer\n1\tone, \"two\"\n", {"one, \"two\""}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct answer_list list;
        struct error error = {0};
        const char *path = temporary_file(cases[i].name, cases[i].text, strlen(cases[i].text));
        int status = answer_list_read(&list, path, &error), count = 0;
        if (!cases[i].answer[0]) {
            assert_int_equal(status, STATUS_INPUT);
            continue;
        }
        if (status)
            fail_msg("case %zu: %s", i, error.text);
        while (count < 3 && cases[i].answer[count])
            count++;
        assert_int_equal(list.count, count);
        for (int k = 0; k < count; k++)
            assert_string_equal(list.text[k], cases[i].answer[k]);
        answer_list_free(&list);
    }
    struct answer_list list;
    struct error error = {0};
    assert_int_equal(answer_list_read(&list, gzip_file("a.csv.gz", "answer\none\n", false), &error), STATUS_OK);
    assert_string_equal(list.text[0], "one");
    answer_list_free(&list);
}

static void test_answers_malformed(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text, *message;
    } cases[] = {
        {"a.txt", "\n \n", "a.txt: has no answers"},
        {"a.csv", "", "a.csv: has no rows"},
        {"a.csv", "answer\n", "a.csv: has no answers"},
        {"a.json", "[]", "a.json: has no answers"},
        {"a.md", "one", "a.md: expected a name that ends in .txt, .csv, .tsv, .json or .jsonl"},
        {"answers", "one", "answers: expected a name that ends in"},
        {"a.csv", "I do not know.\nNo idea.\n", "a.csv:1: expected titles with one of answer, response, refusal, refusal response, "
         "completion above the columns, found \"I do not know.\"; name the column in the first line"},
        {"a.csv", "answer,response\na,b\n", "a.csv:1: there are columns titled \"answer\" and \"response\"; keep the one"},
        {"a.csv", "answer\n\"two", "a.csv:2: the quote that begins here is never closed"},
        {"a.csv", "answer\n\"x\ntwo", "a.csv:2: the quote that begins here is never closed"},
        {"a.csv", "answer\nI'm sorry, no.", "a.csv:2: expected 1 cells as there are titles, found 2; a cell with a separator"},
        {"a.csv", "answer,n\none,1\n,2", "a.csv:3: expected an answer under answer, found an empty cell"},
        {"a.csv", "answer\none\n\"\"", "a.csv:3: expected an answer under answer"},
        {"a.jsonl", "\"one\"\n3", "a.jsonl:2: expected a text or an object with the key answer"},
        {"a.jsonl", "\"one\"\n{\"reply\":\"x\"}", "a.jsonl:2: expected one of the keys answer, response, refusal, refusal response "
         "and completion; the row has \"reply\""},
        {"a.jsonl", "{\"answer\":\"x\",\"response\":\"y\"}", "a.jsonl:1: both answer and response are there"},
        {"a.jsonl", "\"one\"\n\"\"", "a.jsonl:2: answer: expected text, found an empty string"},
        {"a.jsonl", "\"one\"\n\"two", "a.jsonl:2: offset 4: expected a closing quote"},
        {"a.json", "[\"one\",\n{}]", "a.json:2 (element 2): expected one of the keys"},
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
        assert_int_equal(dataset_read(&data, path, &keys, DATASET_ANSWERS, &error), STATUS_OK);
        assert_int_equal(data.rows, cases[i].rows);
        assert_int_equal(data.row[data.rows - 1].line, cases[i].rows);
        dataset_free(&data);
    }
}

/* Any bytes may be wrong: what is read is refused or taken, and nothing else happens (under the sanitizers, too). */
static void test_mutations(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text;
    } seeds[] = {
        {"r.json", "[{\"question\": \"q\", \"answer\": [\"a\", \"b\\u00e9\"]},\n{\"messages\": [{\"role\": \"user\", "
                   "\"content\": \"q\"}, {\"role\": \"assistant\", \"content\": \"a\"}]}, \"t\"]"},
        {"r.jsonl", "{\"prompt\": \"p\", \"completion\": \"c\", \"n\": 1.5e3}\r\n\n{\"text\": \"t\"}\n"},
        {"r.csv", "id;question;answer\n1;q;\"a \"\"b\"\"; c\"\r\n2;\"r\ns\";t\n"},
        {"r.tsv", "answer\tquestion\n\"a\"\tq\n"},
    };
    static const char bytes[] = "\"\\{}[],;:\t\r\n\0 a1\xff\xc3";
    uint32_t random = 1;
    for (int i = 0; i < 800; i++) {
        const char *name = seeds[i % 4].name;
        char text[300];
        size_t length = strlen(seeds[i % 4].text);
        memcpy(text, seeds[i % 4].text, length);
        for (int k = 0; k <= i % 3; k++) {
            random = random * 1664525 + 1013904223;
            text[random / 65536 % length] = bytes[random / 256 % (sizeof bytes - 1)];
        }
        length = i % 5 ? length : random % (length + 1);
        struct dataset data;
        struct answer_list list;
        struct error error = {0};
        const char *path = temporary_file(name, text, length);
        int status = dataset_read(&data, path, &keys, DATASET_ANSWERS | DATASET_SOURCES, &error);
        assert_true(status == STATUS_OK || (status == STATUS_INPUT && *error.text));
        if (!status)
            dataset_free(&data);
        status = answer_list_read(&list, path, &error);
        assert_true(status == STATUS_OK || status == STATUS_INPUT);
        if (!status)
            answer_list_free(&list);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),    cmocka_unit_test(test_keys), cmocka_unit_test(test_sources),
        cmocka_unit_test(test_rows_malformed), cmocka_unit_test(test_gzip), cmocka_unit_test(test_windows),
        cmocka_unit_test(test_windows), cmocka_unit_test(test_answers),
        cmocka_unit_test(test_answers_malformed), cmocka_unit_test(test_mutations), cmocka_unit_test(test_pick),
        cmocka_unit_test(test_tofu),
    };
    return cmocka_run_group_tests(tests, temporary_make, temporary_remove);
}
