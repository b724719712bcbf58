/* eval_log.c - see eval_log.h: a log's life, and access to what is in it. */
#include "eval_log.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../util/memory.h"

int eval_log_open(struct eval_log *log, const char *path, struct error *error)
{
    *log = (struct eval_log){memory_string(path, error), cJSON_CreateObject()};
    if (log->path && !log->metrics)
        return error_set(error, STATUS_MEMORY, "%s: out of host memory", path);
    return log->path ? STATUS_OK : STATUS_MEMORY;
}

void eval_log_free(struct eval_log *log)
{
    free(log->path);
    cJSON_Delete(log->metrics);
    *log = (struct eval_log){0};
}

const cJSON *eval_log_metric(const struct eval_log *log, const char *name)
{
    return json_member(log->metrics, name);
}

double eval_log_value(const struct eval_log *log, const char *name)
{
    const cJSON *value = json_member(eval_log_metric(log, name), "agg_value");
    return cJSON_IsNumber(value) ? value->valuedouble : NAN;
}

static int wrong_field(const struct eval_log *log, const char *name, const cJSON *row, const char *field,
                       struct error *error)
{
    return error_set(error, STATUS_INPUT, "%s: %s: row %s: %s: expected a number, null or a list of numbers", log->path,
                     name, row->string, field);
}

/* The numbers of one row to out[per_row]. */
static int row_read(const struct eval_log *log, const char *name, const char *field, const cJSON *row,
                    struct eval_rows *rows, size_t at, struct error *error)
{
    const cJSON *value = json_member(row, field), *number = value;
    double *out = rows->value + at * rows->per_row;
    rows->index[at] = row->string;
    rows->absent[at] = cJSON_IsNull(row) || cJSON_IsNull(value);
    for (size_t i = 0; i < rows->per_row; i++)
        out[i] = NAN;
    if (rows->absent[at])
        return STATUS_OK;
    bool list = cJSON_IsArray(value);
    size_t count = list ? (size_t)cJSON_GetArraySize(value) : 1;
    if (count != rows->per_row)
        return error_set(error, STATUS_INPUT, "%s: %s: row %s: %s: has %zu numbers where the row before has %zu",
                         log->path, name, row->string, field, count, rows->per_row);
    if (list)
        number = value->child;
    for (size_t i = 0; i < count; i++, number = number->next) {
        if (!cJSON_IsNumber(number))
            return wrong_field(log, name, row, field, error);
        out[i] = number->valuedouble;
    }
    return STATUS_OK;
}

/* How many numbers the first row has that is not null. */
static size_t row_length(const cJSON *rows, const char *field)
{
    const cJSON *row;
    cJSON_ArrayForEach(row, rows)
    {
        const cJSON *value = json_member(row, field);
        if (cJSON_IsArray(value) && value->child)
            return (size_t)cJSON_GetArraySize(value);
        if (value && !cJSON_IsNull(value))
            return 1;
    }
    return 1;
}

int eval_rows_read(const struct eval_log *log, const cJSON *metric, const char *name, const char *field,
                   struct eval_rows *rows, struct error *error)
{
    const cJSON *list = json_member(metric, "value_by_index"), *row;
    *rows = (struct eval_rows){0};
    if (!cJSON_IsObject(list) || !list->child)
        return error_set(error, STATUS_INPUT, "%s: %s: expected rows in value_by_index", log->path, name);
    size_t count = (size_t)cJSON_GetArraySize(list);
    rows->per_row = row_length(list, field);
    rows->value = memory_array(count * rows->per_row, sizeof *rows->value, error);
    rows->absent = memory_array(count, sizeof *rows->absent, error);
    rows->index = memory_array(count, sizeof *rows->index, error);
    int status = rows->value && rows->absent && rows->index ? STATUS_OK : STATUS_MEMORY;
    for (row = list->child; row && !status; row = row->next) {
        if (!cJSON_IsNull(row) && !json_member(row, field))
            status = error_set(error, STATUS_INPUT, "%s: %s: row %s: %s: the key is missing; expected a number",
                               log->path, name, row->string, field);
        else
            status = row_read(log, name, field, row, rows, rows->rows++, error);
    }
    if (status)
        eval_rows_free(rows);
    return status;
}

void eval_rows_free(struct eval_rows *rows)
{
    free(rows->value);
    free(rows->absent);
    free(rows->index);
    *rows = (struct eval_rows){0};
}

int eval_rows_match(const struct eval_log *log, const struct eval_rows *a, const char *a_name,
                    const struct eval_rows *b, const char *b_name, struct error *error)
{
    for (size_t i = 0; i < a->rows && i < b->rows; i++)
        if (strcmp(a->index[i], b->index[i]))
            return error_set(error, STATUS_INPUT, "%s: %s has row %s where %s has row %s; expected the same rows",
                             log->path, a_name, a->index[i], b_name, b->index[i]);
    if (a->rows != b->rows)
        return error_set(error, STATUS_INPUT, "%s: %s has %zu rows and %s has %zu; expected the same rows", log->path,
                         a_name, a->rows, b_name, b->rows);
    return STATUS_OK;
}

double eval_rows_aggregate(const struct eval_rows *rows)
{
    double sum = 0;
    size_t present = 0;
    for (size_t i = 0; i < rows->rows; i++) {
        if (rows->absent[i])
            continue;
        double mean = 0;
        for (size_t k = 0; k < rows->per_row; k++)
            mean += rows->value[i * rows->per_row + k] / (double)rows->per_row;
        sum += mean;
        present++;
    }
    return present ? sum / (double)present : NAN;
}
