/* test_example.c - the ids of prompts and answers, and of running text in chunks, against transformers'
 * (tests/golden/examples.json, made by tests/parity/make_example_golden.py).
 */
#include "../support/temporary.h"

#include "../../host/io/data/example.h"
#include "../../host/io/json/json.h"
#include "../../host/util/file.h"

static cJSON *golden;

static int golden_open(void **state)
{
    struct error error;
    golden = json_read("tests/golden/examples.json", &error);
    return temporary_make(state) || !golden;
}

static int golden_close(void **state)
{
    cJSON_Delete(golden);
    return temporary_remove(state);
}

/* The tokenizer of a case: a golden one, with another post-processor and a tokenizer_config.json where the case says so. */
static struct tokenizer *tokenizer_of(const cJSON *item)
{
    char path[600], folder[300];
    struct error error = {0};
    struct tokenizer *tokenizer;
    const cJSON *post_processor = json_member(item, "post_processor");
    snprintf(folder, sizeof folder, "%s/tokenizer", temporary);
    snprintf(path, sizeof path, "tests/golden/tokenizer/%s/tokenizer.json", json_member(item, "tokenizer")->valuestring);
    cJSON *tree = json_read(path, &error);
    assert_non_null(tree);
    if (post_processor)
        cJSON_ReplaceItemInObjectCaseSensitive(tree, "post_processor", cJSON_Duplicate(post_processor, true));
    assert_int_equal(file_make_directory(folder, &error), STATUS_OK);
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    assert_int_equal(json_write(tree, path, &error), STATUS_OK);
    cJSON_Delete(tree);
    snprintf(path, sizeof path, "%s/tokenizer_config.json", folder);
    assert_int_equal(json_write(json_member(item, "config"), path, &error), STATUS_OK);
    if (tokenizer_load(&tokenizer, folder, &error))
        fail_msg("%s", error.text);
    return tokenizer;
}

static void row_read(struct dataset *data, const cJSON *row)
{
    static const struct dataset_options keys = {"question", "answer"};
    struct buffer line = {0};
    struct error error = {0};
    assert_int_equal(json_print(row, &line, &error), STATUS_OK);
    if (dataset_read(data, temporary_file("row.jsonl", line.data, line.length), &keys, DATASET_ANSWERS, &error))
        fail_msg("%s", error.text);
    buffer_free(&line);
}

static void check_ids(const cJSON *wanted, const int32_t *id, size_t length, const char *what)
{
    size_t i = 0;
    assert_int_equal(cJSON_GetArraySize(wanted), length);
    for (const cJSON *item = wanted->child; item; item = item->next, i++)
        if (item->valueint != id[i])
            fail_msg("%s: id %zu is %d, expected %d", what, i, (int)id[i], item->valueint);
}

static void test_cases(void **state)
{
    (void)state;
    for (const cJSON *item = json_member(golden, "cases")->child; item; item = item->next) {
        struct tokenizer *tokenizer = tokenizer_of(item);
        const char *name = json_member(item, "prompt_template")->valuestring;
        const struct prompt_options options = {.prompt_template = name, .system_prompt = "", .date = "2025-01-15",
                                               .thinking = json_member(item, "thinking") ? CHAT_THINKING_OFF
                                                                                         : CHAT_THINKING_DEFAULT};
        struct dataset data;
        struct prompt prompt;
        struct prompt_text text;
        struct token_list ids = {0}, asked = {0};
        struct example_counts counts = {0};
        struct error error = {0};
        int32_t begin;
        row_read(&data, json_member(item, "row"));
        if (prompt_open(&prompt, &options, "none", tokenizer, &error) ||
            prompt_apply(&prompt, data.row, data.row->answer, &text, &error) ||
            example_encode(tokenizer, &text, tokenizer_eos(tokenizer), 1000, &ids, &begin, &counts, &error))
            fail_msg("%s: %s", name, error.text);
        check_ids(json_member(item, "ids"), ids.id, ids.length, name);
        assert_int_equal(begin, json_member(item, "answer_begin")->valueint);
        assert_int_equal(counts.merged, cJSON_IsTrue(json_member(item, "merged")));
        assert_int_equal(counts.sequences, 1);
        assert_int_equal(counts.cut + counts.reopened + counts.doubled, 0);
        /* what is continued is the same prompt */
        assert_int_equal(prompt_encode(tokenizer, text.text.data, text.answer_begin, text.special, &asked, &error), STATUS_OK);
        if (asked.length)
            assert_int_equal(asked.length, begin);
        free(ids.id);
        free(asked.id);
        buffer_free(&text.text);
        prompt_close(&prompt);
        dataset_free(&data);
        tokenizer_free(tokenizer);
    }
}

