/* test_prompt.c - how rows become text: tags, chat templates of a folder or by name, rows as they are. */
#include "../support/temporary.h"

#include "../../host/io/data/prompt.h"
#include "../../host/util/file.h"

static struct tokenizer *tokenizer;

static int tokenizer_open(void **state)
{
    struct error error;
    return temporary_make(state) || tokenizer_load(&tokenizer, "tests/golden/tokenizer/llama2", &error);
}

static int tokenizer_close(void **state)
{
    tokenizer_free(tokenizer);
    return temporary_remove(state);
}

static struct prompt_options options_of(const char *name)
{
    return (struct prompt_options){.prompt_template = name, .system_prompt = "", .date = "2025-01-15"};
}

/* Opens, applies, and compares both parts; prompt NULL: refused with the message `text`. */
static void check(const struct prompt_options *options, const char *directory, const struct dataset_row *row,
                  const char *answer, const char *prompt_text, const char *text, int status)
{
    struct prompt prompt;
    struct prompt_text out = {0};
    struct error error = {0};
    int result = prompt_open(&prompt, options, directory, tokenizer, &error);
    if (!result)
        result = prompt_apply(&prompt, row, answer, &out, &error);
    if (status) {
        assert_error(&error, result, status, text);
    } else {
        if (result)
            fail_msg("%s: %s", options->prompt_template, error.text);
        assert_string_equal(out.text.data, text);
        assert_int_equal(out.text.length, strlen(text));
        assert_int_equal(out.answer_begin, strlen(prompt_text));
        assert_memory_equal(out.text.data, prompt_text, out.answer_begin);
    }
    buffer_free(&out.text);
    prompt_close(&prompt);
}

static void test_tags(void **state)
{
    (void)state;
#define HEADER(role) "<|start_header_id|>" role "<|end_header_id|>\n\n"
    static const struct {
        const char *name, *prompt, *full, *asked;
    } cases[] = {
        {"llama2_chat", "[INST] Who? [/INST]", "[INST] Who? [/INST]Me.", "[INST] Who? [/INST]"},
        {"llama3_chat", HEADER("user") "Who?<|eot_id|>" HEADER("assistant"),
         HEADER("user") "Who?<|eot_id|>" HEADER("assistant") "Me.<|eot_id|>", HEADER("user") "Who?<|eot_id|>" HEADER("assistant")},
        {"qa", "Question: Who?\nAnswer:", "Question: Who?\nAnswer: Me.", "Question: Who?\nAnswer:"},
        {"phi", "Question: Who?\n", "Question: Who?\nAnswer: Me.", "Question: Who?\nAnswer:"}, /* to be answered, the tag stands */
        {"plain", "Who?", "Who? Me.", "Who?"},
    };
#undef HEADER
    const struct dataset_row row = {.form = ROW_QUESTION, .prompt = "Who?"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct prompt_options options = options_of(cases[i].name);
        check(&options, "none", &row, "Me.", cases[i].prompt, cases[i].full, 0);
        check(&options, "none", &row, NULL, cases[i].asked, cases[i].asked, 0);
        const struct prompt_tags *tags = prompt_tags_find(cases[i].name);
        assert_true(tags && tags->answer_start_is_target == !strcmp(cases[i].name, "phi"));
    }
    /* tags of the user's own: one space only, of user_end when answer_start is empty, never of the question */
    static const struct {
        struct prompt_tags tags;
        const char *prompt, *full;
    } custom[] = {
        {{"", "U:", "  ", "", "!", false}, "U:q  ", "U:q   a!"},
        {{"", "U:", " ", "A:", "", false}, "U:q  A:", "U:q  A:a"},
        {{"", "U:", "\n", "A: ", "", false}, "U:q \nA:", "U:q \nA: a"},
        {{"", "U:", "\n", "A: ", "", true}, "U:q \n", "U:q \nA: a"},
        {{"", "U:", " ", "A:", "", true}, "U:q ", "U:q  A:a"},
        {{"", "", "", "", "", false}, "q ", "q a"},
    };
    const struct dataset_row spaced = {.form = ROW_QUESTION, .prompt = "q "};
    for (size_t i = 0; i < sizeof custom / sizeof *custom; i++) {
        struct prompt_options options = options_of("custom");
        options.custom = custom[i].tags;
        check(&options, "none", &spaced, "a", custom[i].prompt, custom[i].full, 0);
    }
    struct chat_message turn[3] = {{"user", "Who?"}, {"assistant", "Me."}, {"user", "You?"}};
    struct dataset_row messages = {.form = ROW_MESSAGES, .message = turn, .messages = 1};
    const struct prompt_options qa = options_of("qa");
    check(&qa, "none", &messages, "Me.", "Question: Who?\nAnswer:", "Question: Who?\nAnswer: Me.", 0);
    messages.messages = 3;
    check(&qa, "none", &messages, "Me.", NULL, "the prompt template qa takes one user turn and its answer, and these are 3 turns",
          STATUS_INPUT);
}

