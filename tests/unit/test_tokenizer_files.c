/* test_tokenizer_files.c - tokenizers from files made here: a table of malformed ones, each refused with one line;
 * cut and bit-flipped good ones, which must never crash; and what the small files beside a vocabulary change.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../support/temporary.h"

#include "../../host/io/tokenizer/tokenizer.h"
#include "../../host/util/file.h"

struct made_file {
    const char *name, *text;
    size_t length; /* 0: strlen(text) */
};

static void made_path(char *path, size_t bytes, const char *name)
{
    snprintf(path, bytes, "%s/%s", temporary, name);
}

static void folder_clear(void)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                                        "added_tokens.json", "vocab.json", "merges.txt", "tokenizer.model"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[512];
        made_path(path, sizeof path, names[i]);
        unlink(path);
    }
}

static void folder_make(const struct made_file *file, size_t count)
{
    folder_clear();
    for (size_t i = 0; i < count && file[i].name; i++) {
        char path[512];
        made_path(path, sizeof path, file[i].name);
        FILE *stream = fopen(path, "wb");
        assert_non_null(stream);
        size_t length = file[i].length ? file[i].length : strlen(file[i].text);
        assert_int_equal(fwrite(file[i].text, 1, length, stream), length);
        assert_int_equal(fclose(stream), 0);
    }
}

#define VOCAB "{\"a\":0,\"b\":1,\"ab\":2,\"<u>\":3}"
#define MODEL "\"model\":{\"type\":\"BPE\",\"vocab\":" VOCAB ",\"merges\":[\"a b\"]}"
#define SPLIT(regex) \
    WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex "\"},\"behavior\":\"Isolated\"}")
#define BPE(text) JSON("{\"model\":{\"type\":\"BPE\"," text "}}")
#define MERGES(text) BPE("\"vocab\":" VOCAB ",\"merges\":" text)
#define FLAG(text) MERGES("[]," text)
#define JSON(text) {{"tokenizer.json", text, 0}}
#define WITH(text) JSON("{" MODEL "," text "}")
#define SMALL_FILES {"vocab.json", VOCAB, 0}, {"merges.txt", "#version: 0.2\na b\n", 0}
/* protobuf: pieces <unk> (type 2), a, b, ab */
#define PIECES "\n\x09\n\x05<unk>\x18\x02" "\n\x03\n\x01" "a" "\n\x03\n\x01" "b" "\n\x04\n\x02" "ab"
#define BPE_SPEC "\x12\x02\x18\x02"
#define SMALL_MODEL {"tokenizer.model", PIECES BPE_SPEC, sizeof(PIECES BPE_SPEC) - 1}
#define CONFIG(text) {"tokenizer_config.json", text, 0}
#define PROTO(text) {{"tokenizer.model", text, sizeof(text) - 1}}

