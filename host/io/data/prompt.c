/* prompt.c - see prompt.h. */
#include "prompt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../util/utf8.h"

/* llama3_chat is the chat format without a system turn; <|begin_of_text|> comes from the tokenizer. */
#define LLAMA3_TURN(role) "<|start_header_id|>" role "<|end_header_id|>\n\n"
static const struct prompt_tags tags[] = {
    {"llama2_chat", "[INST] ", " [/INST]", "", "", false},
    {"llama3_chat", LLAMA3_TURN("user"), "<|eot_id|>", LLAMA3_TURN("assistant"), "<|eot_id|>", false},
    {"phi", "Question: ", "\n", "Answer: ", "", true},
    {"qa", "Question: ", "\n", "Answer: ", "", false},
    {"plain", "", "", " ", "", false},
};
#undef LLAMA3_TURN

const struct prompt_tags *prompt_tags_find(const char *name)
{
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++)
        if (!strcmp(tags[i].name, name))
            return &tags[i];
    return NULL;
}

static bool is_auto(const char *name)
{
    return !strcmp(name, "auto") || !strncmp(name, "auto:", 5);
}

static int name_check(const char *name, struct error *error)
{
    if (is_auto(name) || !strcmp(name, "custom") || prompt_tags_find(name) || chat_format_find(name))
        return STATUS_OK;
    char names[800] = "";
    for (int i = 0; chat_format_name(i); i++)
        snprintf(names + strlen(names), sizeof names - strlen(names), ", %s", chat_format_name(i));
    return error_set(error, STATUS_USAGE, "prompt_template: \"%.60s\" is not known; expected auto, llama2_chat, llama3_chat, "
                     "phi, qa, plain, tags of your own, or a chat template:%s", name, names + 1);
}

static const char *const tag_names[] = {"prompt_template.user_start", "prompt_template.user_end",
                                        "prompt_template.answer_start", "prompt_template.answer_end"};
static const char *const thinking_names[] = {[CHAT_THINKING_DEFAULT] = "auto", [CHAT_THINKING_ON] = "on",
                                             [CHAT_THINKING_OFF] = "off", NULL};

/* A name and tags may both be there, say a file's tags under a flag's name: the stronger source holds. */
static int prompt_check(const struct option_set *set, void *values, struct error *error)
{
    struct prompt_options *options = values;
    int status = name_check(options->prompt_template, error);
    if (status)
        return status;
    const enum option_source name = option_source(set, "prompt_template");
    enum option_source tag_source = OPTION_FROM_DEFAULT;
    int given = 0;
    for (int i = 0; i < 4; i++) {
        const enum option_source own = option_source(set, tag_names[i]);
        given += own != OPTION_FROM_DEFAULT;
        tag_source = own > tag_source ? own : tag_source;
    }
    options->chosen = name == OPTION_FROM_FLAG || tag_source == OPTION_FROM_FLAG;
    if (tag_source > name)
        options->prompt_template = "custom";
    const bool custom = !strcmp(options->prompt_template, "custom");
    if (tag_source && tag_source == name && !custom)
        return error_set(error, STATUS_USAGE, "prompt_template: both a name ('%s') and tags are given; keep one",
                         options->prompt_template);
    if (custom && given < 4)
        return error_set(error, STATUS_USAGE, "prompt_template: expected all of user_start, user_end, answer_start and "
                         "answer_end, found %d; give the others too, even if empty", given);
    if (!custom && option_source(set, "prompt_template.answer_start_is_target") >= name &&
        options->custom.answer_start_is_target)
        return error_set(error, STATUS_USAGE, "prompt_template.answer_start_is_target: only tags of one's own take it; the "
                         "tags named phi are qa's with the answer's tag as a target");
    return STATUS_OK;
}

