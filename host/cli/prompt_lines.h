/* prompt_lines.h - the input of `score` and `generate`: JSON lines with a "prompt" and, for scoring, an "answer"; or, with
 * a prompt template, the question and answer rows that training reads.
 */
#ifndef FLAT_CLI_PROMPT_LINES_H
#define FLAT_CLI_PROMPT_LINES_H
#include "../io/data/dataset.h"
#include "../io/json/json.h"
#include "../util/options.h"

struct prompt_line {
    cJSON *object; /* the whole line */
    char *prompt;  /* text before the answer */
    char *full;    /* prompt and answer; the prompt alone when no answer is read */
    int number;    /* 1-based line of the file */
};
struct prompt_lines {
    int count;
    size_t capacity;
    struct prompt_line *line;
};

/* Where the lines are, and how many go at a time. */
struct input_options {
    const char *data; /* "" when not given */
    int64_t batch_size;
    struct dataset_options dataset;
    struct prompt_options prompt;
};
extern const struct option_group input_option_group;
/* Whether a prompt template was asked for, so that data holds question and answer rows. */
bool input_has_rows(const struct option_set *set);

/* Reads options->data: "prompt" and "answer" keys, or, with_template, the options' question_key and answer_key put into
 * the prompt template. Blank lines are passed over, an empty file is an error. STATUS_INPUT names file,
 * line and key. Free after a failure too. */
int prompt_lines_read(struct prompt_lines *lines, const struct input_options *options, bool with_template,
                      bool with_answer, struct error *error);
void prompt_lines_free(struct prompt_lines *lines);

#endif
