/* chat_template.c - renders conversations by the table of chat formats. See chat_template.h, and chat_format.h for the
 * language of the table.
 */
#include "chat_template.h"

#include <string.h>

#include "../../util/utf8.h"
#include "chat_format.h"

struct rendering {
    const struct chat_format *format;
    const struct chat_message *message;
    int messages;
    bool generation, thinking;
    const struct chat_options *options;
    struct buffer *out;
    int index;                   /* of the turn that is written; -1 before and after them */
    const char *role, *content, *system;
    size_t turn, first_content;  /* offsets: where the turn begins, where its content does */
    size_t opening;              /* where the text begins that opens the assistant's turn, or ends the conversation */
    size_t stop;                 /* where STOP or DONE stood in the turn; 0: there was none */
    bool stopped;                /* it was STOP */
    struct error *error;
};

static bool is_role(const struct chat_message *message, const char *role)
{
    return !strcmp(message->role, role);
}

static bool is_last(const struct rendering *r)
{
    return r->index == r->messages - 1;
}

/* Whether a conditional stretch is written; true for the others. */
static bool stretch_holds(const struct rendering *r, enum chat_mark mark)
{
    switch ((int)mark) {
    case MARK_TEXT: return *r->content;
    case MARK_NO_TEXT: return !*r->content;
    case MARK_THINKING: return r->thinking;
    case MARK_NOT_THINKING: return !r->thinking;
    case MARK_CLOSED: return !is_last(r) || r->generation;
    case MARK_FIRST: return r->index == 0;
    case MARK_APART: return r->index > 0 && !is_role(&r->message[r->index - 1], "assistant");
    }
    return true;
}

static const char *stretch_skip(const char *at)
{
    for (int depth = 1; depth; at++)
        depth += (*at >= MARK_TRIM && *at <= MARK_APART) - (*at == MARK_END);
    return at;
}

static int write(struct rendering *r, const char *text)
{
    return buffer_append(r->out, text, strlen(text), r->error);
}

static int write_token(struct rendering *r, const char *text, const char *name)
{
    return text ? write(r, text) : error_set(r->error, STATUS_INPUT, "'%s' is undefined", name);
}

static int write_title(struct rendering *r)
{
    size_t at = r->out->length;
    int status = write(r, r->role);
    for (bool first = true; !status && at < r->out->length; at++, first = false) {
        char *c = &r->out->data[at];
        if (first && *c >= 'a' && *c <= 'z')
            *c = (char)(*c - 'a' + 'A');
        else if (!first && *c >= 'A' && *c <= 'Z')
            *c = (char)(*c - 'A' + 'a');
    }
    return status;
}

static int write_date(struct rendering *r)
{
    char text[64];
    if (r->options->date_string && r->format->rules & DATE_STRING)
        return write(r, r->options->date_string);
    strftime(text, sizeof text, r->format->date, &r->options->today);
    return write(r, text);
}

static int expand(struct rendering *r, const char **at);

static int expand_mark(struct rendering *r, enum chat_mark mark, const char **at)
{
    const size_t begin = r->out->length;
    int status;
    switch (mark) {
    case MARK_BOS: return write_token(r, r->options->bos, "bos_token");
    case MARK_EOS: return write_token(r, r->options->eos, "eos_token");
    case MARK_SOME_BOS: return write(r, r->options->bos ? r->options->bos : "");
    case MARK_SOME_EOS: return write(r, r->options->eos ? r->options->eos : "");
    case MARK_ROLE: return write(r, r->role);
    case MARK_TITLE: return write_title(r);
    case MARK_CONTENT:
        if (!r->first_content)
            r->first_content = begin;
        return write(r, r->content);
    case MARK_SYSTEM: return r->system ? write(r, r->system) : STATUS_OK;
    case MARK_DATE: return write_date(r);
    case MARK_STOP:
    case MARK_DONE:
        r->stop = begin;
        r->stopped = mark == MARK_STOP;
        return STATUS_OK;
    case MARK_RAISE:
        status = expand(r, at);
        return status ? status : error_set(r->error, STATUS_INPUT, "%s", r->out->data + begin);
    default:
        if (!stretch_holds(r, mark)) {
            *at = stretch_skip(*at);
            return STATUS_OK;
        }
        status = expand(r, at);
        if (!status)
            chat_stretch_apply(r->out, begin, mark);
        return status;
    }
}

/* Writes a pattern up to its end, or that of the stretch that it is in. */
static int expand(struct rendering *r, const char **at)
{
    int status = buffer_append(r->out, "", 0, r->error);
    while (**at && !status) {
        const size_t text = strcspn(*at, "\x01\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17"
                                         "\x18\x19\x1a\x1b\x1c\x1d\x1e");
        status = buffer_append(r->out, *at, text, r->error);
        *at += text;
        if (status || !**at)
            break;
        const char mark = *(*at)++;
        if (mark == MARK_END)
            break;
        status = expand_mark(r, (enum chat_mark)mark, at);
    }
    return status;
}

static int pattern_write(struct rendering *r, const char *pattern)
{
    return pattern ? expand(r, &pattern) : STATUS_OK;
}