/* What is cut, doubled or opened otherwise is counted, and said in words. */
static void test_counts(void **state)
{
    (void)state;
    struct error error = {0};
    struct tokenizer *tokenizer;
    struct example_counts counts = {0};
    struct token_list ids = {0};
    int32_t begin;
    char line[400];
    int next = 0;
    assert_int_equal(tokenizer_load(&tokenizer, "tests/golden/tokenizer/llama2", &error), STATUS_OK);
    assert_null(example_counts_line(&counts, &next, line, sizeof line));
    struct prompt_text text = {.text = {.data = "<s>a b c d e f", .length = 14}, .answer_begin = 6, .special = true,
                               .is_prefix = true};
    assert_int_equal(example_encode(tokenizer, &text, 2, 8, &ids, &begin, &counts, &error), STATUS_OK);
    assert_int_equal(counts.doubled, 1);
    assert_int_equal(counts.cut, 1);
    const int64_t lost = counts.cut_tokens;
    assert_int_equal(ids.length, 8);
    text.special = false;
    text.is_prefix = false;
    assert_int_equal(example_encode(tokenizer, &text, 2, 100, &ids, &begin, &counts, &error), STATUS_OK);
    assert_int_equal(ids.length - 8, 8 + lost - 1); /* without the second beginning of sequence */
    assert_int_equal(counts.sequences, 2);
    assert_int_equal(counts.doubled, 1);
    next = 0;
    assert_non_null(strstr(example_counts_line(&counts, &next, line, sizeof line), "1 of 2 sequences are cut at max_length"));
    assert_non_null(strstr(example_counts_line(&counts, &next, line, sizeof line), "the chat template opens an answer in another"));
    assert_non_null(strstr(example_counts_line(&counts, &next, line, sizeof line), "two beginning-of-sequence tokens"));
    assert_null(example_counts_line(&counts, &next, line, sizeof line));
    text.stopped = true;
    text.is_prefix = true;
    assert_int_equal(example_encode(tokenizer, &text, 2, 100, &ids, &begin, &counts, &error), STATUS_OK);
    assert_int_equal(ids.id[ids.length - 1], 2); /* "f" ends no turn */
    next = 1;
    example_counts_line(&counts, &next, line, sizeof line);
    assert_non_null(strstr(example_counts_line(&counts, &next, line, sizeof line), "what ends a turn in the chat template is no"));
    text.answer_begin = 12;
    assert_error(&error, example_encode(tokenizer, &text, 2, 3, &ids, &begin, &counts, &error), STATUS_INPUT,
                 "no answer token is left after the prompt's");
    free(ids.id);
    tokenizer_free(tokenizer);
}

static void chunks_read(struct dataset *data, struct tokenizer *tokenizer, const char *name, const char *text, int max_length)
{
    static const struct dataset_options keys = {"question", "answer"};
    struct error error = {0};
    if (dataset_read(data, temporary_file(name, text, strlen(text)), &keys, DATASET_ANSWERS | DATASET_SOURCES, &error) ||
        dataset_chunk(data, tokenizer, max_length, &error))
        fail_msg("%s", error.text);
}

