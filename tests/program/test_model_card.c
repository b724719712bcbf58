/* test_model_card.c - README.md of a saved folder: its front matter and figures are those of the run, what the base said of itself is
 * kept, nobody's README.md is lost, edits are allowed; no text of others ends a cell or a code span.
 */
#include "../support/temporary.h"

#include "../../host/cli/card/model_card.h"
#include "../../host/util/file.h"
#include "../support/eval_model.h"
#include "../support/program.h"

static int make(void **state)
{
    static const char readme[] = "---\r\nlicense: other\nlicense_name: \"a: b\"\ntags:\n- base\nlanguage:\n- en\n  - nested\n\nbase_model: "
                                 "someone/else\n---\n# The base\nlicense: not this\n";
    if (temporary_make(state) || eval_model_make(temporary_path("model")))
        return -1;
    temporary_file("model/README.md", readme, strlen(readme));
    return 0;
}

static char *text_of(const char *name)
{
    char *text;
    size_t length;
    struct error error;
    if (file_read(temporary_path(name), 1 << 22, &text, &length, &error))
        fail_msg("%s", error.text);
    return text;
}

static void expect_in(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' is not in:\n%s", part, text);
}

#define UNLEARN "unlearn --model %s/model --forget_data " EVAL "/qa_forget.jsonl --template.file " EVAL "/refusals.txt " \
                "--num_train_epochs 2 --per_device_train_batch_size 2 --gradient_accumulation_steps 1 --learning_rate 3e-4 " \
                "--prompt_template qa --device cpu --quiet --eval_data facts=" EVAL "/tofu/world_facts_perturbed.json "

static struct program_result run(const char *more)
{
    char line[4000];
    snprintf(line, sizeof line, UNLEARN "%s", temporary, more);
    return program_line("%s", line);
}

static void run_ok(const char *output, const char *more)
{
    char line[1000];
    snprintf(line, sizeof line, "--output_dir %s/%s %s", temporary, output, more);
    struct program_result result = run(line);
    program_expect(&result, STATUS_OK);
    program_free(&result);
}

static void verify(const char *folder, const char *says)
{
    struct program_result result = program_line("verify %s/%s", temporary, folder);
    program_expect(&result, STATUS_OK);
    expect_in(result.out, says);
    program_free(&result);
}

/* ---- pieces ---- */

static void test_pieces(void **state)
{
    (void)state;
    static const struct {
        const char *text, *code;
    } codes[] = {{"plain", "`plain`"}, {"", ""},      {"a|b", "`a\\|b`"},      {"a`b", "`` a`b ``"},
                 {"```", "```` ``` ````"}, {"a\nb\tc", "`a b c`"}, {"<b>", "`<b>`"}};
    static const struct {
        const char *path, *name;
    } hubs[] = {
        {"/home/x/hub/models--HuggingFaceTB--SmolLM2-135M/snapshots/abc", "HuggingFaceTB/SmolLM2-135M"},
        {"models--a--b--c/snapshots/1/", "a/b--c"},
        {"runs/models--a--b", NULL}, {"models--gpt2/snapshots/1", NULL}, {"xmodels--a--b/snapshots/1", NULL}, {"runs/one", NULL}};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        struct buffer out = {0};
        struct error error;
        assert_int_equal(markdown_code(codes[i].text, &out, &error), STATUS_OK);
        assert_string_equal(out.data ? out.data : "", codes[i].code);
        buffer_free(&out);
    }
    for (size_t i = 0; i < sizeof hubs / sizeof *hubs; i++) {
        char name[100];
        assert_int_equal(base_hub_name(hubs[i].path, name, sizeof name), hubs[i].name != NULL);
        if (hubs[i].name)
            assert_string_equal(name, hubs[i].name);
    }
}

static void test_base_metadata(void **state)
{
    (void)state;
    static const struct {
        const char *readme, *taken;
    } cases[] = {
        {"---\nlicense: mit\n---\n", "license: mit\n"},
        {"---\nlicense: mit", ""},            /* never closed */
        {"# no front matter\nlicense: mit\n---\n", ""},
        {"---\nlicenses: x\nlanguage:\n  - de\nother:\n  - license: y\npipeline_tag: text-generation  \n---\nlicense: z\n",
         "language:\n  - de\npipeline_tag: text-generation\n"},
        {"---\nlicense: \xff\n---\n", ""},
        {"", ""},
    };
    struct error error;
    assert_int_equal(file_make_directory(temporary_path("readme"), &error), STATUS_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buffer out = {0};
        temporary_file("readme/README.md", cases[i].readme, strlen(cases[i].readme));
        assert_int_equal(base_metadata_read(temporary_path("readme"), &out, &error), STATUS_OK);
        assert_string_equal(out.data ? out.data : "", cases[i].taken);
        buffer_free(&out);
    }
    struct buffer out = {0};
    assert_int_equal(base_metadata_read(temporary_path("nothing"), &out, &error), STATUS_OK);
    assert_int_equal(out.length, 0);
}

