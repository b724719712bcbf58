/* prompt_lines.h - the input of `score` and `generate`: rows of any form that training reads, with their texts. */
#ifndef FLAT_CLI_PROMPT_LINES_H
#define FLAT_CLI_PROMPT_LINES_H
#include "../io/data/example.h"
#include "../io/json/json.h"
#include "../util/log.h"
#include "../util/options.h"

struct prompt_lines {
    struct dataset data;
    struct prompt prompt;
    struct prompt_text *text; /* [data.rows]; empty for a chunk of running text, whose row has ids */
};

/* Where the rows are, and how many go at a time. */
struct input_options {
    const char *data; /* "" when not given */
    int64_t batch_size;
    struct dataset_options dataset;
    struct prompt_options prompt;
};
extern const struct option_group input_option_group;

/* Reads options->data. With answers: prompt and answer of each row, and running text in chunks of max_length ids; without:
 * the prompts to continue. directory is the model's. Free after a failure too. */
int prompt_lines_read(struct prompt_lines *lines, const struct input_options *options, bool with_answers,
                      const char *directory, struct tokenizer *tokenizer, int64_t max_length, struct error *error);
void prompt_lines_free(struct prompt_lines *lines);
/* Says how the rows became text, where one was chosen or some went through a prompt template. */
void prompt_lines_announce(const struct prompt_lines *lines, bool chosen, struct log *log);
/* Prints a row on stdout: its own JSON as it was written, and `members` in place of or behind its own. */
int prompt_line_print(const struct dataset_row *row, cJSON *members, struct error *error);

#endif