static const struct option prompt_rows[] = {
    {.name = "prompt_template", OPTION_FIELD(struct prompt_options, prompt_template), .initial = "auto", .operand = "NAME",
     .help = "how a row becomes one text: auto is the chat template of the model's folder (auto:NAME where it has several) or "
             "else qa; tags llama2_chat, llama3_chat, phi, qa, plain; known chat templates such as chatml, gemma, phi3, "
             "mistral; custom is the four tags below"},
    {.name = "prompt_template.user_start", OPTION_FIELD(struct prompt_options, custom.user_start), .escapes = true,
     .help = "text before the question; \\n and \\t are a line break and a tab"},
    {.name = "prompt_template.user_end", OPTION_FIELD(struct prompt_options, custom.user_end), .escapes = true,
     .help = "text after the question"},
    {.name = "prompt_template.answer_start", OPTION_FIELD(struct prompt_options, custom.answer_start), .escapes = true,
     .help = "text before the answer"},
    {.name = "prompt_template.answer_end", OPTION_FIELD(struct prompt_options, custom.answer_end), .escapes = true,
     .help = "text after the answer"},
    {.name = "prompt_template.answer_start_is_target",
     OPTION_FIELD(struct prompt_options, custom.answer_start_is_target),
     .help = "the text before the answer is learned with it, and no part of the prompt"},
    {.name = "system_prompt", OPTION_FIELD(struct prompt_options, system_prompt), .escapes = true, .operand = "TEXT",
     .help = "system turn before every row that has none of its own; for chat templates"},
    {.name = "thinking", OPTION_FIELD(struct prompt_options, thinking), .choices = thinking_names, .initial = "auto",
     .help = "for chat templates of models that think first: auto is the template's own default"},
    {.name = "prompt_date", OPTION_FIELD(struct prompt_options, date), .operand = "YYYY-MM-DD",
     .help = "what the chat templates write that name the day; today unless given"},
};
const struct option_group prompt_option_group = {OPTION_GROUP("Prompt", prompt_rows, struct prompt_options),
                                                 .check = prompt_check};

/* The text of a special token; NULL in *text where the tokenizer names none. */
static int token_text(const struct tokenizer *tokenizer, int32_t id, char **text, struct error *error)
{
    struct buffer out = {0};
    int status = id < 0 ? STATUS_OK : tokenizer_decode(tokenizer, &id, 1, false, &out, error);
    *text = status ? NULL : out.data;
    return status;
}

static int date_read(struct prompt *prompt, const char *date, struct error *error)
{
    const time_t now = time(NULL);
    struct tm *today = &prompt->chat_options.today;
    if (!*date)
        return localtime_r(&now, today) ? STATUS_OK : error_set(error, STATUS_RUNTIME, "the clock cannot be read");
    const char *end = strptime(date, "%Y-%m-%d", today);
    return end && !*end ? STATUS_OK
                        : error_set(error, STATUS_USAGE, "prompt_date: expected YYYY-MM-DD, found \"%.40s\"", date);
}

static int template_choose(struct prompt *prompt, const struct prompt_options *options, const char *directory,
                           struct error *error)
{
    const char *name = options->prompt_template;
    const struct prompt_tags *known = prompt_tags_find(is_auto(name) ? "qa" : name);
    int status = name_check(name, error);
    if (!status && is_auto(name))
        status = chat_template_find(directory, name[4] ? name + 5 : "", &prompt->chat, &prompt->refusal);
    if (status && prompt->refusal.status == STATUS_INPUT)
        status = STATUS_OK; /* for the rows that need it */
    else if (prompt->refusal.status)
        *error = prompt->refusal;
    if (status)
        return status;
    prompt->automatic = is_auto(name);
    if (!is_auto(name) && !known)
        prompt->chat = chat_format_find(name);
    if (!prompt->chat) {
        prompt->tags = known ? *known : options->custom;
        prompt->tags.name = known ? known->name : "custom";
    }
    if (!prompt->chat && !prompt->refusal.status && *options->system_prompt)
        status = error_set(error, STATUS_USAGE, "system_prompt: the prompt template %s has no place for it; choose a chat "
                           "template, as --prompt_template chatml, or write it into a tag", prompt->tags.name);
    return status;
}

int prompt_open(struct prompt *prompt, const struct prompt_options *options, const char *directory,
                const struct tokenizer *tokenizer, struct error *error)
{
    *prompt = (struct prompt){.system = options->system_prompt, .chat_options.thinking = options->thinking};
    int status = template_choose(prompt, options, directory, error);
    if (!status)
        status = date_read(prompt, options->date, error);
    if (!status)
        status = token_text(tokenizer, tokenizer_bos(tokenizer), &prompt->bos, error);
    if (!status)
        status = token_text(tokenizer, tokenizer_eos(tokenizer), &prompt->eos, error);
    prompt->chat_options.bos = prompt->bos;
    prompt->chat_options.eos = prompt->eos;
    if (status)
        prompt_close(prompt);
    return status;
}

void prompt_close(struct prompt *prompt)
{
    free(prompt->bos);
    free(prompt->eos);
    *prompt = (struct prompt){0};
}

int prompt_describe(const struct prompt *prompt, struct buffer *out, struct error *error)
{
    char date[40] = "";
    if (prompt->refusal.status)
        return buffer_printf(out, error, "no prompt template: the rows need none, and the folder's is not known");
    if (!prompt->chat)
        return buffer_printf(out, error, "prompt template %s%s", prompt->tags.name,
                             prompt->automatic ? ", for the model's folder has no chat template" : "");
    strftime(date, sizeof date, "%Y-%m-%d", &prompt->chat_options.today);
    const bool dated = chat_format_writes_date(prompt->chat);
    return buffer_printf(out, error, "chat template %s%s%s%s%s", chat_format_name_of(prompt->chat),
                         prompt->automatic ? " of the model's folder" : "", dated ? ", which writes the date " : "",
                         dated ? date : "", dated ? "; --prompt_date fixes it for other days" : "");
}

