/* prompt_lines.h - the input of `score` and `generate`: rows of any form that training reads, with their texts. */
#ifndef FLAT_CLI_PROMPT_LINES_H
#define FLAT_CLI_PROMPT_LINES_H
#include "../io/data/example.h"
#include "../io/json/json.h"
#include "../util/log.h"
#include "../util/options.h"

/* A window of rows. */
struct prompt_lines {
    const struct prompt *prompt;  /* borrowed */
    bool with_answers;
    struct dataset_reader *reader;
    int64_t first;                /* rows in front of the window */
    struct dataset data;
    struct prompt_text *text;     /* [data.rows]; empty for a chunk of running text, whose row has ids */
};

/* Where the rows are, and how many go at a time. */
struct input_options {
    const char *data; /* "" when not given */
    int64_t batch_size;
    struct dataset_options dataset;
    struct prompt_options prompt;
};
extern const struct option_group input_option_group;

/* Opens options->data. With answers: prompt and answer of each row, and running text in chunks of max_length ids; without:
 * the prompts to continue. prompt_lines_close after a failure too. */
int prompt_lines_open(struct prompt_lines *lines, const struct input_options *options, const struct prompt *prompt,
                      bool with_answers, struct error *error);
/* The next rows in place of those before; none at the end. */
int prompt_lines_next(struct prompt_lines *lines, struct tokenizer *tokenizer, int64_t max_length, struct error *error);
void prompt_lines_close(struct prompt_lines *lines);
/* Says how the rows became text, where one was chosen or some of the window went through a prompt template. */
void prompt_lines_announce(const struct prompt_lines *lines, bool chosen, struct log *log);
/* The line of a row with its newline, in place of what *line holds: its own JSON as it was written, and `members` in place of or
 * behind its own. */
int prompt_line_make(const struct dataset_row *row, cJSON *members, struct buffer *line, struct error *error);
/* Whether line[0 .. length) is what prompt_line_make gives for the row with members named in `results`, whatever their
 * values. */
int prompt_line_check(const struct dataset_row *row, const char *const *results, const char *line, size_t length, bool *same,
                      struct error *error);

#endif
