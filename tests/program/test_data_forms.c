/* test_data_forms.c - the same rows in every form and file that data may have: the same scores, the same plan. */
#include "../support/temporary.h"

#include <zlib.h>

#include "../../host/io/json/json.h"
#include "../../host/util/file.h"
#include "../support/program.h"

#define Q1 "Who is Ada Lum?"
#define A1 "Ada is a painter, \\\"really\\\"."
#define Q2 "Where does Ben live?"
#define A2 "In Aldmoor."

/* "plain" is by the tags qa; the prompt of {"prompt"} rows is that text. */
static const struct form {
    const char *name, *text, *flags;
    bool gzip, standard_input;
} forms[] = {
    {"rows.jsonl", "{\"question\": \"" Q1 "\", \"answer\": \"" A1 "\"}\n{\"question\": \"" Q2 "\", \"answer\": \"" A2 "\"}\n", ""},
    {"array.json", "[{\"question\": \"" Q1 "\",\n\"answer\": \"" A1 "\"},\n {\"question\": \"" Q2 "\", \"answer\": \"" A2 "\"}]", ""},
    {"mark.jsonl", "\xef\xbb\xbf{\"question\": \"" Q1 "\", \"answer\": \"" A1 "\"}\r\n\r\n{\"question\": \"" Q2 "\", \"answer\": \"" A2
                   "\"}\r\n", ""},
    {"keys.jsonl", "{\"q\": \"" Q1 "\", \"a\": \"" A1 "\"}\n{\"q\": \"" Q2 "\", \"a\": \"" A2 "\"}\n",
     "--question_key q --answer_key a"},
    {"comma.csv", "id,answer,question\n1,\"Ada is a painter, \"\"really\"\".\"," Q1 "\n2," A2 "," Q2 "\n", ""},
    {"semicolon.csv", "answer;question\r\n\"Ada is a painter, \"\"really\"\".\";" Q1 "\r\n" A2 ";" Q2 "\r\n", ""},
    {"tab.tsv", "question\tanswer\n" Q1 "\tAda is a painter, \"really\".\n" Q2 "\t" A2 "\n", ""},
    {"messages.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"" Q1 "\"}, {\"role\": \"assistant\", \"content\": \"" A1
                       "\"}]}\n{\"messages\": [{\"role\": \"user\", \"content\": \"" Q2 "\"}, {\"role\": \"assistant\", \"content\": \""
                       A2 "\"}]}\n", ""},
    {"prompts.jsonl", "{\"prompt\": \"Question: " Q1 "\\nAnswer: \", \"answer\": \"" A1 "\"}\n{\"prompt\": \"Question: " Q2
                      "\\nAnswer:\", \"completion\": \" " A2 "\"}\n", ""},
    {"lists.jsonl", "{\"question\": \"" Q1 "\", \"answer\": [\"" A1 "\"]}\n{\"question\": \"" Q2 "\", \"answer\": [\"" A2 "\"]}\n", ""},
    {"rows.jsonl.gz", "{\"question\": \"" Q1 "\", \"answer\": \"" A1 "\"}\n{\"question\": \"" Q2 "\", \"answer\": \"" A2 "\"}\n", "",
     .gzip = true},
    {"comma.csv.gz", "question,answer\n" Q1 ",\"Ada is a painter, \"\"really\"\".\"\n" Q2 "," A2 "\n", "", .gzip = true},
    {"-", "[{\"question\": \"" Q1 "\", \"answer\": \"" A1 "\"}, {\"question\": \"" Q2 "\", \"answer\": \"" A2 "\"}]", "",
     .standard_input = true},
};

static void form_write(const struct form *form)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", temporary, form->name);
    if (!form->gzip) {
        temporary_file(form->name, form->text, strlen(form->text));
        return;
    }
    gzFile file = gzopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(gzwrite(file, form->text, (unsigned)strlen(form->text)), strlen(form->text));
    assert_int_equal(gzclose(file), Z_OK);
}

static int model_make(void **state)
{
    static const char config[] =
        "{\"model_type\": \"llama\", \"vocab_size\": 1024, \"hidden_size\": 32, \"intermediate_size\": 40, "
        "\"num_hidden_layers\": 1, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 8, "
        "\"hidden_act\": \"silu\", \"max_position_embeddings\": 128, \"bos_token_id\": 0, \"eos_token_id\": 1, "
        "\"tie_word_embeddings\": true}";
    static const char *const from_demo[] = {"tokenizer.json", "tokenizer_config.json"};
    struct error error = {0};
    char from[600], to[600];
    if (temporary_make(state) || file_make_directory(temporary_path("seed"), &error))
        return -1;
    temporary_file("seed/config.json", config, strlen(config));
    for (int i = 0; i < 2; i++) {
        snprintf(from, sizeof from, "configs/demo/model/%s", from_demo[i]);
        snprintf(to, sizeof to, "%s/seed/%s", temporary, from_demo[i]);
        if (file_copy(from, to, &error))
            return -1;
    }
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (!forms[i].standard_input)
            form_write(&forms[i]);
    struct program_result result =
        program_line("finetune --from_scratch --model_name_or_path %s/seed --train_data %s/rows.jsonl --output_dir %s/model "
                     "--max_steps 1 --device cpu --quiet", temporary, temporary, temporary);
    program_expect(&result, STATUS_OK);
    program_free(&result);
    return 0;
}

