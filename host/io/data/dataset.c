/* dataset.c - see dataset.h. */
#include "dataset.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "csv.h"

struct reading {
    struct dataset *data;
    size_t capacity;
    const struct dataset_options *options;
    unsigned flags;
};

static int out_of_memory(struct error *error)
{
    return error_set(error, STATUS_MEMORY, "out of host memory while reading rows");
}

/* "the row has the keys ..." at the end of a message. */
static int refuse(const cJSON *row, const char *name, const char *what, struct error *error)
{
    char keys[300] = "";
    for (const cJSON *member = row->child; member; member = member->next)
        snprintf(keys + strlen(keys), sizeof keys - strlen(keys), "%s\"%.60s\"", *keys ? ", " : "", member->string);
    return error_set(error, STATUS_INPUT, "%s: %s; the row has the keys %s", name, what, *keys ? keys : "of none");
}

static int row_begin(struct reading *reading, enum dataset_form form, int line, struct dataset_row **row,
                     struct error *error)
{
    struct dataset *data = reading->data;
    int status = memory_grow(&data->row, &reading->capacity, (size_t)data->rows + 1, sizeof *data->row, error);
    if (status)
        return status;
    *row = &data->row[data->rows++];
    **row = (struct dataset_row){.form = form, .line = line};
    return STATUS_OK;
}

/* The value of a key that must be a text. */
static int text_get(const cJSON *value, const char *name, const char *key, const char **text, struct error *error)
{
    const cJSON *member = json_member(value, key);
    if (!member) {
        char what[200];
        snprintf(what, sizeof what, "%.100s: the key is missing", key);
        return refuse(value, name, what, error);
    }
    return json_get_string(value, name, key, text, error);
}

/* An answer, which must not be empty: it would leave nothing to learn. */
static int answer_check(const char *answer, const char *name, const char *key, struct error *error)
{
    return *answer ? STATUS_OK
                   : error_set(error, STATUS_INPUT, "%s: %s: expected text, found an empty string", name, key);
}

/* The row's own JSON; with the one answer that the row stands for where it has a list of them. */
static int source_take(struct dataset_row *row, const struct json_place *place, const char *list_key, struct error *error)
{
    struct buffer out = {0};
    cJSON *members = cJSON_CreateObject();
    bool ok = members && (!list_key || json_add_string(members, list_key, row->answer));
    int status = ok ? json_edit(place->text, place->length, members, &out, error) : out_of_memory(error);
    cJSON_Delete(members);
    row->source = out.data;
    return status;
}

/* A row of a prompt and one answer (NULL: none was asked for). */
static int pair_add(struct reading *reading, enum dataset_form form, const struct json_place *place, const char *prompt,
                    const char *answer, const char *list_key, struct error *error)
{
    struct dataset_row *row;
    int status = row_begin(reading, form, place->line, &row, error);
    if (!status && !(row->prompt = memory_string(prompt, error)))
        status = STATUS_MEMORY;
    if (!status && answer && !(row->answer = memory_string(answer, error)))
        status = STATUS_MEMORY;
    if (!status && reading->flags & DATASET_SOURCES)
        status = source_take(row, place, list_key, error);
    return status;
}

/* A prompt with its answer, or with each of a list of them. */
static int pairs_add(struct reading *reading, enum dataset_form form, const cJSON *value, const struct json_place *place,
                     const char *prompt, const char *key, struct error *error)
{
    const cJSON *member = json_member(value, key);
    const char *answer;
    if (!(reading->flags & DATASET_ANSWERS))
        return pair_add(reading, form, place, prompt, NULL, NULL, error);
    if (!cJSON_IsArray(member)) {
        int status = text_get(value, place->name, key, &answer, error);
        if (!status)
            status = answer_check(answer, place->name, key, error);
        return status ? status : pair_add(reading, form, place, prompt, answer, NULL, error);
    }
    if (!member->child)
        return error_set(error, STATUS_INPUT, "%s: %s: expected a text or a list of them, found an empty list", place->name,
                         key);
    int status = STATUS_OK;
    for (const cJSON *item = member->child; item && !status; item = item->next) {
        if (!cJSON_IsString(item))
            return error_set(error, STATUS_INPUT, "%s: %s: expected a list of texts", place->name, key);
        status = answer_check(item->valuestring, place->name, key, error);
        if (!status)
            status = pair_add(reading, form, place, prompt, item->valuestring, key, error);
    }
    return status;
}

