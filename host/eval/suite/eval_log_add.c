/* eval_log_add.c - see eval_log.h: metrics that a suite adds to a log. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../metric/auc.h"
#include "../metric/mean.h"
#include "../metric/probability.h"
#include "../metric/rouge.h"
#include "eval_log.h"

/* A number as it is; json_add_number would make null of NaN. */
static bool add_number(cJSON *object, const char *key, double value)
{
    return cJSON_AddNumberToObject(object, key, value);
}

static cJSON *add_row(cJSON *rows, const char *const *index, size_t at)
{
    char number[24];
    snprintf(number, sizeof number, "%zu", at);
    return rows ? cJSON_AddObjectToObject(rows, index ? index[at] : number) : NULL;
}

/* Puts a finished metric into the log in place of the one it replaces; takes `metric`, NULL: memory ran out. */
static int put(struct eval_log *log, const char *name, cJSON *metric, bool complete, struct error *error)
{
    if (metric && complete) {
        cJSON_DeleteItemFromObjectCaseSensitive(log->metrics, name);
        if (cJSON_AddItemToObject(log->metrics, name, metric))
            return STATUS_OK;
    }
    cJSON_Delete(metric);
    return error_set(error, STATUS_MEMORY, "%s: %s: out of host memory for the metric's rows", log->path, name);
}

static bool add_answers(cJSON *row, const double *loss, size_t answers)
{
    if (answers == 1)
        return row && add_number(row, "prob", answer_probability(*loss)) && add_number(row, "avg_loss", *loss);
    cJSON *probabilities = row ? cJSON_AddArrayToObject(row, "prob") : NULL;
    cJSON *losses = row ? cJSON_AddArrayToObject(row, "avg_loss") : NULL;
    bool complete = probabilities && losses;
    for (size_t k = 0; k < answers && complete; k++)
        complete = cJSON_AddItemToArray(probabilities, cJSON_CreateNumber(answer_probability(loss[k]))) &&
                   cJSON_AddItemToArray(losses, cJSON_CreateNumber(loss[k]));
    return complete;
}

int eval_log_add_probability(struct eval_log *log, const char *name, const char *const *index, const double *loss,
                             size_t rows, size_t answers, struct error *error)
{
    double sum = 0;
    for (size_t i = 0; i < rows * answers; i++)
        sum += answer_probability(loss[i]);
    cJSON *metric = cJSON_CreateObject();
    bool complete = metric && add_number(metric, "agg_value", sum / (double)(rows * answers));
    cJSON *list = complete ? cJSON_AddObjectToObject(metric, "value_by_index") : NULL;
    for (size_t i = 0; i < rows && complete; i++)
        complete = add_answers(add_row(list, index, i), loss + i * answers, answers);
    return put(log, name, metric, complete, error);
}

static bool add_text(cJSON *row, const struct rouge *rouge, const struct eval_text *text)
{
    return row && add_number(row, "rouge1_recall", rouge->rouge1.recall) &&
           add_number(row, "rougeL_f1", rouge->rougeL.f1) && add_number(row, "rougeL_recall", rouge->rougeL.recall) &&
           json_add_string(row, "input", text->input) && json_add_string(row, "ground_truth", text->ground_truth) &&
           json_add_string(row, "generation", text->generation);
}

int eval_log_add_rouge(struct eval_log *log, const char *name, const char *const *index, const struct eval_text *text,
                       size_t rows, const char *aggregate, struct error *error)
{
    bool recall = !strcmp(aggregate, "rougeL_recall");
    double sum = 0;
    cJSON *metric = cJSON_CreateObject();
    bool complete = metric && add_number(metric, "agg_value", 0);
    cJSON *list = complete ? cJSON_AddObjectToObject(metric, "value_by_index") : NULL;
    for (size_t i = 0; i < rows && complete; i++) {
        struct rouge rouge;
        int status = rouge_score(text[i].ground_truth, strlen(text[i].ground_truth), text[i].generation,
                                 strlen(text[i].generation), true, &rouge, error);
        if (status) {
            cJSON_Delete(metric);
            return status;
        }
        sum += recall ? rouge.rougeL.recall : rouge.rougeL.f1;
        complete = add_text(add_row(list, index, i), &rouge, text + i);
    }
    if (complete)
        metric->child->valuedouble = sum / (double)rows;
    return put(log, name, metric, complete, error);
}

/* The members of a metric of scores. */
static bool add_scores(cJSON *metric, const char *const *index, const char *field, const double *score,
                       const bool *absent, size_t rows, double aggregate)
{
    bool complete = metric && add_number(metric, "agg_value", aggregate);
    cJSON *list = complete ? cJSON_AddObjectToObject(metric, "value_by_index") : NULL;
    for (size_t i = 0; i < rows && complete; i++) {
        cJSON *row = add_row(list, index, i);
        complete =
            row && (absent && absent[i] ? cJSON_AddNullToObject(row, field) != NULL : add_number(row, field, score[i]));
    }
    return complete;
}

int eval_log_add_scores(struct eval_log *log, const char *name, const char *const *index, const char *field,
                        const double *score, const bool *absent, size_t rows, double aggregate, struct error *error)
{
    cJSON *metric = cJSON_CreateObject();
    return put(log, name, metric, add_scores(metric, index, field, score, absent, rows, aggregate), error);
}

int eval_log_add_membership(struct eval_log *log, const char *name, const double *forget, size_t forget_rows,
                            const double *holdout, size_t holdout_rows, struct error *error)
{
    double auc;
    int status = auc_score(forget, forget_rows, holdout, holdout_rows, &auc, error);
    if (status)
        return error_prefix(error, "%s: %s", log->path, name);
    cJSON *metric = cJSON_CreateObject();
    cJSON *members = metric ? cJSON_AddObjectToObject(metric, "forget") : NULL;
    cJSON *others = members ? cJSON_AddObjectToObject(metric, "holdout") : NULL;
    bool complete = others &&
                    add_scores(members, NULL, "score", forget, NULL, forget_rows, mean_of(forget, forget_rows)) &&
                    add_scores(others, NULL, "score", holdout, NULL, holdout_rows, mean_of(holdout, holdout_rows)) &&
                    add_number(metric, "auc", auc) && add_number(metric, "agg_value", auc);
    return put(log, name, metric, complete, error);
}

int eval_log_add_value(struct eval_log *log, const char *name, double value, struct error *error)
{
    cJSON *metric = cJSON_CreateObject();
    return put(log, name, metric, metric && add_number(metric, "agg_value", value), error);
}

int eval_log_add_null(struct eval_log *log, const char *name, struct error *error)
{
    cJSON *metric = cJSON_CreateObject();
    return put(log, name, metric, metric && cJSON_AddNullToObject(metric, "agg_value"), error);
}
