/* test_tokenizer_cases.c - folders with every combination of small files beside a vocabulary, against AutoTokenizer of
 * transformers 5: ids and decoded texts of each (tests/parity/make_tokenizer_cases.py). TOKENIZER_CASES names another file of
 * them; TOKENIZER_CASE=N prints what we make of the folder of line N.
 */
#include "../support/temporary.h"

#include "../../host/io/json/json.h"
#include "../../host/io/tokenizer/tokenizer.h"
#include "../../host/util/file.h"
#include "../../host/util/memory.h"


static uint32_t fnv1a(const void *bytes, size_t length, uint32_t hash)
{
    for (const unsigned char *b = bytes, *end = b + length; b < end; b++)
        hash = (hash ^ *b) * 0x01000193u;
    return hash;
}

static void tree_write(const char *name, const cJSON *tree)
{
    char *text = cJSON_PrintUnformatted(tree);
    temporary_file(name, text, strlen(text));
    cJSON_free(text);
}

/* tokenizer.json without some of its parts. */
static void cut_write(const char *from, const cJSON *without)
{
    struct error error = {0};
    cJSON *tree = json_read(from, &error);
    const cJSON *part;
    assert_non_null(tree);
    cJSON_ArrayForEach(part, without)
        cJSON_ReplaceItemInObjectCaseSensitive(tree, part->valuestring, strcmp(part->valuestring, "added_tokens")
                                                                            ? cJSON_CreateNull() : cJSON_CreateArray());
    tree_write("tokenizer.json", tree);
    cJSON_Delete(tree);
}

static void folder_make(const cJSON *line)
{
    static const char *const vocabulary[] = {"tokenizer.json", "vocab.json", "merges.txt", "tokenizer.model"};
    static const struct {
        const char *key, *name;
    } small[] = {{"config", "tokenizer_config.json"}, {"special", "special_tokens_map.json"},
                 {"added", "added_tokens.json"}, {"model", "config.json"}};
    for (size_t i = 0; i < 4; i++) {
        char from[300];
        snprintf(from, sizeof from, "tests/golden/tokenizer/%s/%s", json_member(line, "base")->valuestring, vocabulary[i]);
        unlink(temporary_path(vocabulary[i]));
        if (!file_exists(from))
            continue;
        if (i == 0 && json_member(line, "without"))
            cut_write(from, json_member(line, "without"));
        else
            assert_int_equal(symlink(realpath(from, (char[4096]){0}), temporary_path(vocabulary[i])), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        unlink(temporary_path(small[i].name));
        if (json_member(line, small[i].key))
            tree_write(small[i].name, json_member(line, small[i].key));
    }
}

static void ids_print(const char *text, const struct token_list *ids)
{
    printf("%s ->", text);
    for (size_t i = 0; i < ids->length; i++)
        printf(" %d", (int)ids->id[i]);
    printf("\n");
}

/* Number of the texts whose ids are others; one more when a decoded text is. */
static int texts_check(struct tokenizer *tokenizer, const cJSON *texts, const cJSON *line, bool print)
{
    struct error error = {0};
    const cJSON *text;
    const char *want = json_member(line, "ids")->valuestring;
    uint32_t decoded = 0x811c9dc5u;
    int different = 0;
    cJSON_ArrayForEach(text, texts) {
        struct token_list ids = {0};
        struct buffer out = {0};
        char hash[16];
        if (tokenizer_encode(tokenizer, text->valuestring, strlen(text->valuestring), true, &ids, &error) ||
            tokenizer_decode(tokenizer, ids.id, ids.length, true, &out, &error))
            fail_msg("%s", error.text);
        snprintf(hash, sizeof hash, "%08x", fnv1a(ids.id, ids.length * sizeof *ids.id, 0x811c9dc5u));
        decoded = ids.length ? fnv1a(out.data, out.length, decoded) : decoded;
        if (print)
            ids_print(text->valuestring, &ids);
        if (strncmp(hash, want, 8)) {
            different++;
            if (print)
                printf("  other ids\n");
        }
        want += want[8] ? 9 : 8;
        free(ids.id);
        buffer_free(&out);
    }
    return different + (decoded != strtoul(json_member(line, "texts")->valuestring, NULL, 16));
}

static bool case_check(const cJSON *line, const cJSON *texts, int number, const char *raw)
{
    struct tokenizer *tokenizer;
    struct error error = {0};
    const char *chosen = getenv("TOKENIZER_CASE");
    const bool print = chosen && atoi(chosen) == number;
    folder_make(line);
    const bool refuse = json_member(line, "refuse") || json_member(line, "unsupported");
    int status = tokenizer_load(&tokenizer, temporary, &error);
    if (status) {
        if (!refuse || status != STATUS_INPUT)
            printf("line %d: refused: %s\n  %s\n", number, error.text, raw);
        return refuse && status == STATUS_INPUT;
    }
    int different = refuse ? -1 : texts_check(tokenizer, texts, line, print);
    if (print)
        printf("bos %d, eos %d, warnings: %s\n", (int)tokenizer_bos(tokenizer), (int)tokenizer_eos(tokenizer),
               tokenizer_warnings(tokenizer));
    tokenizer_free(tokenizer);
    if (different)
        printf("line %d: %d texts differ: %s\n", number, different, raw);
    return !different;
}

static void test_autotokenizer(void **state)
{
    (void)state;
    struct error error = {0};
    char *text, *next;
    size_t length;
    cJSON *texts = NULL;
    int number = 0, wrong = 0;
    const char *path = getenv("TOKENIZER_CASES") ? getenv("TOKENIZER_CASES") : "tests/golden/tokenizer_cases.jsonl";
    assert_int_equal(file_read(path, 256 << 20, &text, &length, &error), STATUS_OK);
    for (char *raw = strtok_r(text, "\n", &next); raw; raw = strtok_r(NULL, "\n", &next)) {
        cJSON *line = json_parse(raw, strlen(raw), path, &error);
        if (!line)
            fail_msg("%s", error.text);
        if (number++ == 0) {
            texts = line;
            continue;
        }
        wrong += !case_check(line, json_member(texts, "texts"), number, raw);
        cJSON_Delete(line);
    }
    printf("%d folders, %d different\n", number - 1, wrong);
    assert_true(number - 1 >= 300);
    assert_int_equal(wrong, 0);
    cJSON_Delete(texts);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_autotokenizer)};
    return cmocka_run_group_tests(tests, temporary_make, temporary_remove);
}
