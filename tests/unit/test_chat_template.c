/* test_chat_template.c - the known chat templates against renderings by transformers.
 *
 * tests/golden/chat_templates.json has conversations of our own in every known format (made by
 * tests/parity/make_chat_golden.py). Where ../shared/data is at hand, its 4,702 cases of 91 templates are compared too, and
 * the templates' texts recognized.
 */
#include "../support/temporary.h"

#include <time.h>

#include "../../host/io/data/chat_format.h"
#include "../../host/io/data/chat_template.h"
#include "../../host/io/json/json.h"
#include "../../host/util/file.h"

enum { MESSAGES = 64 };

static const char *shared_path(const char *name)
{
    static char path[600];
    const char *shared = getenv("FLAT_SHARED");
    snprintf(path, sizeof path, "%s/data/%s", shared ? shared : "../shared", name);
    return path;
}

static int messages_take(const cJSON *list, struct chat_message *message)
{
    int count = 0;
    for (const cJSON *turn = list->child; turn; turn = turn->next) {
        assert_true(count < MESSAGES);
        message[count].role = json_member(turn, "role")->valuestring;
        message[count++].content = json_member(turn, "content")->valuestring;
    }
    return count;
}

/* What the case passes to the template besides the conversation; the clock stands at 15 January 2025. */
static struct chat_options options_take(const cJSON *item, const cJSON *tokens)
{
    struct chat_options options = {.today = {.tm_year = 125, .tm_mon = 0, .tm_mday = 15}};
    const cJSON *kwargs = json_member(item, "kwargs");
    for (const cJSON *given = kwargs ? kwargs->child : NULL; given; given = given->next) {
        if (!strcmp(given->string, "date_string"))
            options.date_string = given->valuestring;
        else
            options.thinking = cJSON_IsTrue(given) ? CHAT_THINKING_ON : CHAT_THINKING_OFF;
    }
    options.bos = cJSON_GetStringValue(json_member(tokens, "bos_token"));
    options.eos = cJSON_GetStringValue(json_member(tokens, "eos_token"));
    return options;
}

/* Error messages are "TemplateError: words" there and "chat template name: words" here. */
static void compare(const char *name, const char *label, const char *wanted, const char *refused, int status,
                    const struct buffer *text, const struct error *error)
{
    if (wanted && (status || strcmp(text->data, wanted)))
        fail_msg("%s, %s:\n%s\nexpected:\n%s", name, label, status ? error->text : text->data, wanted);
    if (!wanted && !status)
        fail_msg("%s, %s:\n%s\nexpected: %s", name, label, text->data, refused);
    if (!wanted)
        assert_string_equal(strstr(strstr(error->text, "template ") + 9, ": ") + 2, strstr(refused, ": ") + 2);
}

/* The conversation's answer: where it begins, and that the text is the rendering up to what ends the turn. */
static void compare_answer(const char *name, const cJSON *item, const struct chat_format *format,
                           const struct chat_message *message, int messages, const struct chat_options *options)
{
    const cJSON *is_prefix = json_member(item, "prompt_is_prefix");
    const char *wanted = cJSON_GetStringValue(json_member(item, "text"));
    if (!is_prefix)
        return;
    struct buffer text = {0};
    struct chat_answer answer;
    struct error error = {0};
    if (chat_render_answer(format, message, messages, options, &text, &answer, &error))
        fail_msg("%s: %s", name, error.text);
    assert_int_equal(answer.is_prefix, cJSON_IsTrue(is_prefix));
    if (answer.is_prefix) {
        assert_int_equal(answer.begin, json_member(item, "prompt_bytes")->valueint);
        assert_memory_equal(text.data, wanted, text.length);
    }
    buffer_free(&text);
}