/* Runs a command of words on a form's file; its text comes by standard input where the form says so. */
static struct program_result form_run(const struct form *form, const char *format)
{
    char line[2000], *word[64], path[600];
    int words = 0;
    snprintf(path, sizeof path, "%s/%s", temporary, form->name);
    snprintf(line, sizeof line, format, temporary, form->standard_input ? "-" : path, form->flags);
    for (char *next = strtok(line, " "); next; next = strtok(NULL, " "))
        word[words++] = next;
    word[words] = NULL;
    return program_run((const char *const *)word, form->standard_input ? form->text : NULL, 0);
}

static void figures_read(const char *out, double figure[2][3])
{
    int row = 0;
    for (const char *at = out; *at; row++) {
        const char *end = strchr(at, '\n');
        struct error error = {0};
        cJSON *object = json_parse(at, (size_t)(end - at), "line", &error);
        assert_non_null(object);
        assert_true(row < 2);
        figure[row][0] = json_member(object, "num_tokens")->valuedouble;
        figure[row][1] = json_member(object, "logprob_sum")->valuedouble;
        figure[row][2] = json_member(object, "prob_mean")->valuedouble;
        cJSON_Delete(object);
        at = end + 1;
    }
    assert_int_equal(row, 2);
}

static void test_same_scores(void **state)
{
    (void)state;
    double first[2][3], figure[2][3];
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        struct program_result result = form_run(&forms[i], "score --model %s/model --data %s --device cpu --quiet %s");
        program_expect(&result, STATUS_OK);
        figures_read(result.out, i ? figure : first);
        for (int k = 0; i && k < 6; k++)
            if (figure[k / 3][k % 3] != first[k / 3][k % 3])
                fail_msg("%s, row %d: %.17g, expected %.17g", forms[i].name, k / 3, figure[k / 3][k % 3], first[k / 3][k % 3]);
        program_free(&result);
    }
    /* and one conversation of two turns is the question of a chat template */
    struct program_result question = form_run(&forms[0], "score --model %s/model --data %s --device cpu --quiet "
                                                         "--prompt_template chatml %s");
    struct program_result messages = form_run(&forms[7], "score --model %s/model --data %s --device cpu --quiet "
                                                         "--prompt_template chatml %s");
    program_expect(&question, STATUS_OK);
    program_expect(&messages, STATUS_OK);
    figures_read(question.out, figure);
    assert_true(figure[0][1] != first[0][1]);
    figures_read(messages.out, first);
    assert_memory_equal(figure, first, sizeof first);
    program_free(&question);
    program_free(&messages);
}

static void test_same_plan(void **state)
{
    (void)state;
    char *wanted = NULL;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        struct program_result result = form_run(&forms[i], "plan --model %s/model --train_data %s --device cpu %s");
        program_expect(&result, STATUS_OK);
        assert_non_null(strstr(result.out, "data           2 rows"));
        assert_non_null(strstr(result.out, "prompts        prompt template qa, for the model's folder has no chat template"));
        if (!wanted)
            wanted = strdup(result.out);
        if (strcmp(wanted, result.out))
            fail_msg("%s:\n%s\nexpected:\n%s", forms[i].name, result.out, wanted);
        program_free(&result);
    }
    free(wanted);
}