/* As the pattern of a turn of `role` with `content`. */
static int turn_write(struct rendering *r, const char *pattern, const char *role, const char *content)
{
    r->role = role;
    r->content = content;
    r->turn = r->out->length;
    r->first_content = r->stop = 0;
    r->stopped = false;
    return pattern_write(r, pattern);
}

/* SmolLM3: /think and /no_think in the system text turn thinking on and off, and are not part of it. */
static int flagged_system_write(struct rendering *r, const char *system)
{
    struct buffer text = {0};
    const struct chat_format *format = r->format;
    const bool override = format->override && strstr(system, "/system_override");
    int status = buffer_append(&text, system, strlen(system), r->error);
    if (!status) {
        if (strstr(system, "/no_think"))
            r->thinking = false;
        else if (strstr(system, "/think"))
            r->thinking = true;
        chat_replace(&text, 0, "/no_think", "");
        chat_replace(&text, 0, "/think", "");
        text.length = utf8_trimmed_length(text.data, text.length);
        text.data[text.length] = 0;
        if (override)
            chat_replace(&text, 0, "/system_override", "");
        text.data[utf8_trimmed_length(text.data, text.length)] = 0;
        status = turn_write(r, override ? format->override : format->system, "system", text.data);
    }
    buffer_free(&text);
    return status;
}

/* Writes what stands for the first system turn, or for its absence. */
static int first_system_write(struct rendering *r)
{
    const struct chat_format *format = r->format;
    const struct chat_message *first = r->message;
    const char *pattern = format->system ? format->system : format->any;
    if (!is_role(first, "system") || (!*first->content && (format->rules & EMPTY_SYSTEM_IS_NONE)))
        return turn_write(r, format->no_system, "system", "");
    if (format->rules & SYSTEM_JOINS_USER && r->messages < 2)
        return error_set(r->error, STATUS_INPUT, "list object has no element 1");
    const bool joins = (format->first_user || format->last_user) && !(format->rules & FIRST_TWO_USERS) &&
                       (!(format->rules & SYSTEM_JOINS_USER) || is_role(&r->message[1], "user"));
    if (joins) {
        r->system = first->content;
        return STATUS_OK;
    }
    r->index = 0;
    return format->rules & THINK_FLAGS ? flagged_system_write(r, first->content)
                                       : turn_write(r, pattern, "system", first->content);
}

/* Formats that gather system turns from all places. */
static int systems_write(struct rendering *r)
{
    const struct chat_format *format = r->format;
    int status = pattern_write(r, format->no_system), last = -1;
    for (int i = 0; i < r->messages && !status; i++) {
        if (!is_role(&r->message[i], "system"))
            continue;
        last = i;
        if (format->rules & SYSTEMS_AT_START)
            status = turn_write(r, format->system, "system", r->message[i].content);
    }
    if (format->rules & SYSTEM_LAST && last >= 0 && !status)
        status = turn_write(r, format->system, "system", r->message[last].content);
    return status ? status : pattern_write(r, format->after_systems);
}

static int head_write(struct rendering *r)
{
    const unsigned rules = r->format->rules;
    int status = pattern_write(r, r->format->start);
    if (status)
        return status;
    if (rules & (SYSTEM_LAST | SYSTEMS_AT_START))
        return systems_write(r);
    if (!(rules & SYSTEM_ANYWHERE))
        return first_system_write(r);
    for (int i = 0; i < r->messages; i++)
        if (is_role(&r->message[i], "system"))
            return STATUS_OK;
    return pattern_write(r, r->format->no_system);
}

/* The last user turn that is no tool's response in disguise; the last turn when there is none. */
static int question_find(const struct rendering *r)
{
    static const char open[] = "<tool_response>", close[] = "</tool_response>";
    for (int i = r->messages - 1; i >= 0; i--) {
        const char *content = r->message[i].content;
        const size_t length = strlen(content);
        if (is_role(&r->message[i], "user") &&
            !(!strncmp(content, open, strlen(open)) && length >= strlen(close) &&
              !strcmp(content + length - strlen(close), close)))
            return i;
    }
    return r->messages - 1;
}

static const char *user_pattern(const struct rendering *r)
{
    const struct chat_format *format = r->format;
    if (format->rules & FIRST_TWO_USERS && r->index <= 1)
        return format->first_user;
    if (r->system && format->first_user && r->index == 1)
        return format->first_user;
    if (r->system && format->last_user && is_last(r))
        return format->last_user;
    return format->user ? format->user : format->any;
}

static const char *assistant_pattern(const struct rendering *r, int question)
{
    const struct chat_format *format = r->format;
    const char *thought;
    if (format->answer && r->index > question &&
        (is_last(r) || chat_thought_find(r->message[r->index].content, &thought)))
        return format->answer;
    if (format->last_assistant && is_last(r))
        return format->last_assistant;
    return format->assistant ? format->assistant : format->any;
}