static const struct {
    struct made_file file[3];
    const char *says; /* part of the line */
} malformed[] = {
    {{{0}}, "no tokenizer"},
    {JSON(""), "tokenizer.json"},
    {JSON("{" MODEL), "tokenizer.json"},
    {JSON("{" MODEL "} x"), "tokenizer.json"},
    {JSON("[]"), "tokenizer.json"},
    {JSON("{}"), "model"},
    {JSON("{\"model\":[]}"), "model"},
    {JSON("{\"model\":{\"type\":\"BPE\"}}"), "vocab"},
    {JSON("{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}"), "'Unigram' is not supported"},
    {JSON("{\"model\":{\"type\":\"WordPiece\",\"vocab\":{}}}"), "'WordPiece' is not supported"},
    {JSON("{\"model\":{\"type\":7,\"vocab\":{}}}"), "type"},
    {BPE("\"vocab\":[],\"merges\":[]"), "vocab"},
    {BPE("\"vocab\":{},\"merges\":[]"), "empty"},
    {BPE("\"vocab\":{\"a\":0},\"merges\":{}"), "merges"},
    {BPE("\"vocab\":{\"a\":\"0\"},\"merges\":[]"), "'a'"},
    {BPE("\"vocab\":{\"a\":0.5},\"merges\":[]"), "'a'"},
    {BPE("\"vocab\":{\"a\":-1},\"merges\":[]"), "-1"},
    {BPE("\"vocab\":{\"a\":4294967296},\"merges\":[]"), "4294967296"},
    {BPE("\"vocab\":{\"a\":1e300},\"merges\":[]"), "'a'"},
    {BPE("\"vocab\":{\"a\":3,\"b\":3},\"merges\":[]"), "same id 3"},
    {BPE("\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]"), "duplicate"},
    {MERGES("[\"a c\"]"), "right part"},
    {MERGES("[\"c a\"]"), "left part"},
    {MERGES("[\"b a\"]"), "the result"},
    {MERGES("[\"ab\"]"), "two parts"},
    {MERGES("[\"a b c\"]"), "two parts"},
    {MERGES("[[\"a\"]]"), "two parts"},
    {MERGES("[[\"a\",1]]"), "two parts"},
    {MERGES("[7]"), "two parts"},
    {MERGES("[\"a b\",[\"a\",\"b\"]]"), "same form"},
    {FLAG("\"dropout\":0.1"), "dropout"},
    {FLAG("\"continuing_subword_prefix\":\"##\""), "##"},
    {FLAG("\"end_of_word_suffix\":\"</w>\""), "</w>"},
    {FLAG("\"byte_fallback\":1"), "byte_fallback"},
    {FLAG("\"unk_token\":1"), "unk_token"},
    {WITH("\"version\":\"2.0\""), "2.0"},
    {WITH("\"normalizer\":7"), "object"},
    {WITH("\"normalizer\":{}"), "type"},
    {WITH("\"normalizer\":{\"type\":\"Lowercase\"}"), "'Lowercase' is not supported"},
    {WITH("\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"\"}"), "'Precompiled' is not supported"},
    {WITH("\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKC\"}]}"), "'NFKC' is not supported"},
    {WITH("\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":{}}"), "normalizers"},
    {WITH("\"normalizer\":{\"type\":\"Prepend\"}"), "prepend"},
    {WITH("\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(\"},\"content\":\"x\"}"), "bad regular"},
    {WITH("\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"x\"}"), "empty pattern"},
    {WITH("\"normalizer\":{\"type\":\"Replace\",\"pattern\":\" \",\"content\":\"x\"}"), "pattern"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Whitespace\"}"), "'Whitespace' is not supported"},
    {SPLIT("("),
     "bad regular expression"},
    {SPLIT("[a"), "without"},
    {SPLIT("\\\\w+"), "\\w"},
    {SPLIT("a\\\\"), "\\"},
    {SPLIT("\\\\p{Han}"), "Han"},
    {SPLIT("\\\\p"), "\\p"},
    {SPLIT("\\\\x{41"), "\\x"},
    {SPLIT("[a[b]]"), "'['"},
    {SPLIT("(?<n>a)"), "(?<"},
    {SPLIT("(*UTF)a"), "(*"},
    {SPLIT("a{1,2}+"), "{"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Sometimes\"}"),
     "Sometimes"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"\"},\"behavior\":\"Isolated\"}"), "empty"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"ab\"}"), "one character"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"last\"}"), "last"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"first\","
          "\"add_prefix_space\":false}"), "contradicts"},
    {WITH("\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\"},{\"type\":\"Metaspace\","
          "\"replacement\":\"_\",\"prepend_scheme\":\"first\"}]}"), "first"},
    {WITH("\"decoder\":{\"type\":\"WordPiece\"}"), "'WordPiece' is not supported"},
    {WITH("\"decoder\":{\"type\":\"Strip\",\"content\":\" \",\"start\":-1,\"stop\":0}"), "start"},
    {WITH("\"post_processor\":{\"type\":\"BertProcessing\"}"), "'BertProcessing' is not supported"},
    {WITH("\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[]}"), "$A"},
    {WITH("\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"B\"}}]}"), "$A"},
    {WITH("\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}},"
          "{\"Sequence\":{\"id\":\"A\"}}],\"special_tokens\":{}}"), "'x'"},
    {WITH("\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}},"
          "{\"Sequence\":{\"id\":\"A\"}}],\"special_tokens\":{\"x\":{\"ids\":[99]}}}"), "'x'"},
    {WITH("\"added_tokens\":{}"), "added_tokens"},
    {WITH("\"added_tokens\":[{\"id\":4}]"), "content"},
    {WITH("\"added_tokens\":[{\"content\":\"x\"}]"), "'x'"},
    {WITH("\"added_tokens\":[{\"id\":9,\"content\":\"x\"}]"), "id 9"},
    {WITH("\"added_tokens\":[{\"id\":-4,\"content\":\"x\"}]"), "'x'"},
    {WITH("\"added_tokens\":[{\"id\":4,\"content\":\"\"}]"), "empty"},
    {WITH("\"added_tokens\":[{\"id\":4,\"content\":\"x\"},{\"id\":4,\"content\":\"x\"}]"), "twice"},
    {WITH("\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"y\"},\"content\":\"x\"},\"added_tokens\":["
          "{\"id\":4,\"content\":\"x\"},{\"id\":5,\"content\":\"y\"}]"), "after normalization"},
    {{{"tokenizer.json", "{" MODEL "}", 0}, CONFIG("{")}, "tokenizer_config.json"},
    {{{"tokenizer.json", "{" MODEL "}", 0}, CONFIG("[]")}, "expected an object"},
    {{{"tokenizer.json", "{" MODEL "}", 0}, CONFIG("{\"eos_token\":7}")}, "eos_token"},
    {{{"vocab.json", VOCAB, 0}}, "no tokenizer"},
    {{{"vocab.json", "[]", 0}, {"merges.txt", "a b\n", 0}}, "vocab.json"},
    {{{"vocab.json", "{\"a\":null}", 0}, {"merges.txt", "", 0}}, "'a'"},
    {{{"vocab.json", VOCAB, 0}, {"merges.txt", "a\n", 0}}, "line 1"},
    {{{"vocab.json", VOCAB, 0}, {"merges.txt", "a b\n\n", 0}}, "line 2"},
    {{{"vocab.json", VOCAB, 0}, {"merges.txt", "#version: 0.2\na b c\n", 0}}, "line 2"},
    {{{"vocab.json", VOCAB, 0}, {"merges.txt", "a b\na \n", 0}}, "line 2"},
    {{{"vocab.json", VOCAB, 0}, {"merges.txt", "a \xff\n", 0}}, "UTF-8"},
    {{SMALL_FILES, CONFIG("{\"tokenizer_class\":\"BertTokenizer\"}")}, "is BertTokenizer"},
    {{SMALL_FILES, CONFIG("{\"tokenizer_class\":\"Fast\"}")}, "is Fast"},
    {{SMALL_FILES, CONFIG("{\"added_tokens_decoder\":{\"x\":{\"content\":\"y\"}}}")}, "'x'"},
    {{SMALL_FILES, CONFIG("{\"added_tokens_decoder\":[]}")}, "added_tokens_decoder"},
    {{SMALL_FILES, {"added_tokens.json", "{\"y\":\"4\"}", 0}}, "'y'"},
    {PROTO("\n"), "malformed"},
    {PROTO("hello world"), "not"},
    {PROTO("\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "malformed"},
    {PROTO("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), "malformed"},
    {PROTO(BPE_SPEC), "no pieces"},
    {PROTO(PIECES), "unigram"},
    {PROTO(PIECES "\x12\x02\x18\x01"), "unigram"},
    {PROTO(PIECES BPE_SPEC "\x1a\x03\x12\x01x"), "precompiled_charsmap"},
    {PROTO(PIECES "\n\x03\n\x01" "a" BPE_SPEC), "twice"},
    {PROTO(PIECES "\n\x02\n\x00" BPE_SPEC), "piece 4"},
    {PROTO(PIECES "\n\x03\n\x01\xff" BPE_SPEC), "piece 4"},
    {PROTO(PIECES "\n\x05\n\x01" "c\x18\x05" BPE_SPEC), "type 5"},
    {PROTO(PIECES "\n\x08\n\x01" "c\x15\x00\x00\xc0\x7f" BPE_SPEC), "piece 4"},
    {PROTO(PIECES BPE_SPEC "\x0b"), "malformed"},
    {{SMALL_MODEL, CONFIG("{\"tokenizer_class\":\"GPT2Tokenizer\"}")}, "'GPT2Tokenizer'"},
};

static void test_malformed(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++) {
        struct tokenizer *tokenizer = NULL;
        struct error error = {0};
        folder_make(malformed[i].file, 3);
        int status = tokenizer_load(&tokenizer, temporary, &error);
        if (status != STATUS_INPUT || !strstr(error.text, malformed[i].says) || tokenizer)
            fail_msg("malformed %zu: status %d, '%s', expected '%s'", i, status, error.text, malformed[i].says);
        assert_null(strchr(error.text, '\n'));
        assert_int_equal(tokenizer_load(&tokenizer, temporary, NULL), STATUS_INPUT);
    }
    print_message("%zu malformed tokenizers refused\n", sizeof malformed / sizeof *malformed);
}

/* Every cut and many bit flips of good files: refused or read, never a crash. */
static void mutate(const char *folder, const char *name, size_t step)
{
    char path[512], *bytes;
    size_t length, refused = 0, count = 0;
    struct error error = {0};
    uint32_t random = 11;
    snprintf(path, sizeof path, "%s/%s/%s", "tests/golden/tokenizer", folder, name);
    if (file_read(path, 1 << 24, &bytes, &length, &error))
        fail_msg("%s", error.text);
    for (size_t cut = 0; cut < 2 * length; cut += step, count++) {
        struct tokenizer *tokenizer;
        char *changed = malloc(length);
        assert_non_null(changed);
        memcpy(changed, bytes, length);
        random = random * 1664525u + 1013904223u;
        if (cut >= length)
            changed[random % length] ^= (char)(1u << (random >> 29));
        folder_make(&(struct made_file){name, changed, cut < length ? cut : length}, cut == 0 ? 0 : 1);
        refused += tokenizer_load(&tokenizer, temporary, &error) != 0;
        struct token_list ids = {0};
        if (tokenizer)
            tokenizer_encode(tokenizer, "The keeper's 12 ships \xc3\xa9", 24, true, &ids, &error);
        free(ids.id);
        tokenizer_free(tokenizer);
        free(changed);
    }
    assert_true(refused * 2 > count / 2); /* at least the cut ones */
    free(bytes);
}

static void test_mutations(void **state)
{
    (void)state;
    mutate("odd", "tokenizer.json", 61);
    mutate("sentencepiece", "tokenizer.model", 53);
}

/* The variants that tokenizer_config.json makes of the raw files. */
static void test_config_variants(void **state)
{
    (void)state;
    static const struct {
        struct made_file file[3];
        const char *text;
        int32_t ids[8];
        size_t count;
    } table[] = {
        {{SMALL_FILES}, "ab<|endoftext|>a", {2, 4, 0}, 3},
        {{SMALL_FILES, CONFIG("{\"tokenizer_class\":\"GPT2Tokenizer\",\"bos_token\":\"<u>\","
                              "\"eos_token\":{\"content\":\"b\"},\"add_bos_token\":true}")},
         "ab", {3, 0, 1}, 3}, /* "b" is an added token now and cut out first */
        {{SMALL_FILES, CONFIG("{\"tokenizer_class\":\"Qwen2TokenizerFast\",\"added_tokens_decoder\":"
                              "{\"5\":{\"content\":\"y\"},\"4\":{\"content\":\"x\"}}}")},
         "xyab", {4, 5, 2}, 3},
        {{SMALL_FILES, {"added_tokens.json", "{\"y\":5,\"x\":4}", 0}}, "xyab", {4, 5, 2}, 3},
        {{SMALL_MODEL, CONFIG("{\"tokenizer_class\":\"LlamaTokenizer\",\"add_prefix_space\":false}")}, "ab<unk>ba",
         {3, 0, 2, 1}, 4},
        {{SMALL_MODEL, CONFIG("{\"tokenizer_class\":\"LlamaTokenizer\",\"legacy\":true}")}, "ab<unk>ab", {3, 0, 3}, 3},
        {{SMALL_MODEL, CONFIG("{\"legacy\":false}")}, "ab<unk> ab", {0, 3, 0, 3}, 4},
        {{SMALL_MODEL, CONFIG("{\"legacy\":true}")}, "ab<unk>ab", {0, 3, 0, 0, 3}, 5},
        {{{"tokenizer.json", "{" MODEL "}", 0}, CONFIG("{\"eos_token\":\"<u>\",\"add_eos_token\":true}")}, "ab", {2}, 1},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct token_list ids = {0};
        folder_make(table[i].file, 3);
        struct tokenizer *tokenizer;
        struct error error = {0};
        if (tokenizer_load(&tokenizer, temporary, &error) ||
            tokenizer_encode(tokenizer, table[i].text, strlen(table[i].text), true, &ids, &error))
            fail_msg("%s", error.text);
        assert_int_equal(ids.length, table[i].count);
        assert_memory_equal(ids.id, table[i].ids, ids.length * sizeof *ids.id);
        free(ids.id);
        tokenizer_free(tokenizer);
    }
}

/* What is said where transformers 4 and 5 give other ids, and where a file is not followed to the letter. */
static void test_warnings(void **state)
{
    (void)state;
    static const struct {
        const char *base, *config, *says; /* says NULL: nothing */
    } table[] = {
        {"llama2", "{\"tokenizer_class\":\"LlamaTokenizer\",\"add_bos_token\":true}", "version 4 as"},
        {"saved_5_llama", "{\"tokenizer_class\":\"LlamaTokenizer\"}", NULL},
        {"saved_5_llama", "{\"tokenizer_class\":\"LlamaTokenizer\",\"add_eos_token\":true}", "version 4 what add_bos_token"},
        {"gpt2", "{\"tokenizer_class\":\"GPT2Tokenizer\"}", NULL},
        {"gpt2", "{\"tokenizer_class\":\"GPT2Tokenizer\",\"add_prefix_space\":true}", NULL},
        {"qwen2", "{\"tokenizer_class\":\"Qwen2Tokenizer\"}", NULL},
        {"smollm2", "{\"tokenizer_class\":\"GPT2Tokenizer\"}", "version 4 as"},
        {"llama3", "{\"tokenizer_class\":\"PreTrainedTokenizerFast\"}", NULL},
        {"llama3", "{\"tokenizer_class\":\"CohereTokenizer\"}", "'CohereTokenizer'"},
        {"gpt2", "{\"added_tokens_decoder\":{\"900\":{\"content\":\"<x>\"}}}", "id 900, but gets 507"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct tokenizer *tokenizer;
        struct error error = {0};
        char *bytes;
        size_t length;
        char path[512];
        snprintf(path, sizeof path, "tests/golden/tokenizer/%s/tokenizer.json", table[i].base);
        if (file_read(path, 1 << 24, &bytes, &length, &error))
            fail_msg("%s", error.text);
        folder_make((const struct made_file[]){{"tokenizer.json", bytes, length}, CONFIG(table[i].config)}, 2);
        if (tokenizer_load(&tokenizer, temporary, &error))
            fail_msg("%s", error.text);
        const char *warnings = tokenizer_warnings(tokenizer);
        if (table[i].says ? !strstr(warnings, table[i].says) : *warnings != 0)
            fail_msg("%s with %s: \"%s\"", table[i].base, table[i].config, warnings);
        tokenizer_free(tokenizer);
        free(bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_malformed, temporary_make, temporary_remove),
        cmocka_unit_test_setup_teardown(test_mutations, temporary_make, temporary_remove),
        cmocka_unit_test_setup_teardown(test_config_variants, temporary_make, temporary_remove),
        cmocka_unit_test_setup_teardown(test_warnings, temporary_make, temporary_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