/* object: the row is {"text"}, and no text alone. */
static int text_add(struct reading *reading, const struct json_place *place, const char *text, bool object,
                    struct error *error)
{
    struct dataset_row *row;
    if (!*text)
        return error_set(error, STATUS_INPUT, "%s: text: expected text, found an empty string", place->name);
    int status = row_begin(reading, ROW_TEXT, place->line, &row, error);
    if (!status && !(row->prompt = memory_string(text, error)))
        status = STATUS_MEMORY;
    if (!status && object && reading->flags & DATASET_SOURCES)
        status = source_take(row, place, NULL, error);
    return status;
}

/* One turn: texts of a known role, and nothing with it that a template would write besides. */
static int message_check(const cJSON *turn, const char *name, int number, struct error *error)
{
    static const char *const unsupported[] = {"tool_calls", "tool_call_id", "function_call", "functions", "tools",
                                              "reasoning_content", "reasoning", "thinking"};
    const cJSON *role = json_member(turn, "role"), *content = json_member(turn, "content");
    if (!cJSON_IsString(role) || !cJSON_IsString(content))
        return error_set(error, STATUS_INPUT, "%s: messages: turn %d: expected an object with the texts role and content",
                         name, number);
    if (strcmp(role->valuestring, "system") && strcmp(role->valuestring, "user") && strcmp(role->valuestring, "assistant"))
        return error_set(error, STATUS_INPUT, "%s: messages: turn %d: expected the role system, user or assistant, found "
                         "'%.60s'; turns of tools and others are not supported", name, number, role->valuestring);
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++) {
        const cJSON *member = json_member(turn, unsupported[i]);
        if (member && !cJSON_IsNull(member) && !((cJSON_IsArray(member) || cJSON_IsObject(member)) && !member->child))
            return error_set(error, STATUS_INPUT, "%s: messages: turn %d: %s is not supported; only role and content are "
                             "rendered", name, number, unsupported[i]);
    }
    return STATUS_OK;
}

static int messages_add(struct reading *reading, const cJSON *list, const struct json_place *place, struct error *error)
{
    const int turns = cJSON_GetArraySize(list);
    struct dataset_row *row;
    if (!cJSON_IsArray(list) || !turns)
        return error_set(error, STATUS_INPUT, "%s: messages: expected a list of {role, content}", place->name);
    int status = row_begin(reading, ROW_MESSAGES, place->line, &row, error);
    if (!status && !(row->message = memory_array((size_t)turns, sizeof *row->message, error)))
        status = STATUS_MEMORY;
    for (const cJSON *turn = list->child; turn && !status; turn = turn->next) {
        status = message_check(turn, place->name, row->messages + 1, error);
        if (status)
            break;
        const char *role = json_member(turn, "role")->valuestring;
        char *content = memory_string(json_member(turn, "content")->valuestring, error);
        row->message[row->messages++] = (struct chat_message){
            !strcmp(role, "system") ? "system" : !strcmp(role, "user") ? "user" : "assistant", content};
        status = content ? STATUS_OK : STATUS_MEMORY;
    }
    if (status)
        return status;
    const struct chat_message *last = &row->message[row->messages - 1];
    const bool answered = !strcmp(last->role, "assistant") && row->messages > 1;
    if (!answered && reading->flags & DATASET_ANSWERS)
        return error_set(error, STATUS_INPUT, "%s: messages: expected the last of at least two turns to be the assistant's, "
                         "whose text is the answer; found '%s'", place->name, last->role);
    if (answered) {
        row->answer = (char *)last->content;
        row->messages--;
        status = reading->flags & DATASET_ANSWERS ? answer_check(row->answer, place->name, "messages", error) : STATUS_OK;
    }
    return !status && reading->flags & DATASET_SOURCES ? source_take(row, place, NULL, error) : status;
}