/* ---- rows as they are ---- */

static int plain_apply(const struct dataset_row *row, const char *answer, struct prompt_text *out, struct error *error)
{
    const char *prompt = row->form == ROW_TEXT && answer ? "" : row->prompt;
    const size_t length = strlen(prompt);
    int status = buffer_printf(&out->text, error, "%s%s", prompt, answer ? answer : "");
    out->answer_begin = answer ? utf8_trimmed_length(prompt, length) : length;
    return status;
}

/* ---- tags ---- */

static int tags_apply(const struct prompt_tags *tag, const char *question, const char *answer, struct prompt_text *out,
                      struct error *error)
{
    int status = buffer_printf(&out->text, error, "%s%s%s", tag->user_start, question, tag->user_end);
    const size_t user_end = out->text.length;
    if (!status)
        status = buffer_printf(&out->text, error, "%s", tag->answer_start);
    const bool in_answer = tag->answer_start_is_target && answer; /* to be answered, a prompt has the whole tag */
    const char *last_tag = *tag->answer_start && !in_answer ? tag->answer_start : tag->user_end;
    const bool space = *last_tag && last_tag[strlen(last_tag) - 1] == ' ';
    out->answer_begin = (in_answer ? user_end : out->text.length) - space;
    if (!answer)
        out->text.length = out->answer_begin;
    if (!status)
        status = buffer_printf(&out->text, error, "%s%s", answer ? answer : "", answer ? tag->answer_end : "");
    return status;
}

/* ---- chat templates ---- */

/* The row's turns, after a system turn where the row has none and one is set, and before the answer. */
static int turns_take(const struct prompt *prompt, const struct dataset_row *row, const char *answer,
                      struct chat_message **turns, int *count, struct error *error)
{
    const bool own = row->form == ROW_MESSAGES && !strcmp(row->message[0].role, "system");
    struct chat_message *turn = memory_array((size_t)row->messages + 3, sizeof *turn, error);
    int n = 0;
    if (!turn)
        return STATUS_MEMORY;
    if (*prompt->system && !own)
        turn[n++] = (struct chat_message){"system", prompt->system};
    for (int i = 0; i < row->messages; i++)
        turn[n++] = row->message[i];
    if (row->form != ROW_MESSAGES)
        turn[n++] = (struct chat_message){"user", row->prompt};
    if (answer)
        turn[n++] = (struct chat_message){"assistant", answer};
    *turns = turn;
    *count = n;
    return STATUS_OK;
}

static int chat_apply(const struct prompt *prompt, const struct dataset_row *row, const char *answer,
                      struct prompt_text *out, struct error *error)
{
    struct chat_message *turn;
    struct chat_answer found = {.is_prefix = true};
    int turns, status = turns_take(prompt, row, answer, &turn, &turns, error);
    if (status)
        return status;
    status = answer ? chat_render_answer(prompt->chat, turn, turns, &prompt->chat_options, &out->text, &found, error)
                    : chat_render(prompt->chat, turn, turns, true, &prompt->chat_options, &out->text, error);
    out->special = false;
    out->answer_begin = answer ? found.begin : out->text.length;
    out->stopped = found.stopped;
    out->is_prefix = found.is_prefix;
    free(turn);
    return status;
}

int prompt_apply(const struct prompt *prompt, const struct dataset_row *row, const char *answer, struct prompt_text *out,
                 struct error *error)
{
    *out = (struct prompt_text){.special = true, .is_prefix = true};
    const bool turns = row->form == ROW_MESSAGES;
    int status;
    if (row->form == ROW_PROMPT || row->form == ROW_TEXT)
        status = plain_apply(row, answer, out, error);
    else if (prompt->refusal.status)
        status = error_set(error, prompt->refusal.status, "%s", prompt->refusal.text);
    else if (prompt->chat)
        status = chat_apply(prompt, row, answer, out, error);
    else if (turns && (row->messages != 1 || strcmp(row->message[0].role, "user")))
        status = error_set(error, STATUS_INPUT, "the prompt template %s takes one user turn and its answer, and these are %d "
                           "turns before the answer; choose a chat template, as --prompt_template chatml", prompt->tags.name,
                           row->messages);
    else
        status = tags_apply(&prompt->tags, turns ? row->message[0].content : row->prompt, answer, out, error);
    if (status)
        buffer_free(&out->text);
    return status;
}