static void test_as_it_is(void **state)
{
    (void)state;
    static const struct {
        const char *prompt, *answer, *before, *text;
    } cases[] = {
        {"Once upon", " a time", "Once upon", "Once upon a time"},
        {"Once upon ", "a time", "Once upon", "Once upon a time"},
        {"Once upon \t\n\xe3\x80\x80", "a time", "Once upon", "Once upon \t\n\xe3\x80\x80" "a time"},
        {" \n", "a", "", " \na"},
        {"", "a", "", "a"},
        {"Once ", NULL, "Once ", "Once "}, /* to be continued it stays as it is */
    };
    const struct prompt_options options = options_of("chatml"); /* which has no say */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct dataset_row row = {.form = ROW_PROMPT, .prompt = (char *)cases[i].prompt};
        check(&options, "none", &row, cases[i].answer, cases[i].before, cases[i].text, 0);
    }
    const struct dataset_row text = {.form = ROW_TEXT, .prompt = "A whole book."};
    check(&options, "none", &text, "No.", "", "No.", 0);
    check(&options, "none", &text, NULL, "A whole book.", "A whole book.", 0);
}

static void write_text(const char *directory, const char *name, const char *text)
{
    char path[600];
    struct error error;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    assert_int_equal(file_write(path, text, strlen(text), &error), STATUS_OK);
}

static void check_description(const struct prompt_options *options, const char *directory, const char *wanted)
{
    struct prompt prompt;
    struct buffer text = {0};
    struct error error = {0};
    assert_int_equal(prompt_open(&prompt, options, directory, tokenizer, &error), STATUS_OK);
    assert_int_equal(prompt_describe(&prompt, &text, &error), STATUS_OK);
    assert_string_equal(text.data, wanted);
    buffer_free(&text);
    prompt_close(&prompt);
}

