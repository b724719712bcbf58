/* prompt_lines.h - the input of `score` and `generate`: JSON lines with a "prompt" and, for scoring, an "answer"; or, with
 * a prompt template, the question and answer rows that training reads.
 */
#ifndef FLAT_CLI_PROMPT_LINES_H
#define FLAT_CLI_PROMPT_LINES_H
#include "../io/data/dataset.h"
#include "../io/json/json.h"
#include "../util/settings.h"

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

/* Reads settings->data: "prompt" and "answer" keys, or, with_template, settings' question_key and answer_key put into
 * its prompt template. Blank lines are passed over, an empty file is an error. STATUS_INPUT names file,
 * line and key. Free after a failure too. */
int prompt_lines_read(struct prompt_lines *lines, const struct settings *settings, bool with_template,
                      bool with_answer, struct error *error);
void prompt_lines_free(struct prompt_lines *lines);

#endif
