/* prompt_lines.c - see prompt_lines.h. */
#include "prompt_lines.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>


static const struct option rows[] = {
    {.name = "data", OPTION_FIELD(struct input_options, data), .operand = "FILE",
     .help = "rows as in training (JSON lines, a JSON array, CSV or TSV with titles, text, also through gzip; - is stdin, "
             "and a named pipe is waited for until somebody writes to it): a "
             "\"prompt\" is taken as it is, a question and messages go through the prompt template"},
    {.name = "batch_size", OPTION_FIELD(struct input_options, batch_size), .initial = "8", .min = 1,
     .max = OPTION_COUNT_MAX, .help = "prompts at a time, to score with up to 8 answers each; on a GPU a generated text "
                                      "may differ where rounding decides between two tokens"},
};
enum { WINDOW_ROWS = 1024 }; /* read and encoded at a time: enough that prompts at its end, which wait for others, are few */
const struct option_group input_option_group = {OPTION_GROUP("Input", rows, struct input_options)};

int prompt_lines_open(struct prompt_lines *lines, const struct input_options *options, const struct prompt *prompt,
                      bool with_answers, struct error *error)
{
    const unsigned flags = DATASET_SOURCES | (with_answers ? DATASET_ANSWERS : 0) |
                           (options->prompt.chosen ? DATASET_TEMPLATED : 0);
    *lines = (struct prompt_lines){.prompt = prompt, .with_answers = with_answers};
    return dataset_reader_open(&lines->reader, options->data, &options->dataset, flags, error);
}

static void window_free(struct prompt_lines *lines)
{
    for (int i = 0; lines->text && i < lines->data.rows; i++)
        buffer_free(&lines->text[i].text);
    free(lines->text);
    lines->text = NULL;
    dataset_free(&lines->data);
}

int prompt_lines_next(struct prompt_lines *lines, struct tokenizer *tokenizer, int64_t max_length, struct error *error)
{
    lines->first += lines->data.rows;
    window_free(lines);
    int status = dataset_reader_next(lines->reader, WINDOW_ROWS, &lines->data, error);
    if (!status && lines->with_answers)
        status = dataset_chunk(&lines->data, tokenizer, max_length, error);
    if (!status && !(lines->text = memory_array((size_t)lines->data.rows, sizeof *lines->text, error)))
        status = STATUS_MEMORY;
    for (int i = 0; i < lines->data.rows && !status; i++) {
        const struct dataset_row *row = &lines->data.row[i];
        if (!row->ids)
            status = prompt_apply(lines->prompt, row, lines->with_answers ? row->answer : NULL, &lines->text[i], error);
        if (status)
            error_prefix(error, "%s:%d", lines->data.path, row->line);
    }
    return status;
}

void prompt_lines_close(struct prompt_lines *lines)
{
    window_free(lines);
    dataset_reader_close(lines->reader);
    *lines = (struct prompt_lines){0};
}

void prompt_lines_announce(const struct prompt_lines *lines, bool chosen, struct log *log)
{
    struct buffer text = {0};
    struct error unused;
    bool templated = chosen;
    for (int i = 0; i < lines->data.rows; i++)
        templated = templated || lines->data.row[i].form == ROW_QUESTION || lines->data.row[i].form == ROW_MESSAGES;
    if (templated && !prompt_describe(lines->prompt, &text, &unused))
        log_info(log, "%s", text.data);
    buffer_free(&text);
}

int prompt_line_make(const struct dataset_row *row, cJSON *members, struct buffer *line, struct error *error)
{
    const char *source = row->source ? row->source : "{}";
    int status = row->chunk && !json_add_int(members, "chunk", row->chunk) ? STATUS_MEMORY : STATUS_OK;
    line->length = 0;
    if (!status)
        status = json_edit(source, strlen(source), members, line, error);
    return status ? status : buffer_append(line, "\n", 1, error);
}

int prompt_line_check(const struct dataset_row *row, const char *const *results, const char *line, size_t length, bool *same,
                      struct error *error)
{
    struct buffer made = {0};
    cJSON *tree = json_parse(line, length, "line", error), *members = tree ? cJSON_CreateObject() : NULL;
    *same = false;
    int status = tree ? STATUS_OK : error->status;
    for (int i = 0; tree && results[i] && members; i++) {
        cJSON *member = cJSON_DetachItemFromObjectCaseSensitive(tree, results[i]);
        if (member && !cJSON_AddItemToObject(members, results[i], member))
            cJSON_Delete(member);
    }
    if (!status)
        status = members ? prompt_line_make(row, members, &made, error)
                         : error_set(error, STATUS_MEMORY, "out of host memory");
    *same = !status && made.length == length + 1 && !memcmp(made.data, line, length);
    cJSON_Delete(members);
    cJSON_Delete(tree);
    buffer_free(&made);
    return status == STATUS_INPUT ? STATUS_OK : status; /* no JSON: not the row's */
}
