/* dataset.c - rows of questions and answers. See dataset.h. */
#include "dataset.h"

#include <stdlib.h>
#include <string.h>

#include "../../util/memory.h"
#include "text.h"

struct reading {
    struct dataset *data;
    size_t capacity;
    const char *question_key, *answer_key;
};

/* The text of a key, which must not be empty: it would leave nothing to learn from or to ask. */
static int text_get(const cJSON *value, const char *name, const char *key, const char **text, struct error *error)
{
    int status = json_get_string(value, name, key, text, error);
    if (!status && !**text)
        return error_set(error, STATUS_INPUT, "%s: %s: expected text, found an empty string", name, key);
    return status;
}

static int row_add(void *user, const cJSON *value, const char *name, int number, struct error *error)
{
    struct reading *reading = user;
    struct dataset *data = reading->data;
    const char *question, *answer;
    int status = text_get(value, name, reading->question_key, &question, error);
    if (status || (status = text_get(value, name, reading->answer_key, &answer, error)))
        return status;
    status = memory_grow(&data->row, &reading->capacity, (size_t)data->rows + 1, sizeof *data->row, error);
    if (status)
        return status;
    struct dataset_row *row = &data->row[data->rows++];
    row->line = number;
    row->question = memory_string(question, error);
    row->answer = row->question ? memory_string(answer, error) : NULL;
    return row->answer ? STATUS_OK : STATUS_MEMORY;
}

int dataset_read(struct dataset *data, const char *path, const char *question_key, const char *answer_key,
                 struct error *error)
{
    struct reading reading = {.data = data, .question_key = question_key, .answer_key = answer_key};
    struct text text;
    *data = (struct dataset){0};
    int status = text_read(&text, path, error);
    if (status)
        return status;
    status = (data->path = memory_string(path, error)) ? text_each_json(&text, row_add, &reading, error)
                                                       : STATUS_MEMORY;
    text_free(&text);
    if (!status && data->rows == 0)
        status = error_set(error, STATUS_INPUT, "%s: has no rows; expected JSON objects with the keys %s and %s", path,
                           question_key, answer_key);
    if (status)
        dataset_free(data);
    return status;
}

void dataset_free(struct dataset *data)
{
    for (int i = 0; i < data->rows; i++) {
        free(data->row[i].question);
        free(data->row[i].answer);
    }
    free(data->row);
    free(data->path);
    *data = (struct dataset){0};
}

static const struct option option_rows[] = {
    {.name = "question_key", OPTION_FIELD(struct dataset_options, question_key), .operand = "KEY", .initial = "question",
     .help = "key of a row's question"},
    {.name = "answer_key", OPTION_FIELD(struct dataset_options, answer_key), .operand = "KEY", .initial = "answer",
     .help = "key of a row's answer"},
};
const struct option_group dataset_option_group = {OPTION_GROUP("Model and data", option_rows, struct dataset_options)};