static void case_run(const char *name, const cJSON *item, const cJSON *tokens, const struct chat_format *format)
{
    struct chat_message message[MESSAGES];
    const int messages = messages_take(json_member(item, "messages"), message);
    const struct chat_options options = options_take(item, tokens);
    struct buffer text = {0};
    struct error error = {0};
    int status = chat_render(format, message, messages, cJSON_IsTrue(json_member(item, "add_generation_prompt")), &options,
                             &text, &error);
    compare(name, json_member(item, "case")->valuestring, cJSON_GetStringValue(json_member(item, "text")),
            cJSON_GetStringValue(json_member(item, "error")), status, &text, &error);
    compare_answer(name, item, format, message, messages, &options);
    buffer_free(&text);
}

/* Through chat_render: with its opening, a conversation without its answer begins the text that has it. */
static void check_answer(const char *name, const struct chat_format *format, const struct chat_message *message, int messages,
                         const struct chat_options *options)
{
    struct buffer asked = {0}, full = {0}, text = {0};
    struct chat_answer answer = {0};
    if (messages < 2 || strcmp(message[messages - 1].role, "assistant"))
        return;
    struct error unused;
    int refused = chat_render(format, message, messages - 1, true, options, &asked, &unused) ||
                  chat_render(format, message, messages, false, options, &full, &unused);
    int status = chat_render_answer(format, message, messages, options, &text, &answer, &unused);
    assert_int_equal(!!status, !!refused);
    if (!status) {
        const bool prefix = asked.length <= full.length && !memcmp(asked.data, full.data, asked.length);
        assert_int_equal(answer.is_prefix, prefix);
        assert_true(answer.begin <= text.length);
        if (prefix && (answer.begin != asked.length || memcmp(text.data, full.data, text.length)))
            fail_msg("%s: %s\nis no beginning of\n%s", name, text.data, full.data);
    }
    buffer_free(&asked);
    buffer_free(&full);
    buffer_free(&text);
}

static const struct chat_format *format_of_fingerprint(const char *fingerprint)
{
    for (int i = 0; i < chat_format_count; i++)
        for (int k = 0; k < CHAT_FINGERPRINTS; k++)
            if (chat_formats[i].fingerprint[k] == strtoull(fingerprint, NULL, 16))
                return &chat_formats[i];
    fail_msg("no format has the fingerprint %s", fingerprint);
    return NULL;
}

/* Our own conversations; FLAT_CHAT_GOLDEN names a file of others. */
static void test_golden(void **state)
{
    (void)state;
    struct error error = {0};
    const char *given = getenv("FLAT_CHAT_GOLDEN");
    cJSON *tree = json_read(given ? given : "tests/golden/chat_templates.json", &error);
    if (!tree)
        fail_msg("%s", error.text);
    int cases = 0;
    for (const cJSON *entry = json_member(tree, "templates")->child; entry; entry = entry->next) {
        const struct chat_format *format = format_of_fingerprint(json_member(entry, "fingerprint")->valuestring);
        const cJSON *wanted = json_member(entry, "renderings")->child;
        for (cJSON *item = json_member(tree, "conversations")->child; item; item = item->next, wanted = wanted->next) {
            struct chat_message message[MESSAGES];
            const int messages = messages_take(json_member(item, "messages"), message);
            const char *label = json_member(item, "case")->valuestring;
            struct chat_options options = options_take(item, strcmp(label, "no_tokens") ? entry : NULL);
            struct buffer text = {0};
            int status = chat_render(format, message, messages, cJSON_IsTrue(json_member(item, "add_generation_prompt")),
                                     &options, &text, &error);
            compare(entry->string, label, wanted->valuestring, cJSON_GetStringValue(json_member(wanted, "error")), status,
                    &text, &error);
            check_answer(entry->string, format, message, messages, &options);
            buffer_free(&text);
            cases++;
        }
    }
    assert_true(cases >= 1600);
    cJSON_Delete(tree);
}

static const struct chat_format *format_of_file(const char *name)
{
    char path[700], *data;
    size_t length;
    uint64_t fingerprint;
    struct error error = {0};
    const struct chat_format *format;
    snprintf(path, sizeof path, "%s/%s.jinja", shared_path("chat_templates"), name);
    if (file_read(path, 1 << 20, &data, &length, &error) ||
        chat_format_recognize(data, length, &format, &fingerprint, &error))
        fail_msg("%s", error.text);
    free(data);
    if (!format)
        fail_msg("%s is not recognized: its fingerprint is %016llx", name, (unsigned long long)fingerprint);
    return format;
}

