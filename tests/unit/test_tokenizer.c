/* test_tokenizer.c - the tokenizer against Hugging Face's `tokenizers`: expected ids and texts made by
 * tests/parity/make_tokenizer_golden.py, for small tokenizers of our own and, where the shared data is there, GPT-2,
 * Qwen2, Mistral and stories260k. Then properties. Malformed files are in test_tokenizer_files.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../host/io/json/json.h"
#include "../../host/io/tokenizer/tokenizer.h"
#include "../../host/util/file.h"
#include "../../host/util/utf8.h"

static const char golden[] = "tests/golden/tokenizer";

/* ---- generated strings: the same in make_tokenizer_golden.py ---- */

static uint64_t random_next(uint64_t *state, uint64_t n) /* splitmix64 */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (z ^ z >> 31) % n;
}

static const struct {
    uint32_t first, size;
} blocks[] = {{0x0, 0x80},     {0x80, 0x180},  {0x300, 0x70},   {0x391, 0x11},   {0x400, 0x100},
              {0x5D0, 0x1B},   {0x620, 0x40},  {0x905, 0x35},   {0xE01, 0x3A},   {0x1100, 0x100},
              {0x1E00, 0x100}, {0x2000, 0x65}, {0x2150, 0x3C},  {0x2460, 0xA0},  {0x3000, 0x40},
              {0x3041, 0x56},  {0x4E00, 0x5000}, {0xAC00, 0x2BA4}, {0xF900, 0x16E}, {0xFF01, 0x5E},
              {0x10400, 0x50}, {0x1D400, 0x55}, {0x1F600, 0x50}, {0x20000, 0x100}};

static void next_string(uint64_t *state, char *const *fragment, size_t fragments, struct buffer *out)
{
    out->length = 0;
    for (uint64_t parts = 1 + random_next(state, 12); parts > 0; parts--) {
        uint64_t kind = random_next(state, 8);
        if (kind < 6) {
            const char *text = fragment[random_next(state, fragments)];
            assert_int_equal(buffer_append(out, text, strlen(text), NULL), STATUS_OK);
        } else if (kind == 6) {
            char character[4];
            size_t block = random_next(state, sizeof blocks / sizeof *blocks);
            int bytes = utf8_encode(blocks[block].first + (uint32_t)random_next(state, blocks[block].size), character);
            assert_int_equal(buffer_append(out, character, (size_t)bytes, NULL), STATUS_OK);
        } else {
            char character = (char)random_next(state, 128);
            for (uint64_t n = 1 + random_next(state, 4); n > 0; n--)
                assert_int_equal(buffer_append(out, &character, 1, NULL), STATUS_OK);
        }
    }
}

static uint32_t fnv1a(const void *bytes, size_t length, uint32_t hash)
{
    for (const unsigned char *b = bytes, *end = b + length; b < end; b++)
        hash = (hash ^ *b) * 0x01000193u;
    return hash;
}

static uint32_t hash_ids(const struct token_list *ids)
{
    return fnv1a(ids->id, ids->length * sizeof *ids->id, 0x811c9dc5u);
}

/* ---- helpers ---- */

static struct tokenizer *load(const char *directory)
{
    struct tokenizer *tokenizer;
    struct error error = {0};
    if (tokenizer_load(&tokenizer, directory, &error))
        fail_msg("%s: %s", directory, error.text);
    return tokenizer;
}

static void encode(struct tokenizer *tokenizer, const char *text, size_t length, struct token_list *ids)
{
    struct error error = {0};
    ids->length = 0;
    if (tokenizer_encode(tokenizer, text, length, true, ids, &error))
        fail_msg("encode: %s", error.text);
}

static void decode(const struct tokenizer *tokenizer, const struct token_list *ids, bool skip, struct buffer *text)
{
    struct error error = {0};
    if (tokenizer_decode(tokenizer, ids->id, ids->length, skip, text, &error))
        fail_msg("decode: %s", error.text);
}

static cJSON *read_json(const char *name)
{
    char path[512];
    struct error error = {0};
    snprintf(path, sizeof path, "%s/%s", golden, name);
    cJSON *tree = json_read(path, &error);
    if (!tree)
        fail_msg("%s", error.text);
    return tree;
}

