/* fuzz_chat_template.c - any chat template, as tokenizer_config.json brings it: refused with its fingerprint, or known. And
 * every known format with any texts in its turns: what is behind the first separator, part by part. */
#include "../../host/io/data/chat_template.h"
#include "fuzz.h"

enum { MESSAGES = 6 };

static void render(const struct chat_format *format, const struct chat_message *message, int count)
{
    const struct chat_options options = {.bos = "<s>", .eos = "</s>", .today = {.tm_year = 125, .tm_mday = 15}};
    for (int form = 0; form < 3; form++) {
        struct error error = {0};
        struct buffer text = {0};
        struct chat_answer answer = {0};
        int status = form == 2 ? chat_render_answer(format, message, count, &options, &text, &answer, &error)
                               : chat_render(format, message, count, form, &options, &text, &error);
        if (status)
            fuzz_refused(status, &error, STATUS_INPUT);
        else
            FUZZ_CHECK(answer.begin <= text.length);
        buffer_free(&text);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length)
{
    static const char *const role[] = {"user", "assistant", "system", "tool"};
    struct error error = {0};
    const struct chat_format *format;
    struct fuzz_part config = fuzz_next(&data, &length);
    struct chat_message message[MESSAGES];
    char *content[MESSAGES];
    int count = 0;
    fuzz_file("tokenizer_config.json", config.data, config.length);
    int status = chat_template_find(fuzz_folder(), "", &format, &error);
    if (status)
        fuzz_refused(status, &error, STATUS_INPUT);
    for (; length && count < MESSAGES; count++) {
        struct fuzz_part part = fuzz_next(&data, &length);
        content[count] = strndup(part.length ? (const char *)part.data + 1 : "", part.length ? part.length - 1 : 0);
        FUZZ_CHECK(content[count]);
        message[count] = (struct chat_message){role[part.length ? *part.data % 4 : 0], content[count]};
    }
    for (int i = 0; count && chat_format_name(i); i++)
        render(chat_format_find(chat_format_name(i)), message, count);
    for (int i = 0; i < count; i++)
        free(content[i]);
    return 0;
}
