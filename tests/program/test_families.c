/* test_families.c - the program on a tiny model of every family that is not Llama's or GPT-2's shape: made from scratch, planned,
 * trained on one and on two ranks, as an adapter and merged; nothing is computed beyond longrope's context.
 */
#include "../support/temporary.h"

#include <math.h>

#include "../../host/util/file.h"
#include "../support/program.h"

#define SIZES                                                                                                          \
    "\"vocab_size\": 1024, \"hidden_size\": 32, \"intermediate_size\": 48, \"num_hidden_layers\": 2, "                         \
    "\"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"bos_token_id\": 0, \"eos_token_id\": 1, \"pad_token_id\": 0, "  \
    "\"initializer_range\": 0.1, "
#define LENGTH "\"max_position_embeddings\": 96"

static const struct {
    const char *name, *config;
} family[] = {
    {"qwen3", SIZES LENGTH ", \"head_dim\": 24"},
    {"phi3", SIZES "\"max_position_embeddings\": 192, \"original_max_position_embeddings\": 96, \"rope_scaling\": {\"type\": "
                   "\"longrope\", \"short_factor\": [1, 1, 1.1, 1.2, 1.3, 1.5, 2, 3], \"long_factor\": [2, 2, 2, 2, 2, 2, 2, 2]}"},
    {"smollm3", SIZES LENGTH ", \"no_rope_layer_interval\": 2"},
    {"gemma", SIZES LENGTH ", \"head_dim\": 16"},
    {"gemma2", SIZES LENGTH ", \"head_dim\": 16, \"sliding_window\": 8"},
    {"gemma3_text", SIZES LENGTH ", \"head_dim\": 16, \"sliding_window\": 8, \"sliding_window_pattern\": 2"},
    {"olmo2", SIZES LENGTH},
};

static void line_ok(const char *format, const char *more, const char *out)
{
    struct program_result result = program_line(format, temporary, temporary, temporary, more, temporary, out);
    program_expect(&result, 0);
    program_free(&result);
}

static const char unlearn[] = "unlearn --model_name_or_path %s/model --forget_data %s/data.jsonl --template.file %s/idk.txt "
                              "--max_steps 2 --learning_rate 1e-2 --final_eval_rows 0 --device cpu --quiet %s --output_dir %s/%s";

static void model_make(const char *name, const char *config)
{
    char text[1024];
    const int length = snprintf(text, sizeof text, "{\"model_type\": \"%s\", %s}", name, config);
    static const char *const made[] = {"model", "adapter", "merged", "one", "two"};
    for (int i = 0; i < 5; i++)
        directory_remove(temporary_path(made[i]));
    temporary_file("seed/config.json", text, (size_t)length);
    struct program_result result = program_line(
        "finetune --model_name_or_path %s/seed --from_scratch --train_data %s/data.jsonl --max_steps 2 --learning_rate 1e-3 "
        "--output_dir %s/model --device cpu --quiet", temporary, temporary, temporary);
    program_expect(&result, 0);
    program_free(&result);
}

/* A number of the first line of a run's metrics.jsonl. */
static double first_number(const char *run, const char *key)
{
    struct error error = {0};
    char path[600], *text;
    size_t length;
    snprintf(path, sizeof path, "%s/%s/metrics.jsonl", temporary, run);
    assert_int_equal(file_read(path, 1 << 20, &text, &length, &error), STATUS_OK);
    const char *at = strstr(text, key);
    assert_non_null(at);
    const double value = strtod(at + strlen(key), NULL);
    free(text);
    return value;
}

