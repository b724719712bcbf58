/* answer_list.c - see answer_list.h. */
#include "answer_list.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "csv.h"

static const char *const keys[] = {"answer", "response", "refusal", "refusal response", "completion", NULL};

struct reading {
    struct answer_list *list;
    size_t capacity;
};

static int answer_add(struct reading *reading, const char *text, size_t length, struct error *error)
{
    struct answer_list *list = reading->list;
    int status = memory_grow(&list->text, &reading->capacity, (size_t)list->count + 1, sizeof *list->text, error);
    if (status)
        return status;
    char *copy = memory_array(length + 1, 1, error);
    if (!copy)
        return STATUS_MEMORY;
    memcpy(copy, text, length);
    list->text[list->count++] = copy;
    return STATUS_OK;
}

static int read_lines(const struct text *text, struct reading *reading, struct error *error)
{
    struct text_line line = {0};
    int status = STATUS_OK;
    while (!status && text_next_line(text, &line))
        status = answer_add(reading, line.begin, line.length, error);
    return status;
}

static int refuse_keys(const cJSON *value, const char *name, struct error *error)
{
    char found[300] = "";
    for (const cJSON *member = value->child; member; member = member->next)
        snprintf(found + strlen(found), sizeof found - strlen(found), "%s\"%.60s\"", *found ? ", " : "", member->string);
    return error_set(error, STATUS_INPUT, "%s: expected one of the keys answer, response, refusal, refusal response and "
                     "completion; the row has %s", name, *found ? found : "none");
}

static int json_add(void *user, const cJSON *value, const struct json_place *place, struct error *error)
{
    const cJSON *answer = cJSON_IsString(value) ? value : NULL;
    const char *key = "answer";
    if (!answer && !cJSON_IsObject(value))
        return error_set(error, STATUS_INPUT, "%s: expected a text or an object with the key answer", place->name);
    for (int i = 0; keys[i] && !cJSON_IsString(value); i++) {
        const cJSON *member = cJSON_GetObjectItem(value, keys[i]); /* any case */
        if (member && answer)
            return error_set(error, STATUS_INPUT, "%s: both %s and %s are there; keep the one that is meant", place->name, key,
                             keys[i]);
        key = member ? keys[i] : key;
        answer = member ? member : answer;
    }
    if (!answer)
        return refuse_keys(value, place->name, error);
    if (!cJSON_IsString(answer) || !*answer->valuestring)
        return error_set(error, STATUS_INPUT, "%s: %s: expected text, found %s", place->name, key,
                         cJSON_IsString(answer) ? "an empty string" : "something else");
    return answer_add(user, answer->valuestring, strlen(answer->valuestring), error);
}

/* A file of plain lines may bear a JSON name, as TOFU's idontknow.jsonl does. */
static int read_json(struct text *text, struct reading *reading, struct error *error)
{
    struct json_rows rows;
    struct json_place place;
    cJSON *value = NULL;
    char first;
    int status = text_first_byte(text, &first, error);
    if (!status && first && !strchr("[{\"", first))
        return read_lines(text, reading, error);
    if (!status)
        status = json_rows_open(&rows, text, error);
    while (!status && !(status = json_rows_next(&rows, &value, &place, error)) && value) {
        status = json_add(reading, value, &place, error);
        cJSON_Delete(value);
    }
    return status;
}

static int column_find(const struct csv *csv, int *column, struct error *error)
{
    *column = -1;
    for (int i = 0; keys[i]; i++) {
        const int found = csv_column(csv, keys[i], true);
        if (found >= 0 && *column >= 0)
            return error_set(error, STATUS_INPUT, "%s:1: there are columns titled \"%s\" and \"%s\"; keep the one that holds "
                             "the answers", csv->text->name, csv->title[*column], csv->title[found]);
        *column = found >= 0 ? found : *column;
    }
    return STATUS_OK;
}

static int read_table(struct text *text, struct reading *reading, struct error *error)
{
    struct csv csv;
    bool more = true;
    int column = 0, status = csv_open(&csv, text, keys, error);
    if (!status)
        status = column_find(&csv, &column, error);
    while (!status && more) {
        status = csv_next(&csv, &more, error);
        if (status || !more)
            break;
        status = *csv.cell[column] ? answer_add(reading, csv.cell[column], strlen(csv.cell[column]), error)
                                   : error_set(error, STATUS_INPUT, "%s:%d: expected an answer under %s, found an empty cell",
                                               text->name, csv.line, csv.title[column]);
    }
    csv_close(&csv);
    return status;
}

int answer_list_read(struct answer_list *list, const char *path, struct error *error)
{
    struct reading reading = {.list = list};
    struct text text;
    *list = (struct answer_list){0};
    int status = text_read(&text, path, error);
    if (status)
        return status;
    if (text_is_named(&text, ".txt"))
        status = read_lines(&text, &reading, error);
    else if (text_is_named(&text, ".csv") || text_is_named(&text, ".tsv"))
        status = read_table(&text, &reading, error);
    else if (text_is_named(&text, ".jsonl") || text_is_named(&text, ".json"))
        status = read_json(&text, &reading, error);
    else
        status = error_set(error, STATUS_INPUT, "%s: expected a name that ends in .txt, .csv, .tsv, .json or .jsonl",
                           text.name);
    if (!status && list->count == 0)
        status = error_set(error, STATUS_INPUT, "%s: has no answers", text.name);
    list->digest = text.digest;
    text_free(&text);
    if (status)
        answer_list_free(list);
    return status;
}

void answer_list_free(struct answer_list *list)
{
    for (int i = 0; i < list->count; i++)
        free(list->text[i]);
    free(list->text);
    *list = (struct answer_list){0};
}

static const char *const choice_names[] = {[TEMPLATE_RANDOM] = "random", [TEMPLATE_CYCLE] = "cycle",
                                           [TEMPLATE_FIXED] = "fixed", NULL};
static const char *const every_names[] = {[TEMPLATE_EVERY_EPOCH] = "epoch", [TEMPLATE_EVERY_RUN] = "run", NULL};

static const struct option template_rows[] = {
    {.name = "template.file", OPTION_FIELD(struct template_options, file), .local = true, .operand = "FILE",
     .help = "template answers to prefer (TXT, CSV, TSV, JSON or JSON lines); for the methods that take them"},
    {.name = "template.choice", OPTION_FIELD(struct template_options, choice), .choices = choice_names,
     .initial = "random", .help = "which template answer goes with a row"},
    {.name = "template.every", OPTION_FIELD(struct template_options, every), .choices = every_names, .initial = "epoch",
     .help = "when a row gets a new template answer"},
};
const struct option_group template_option_group = {OPTION_GROUP("Template answers", template_rows, struct template_options)};

/* One step of splitmix64: a bijection whose output bits each depend on every input bit. */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

int template_pick(enum template_choice choice, uint64_t seed, int epoch, int64_t row, int count)
{
    switch (choice) {
    case TEMPLATE_RANDOM: {
        uint64_t hash = mix(mix(mix(seed) ^ (uint64_t)epoch) ^ (uint64_t)row);
        /* 32 random bits scaled to [0, count): no choice is likelier than another by more than count / 2^32 */
        return (int)((hash >> 32) * (uint64_t)count >> 32);
    }
    case TEMPLATE_CYCLE: return (int)((row + epoch) % count);
    case TEMPLATE_FIXED: break;
    }
    return 0;
}