static void test_shared(void **state)
{
    (void)state;
    struct error error = {0};
    const char *path = shared_path("golden/chat_templates.json");
    if (!file_exists(path)) {
        print_message("skipped: %s is not there\n", path);
        skip();
    }
    cJSON *tree = json_read(path, &error);
    assert_non_null(tree);
    const cJSON *about = json_member(json_member(tree, "about"), "templates");
    int templates = 0, cases = 0;
    for (const cJSON *entry = tree->child; entry; entry = entry->next) {
        if (!strcmp(entry->string, "about"))
            continue;
        const struct chat_format *format = format_of_file(entry->string);
        const cJSON *list = cJSON_IsString(entry) ? json_member(tree, entry->valuestring) : entry;
        templates++;
        for (const cJSON *item = list->child; item; item = item->next, cases += list == entry)
            case_run(entry->string, item, json_member(about, entry->string), format);
    }
    print_message("%d cases of %d templates are equal\n", cases, templates);
    assert_int_equal(templates, 91);
    assert_int_equal(cases, 4702);
    cJSON_Delete(tree);
}

/* One template in many spellings, and others that only look like it. */
static void test_recognize(void **state)
{
    (void)state;
    static const struct {
        const char *text, *name;
    } cases[] = {
        {"{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
         "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}", "chatml"},
        {"{%- for message in messages -%}\r\n    {{- \"<|im_start|>\"+message.role + \"\\n\" + message[\"content\"] + "
         "'<|im_end|>' + '\\x0a' -}}  \n{#- the end -#}  {%endfor%}\n  {% if add_generation_prompt %}\n"
         "\t{{- '<|im_start|>assistant\\u000A'}}{% endif %}\n", "chatml"},
        {"{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
         "{% endfor %}{% if add_generation_prompt %} {{ '<|im_start|>assistant\n' }}{% endif %}", NULL},
        {"{% for message in messages %}\n{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'"
         "}}\n{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}", NULL},
        {"{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
         "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>model\n' }}{% endif %}", NULL},
        {"{{", NULL}, {"{% 'a", NULL}, {"{# {{ '<|im_start|>'", NULL}, {"'\\", NULL}, {"{{ '\\u12", NULL}, {"", NULL},
        {"{{ {'a': {}}}}", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct chat_format *format;
        uint64_t fingerprint;
        struct error error;
        assert_int_equal(chat_format_recognize(cases[i].text, strlen(cases[i].text), &format, &fingerprint, &error), 0);
        if (!format != !cases[i].name || (format && strcmp(chat_format_name_of(format), cases[i].name)))
            fail_msg("case %zu: recognized as %s, fingerprint %016llx", i, format ? chat_format_name_of(format) : "none",
                     (unsigned long long)fingerprint);
    }
    for (size_t i = 0; i < strlen(cases[1].text); i++) { /* cut off anywhere: another text, and no harm done */
        const struct chat_format *format;
        uint64_t fingerprint;
        struct error error;
        char *cut = strndup(cases[1].text, i);
        assert_int_equal(chat_format_recognize(cut, i, &format, &fingerprint, &error), STATUS_OK);
        free(cut);
    }
    for (int i = 0; chat_format_name(i); i++) /* a name and a fingerprint mean one row */
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(chat_format_name(i), chat_format_name(j));
            for (int k = 0; k < CHAT_FINGERPRINTS && chat_formats[i].fingerprint[k]; k++)
                assert_int_not_equal(chat_formats[i].fingerprint[k], chat_formats[j].fingerprint[0]);
        }
}

static void write_text(const char *directory, const char *name, const char *text)
{
    char path[600];
    struct error error;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    assert_int_equal(file_write(path, text, strlen(text), &error), STATUS_OK);
}

