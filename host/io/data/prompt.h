/* prompt.h - how a row becomes the text that a model reads, and which part of it is the answer.
 *
 * By a chat template (chat_template.h): that of the model's folder ("auto"), or a known one by its name. Or by four tags
 * around question and answer: user_start question user_end answer_start answer answer_end.
 *
 * The prompt is everything before the answer. A space that ends it belongs to the answer: tokenizers join a space to the
 * word after it, so a prompt that ended in one would not be a prefix of the whole. Of tags that is one space of the last
 * tag; of a {"prompt", "answer"} row it is all white space at the prompt's end, as lm-evaluation-harness has it.
 * answer_start is a part of the prompt, or of the answer and learned with it (answer_start_is_target, and the tags named
 * phi: the code of TOFU and FLAT masks only the question).
 */
#ifndef FLAT_IO_PROMPT_H
#define FLAT_IO_PROMPT_H
#include <stdbool.h>

#include "../tokenizer/tokenizer.h"
#include "chat_template.h"
#include "dataset.h"

struct prompt_tags {
    const char *name;
    const char *user_start, *user_end, *answer_start, *answer_end;
    bool answer_start_is_target;
};

struct prompt_options {
    const char *prompt_template; /* "auto", "auto:NAME", a chat format, a name of tags, "custom" */
    struct prompt_tags custom;   /* the tags of "custom" */
    const char *system_prompt;   /* text of a first system turn; "": none but the row's own */
    enum chat_thinking thinking;
    const char *date;            /* YYYY-MM-DD for the chat templates that write one; "": today */
    bool chosen;                 /* by a flag, as name or tags: prompts that are taken as they are would escape it */
};
extern const struct option_group prompt_option_group;

struct prompt {
    const struct chat_format *chat; /* NULL: tags */
    struct prompt_tags tags;
    const char *system;
    struct chat_options chat_options;
    char *bos, *eos;
    bool automatic;                 /* chosen by what the model's folder has */
    struct error refusal;           /* ... which is not known: what the first row that needs it says */
};

/* directory, the model's folder, is where "auto" looks; without a chat template there it is the tags "qa". The options'
 * texts are borrowed. An unknown name is STATUS_USAGE. A chat template that is not known is refused by the rows that need
 * one, STATUS_INPUT with what to do. */
int prompt_open(struct prompt *prompt, const struct prompt_options *options, const char *directory,
                const struct tokenizer *tokenizer, struct error *error);
void prompt_close(struct prompt *prompt);
/* One line on what was chosen, for the log; appended. */
int prompt_describe(const struct prompt *prompt, struct buffer *out, struct error *error);
/* The tags of a name: "llama2_chat", "llama3_chat", "phi", "qa", "plain"; NULL when there are none. */
const struct prompt_tags *prompt_tags_find(const char *name);

struct prompt_text {
    struct buffer text;  /* prompt and answer */
    size_t answer_begin; /* bytes of the prompt in it */
    bool special;        /* the tokenizer puts its special tokens around it; a chat template has written them */
    bool stopped;        /* the answer ends with what ends a turn in the chat template */
    bool is_prefix;      /* the prompt is what a model is given to answer: see chat_answer */
};
/* The text of a row with an answer of its or another's (a template answer); answer NULL: the prompt alone, as a model is
 * given it to continue. Text rows have no prompt, and with answer NULL are one themselves. Free the buffer. */
int prompt_apply(const struct prompt *prompt, const struct dataset_row *row, const char *answer, struct prompt_text *out,
                 struct error *error);

#endif