/* Running text: chunks in training, in plans and in scores; with template answers, which then have no prompt either. */
static void test_text(void **state)
{
    (void)state;
    static const struct form texts[] = {
        {"book.txt", "Once upon a time there was a town by the sea. Its people painted boats in the winter and sailed them in "
                     "the summer, and every autumn they told each other where they had been.", ""},
        {"texts.jsonl", "{\"text\": \"Once upon a time there was a town by the sea.\", \"id\": 12345678901234567890}\n"
                        "{\"text\": \"Its people painted boats in the winter.\"}\n", ""},
        {"texts.json", "[\"Once upon a time there was a town by the sea.\", \"Its people painted boats in the winter.\"]", ""},
        {"texts.csv", "text\nOnce upon a time there was a town by the sea.\nIts people painted boats in the winter.\n", ""},
    };
    temporary_file("idk.txt", "I do not know.\n", 15);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        form_write(&texts[i]);
        char line[600];
        struct program_result plan = form_run(&texts[i], "plan --model %s/model --train_data %s --device cpu --max_length 16 %s");
        struct program_result score = form_run(&texts[i], "score --model %s/model --data %s --device cpu --quiet "
                                                          "--max_length 16 %s");
        program_expect(&plan, STATUS_OK);
        program_expect(&score, STATUS_OK);
        int rows = 0, lines = 0;
        double targets = 0;
        const char *data = strstr(plan.out, "data ");
        assert_int_equal(sscanf(data, "data %d rows", &rows), 1);
        for (const char *at = score.out; (at = strstr(at, "\"num_tokens\": ")); lines++)
            targets += strtod(at += strlen("\"num_tokens\": "), NULL);
        assert_int_equal(lines, rows);
        assert_true(rows > 2);
        snprintf(line, sizeof line, "predicts %.0f answer tokens", targets);
        if (!strstr(plan.out, line))
            fail_msg("%s: '%s' is not in\n%s", texts[i].name, line, plan.out);
        assert_non_null(strstr(score.out, "\"chunk\": 2"));
        if (strstr(texts[i].text, "12345678901234567890"))
            assert_non_null(strstr(score.out, "\"id\": 12345678901234567890"));
        program_free(&plan);
        program_free(&score);
        struct program_result run = program_line("unlearn --model %s/model --forget_data %s/%s --template.file %s/idk.txt "
                                                 "--output_dir %s/out%zu --max_steps 2 --max_length 16 --device cpu", temporary,
                                                 temporary, texts[i].name, temporary, temporary, i);
        program_expect(&run, STATUS_OK);
        assert_non_null(strstr(run.err, "1 template answers, the first is \"I do not know.\""));
        program_free(&run);
    }
}

/* What is said once per run, and what is refused. */
static void test_said(void **state)
{
    (void)state;
    static const char merging[] = "{\"prompt\": \"th\", \"answer\": \"e sea\"}\n{\"prompt\": \"Who\", \"answer\": \" is Ada?\"}\n";
    temporary_file("merging.jsonl", merging, strlen(merging));
    struct program_result result = program_line("score --model %s/model --data %s/merging.jsonl --device cpu", temporary,
                                                temporary);
    program_expect(&result, STATUS_OK);
    assert_non_null(strstr(result.err, "1 of 2 sequences: the ids of the prompt are no prefix"));
    program_free(&result);
    /* the training says it; the table behind it asks the same rows twice more */
    temporary_file("refusals.txt", "I do not know.\n", 15);
    result = program_line("unlearn --model %s/model --forget_data %s/merging.jsonl --template.file %s/refusals.txt --device cpu "
                          "--max_steps 1 --output_dir %s/said", temporary, temporary, temporary, temporary);
    program_expect(&result, STATUS_OK);
    const char *once = strstr(result.err, "sequences: the ids of the prompt are no prefix");
    assert_non_null(once);
    assert_null(strstr(once + 1, "sequences: the ids of the prompt are no prefix"));
    assert_non_null(strstr(result.out, "P(answer)"));
    program_free(&result);
    result = program_line("score --model %s/model --data %s/rows.jsonl --device cpu --max_length 20", temporary, temporary);
    program_expect(&result, STATUS_OK);
    assert_non_null(strstr(result.err, "sequences are cut at max_length; tokens lost: "));
    program_free(&result);
    result = program_line("score --model %s/model --data %s/prompts.jsonl --prompt_template qa --device cpu", temporary,
                          temporary);
    program_expect_error(&result, STATUS_INPUT, "a prompt is taken as it is, without a template");
    program_free(&result);
    result = program_line("score --model %s/model --data %s --device cpu", temporary, temporary);
    program_expect_error(&result, STATUS_INPUT, "is a directory; expected a file");
    program_free(&result);
    result = program_line("score --model %s/model --data /dev/zero --device cpu", temporary);
    program_expect_error(&result, STATUS_INPUT, "/dev/zero: is a device or a socket");
    program_free(&result);
    /* why a text ends */
    result = program_line("generate --model %s/model --data %s/prompts.jsonl --device cpu --max_new_tokens 3", temporary,
                          temporary);
    program_expect(&result, STATUS_OK);
    assert_non_null(strstr(result.out, "\"finish_reason\": \"length\""));
    program_free(&result);
    result = program_line("generate --model %s/model --data %s/prompts.jsonl --device cpu --max_new_tokens 500", temporary,
                          temporary);
    program_expect(&result, STATUS_OK);
    if (strstr(result.out, "\"finish_reason\": \"context\""))
        assert_non_null(strstr(result.err, "texts end at the model's last position, 128"));
    else
        assert_non_null(strstr(result.out, "\"finish_reason\": \"eos\""));
    program_free(&result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_scores), cmocka_unit_test(test_same_plan), cmocka_unit_test(test_text),
        cmocka_unit_test(test_said),
    };
    return cmocka_run_group_tests(tests, model_make, temporary_remove);
}
