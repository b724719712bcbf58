/* template.c - how a question and an answer become one text, and which template answer a row gets. See dataset.h. */
#include <stdlib.h>
#include <string.h>

#include "../../util/memory.h"
#include "dataset.h"

/* llama3_chat is the chat format without a system turn; <|begin_of_text|> comes from the tokenizer. */
#define LLAMA3_TURN(role) "<|start_header_id|>" role "<|end_header_id|>\n\n"
static const struct prompt_template templates[] = {
    {"llama2_chat", "[INST] ", " [/INST]", "", ""},
    {"llama3_chat", LLAMA3_TURN("user"), "<|eot_id|>", LLAMA3_TURN("assistant"), "<|eot_id|>"},
    {"phi", "Question: ", "\n", "Answer: ", ""},
    {"qa", "Question: ", "\n", "Answer: ", ""},
    {"plain", "", "", " ", ""},
};
#undef LLAMA3_TURN

const struct prompt_template *prompt_template_find(const char *name)
{
    for (size_t i = 0; i < sizeof templates / sizeof *templates; i++)
        if (!strcmp(templates[i].name, name))
            return &templates[i];
    return NULL;
}

const char *prompt_template_names(void)
{
    return "llama2_chat, llama3_chat, phi, qa, plain";
}

int prompt_template_apply(const struct prompt_template *template_, const char *question, const char *answer,
                          char **prompt, char **full, struct error *error)
{
    struct buffer text = {0};
    *prompt = *full = NULL;
    int status = buffer_printf(&text, error, "%s%s%s%s", template_->user_start, question, template_->user_end,
                               template_->answer_start);
    if (status)
        return status;
    /* one space between the tags and the answer is the answer's: tokens join a space to the word after it */
    size_t prompt_length = text.length;
    const char *last_tag = *template_->answer_start ? template_->answer_start : template_->user_end;
    if (*last_tag && last_tag[strlen(last_tag) - 1] == ' ')
        prompt_length--;
    status = buffer_printf(&text, error, "%s%s", answer, template_->answer_end);
    if (!status && !(*prompt = strndup(text.data, prompt_length)))
        status = error_set(error, STATUS_MEMORY, "out of host memory: %zu more bytes were refused", prompt_length);
    if (status) {
        buffer_free(&text);
        return status;
    }
    *full = text.data;
    return STATUS_OK;
}

/* One step of splitmix64: a bijection whose output bits each depend on every input bit. */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

int template_pick(enum template_choice choice, uint64_t seed, int epoch, int64_t row, int count)
{
    switch (choice) {
    case TEMPLATE_RANDOM: {
        uint64_t hash = mix(mix(mix(seed) ^ (uint64_t)epoch) ^ (uint64_t)row);
        /* 32 random bits scaled to [0, count): no choice is likelier than another by more than count / 2^32 */
        return (int)((hash >> 32) * (uint64_t)count >> 32);
    }
    case TEMPLATE_CYCLE: return (int)((row + epoch) % count);
    case TEMPLATE_FIXED: break;
    }
    return 0;
}