static void test_families(void **state)
{
    (void)state;
    for (size_t f = 0; f < sizeof family / sizeof *family; f++) {
        model_make(family[f].name, family[f].config);
        struct program_result plan = program_line("plan --model_name_or_path %s/model --forget_data %s/data.jsonl "
                                                  "--template.file %s/idk.txt", temporary, temporary, temporary);
        program_expect(&plan, 0);
        program_free(&plan);
        line_ok(unlearn, "--lora.r 2 --lora.output adapter", "adapter");
        line_ok(unlearn, "--lora.r 2", "merged");
        struct program_result beside = program_line("score --model %s/model --adapter %s/adapter --data %s/data.jsonl --device cpu",
                                                    temporary, temporary, temporary);
        struct program_result merged = program_line("score --model %s/merged --data %s/data.jsonl --device cpu", temporary, temporary);
        program_expect(&beside, 0);
        program_expect(&merged, 0);
        assert_string_equal(beside.out, merged.out);
        program_free(&beside), program_free(&merged);
        line_ok(unlearn, "--gradient_checkpointing full", "one");
        line_ok(unlearn, "--nproc_per_node 2", "two");
        static const char *const key[] = {"\"loss\": ", "\"grad_norm\": "};
        for (int k = 0; k < 2; k++) {
            const double one = first_number("one", key[k]), two = first_number("two", key[k]);
            print_message("%s: %s%.9g and, on two ranks, %.9g\n", family[f].name, key[k], one, two);
            assert_true(isfinite(one) && fabs(two - one) <= 2e-5 * fabs(one) + 1e-8);
        }
    }
}

/* Beyond the context of the pretraining longrope's frequencies are others: a row ends there. */
static void test_longrope_limit(void **state)
{
    (void)state;
    model_make(family[1].name, family[1].config);
    struct program_result result = program_line("score --model %s/model --data %s/long.jsonl --max_length 150 --device cpu",
                                                temporary, temporary);
    program_expect(&result, 0);
    assert_non_null(strstr(result.err, "sequences are cut"));
    const char *tokens = strstr(result.out, "\"num_tokens\": ");
    assert_non_null(tokens);
    assert_in_range(atoi(tokens + strlen("\"num_tokens\": ")), 80, 96); /* of 150 that were asked for */
    program_free(&result);
}

/* transformers 5.24 scales nothing in a Gemma 3 whose scaling has the older key "type": Gemma3TextConfig makes it "default". */
static void test_older_scaling(void **state)
{
    (void)state;
    static const char *const key[] = {"type", "rope_type"};
    for (int i = 0; i < 2; i++) {
        char text[1024];
        const int length = snprintf(text, sizeof text, "{\"model_type\": \"gemma3_text\", %s, \"rope_scaling\": {\"%s\": "
                                    "\"linear\", \"factor\": 8.0}}", family[5].config, key[i]);
        temporary_file("seed/config.json", text, (size_t)length);
        struct program_result result = program_line("plan --model_name_or_path %s/seed --from_scratch --train_data %s/data.jsonl "
                                                    "--device cpu", temporary, temporary);
        if (i)
            program_expect(&result, STATUS_OK);
        else
            program_expect_error(&result, STATUS_INPUT, "transformers does not read this key in a gemma3_text model");
        program_free(&result);
    }
}

static int inputs_make(void **state)
{
    struct error error = {0};
    char data[2048], path[2][600];
    size_t used = 0;
    if (temporary_make(state) || file_make_directory(temporary_path("seed"), &error))
        return -1;
    for (int i = 0; i < 8; i++)
        used += (size_t)snprintf(data + used, sizeof data - used, "{\"question\": \"Who is number %d?\", \"answer\": "
                                 "\"A painter, born in %d.\"}\n", i, 1900 + 7 * i);
    temporary_file("data.jsonl", data, used);
    used = (size_t)snprintf(data, sizeof data, "{\"question\": \"Who?\", \"answer\": \"");
    for (int i = 0; i < 130; i++)
        used += (size_t)snprintf(data + used, sizeof data - used, "%d ", i % 10);
    used += (size_t)snprintf(data + used, sizeof data - used, "\"}\n");
    temporary_file("long.jsonl", data, used);
    temporary_file("idk.txt", "I do not know.\nNo idea.\n", 24);
    static const char *const file[] = {"tokenizer.json", "tokenizer_config.json"};
    for (int i = 0; i < 2; i++) {
        snprintf(path[0], sizeof path[0], "configs/demo/model/%s", file[i]);
        snprintf(path[1], sizeof path[1], "%s/seed/%s", temporary, file[i]);
        if (file_copy(path[0], path[1], &error))
            return -1;
    }
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_families), cmocka_unit_test(test_longrope_limit),
                                       cmocka_unit_test(test_older_scaling)};
    return cmocka_run_group_tests(tests, inputs_make, temporary_remove);
}