static int prompt_add(struct reading *reading, const cJSON *value, const struct json_place *place, struct error *error)
{
    const char *prompt, *key = json_member(value, reading->options->answer_key) ? reading->options->answer_key
                               : json_member(value, "answer")                  ? "answer"
                                                                               : "completion";
    if (reading->flags & DATASET_TEMPLATED) {
        char what[400];
        snprintf(what, sizeof what, "%.100s: the key is missing; a prompt is taken as it is, without a template; put it into "
                 "the template by --question_key prompt", reading->options->question_key);
        return refuse(value, place->name, what, error);
    }
    if (reading->flags & DATASET_ANSWERS && !json_member(value, key))
        return refuse(value, place->name, "prompt: neither answer nor completion is there; name the key by --answer_key",
                      error);
    int status = text_get(value, place->name, "prompt", &prompt, error);
    return status ? status : pairs_add(reading, ROW_PROMPT, value, place, prompt, key, error);
}

static int row_add(struct reading *reading, const cJSON *value, const struct json_place *place, struct error *error)
{
    const char *question_key = reading->options->question_key, *text;
    if (cJSON_IsString(value))
        return text_add(reading, place, value->valuestring, false, error);
    if (!cJSON_IsObject(value))
        return error_set(error, STATUS_INPUT, "%s: expected an object with the keys %s and %s, or a text", place->name,
                         question_key, reading->options->answer_key);
    if (json_member(value, question_key)) {
        int status = text_get(value, place->name, question_key, &text, error);
        return status ? status
                      : pairs_add(reading, ROW_QUESTION, value, place, text, reading->options->answer_key, error);
    }
    if (json_member(value, "messages"))
        return messages_add(reading, json_member(value, "messages"), place, error);
    if (json_member(value, "prompt"))
        return prompt_add(reading, value, place, error);
    if (json_member(value, "text")) {
        int status = text_get(value, place->name, "text", &text, error);
        return status ? status : text_add(reading, place, text, true, error);
    }
    char what[300];
    snprintf(what, sizeof what, "%.100s: the key is missing, and so are messages, prompt and text; name the key by "
             "--question_key", question_key);
    return refuse(value, place->name, what, error);
}

/* A record becomes an object of texts; a column without a title (an index) is left out. */
static int record_add(struct reading *reading, struct csv *csv, bool *more, struct error *error)
{
    struct buffer line = {0};
    char name[1024];
    int status = csv_next(csv, more, error);
    if (status || !*more)
        return status;
    cJSON *object = cJSON_CreateObject();
    bool ok = object != NULL;
    for (int i = 0; i < csv->columns && ok; i++)
        ok = !*csv->title[i] || json_add_string(object, csv->title[i], csv->cell[i]);
    snprintf(name, sizeof name, "%s:%d", csv->text->name, csv->line);
    status = ok ? json_print(object, &line, error) : out_of_memory(error);
    if (!status)
        status = row_add(reading, object, &(struct json_place){name, csv->line, line.data, line.length}, error);
    cJSON_Delete(object);
    buffer_free(&line);
    return status;
}

static int value_add(struct reading *reading, struct json_rows *rows, bool *more, struct error *error)
{
    struct json_place place;
    cJSON *value;
    int status = json_rows_next(rows, &value, &place, error);
    *more = !status && value;
    if (*more)
        status = row_add(reading, value, &place, error);
    cJSON_Delete(value);
    return status;
}

/* A .txt file is one row. */
static int whole_add(struct reading *reading, struct text *text, struct error *error)
{
    int status = STATUS_OK;
    while (!status && !text->ended)
        status = text_more(text, 0, error);
    if (!status)
        status = text_add(reading, &(struct json_place){.name = text->name, .line = 1}, text->begin, false, error);
    if (!status)
        reading->data->row[reading->data->rows - 1].whole_file = true;
    return status;
}