static void test_chunks(void **state)
{
    (void)state;
    const cJSON *pieces = json_member(golden, "pieces");
    const int max_length = json_member(pieces, "max_length")->valueint;
    struct error error = {0};
    struct tokenizer *tokenizer;
    struct dataset data;
    char *corpus;
    size_t length;
    assert_int_equal(tokenizer_load(&tokenizer, "tests/golden/tokenizer/llama2", &error), STATUS_OK);
    assert_int_equal(file_read("tests/golden/tokenizer/corpus.txt", 1 << 20, &corpus, &length, &error), STATUS_OK);
    chunks_read(&data, tokenizer, "book.txt", corpus, max_length);
    int64_t targets = 0;
    for (int i = 0; i < data.rows; i++) {
        targets += data.row[i].length - 1;
        assert_int_equal(data.row[i].chunk, i + 1);
    }
    assert_int_equal(data.rows, json_member(pieces, "count")->valueint);
    assert_int_equal(targets, json_member(pieces, "targets")->valueint);
    check_ids(json_member(pieces, "first"), data.row[0].ids, (size_t)data.row[0].length, "first piece");
    check_ids(json_member(pieces, "last"), data.row[data.rows - 1].ids, (size_t)data.row[data.rows - 1].length, "last piece");
    struct token_list ids = {0};
    struct example_counts counts = {0};
    int32_t begin;
    assert_int_equal(chunk_append(&data.row[1], &ids, &begin, &counts, &error), STATUS_OK);
    assert_int_equal(begin, 1);
    assert_int_equal(ids.length, max_length);
    free(ids.id);
    dataset_free(&data);
    /* a text of one piece is not filled up, and neither is the last piece of a row among others */
    chunks_read(&data, tokenizer, "short.txt", "a b", max_length);
    assert_int_equal(data.rows, 1);
    assert_int_equal(data.row->length, 3);
    dataset_free(&data);
    chunks_read(&data, tokenizer, "rows.jsonl", "{\"text\":\"a b c d e f\",\"id\":7}\n{\"question\":\"q\",\"answer\":\"r\"}\n\"e\"\n", 5);
    assert_int_equal(data.rows, 4);
    assert_int_equal(data.row[0].length, 5);
    assert_in_range(data.row[1].length, 2, 4);
    assert_string_equal(data.row[1].source, "{\"text\":\"a b c d e f\", \"id\":7}");
    assert_int_equal(data.row[1].chunk, 2);
    assert_string_equal(data.row[2].prompt, "q");
    assert_int_equal(data.row[2].chunk, 0);
    assert_int_equal(data.row[3].line, 3);
    dataset_free(&data);
    free(corpus);
    tokenizer_free(tokenizer);
    /* without a beginning of sequence: an id that nothing predicts makes no piece */
    assert_int_equal(tokenizer_load(&tokenizer, "tests/golden/tokenizer/bare", &error), STATUS_OK);
    assert_int_equal(tokenizer_bos(tokenizer), -1);
    chunks_read(&data, tokenizer, "rows.jsonl", "\"abc\"", 2);
    for (int i = 0; i < data.rows; i++)
        assert_int_equal(data.row[i].length, 2);
    dataset_free(&data);
    tokenizer_free(tokenizer);
}

/* A forget corpus in MUSE's form and a model's context, where the shared data is at hand: as many pieces and targets as MUSE's
 * dataset makes of AutoTokenizer's 139,759 ids (511 to a piece behind its BOS, the last piece filled from the first). */
static void test_shared_text(void **state)
{
    (void)state;
    static const struct dataset_options keys = {"question", "answer"};
    const char *shared = getenv("FLAT_SHARED");
    struct error error = {0};
    struct tokenizer *tokenizer;
    struct dataset data;
    char text[600], model[600];
    snprintf(text, sizeof text, "%s/data/muse/lume_as_muse/raw/forget.txt", shared ? shared : "../shared");
    snprintf(model, sizeof model, "%s/data/stories260k", shared ? shared : "../shared");
    if (!file_exists(text) || !file_is_directory(model)) {
        print_message("skipped: %s or %s is not there\n", text, model);
        skip();
    }
    if (tokenizer_load(&tokenizer, model, &error) ||
        dataset_read(&data, text, &keys, DATASET_ANSWERS | DATASET_SOURCES, &error) ||
        dataset_chunk(&data, tokenizer, 512, &error))
        fail_msg("%s", error.text);
    int64_t targets = 0;
    for (int i = 0; i < data.rows; i++) {
        assert_int_equal(data.row[i].length, 512);
        targets += data.row[i].length - 1;
    }
    assert_int_equal(data.rows, 274);
    assert_int_equal(targets, 140014);
    dataset_free(&data);
    tokenizer_free(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases), cmocka_unit_test(test_counts), cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_shared_text),
    };
    return cmocka_run_group_tests(tests, golden_open, golden_close);
}