static const char *turn_pattern(const struct rendering *r, int question)
{
    const struct chat_format *format = r->format;
    const struct chat_message *message = &r->message[r->index];
    if (is_role(message, "user"))
        return user_pattern(r);
    if (is_role(message, "assistant"))
        return assistant_pattern(r, question);
    if (!is_role(message, "system"))
        return format->other ? format->other : format->any;
    if (format->rules & (SYSTEM_LAST | SYSTEMS_AT_START))
        return "";
    return format->later_system ? format->later_system : format->system ? format->system : format->any;
}

/* Whether turn `index` may stand there: user turns are at even places, counted from `first`, and no others are. */
static bool order_holds(const struct rendering *r, int first, int index)
{
    int place = index - first;
    if (r->format->rules & ORDER_OF_KNOWN) {
        place = 0;
        for (int i = first; i < index; i++)
            place += is_role(&r->message[i], "user") || is_role(&r->message[i], "assistant");
        if (!is_role(&r->message[index], "user") && !is_role(&r->message[index], "assistant"))
            return true;
    }
    return is_role(&r->message[index], "user") == (place % 2 == 0);
}

static int turns_write(struct rendering *r)
{
    const unsigned rules = r->format->rules;
    const char *order = r->format->order;
    const int question = question_find(r), first = is_role(r->message, "system") && !(rules & SYSTEM_ANYWHERE);
    int status = STATUS_OK;
    for (int i = first; order && rules & ORDER_FIRST && i < r->messages; i++)
        if (!order_holds(r, first, i))
            return error_set(r->error, STATUS_INPUT, "%s", order);
    for (r->index = first; r->index < r->messages && !status; r->index++) {
        const struct chat_message *message = &r->message[r->index];
        if (order && !(rules & ORDER_FIRST) && !order_holds(r, first, r->index))
            return error_set(r->error, STATUS_INPUT, "%s", order);
        status = turn_write(r, turn_pattern(r, question), message->role, message->content);
    }
    r->index = -1;
    return status;
}

static int conversation_write(struct rendering *r)
{
    const struct chat_format *format = r->format;
    const bool answered = is_role(&r->message[r->messages - 1], "assistant");
    r->index = -1;
    r->role = r->content = ""; /* outside turns */
    r->thinking = r->options->thinking == CHAT_THINKING_ON ||
                  (r->options->thinking == CHAT_THINKING_DEFAULT && format->rules & THINKS);
    int status = head_write(r);
    if (!status)
        status = turns_write(r);
    r->opening = r->out->length;
    const bool alone = r->messages == 1 && is_role(r->message, "system");
    const bool unopened = (answered && format->rules & NO_OPENING_AFTER_ASSISTANT) ||
                          (alone && format->rules & NO_OPENING_ALONE);
    if (!status && r->generation && !unopened)
        status = pattern_write(r, format->opening);
    if (!status && !r->generation && (answered || !(format->rules & ENDING_AFTER_ASSISTANT)))
        status = pattern_write(r, format->ending);
    return status ? error_prefix(r->error, "chat template %s", format->name) : STATUS_OK;
}

int chat_render(const struct chat_format *format, const struct chat_message *message, int messages, bool generation,
                const struct chat_options *options, struct buffer *text, struct error *error)
{
    struct buffer out = {0};
    struct rendering r = {.format = format, .message = message, .messages = messages, .generation = generation,
                          .options = options, .out = &out, .error = error};
    int status = conversation_write(&r);
    if (!status)
        status = buffer_append(text, out.data, out.length, error);
    buffer_free(&out);
    return status;
}

static size_t common_length(const char *a, size_t a_length, const char *b, size_t b_length)
{
    size_t i = 0;
    while (i < a_length && i < b_length && a[i] == b[i])
        i++;
    return i;
}

int chat_render_answer(const struct chat_format *format, const struct chat_message *message, int messages,
                       const struct chat_options *options, struct buffer *text, struct chat_answer *answer,
                       struct error *error)
{
    struct buffer asked = {0}, whole = {0};
    struct rendering prompt = {.format = format, .message = message, .messages = messages - 1, .generation = true,
                               .options = options, .out = &asked, .error = error};
    struct rendering full = {.format = format, .message = message, .messages = messages, .options = options,
                             .out = &whole, .error = error};
    if (messages < 2 || !is_role(&message[messages - 1], "assistant"))
        return error_set(error, STATUS_INPUT, "expected turns that end with the assistant's, after at least one other");
    int status = conversation_write(&prompt);
    if (!status)
        status = conversation_write(&full);
    const size_t start = text->length;
    const size_t end = full.stop ? full.stop : full.opening;
    size_t begin = asked.length, from = 0;
    answer->stopped = full.stopped;
    answer->is_prefix = !status && begin <= end && (!begin || !memcmp(asked.data, whole.data, begin));
    if (!status && !answer->is_prefix) { /* the turns before, then the answer's turn */
        const size_t content = full.first_content ? full.first_content : end, opening = prompt.opening;
        from = full.turn;
        begin = opening + common_length(asked.data + opening, asked.length - opening, whole.data + from, content - from);
        status = buffer_append(text, asked.data, opening, error);
    }
    if (!status)
        status = buffer_append(text, whole.data + from, end - from, error);
    answer->begin = start + begin;
    buffer_free(&asked);
    buffer_free(&whole);
    return status;
}