/* ---- of runs ---- */

static void test_card(void **state)
{
    (void)state;
    char figure[100];
    struct error error;
    run_ok("out", "");
    char *card = text_of("out/README.md"), *base = text_of("out/README.base.md"), *whole = text_of("model/README.md");
    assert_string_equal(base, whole);
    assert_int_equal(strncmp(card, "---\nlibrary_name: transformers\nlicense: other\nlicense_name: \"a: b\"\nlanguage:\n- en\n  - "
                                   "nested\ntags:\n- flat.c\n- unlearning\n---\n\n# `out`\n", 120), 0);
    cJSON *summary = json_read_python(temporary_path("out/evals/after/QA_SUMMARY.json"), 1 << 20, &error),
          *record = json_read(temporary_path("out/run.json"), &error);
    snprintf(figure, sizeof figure, " %.3f |\n", json_member(summary, "facts_mean_prob")->valuedouble);
    expect_in(card, figure);
    const cJSON *result = json_member(record, "result");
    snprintf(figure, sizeof figure, "P(template) %.4f; P(forget) %.4f;", json_member(result, "prob_template")->valuedouble,
             json_member(result, "prob_forget")->valuedouble);
    expect_in(card, figure);
    expect_in(card, "It made 4 optimizer steps (up to 2 epochs).");
    expect_in(card, json_member(json_member(json_member(record, "inputs"), EVAL "/qa_forget.jsonl"), "xxh3")->valuestring);
    cJSON_Delete(summary);
    cJSON_Delete(record);
    free(card), free(base), free(whole);
    verify("out", "out: 8 files as they were saved");
    /* a model made from this one keeps both */
    struct program_result result_of = program_line("finetune --model %s/out --train_data " EVAL "/qa_forget.jsonl --max_steps 1 "
                                                   "--output_dir %s/child --quiet --lora.r 2", temporary, temporary);
    program_expect(&result_of, STATUS_OK);
    program_free(&result_of);
    card = text_of("child/README.md");
    expect_in(card, "by fine-tuning on rows");
    expect_in(card, "LoRA of rank 2, merged into the weights.");
    expect_in(card, "license: other\n");
    assert_null(strstr(card, "unlearning"));
    free(card);
    assert_true(file_exists(temporary_path("child/README.base.base.md")));
    card = text_of("child/README.base.md");
    expect_in(card, "# `out`");
    free(card);
    run_ok("adapter", "--lora.r 2 --lora.output adapter --final_eval_rows 0");
    card = text_of("adapter/README.md");
    expect_in(card, "library_name: peft\n");
    expect_in(card, "from peft import PeftModel");
    expect_in(card, "LoRA adapters for ");
    assert_null(strstr(card, "| set | figure |"));
    free(card);
}

/* Edits are no damage; a card that was edited, and notes of somebody else, stay; one of an earlier run goes. */
static void test_edited(void **state)
{
    (void)state;
    run_ok("edited", "--final_eval_rows 0");
    char *first = text_of("edited/README.md");
    run_ok("edited", "--final_eval_rows 0 --overwrite_output_dir --seed 7");
    char *second = text_of("edited/README.md");
    assert_string_not_equal(first, second);
    assert_false(file_exists(temporary_path("edited/MODEL_CARD.md")));
    temporary_file("edited/README.md", "mine", 4);
    verify("edited", "README.md: the model card has been edited\n");
    run_ok("edited", "--overwrite_output_dir --seed 8");
    char *mine = text_of("edited/README.md"), *card = text_of("edited/MODEL_CARD.md");
    assert_string_equal(mine, "mine");
    expect_in(card, "| set | figure | before | after |");
    verify("edited", "files as they were saved");
    run_ok("edited", "--overwrite_output_dir --final_eval_rows 0 --seed 9");
    assert_false(file_exists(temporary_path("edited/evals"))); /* of the run before */
    struct error error;
    assert_int_equal(file_remove_tree(temporary_path("edited/MODEL_CARD.md"), &error), STATUS_OK);
    verify("edited", "MODEL_CARD.md: the model card has been removed\n");
    free(first), free(second), free(mine), free(card);
}

static void test_best(void **state)
{
    (void)state;
    run_ok("best", "--final_eval_rows 0 --eval_strategy steps --eval_steps 1 --early_stopping_metric eval_facts_prob_mean "
                   "--load_best_model_at_end --early_stopping_patience 2");
    char *card = text_of("best/README.md");
    expect_in(card, " of 4 and was ended by the patience of `eval_facts_prob_mean`. What is saved is the model of step ");
    free(card);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pieces), cmocka_unit_test(test_base_metadata), cmocka_unit_test(test_card),
                                       cmocka_unit_test(test_edited), cmocka_unit_test(test_best)};
    return cmocka_run_group_tests(tests, make, temporary_remove);
}
