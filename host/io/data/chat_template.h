/* chat_template.h - a conversation as the text that a chat model was trained on.
 *
 * A model folder brings its template as a Jinja program. There is no interpreter of Jinja here: the templates that models
 * are published with are known by the fingerprint of their text and described by the tags and rules of one table
 * (chat_formats.c), and what these render is what transformers renders, byte for byte, errors included. The fingerprint is
 * taken after a lexer has removed what makes no difference (spaces inside tags, comments, quotes, escapes, line ends), so
 * that a template is known in whatever spelling it was saved. An unknown one is refused; its fingerprint is in the message.
 *
 * The rendered text holds the special tokens as text: it is tokenized without adding any (as apply_chat_template does), so
 * that a beginning of sequence in it is there once.
 */
#ifndef FLAT_IO_CHAT_TEMPLATE_H
#define FLAT_IO_CHAT_TEMPLATE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "../../util/error.h"
#include "../../util/memory.h"

struct chat_message {
    const char *role;    /* "system", "user", "assistant"; any other as the template takes it (turns of tools aside) */
    const char *content;
};

/* Templates of models that reason open or close a block of thoughts; what each does without being told is its own. */
enum chat_thinking { CHAT_THINKING_DEFAULT, CHAT_THINKING_ON, CHAT_THINKING_OFF };

struct chat_options {
    const char *bos, *eos;     /* texts of the tokenizer's tokens; NULL where it names none */
    enum chat_thinking thinking;
    struct tm today;           /* for the templates that write a date */
    const char *date_string;   /* what Llama 3 writes as the date; NULL: its own, or today */
};

struct chat_format; /* one row of the table */

/* The format of a template's text, NULL when it is none of the known ones; *fingerprint is set in either case. Fails only
 * for want of memory. */
int chat_format_recognize(const char *text, size_t length, const struct chat_format **format, uint64_t *fingerprint,
                          struct error *error);
/* By the format's name ("chatml", "qwen3", ...); NULL when there is none. */
const struct chat_format *chat_format_find(const char *name);
/* The i-th format's name, NULL after the last. */
const char *chat_format_name(int i);
const char *chat_format_name_of(const struct chat_format *format);
/* Whether what is rendered depends on chat_options.today. */
bool chat_format_writes_date(const struct chat_format *format);

/* The chat template of a model folder, chat_template.jinja or that of tokenizer_config.json; of several by name the one
 * called `name` ("": "default"). *format is NULL when the folder has none at all. One that is not known, or not there by
 * that name, is STATUS_INPUT with what to do. */
int chat_template_find(const char *directory, const char *name, const struct chat_format **format, struct error *error);

/* Appends the text of the conversation to *text; generation: with what opens the assistant's next turn. At least one
 * message. A conversation that the template refuses (order of roles, no system turn, a special token that the tokenizer
 * does not name) is STATUS_INPUT with the template's own words. */
int chat_render(const struct chat_format *format, const struct chat_message *message, int messages, bool generation,
                const struct chat_options *options, struct buffer *text, struct error *error);

/* A conversation whose last turn is the assistant's, to learn or to score that turn. */
struct chat_answer {
    size_t begin;   /* offset in the text where the answer begins: what is before it is the prompt */
    bool stopped;   /* the text ends with what the template writes to end a turn (<|im_end|> and the like) */
    bool is_prefix; /* the prompt is what chat_render gives with generation; see below for when it is not */
};
/* Appends prompt and answer up to what ends the turn: a newline or an end of text that templates write after it is
 * nothing a model says. Where the rendering of the prompt is no prefix of that of the whole conversation (a block of
 * thoughts that only the prompt opens; a system text that only the prompt holds), the answer's turn follows the
 * conversation before it, and begins after what it shares with the opened turn of the prompt. */
int chat_render_answer(const struct chat_format *format, const struct chat_message *message, int messages,
                       const struct chat_options *options, struct buffer *text, struct chat_answer *answer,
                       struct error *error);

#endif
