/* prompt_lines.c - see prompt_lines.h. */
#include "prompt_lines.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>


static const struct option rows[] = {
    {.name = "data", OPTION_FIELD(struct input_options, data), .operand = "FILE",
     .help = "rows as in training (JSON lines, a JSON array, CSV or TSV with titles, text, also through gzip; - is stdin): a "
             "\"prompt\" is taken as it is, a question and messages go through the prompt template"},
    {.name = "batch_size", OPTION_FIELD(struct input_options, batch_size), .initial = "8", .min = 1,
     .max = OPTION_COUNT_MAX, .help = "prompts at a time, to score with up to 8 answers each; results differ in their last digits, which may decide "
                                      "between two tokens"},
};
const struct option_group input_option_group = {OPTION_GROUP("Input", rows, struct input_options)};

int prompt_lines_read(struct prompt_lines *lines, const struct input_options *options, bool with_answers,
                      const char *directory, struct tokenizer *tokenizer, int64_t max_length, struct error *error)
{
    const unsigned flags = DATASET_SOURCES | (with_answers ? DATASET_ANSWERS : 0) |
                           (options->prompt.chosen ? DATASET_TEMPLATED : 0);
    *lines = (struct prompt_lines){0};
    int status = prompt_open(&lines->prompt, &options->prompt, directory, tokenizer, error);
    if (!status)
        status = dataset_read(&lines->data, options->data, &options->dataset, flags, error);
    if (!status && with_answers)
        status = dataset_chunk(&lines->data, tokenizer, max_length, error);
    if (!status && !(lines->text = memory_array((size_t)lines->data.rows, sizeof *lines->text, error)))
        status = STATUS_MEMORY;
    for (int i = 0; i < lines->data.rows && !status; i++) {
        const struct dataset_row *row = &lines->data.row[i];
        if (!row->ids)
            status = prompt_apply(&lines->prompt, row, with_answers ? row->answer : NULL, &lines->text[i], error);
        if (status)
            error_prefix(error, "%s:%d", lines->data.path, row->line);
    }
    return status;
}

void prompt_lines_free(struct prompt_lines *lines)
{
    for (int i = 0; lines->text && i < lines->data.rows; i++)
        buffer_free(&lines->text[i].text);
    free(lines->text);
    dataset_free(&lines->data);
    prompt_close(&lines->prompt);
    *lines = (struct prompt_lines){0};
}

void prompt_lines_announce(const struct prompt_lines *lines, bool chosen, struct log *log)
{
    struct buffer text = {0};
    struct error unused;
    bool templated = chosen;
    for (int i = 0; i < lines->data.rows; i++)
        templated = templated || lines->data.row[i].form == ROW_QUESTION || lines->data.row[i].form == ROW_MESSAGES;
    if (templated && !prompt_describe(&lines->prompt, &text, &unused))
        log_info(log, "%s", text.data);
    buffer_free(&text);
}

int prompt_line_print(const struct dataset_row *row, cJSON *members, struct error *error)
{
    struct buffer out = {0};
    const char *source = row->source ? row->source : "{}";
    int status = row->chunk && !json_add_int(members, "chunk", row->chunk) ? STATUS_MEMORY : STATUS_OK;
    if (!status)
        status = json_edit(source, strlen(source), members, &out, error);
    if (!status)
        puts(out.data);
    buffer_free(&out);
    return status;
}