struct dataset_reader {
    struct text text;
    struct dataset_options options; /* borrowed texts */
    unsigned flags;
    enum { FILE_JSON, FILE_TABLE, FILE_WHOLE } kind;
    struct csv csv;
    struct json_rows json;
    int64_t rows;   /* so far */
    bool ended;
};

static int reader_begin(struct dataset_reader *reader, struct error *error)
{
    const struct text *text = &reader->text;
    const char *const wanted[] = {reader->options.question_key, "prompt", "text", NULL};
    char first = 0;
    int status = text_first_byte(&reader->text, &first, error);
    if (status)
        return status;
    if (text_is_named(text, ".csv") || text_is_named(text, ".tsv")) {
        reader->kind = FILE_TABLE;
        return csv_open(&reader->csv, &reader->text, wanted, error);
    }
    reader->kind = text_is_named(text, ".txt") ? FILE_WHOLE : FILE_JSON;
    reader->ended = !first;
    if (reader->kind == FILE_WHOLE)
        return STATUS_OK;
    if (first && !strchr("{[\"", first))
        return error_set(error, STATUS_INPUT, "%s: expected JSON lines or a JSON array, found '%c' at the start; a table must "
                         "be named .csv or .tsv, a text .txt", text->name, first > ' ' && first < 127 ? first : '?');
    return json_rows_open(&reader->json, &reader->text, error);
}

int dataset_reader_open(struct dataset_reader **out, const char *path, const struct dataset_options *options, unsigned flags,
                        struct error *error)
{
    struct dataset_reader *reader = memory_array(1, sizeof *reader, error);
    *out = NULL;
    if (!reader)
        return STATUS_MEMORY;
    reader->options = *options;
    reader->flags = flags;
    int status = text_open(&reader->text, path, error);
    if (!status)
        status = reader_begin(reader, error);
    if (status)
        dataset_reader_close(reader);
    else
        *out = reader;
    return status;
}

int dataset_reader_next(struct dataset_reader *reader, int most, struct dataset *data, struct error *error)
{
    struct reading reading = {.data = data, .options = &reader->options, .flags = reader->flags};
    *data = (struct dataset){0};
    int status = (data->path = memory_string(reader->text.name, error)) ? STATUS_OK : STATUS_MEMORY;
    while (!status && !reader->ended && data->rows < most) {
        bool more = true;
        switch (reader->kind) {
        case FILE_TABLE: status = record_add(&reading, &reader->csv, &more, error); break;
        case FILE_JSON: status = value_add(&reading, &reader->json, &more, error); break;
        case FILE_WHOLE: status = whole_add(&reading, &reader->text, error), more = false; break;
        }
        reader->ended = !more;
    }
    reader->rows += data->rows;
    if (!status && !reader->rows)
        status = error_set(error, STATUS_INPUT, "%s: has no rows; expected JSON objects with the keys %s and %s",
                           reader->text.name, reader->options.question_key, reader->options.answer_key);
    data->digest = reader->text.digest;
    if (status)
        dataset_free(data);
    return status;
}

void dataset_reader_close(struct dataset_reader *reader)
{
    if (!reader)
        return;
    csv_close(&reader->csv);
    text_free(&reader->text);
    free(reader);
}

int dataset_read(struct dataset *data, const char *path, const struct dataset_options *options, unsigned flags,
                 struct error *error)
{
    struct dataset_reader *reader;
    *data = (struct dataset){0};
    int status = dataset_reader_open(&reader, path, options, flags, error);
    if (!status)
        status = dataset_reader_next(reader, INT_MAX, data, error);
    dataset_reader_close(reader);
    return status;
}

void dataset_free(struct dataset *data)
{
    for (int i = 0; i < data->rows; i++) {
        struct dataset_row *row = &data->row[i];
        for (int k = 0; k < row->messages; k++)
            free((char *)row->message[k].content);
        free(row->message);
        free(row->prompt);
        free(row->answer);
        free(row->source);
        free(row->ids);
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
