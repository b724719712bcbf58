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

enum { TEMPLATES = sizeof templates / sizeof *templates, PROMPT_CUSTOM = TEMPLATES };

static const char *prompt_choice(int index)
{
    return index < TEMPLATES ? templates[index].name : index == PROMPT_CUSTOM ? "custom" : NULL;
}

/* A name and tags may both be there, say a file's tags under a flag's name: the stronger source holds. */
static int prompt_check(const struct option_set *set, void *values, struct error *error)
{
    static const char *const tag[] = {"prompt_template.user_start", "prompt_template.user_end",
                                      "prompt_template.answer_start", "prompt_template.answer_end"};
    struct prompt_options *options = values;
    const enum option_source name = option_source(set, "prompt_template");
    enum option_source tags = OPTION_FROM_DEFAULT;
    int given = 0;
    for (int i = 0; i < 4; i++) {
        const enum option_source own = option_source(set, tag[i]);
        given += own != OPTION_FROM_DEFAULT;
        tags = own > tags ? own : tags;
    }
    if (tags > name)
        options->prompt_template = PROMPT_CUSTOM;
    else if (tags && tags == name && options->prompt_template != PROMPT_CUSTOM)
        return error_set(error, STATUS_USAGE, "prompt_template: both a name ('%s') and tags are given; keep one",
                         prompt_choice(options->prompt_template));
    if (options->prompt_template == PROMPT_CUSTOM && given < 4)
        return error_set(error, STATUS_USAGE, "prompt_template: expected all of user_start, user_end, answer_start and "
                         "answer_end, found %d; give the others too, even if empty", given);
    return STATUS_OK;
}

static const struct option prompt_rows[] = {
    {.name = "prompt_template", OPTION_FIELD(struct prompt_options, prompt_template), .choice = prompt_choice,
     .initial = "qa", .help = "how a question and an answer become one text; custom is the four tags below"},
    {.name = "prompt_template.user_start", OPTION_FIELD(struct prompt_options, user_start), .escapes = true,
     .help = "text before the question; \\n and \\t are a line break and a tab"},
    {.name = "prompt_template.user_end", OPTION_FIELD(struct prompt_options, user_end), .escapes = true,
     .help = "text after the question"},
    {.name = "prompt_template.answer_start", OPTION_FIELD(struct prompt_options, answer_start), .escapes = true,
     .help = "text before the answer"},
    {.name = "prompt_template.answer_end", OPTION_FIELD(struct prompt_options, answer_end), .escapes = true,
     .help = "text after the answer"},
};
const struct option_group prompt_option_group = {OPTION_GROUP("Prompt", prompt_rows, struct prompt_options),
                                                 .check = prompt_check};

struct prompt_template prompt_template_chosen(const struct prompt_options *options)
{
    if (options->prompt_template < TEMPLATES)
        return templates[options->prompt_template];
    return (struct prompt_template){"custom", options->user_start, options->user_end, options->answer_start,
                                    options->answer_end};
}

static const char *const choice_names[] = {[TEMPLATE_RANDOM] = "random", [TEMPLATE_CYCLE] = "cycle",
                                           [TEMPLATE_FIXED] = "fixed", NULL};
static const char *const every_names[] = {[TEMPLATE_EVERY_EPOCH] = "epoch", [TEMPLATE_EVERY_RUN] = "run", NULL};

static const struct option template_rows[] = {
    {.name = "template.file", OPTION_FIELD(struct template_options, file), .local = true, .operand = "FILE",
     .help = "template answers to prefer (TXT, CSV, JSON or JSON lines); for the methods that take them"},
    {.name = "template.choice", OPTION_FIELD(struct template_options, choice), .choices = choice_names,
     .initial = "random", .help = "which template answer goes with a row"},
    {.name = "template.every", OPTION_FIELD(struct template_options, every), .choices = every_names, .initial = "epoch",
     .help = "when a row gets a new template answer"},
};
const struct option_group template_option_group = {OPTION_GROUP("Template answers", template_rows, struct template_options)};

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