/* Folder of a test case: our own, or shared data. False: the data is not here. */
static bool folder_find(const char *name, char *path, size_t bytes)
{
    const char *shared = getenv("FLAT_SHARED") ? getenv("FLAT_SHARED") : "../shared/data";
    if (strncmp(name, "real_", 5) != 0)
        snprintf(path, bytes, "%s/%s", golden, name);
    else if (strcmp(name, "real_stories260k") == 0)
        snprintf(path, bytes, "%s/stories260k", shared);
    else
        snprintf(path, bytes, "%s/tokenizers/%s", shared, name + 5);
    return strncmp(name, "real_", 5) != 0 || file_is_directory(path);
}

/* ---- against Hugging Face ---- */

static void check_case(struct tokenizer *tokenizer, const char *name, const char *text, const cJSON *expected)
{
    struct token_list ids = {0};
    struct buffer decoded = {0};
    const cJSON *want = expected->child, *item = want->child;
    encode(tokenizer, text, strlen(text), &ids);
    bool equal = (size_t)cJSON_GetArraySize(want) == ids.length;
    for (size_t i = 0; equal && i < ids.length; i++, item = item->next)
        equal = item->valuedouble == ids.id[i];
    if (!equal) {
        for (size_t i = 0; i < ids.length; i++)
            print_error("%d ", (int)ids.id[i]);
        char *list = cJSON_PrintUnformatted(want);
        fail_msg("%s: '%s' does not give the ids %s", name, text, list);
    }
    decode(tokenizer, &ids, false, &decoded);
    assert_string_equal(decoded.data, want->next->valuestring);
    decoded.length = 0;
    decode(tokenizer, &ids, true, &decoded);
    assert_string_equal(decoded.data, want->next->next->valuestring);
    buffer_free(&decoded);
    free(ids.id);
}

static void check_readable(struct tokenizer *tokenizer, const char *name, const cJSON *cases)
{
    char file[128];
    snprintf(file, sizeof file, "expected/%s.json", name);
    cJSON *expected = read_json(file);
    const cJSON *text = json_member(cases, "cases")->child, *want = json_member(expected, "cases")->child;
    for (; text && want; text = text->next, want = want->next)
        check_case(tokenizer, name, text->valuestring, want);
    assert_true(!text && !want);
    struct token_list ids = {0};
    text = json_member(cases, "long")->child;
    want = json_member(expected, "long")->child;
    for (; text && want; text = text->next, want = want->next) {
        struct buffer whole = {0};
        const char *part = text->child->valuestring;
        for (int i = 0; i < text->child->next->valueint; i++)
            assert_int_equal(buffer_append(&whole, part, strlen(part), NULL), STATUS_OK);
        encode(tokenizer, whole.data, whole.length, &ids);
        if (ids.length != want->child->valuedouble || hash_ids(&ids) != want->child->next->valuedouble)
            fail_msg("%s: %d times '%s' gives other ids", name, text->child->next->valueint, part);
        buffer_free(&whole);
    }
    assert_true(!text && !want);
    free(ids.id);
    cJSON_Delete(expected);
}

