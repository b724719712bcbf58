/* prompt_lines.c - see prompt_lines.h. */
#include "prompt_lines.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../train/examples.h"
#include "../util/file.h"

#define FILE_MAX_BYTES ((size_t)1 << 32)

static const struct option option_rows[] = {
    {.name = "data", OPTION_FIELD(struct input_options, data), .operand = "FILE",
     .help = "JSON lines with \"prompt\" (and \"answer\" to score); with --prompt_template or a run's config, question "
             "and answer rows"},
    {.name = "batch_size", OPTION_FIELD(struct input_options, batch_size), .initial = "8", .min = 1,
     .max = OPTION_COUNT_MAX, .help = "rows at a time; no effect on results"},
};
const struct option_group input_option_group = {OPTION_GROUP("Input", option_rows, struct input_options)};

bool input_has_rows(const struct option_set *set)
{
    static const char *const name[] = {"prompt_template", "prompt_template.user_start"};
    return option_given(set, name[0]) || option_given(set, name[1]);
}

struct reading {
    const struct input_options *options;
    struct prompt_template template_;
    bool with_template, with_answer;
};

/* {"prompt", "answer"} as they are. */
static int line_plain(struct prompt_line *line, const char *name, bool with_answer, struct error *error)
{
    const char *prompt, *answer = "";
    struct buffer full = {0};
    int status = json_get_string(line->object, name, "prompt", &prompt, error);
    if (!status && with_answer)
        status = json_get_string(line->object, name, "answer", &answer, error);
    if (!status && !(line->prompt = memory_string(prompt, error)))
        status = STATUS_MEMORY;
    if (!status)
        status = buffer_printf(&full, error, "%s%s", prompt, answer);
    line->full = full.data;
    return status;
}

static int line_templated(struct prompt_line *line, const char *name, const struct reading *reading, struct error *error)
{
    const char *question, *answer = "";
    int status = json_get_string(line->object, name, reading->options->dataset.question_key, &question, error);
    if (!status && reading->with_answer)
        status = json_get_string(line->object, name, reading->options->dataset.answer_key, &answer, error);
    return status ? status
                  : prompt_template_apply(&reading->template_, question, answer, &line->prompt, &line->full, error);
}

static int line_add(struct prompt_lines *lines, const char *text, size_t length, const char *name, int number,
                    const struct reading *reading, struct error *error)
{
    int status = memory_grow(&lines->line, &lines->capacity, (size_t)lines->count + 1, sizeof *lines->line, error);
    if (status)
        return status;
    cJSON *object = json_parse(text, length, name, error);
    if (!object)
        return error->status;
    struct prompt_line *line = &lines->line[lines->count++];
    *line = (struct prompt_line){.object = object, .number = number};
    if (!cJSON_IsObject(object))
        return error_set(error, STATUS_INPUT, "%s: expected a JSON object", name);
    return reading->with_template ? line_templated(line, name, reading, error)
                                  : line_plain(line, name, reading->with_answer, error);
}

int prompt_lines_read(struct prompt_lines *lines, const struct input_options *options, bool with_template,
                      bool with_answer, struct error *error)
{
    *lines = (struct prompt_lines){0};
    struct reading reading = {.options = options, .with_template = with_template, .with_answer = with_answer};
    char *data = NULL, name[4200];
    size_t length = 0;
    reading.template_ = prompt_template_chosen(&options->prompt);
    int status = file_read(options->data, FILE_MAX_BYTES, &data, &length, error);
    int number = 0;
    for (const char *at = data, *end = data + length; !status && at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t bytes = (size_t)((newline ? newline : end) - at);
        number++;
        snprintf(name, sizeof name, "%s:%d", options->data, number);
        if (strspn(at, " \t\r") < bytes)
            status = line_add(lines, at, bytes, name, number, &reading, error);
        at = newline ? newline + 1 : end;
    }
    free(data);
    if (!status && !lines->count)
        status = error_set(error, STATUS_INPUT, "%s: holds no line; expected JSON lines", options->data);
    return status;
}

void prompt_lines_free(struct prompt_lines *lines)
{
    for (int i = 0; i < lines->count; i++) {
        cJSON_Delete(lines->line[i].object);
        free(lines->line[i].prompt);
        free(lines->line[i].full);
    }
    free(lines->line);
    *lines = (struct prompt_lines){0};
}