static void test_chat(void **state)
{
    (void)state;
    struct prompt_options options = options_of("auto");
    const struct dataset_row row = {.form = ROW_QUESTION, .prompt = "Who?"};
    char folder[300];
    struct error error;
    snprintf(folder, sizeof folder, "%s/folder", temporary);
    assert_int_equal(file_make_directory(folder, &error), STATUS_OK);
    check(&options, folder, &row, "Me.", "Question: Who?\nAnswer:", "Question: Who?\nAnswer: Me.", 0);
    check_description(&options, folder, "prompt template qa, for the model's folder has no chat template");
    write_text(folder, "tokenizer_config.json",
               "{\"chat_template\": \"{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\\\n' + "
               "message['content'] + '<|im_end|>' + '\\\\n'}}{% endfor %}{% if add_generation_prompt %}"
               "{{ '<|im_start|>assistant\\\\n' }}{% endif %}\"}");
#define USER "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n"
    check(&options, folder, &row, "Me.", USER, USER "Me.<|im_end|>", 0);
    check(&options, folder, &row, NULL, USER, USER, 0);
    check_description(&options, folder, "chat template chatml of the model's folder");
    options.system_prompt = "S";
    check(&options, folder, &row, "Me.", "<|im_start|>system\nS<|im_end|>\n" USER,
          "<|im_start|>system\nS<|im_end|>\n" USER "Me.<|im_end|>", 0);
    struct chat_message turn[2] = {{"system", "T"}, {"user", "Who?"}};
    const struct dataset_row own = {.form = ROW_MESSAGES, .message = turn, .messages = 2};
    check(&options, folder, &own, "Me.", "<|im_start|>system\nT<|im_end|>\n" USER,
          "<|im_start|>system\nT<|im_end|>\n" USER "Me.<|im_end|>", 0);
    options.prompt_template = "qa";
    check(&options, folder, &row, "Me.", NULL, "system_prompt: the prompt template qa has no place for it", STATUS_USAGE);
    options.prompt_template = "gemma";
    check(&options, folder, &row, "Me.", NULL, "chat template gemma: System role not supported", STATUS_INPUT);
    options.system_prompt = "";
#undef USER
    /* the tokenizer's own tokens; thinking; the date */
    check(&options, folder, &row, "Me.", "<s><start_of_turn>user\nWho?<end_of_turn>\n<start_of_turn>model\n",
          "<s><start_of_turn>user\nWho?<end_of_turn>\n<start_of_turn>model\nMe.<end_of_turn>", 0);
    options = options_of("mistral");
    check(&options, folder, &row, " Me. ", "<s>[INST] Who?[/INST]", "<s>[INST] Who?[/INST] Me.</s>", 0);
    options = options_of("qwen3");
    options.thinking = CHAT_THINKING_OFF;
    check(&options, folder, &row, NULL, "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
          "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n", 0);
    options = options_of("llama3.2");
    check_description(&options, folder, "chat template llama3.2, which writes the date 2025-01-15; --prompt_date fixes it for "
                                        "other days");
    options.date = "15.1.2025";
    check(&options, folder, &row, NULL, NULL, "prompt_date: expected YYYY-MM-DD, found \"15.1.2025\"", STATUS_USAGE);
    options = options_of("unheard");
    check(&options, folder, &row, NULL, NULL, "prompt_template: \"unheard\" is not known; expected auto, llama2_chat", STATUS_USAGE);
    /* a template that is not known: refused by the rows that need one */
    const struct dataset_row prompt_row = {.form = ROW_PROMPT, .prompt = "p"};
    write_text(folder, "chat_template.jinja", "Hello {{ name }}");
    options = options_of("auto");
    check(&options, folder, &row, "Me.", NULL, "chat_template.jinja: the chat template is none of the known ones", STATUS_INPUT);
    check(&options, folder, &prompt_row, " a", "p", "p a", 0);
    check_description(&options, folder, "no prompt template: the rows need none, and the folder's is not known");
    options = options_of("auto:rag");
    check(&options, folder, &row, NULL, NULL, "no chat template is named 'rag'", STATUS_INPUT);
}

/* Where the prompt's rendering is no beginning of the conversation's. */
static void test_no_prefix(void **state)
{
    (void)state;
    static const struct {
        const char *name, *prompt, *text;
    } cases[] = {
        /* a thought that only the prompt opens */
        {"qwq", "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n",
         "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n<b>Me.<|im_end|>"},
        {"deepseek-r1-distill", "<s><｜User｜>Who?<｜Assistant｜>", "<s><｜User｜>Who?<｜Assistant｜><b>Me.<｜end▁of▁sentence｜>"},
    };
    const struct dataset_row row = {.form = ROW_QUESTION, .prompt = "Who?"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct prompt_options options = options_of(cases[i].name);
        check(&options, "none", &row, "<b>Me.", cases[i].prompt, cases[i].text, 0);
    }
    /* a system text that only the prompt holds: it stays */
    struct prompt_options options = options_of("mistral");
    options.system_prompt = "S";
    check(&options, "none", &row, "Me.", "<s>[INST] S\n\nWho?[/INST]", "<s>[INST] S\n\nWho?[/INST] Me.</s>", 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tags), cmocka_unit_test(test_as_it_is), cmocka_unit_test(test_chat),
        cmocka_unit_test(test_no_prefix),
    };
    return cmocka_run_group_tests(tests, tokenizer_open, tokenizer_close);
}