/* One line of the file of hashes is one generated string, or after those one list of random ids. */
static void check_generated(struct tokenizer *tokenizer, const char *name, const cJSON *cases)
{
    enum { ID_LISTS = 300, FRAGMENTS = 512 };
    char path[512], *lines, *fragment[FRAGMENTS];
    size_t length, fragments = 0, lines_left = 0;
    uint64_t state = 2024;
    struct error error = {0};
    snprintf(path, sizeof path, "%s/expected/%s.txt", golden, name);
    if (file_read(path, 1 << 24, &lines, &length, &error))
        fail_msg("%s", error.text);
    for (const cJSON *item = json_member(cases, "fragments")->child; item; item = item->next) {
        assert_true(fragments < FRAGMENTS);
        fragment[fragments++] = item->valuestring;
    }
    for (size_t i = 0; i < length; i++)
        lines_left += lines[i] == '\n';
    struct token_list ids = {0};
    struct buffer text = {0}, decoded = {0};
    for (char *line = lines; lines_left > 0; line += 9, lines_left--) {
        bool generated = lines_left > ID_LISTS;
        ids.length = 0;
        if (generated) {
            next_string(&state, fragment, fragments, &text);
            encode(tokenizer, text.data, text.length, &ids);
        } else {
            ids.length = 1 + random_next(&state, 20);
            assert_int_equal(memory_grow(&ids.id, &ids.capacity, ids.length, sizeof *ids.id, NULL), STATUS_OK);
            for (size_t i = 0; i < ids.length; i++)
                ids.id[i] = (int32_t)random_next(&state, (uint64_t)tokenizer_vocab_size(tokenizer));
        }
        decoded.length = 0;
        decode(tokenizer, &ids, false, &decoded);
        decode(tokenizer, &ids, true, &decoded);
        if (fnv1a(decoded.data, decoded.length, hash_ids(&ids)) != strtoul(line, NULL, 16)) {
            for (size_t i = 0; i < ids.length; i++)
                print_error("%d ", (int)ids.id[i]);
            fail_msg("%s: line %zu: ids or text of '%s' differ", name, (size_t)(line - lines) / 9 + 1,
                     generated ? text.data : "(random ids)");
        }
    }
    buffer_free(&text);
    buffer_free(&decoded);
    free(ids.id);
    free(lines);
}

static void test_equal_to_huggingface(void **state)
{
    const char *name = *state;
    char folder[512];
    if (!folder_find(name, folder, sizeof folder)) {
        print_message("%s: skipped, no %s (set FLAT_SHARED)\n", name, folder);
        skip();
    }
    struct tokenizer *tokenizer = load(folder);
    cJSON *cases = read_json("cases.json");
    check_readable(tokenizer, name, cases);
    check_generated(tokenizer, name, cases);
    cJSON_Delete(cases);
    tokenizer_free(tokenizer);
}

/* ---- properties ---- */

static void test_invalid_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t length, bad;
    } table[] = {{"ab\xff", 3, 2},           {"\x80", 1, 0},          {"abcdefgh\xc3", 9, 8},    {"a\xc0\xaf", 3, 1},
                 {"\xed\xa0\x80", 3, 0},     {"\xf4\x90\x80\x80", 4, 0}, {"ok \xe2\x96", 5, 3},
                 {"\xf8\x88\x80\x80\x80", 5, 0},
                 {"\xe0\x80\x80", 3, 0},     {"12345678901\xf0\x9f\x98", 14, 11}};
    struct tokenizer *tokenizer = load("tests/golden/tokenizer/llama2");
    struct token_list ids = {0};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct error error = {0};
        char offset[32];
        snprintf(offset, sizeof offset, "byte %zu", table[i].bad);
        assert_int_equal(tokenizer_encode(tokenizer, table[i].text, table[i].length, true, &ids, &error), STATUS_INPUT);
        assert_non_null(strstr(error.text, offset));
        assert_int_equal(ids.length, 0);
    }
    free(ids.id);
    tokenizer_free(tokenizer);
}

static void test_special_ids(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int32_t bos, eos, size;
    } table[] = {{"llama2", 1, 2, 0}, {"sentencepiece", 1, 2, 0}, {"opt_files", 2, 2, 504},
                 {"phi_files", 0, 0, 538}, {"real_gpt2", 50256, 50256, 50257},
                 {"real_qwen2", -1, 151645, 151646}, {"real_mistral", 1, 2, 32000}, {"real_stories260k", 1, 2, 512}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char folder[512];
        if (!folder_find(table[i].name, folder, sizeof folder))
            continue;
        struct tokenizer *tokenizer = load(folder);
        assert_int_equal(tokenizer_bos(tokenizer), table[i].bos);
        assert_int_equal(tokenizer_eos(tokenizer), table[i].eos);
        if (table[i].size)
            assert_int_equal(tokenizer_vocab_size(tokenizer), table[i].size);
        assert_int_equal(tokenizer_token_id(tokenizer, "no such token"), -1);
        tokenizer_free(tokenizer);
    }
}