static void check_find(const char *directory, const char *name, const char *format, const char *message)
{
    const struct chat_format *found;
    struct error error = {0};
    int status = chat_template_find(directory, name, &found, &error);
    if (message)
        assert_error(&error, status, STATUS_INPUT, message);
    else if (status || !found != !format || (format && strcmp(chat_format_name_of(found), format)))
        fail_msg("%s: %s, expected %s", directory, status ? error.text : found ? chat_format_name_of(found) : "none",
                 format ? format : "none");
}

/* A folder's template: the files before tokenizer_config.json, the default unless another is named. */
static void test_find(void **state)
{
    (void)state;
#define CHATML(open) "{% for message in messages %}{{'<|im_start|>' + message['role'] + '" open "' + message['content'] + " \
                     "'<|im_end|>' + '" open "'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant" open "' }}" \
                     "{% endif %}"
#define PHI4 "{% for message in messages %}{% if (message['role'] == 'system') %}{{'<|im_start|>system<|im_sep|>' + " \
             "message['content'] + '<|im_end|>'}}{% elif (message['role'] == 'user') %}{{'<|im_start|>user<|im_sep|>' + " \
             "message['content'] + '<|im_end|><|im_start|>assistant<|im_sep|>'}}{% elif (message['role'] == 'assistant') %}" \
             "{{message['content'] + '<|im_end|>'}}{% endif %}{% endfor %}"
    char directory[300], inner[400];
    snprintf(directory, sizeof directory, "%s/folder", temporary);
    snprintf(inner, sizeof inner, "%s/additional_chat_templates", directory);
    struct error error;
    assert_int_equal(file_make_directory(directory, &error), STATUS_OK);
    check_find(directory, "", NULL, NULL);
    write_text(directory, "tokenizer_config.json", "{\"chat_template\": null}");
    check_find(directory, "", NULL, NULL);
    write_text(directory, "tokenizer_config.json", "{\"chat_template\": 3}");
    check_find(directory, "", NULL, "tokenizer_config.json: chat_template: expected a text");
    write_text(directory, "tokenizer_config.json", "{\"chat_template\": [{\"name\": \"x\"}]}");
    check_find(directory, "", NULL, "chat_template: expected objects with name and template");
    write_text(directory, "tokenizer_config.json", "{\"chat_template\": \"" CHATML("\\n") "\"}");
    check_find(directory, "", "chatml", NULL);
    check_find(directory, "rag", NULL, "no chat template is named 'rag'; there are: default");
    write_text(directory, "tokenizer_config.json", "{\"chat_template\": [{\"name\": \"rag\", \"template\": \"{{ x }}\"}, "
               "{\"name\": \"default\", \"template\": \"" CHATML("\\n") "\"}]}");
    check_find(directory, "", "chatml", NULL);
    check_find(directory, "rag", NULL, "tokenizer_config.json: the chat template is none of the known ones (its fingerprint is");
    check_find(directory, "tools", NULL, "no chat template is named 'tools'; there are: rag, default; choose one by");
    write_text(directory, "tokenizer_config.json", "{\"chat_template\": [{\"name\": \"rag\", \"template\": \"{{ x }}\"}]}");
    check_find(directory, "", NULL, "no chat template is named 'default'; there are: rag");
    write_text(directory, "chat_template.jinja", PHI4);
    check_find(directory, "", "phi4-first", NULL);
    check_find(directory, "rag", NULL, "no chat template is named 'rag'; there are: default");
    assert_int_equal(file_make_directory(inner, &error), STATUS_OK);
    write_text(inner, "rag.jinja", CHATML("\n"));
    check_find(directory, "", "phi4-first", NULL);
    check_find(directory, "rag", "chatml", NULL);
    check_find(directory, "tools", NULL, "no chat template is named 'tools'; there are: rag, default");
    write_text(directory, "chat_template.jinja", "Hello {{ name }}");
    check_find(directory, "", NULL, "chat_template.jinja: the chat template is none of the known ones (its fingerprint is");
#undef CHATML
#undef PHI4
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recognize), cmocka_unit_test(test_find), cmocka_unit_test(test_golden),
        cmocka_unit_test(test_shared),
    };
    return cmocka_run_group_tests(tests, temporary_make, temporary_remove);
}