/* Byte-level tokenizers lose nothing, whatever the text; and pieces met before give the ids they gave at first. */
static void test_round_trip(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = load("tests/golden/tokenizer/gpt2_files");
    struct token_list ids = {0}, again = {0};
    uint64_t random = 7;
    for (int i = 0; i < 500; i++) {
        struct buffer text = {0}, decoded = {0};
        for (uint64_t n = random_next(&random, 40); n > 0; n--) {
            char character[4];
            uint32_t limit = random_next(&random, 2) ? 0x110000 : 0x80;
            int bytes = utf8_encode((uint32_t)random_next(&random, limit), character);
            assert_int_equal(buffer_append(&text, character, (size_t)bytes, NULL), STATUS_OK);
        }
        encode(tokenizer, text.data ? text.data : "", text.length, &ids);
        encode(tokenizer, text.data ? text.data : "", text.length, &again);
        assert_int_equal(ids.length, again.length);
        if (ids.length > 0)
            assert_memory_equal(ids.id, again.id, ids.length * sizeof *ids.id);
        decode(tokenizer, &ids, false, &decoded);
        assert_int_equal(decoded.length, text.length);
        if (text.length > 0)
            assert_memory_equal(decoded.data, text.data, text.length);
        buffer_free(&text);
        buffer_free(&decoded);
    }
    free(ids.id);
    free(again.id);
    tokenizer_free(tokenizer);
}

static void test_unknown_id(void **state)
{
    (void)state;
    struct tokenizer *tokenizer = load("tests/golden/tokenizer/llama2");
    struct buffer text = {0};
    struct error error = {0};
    const int32_t ids[2][2] = {{5, 1 << 20}, {5, -1}};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(tokenizer_decode(tokenizer, ids[i], 2, false, &text, &error), STATUS_INPUT);
        assert_non_null(strstr(error.text, "position 1"));
        assert_int_equal(text.length, 0);
    }
    buffer_free(&text);
    tokenizer_free(tokenizer);
}

static void test_speed(void **state)
{
    (void)state;
    char folder[512], path[600], *text;
    size_t length;
    struct error error = {0};
    const char *shared = getenv("FLAT_SHARED") ? getenv("FLAT_SHARED") : "../shared/data";
    snprintf(path, sizeof path, "%s/tofu/full.json", shared);
    if (!folder_find("real_gpt2", folder, sizeof folder) || file_read(path, 1 << 28, &text, &length, &error)) {
        print_message("speed: skipped, no %s\n", path);
        skip();
    }
    struct tokenizer *tokenizer = load(folder);
    struct token_list ids = {0};
    struct timespec start, stop;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (size_t at = 0, next; at < length; at = next) {
        const char *newline = memchr(text + at, '\n', length - at);
        next = newline ? (size_t)(newline - text) + 1 : length;
        assert_int_equal(tokenizer_encode(tokenizer, text + at, next - at, true, &ids, &error), STATUS_OK);
    }
    clock_gettime(CLOCK_MONOTONIC, &stop);
    double seconds = (double)(stop.tv_sec - start.tv_sec) + 1e-9 * (double)(stop.tv_nsec - start.tv_nsec);
    print_message("GPT-2: %.1f MB/s on one thread (%zu bytes, %zu ids)\n", (double)length / seconds / 1e6, length,
                  ids.length);
    free(ids.id);
    free(text);
    tokenizer_free(tokenizer);
}

#define GOLDEN(name) {"equal to tokenizers: " #name, test_equal_to_huggingface, NULL, NULL, #name}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GOLDEN(llama2),        GOLDEN(metaspace),   GOLDEN(llama3),       GOLDEN(gpt2),
        GOLDEN(qwen2),         GOLDEN(smollm2),     GOLDEN(odd),          GOLDEN(loose),
        GOLDEN(empty_match),   GOLDEN(bare),          GOLDEN(prefix),      GOLDEN(gpt2_files),   GOLDEN(sentencepiece),
        GOLDEN(opt_files),     GOLDEN(phi_files),
        GOLDEN(real_gpt2),     GOLDEN(real_qwen2),  GOLDEN(real_mistral), GOLDEN(real_stories260k),
        cmocka_unit_test(test_invalid_utf8),
        cmocka_unit_test(test_special_ids),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_unknown_id),
        cmocka_unit_test(test_speed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
