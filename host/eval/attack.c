/* attack.c - see attack.h. */
#include "attack.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../io/json/json.h"
#include "metric/refusal.h"
#include "metric/rouge.h"

/* A model and what it is asked of one file. */
struct asking {
    struct eval_model model;
    struct dataset data;
    int rows;
    struct question_list questions;
};

void row_values_free(struct row_values *values)
{
    for (int i = 0; i < values->rows && values->kind; i++)
        free(values->kind[i]);
    free(values->kind);
    free(values->value);
    *values = (struct row_values){0};
}

static int asking_open(struct asking *asking, const struct attack_setting *setting, const struct attack_subject *subject,
                       const char *path, const struct dataset_options *keys, struct error *error)
{
    *asking = (struct asking){0};
    int status = eval_model_open(&asking->model, &subject->model, setting->prompt, setting->device->engine->dtype, error);
    if (status)
        return status;
    const int64_t context = context_length(&asking->model.config);
    asking->model.weights.quantizer = subject->quantizer;
    asking->questions = (struct question_list){.tokenizer = asking->model.tokenizer,
                                               .prompt = &asking->model.prompt,
                                               .eos = asking->model.eos,
                                               .max_length = setting->max_length < context ? setting->max_length : context,
                                               .context = context};
    status = dataset_read(&asking->data, path, keys ? keys : setting->dataset, DATASET_ANSWERS | DATASET_SOURCES, error);
    if (!status) /* running text is asked piece by piece */
        status = dataset_chunk(&asking->data, asking->model.tokenizer, asking->questions.max_length, error);
    asking->rows = setting->rows && setting->rows < asking->data.rows ? (int)setting->rows : asking->data.rows;
    return status;
}

static void asking_close(struct asking *asking)
{
    question_list_free(&asking->questions);
    dataset_free(&asking->data);
    eval_model_close(&asking->model);
}

/* So many questions of each row: to continue, or with its answer to score. */
static int asking_ask(struct asking *asking, const struct attack_setting *setting, const struct attack_subject *subject,
                      int64_t max_new_tokens, int times, const struct generate_options *sampling, struct error *error)
{
    struct evaluation evaluation = {.options = setting->evaluate,
                                    .questions = &asking->questions,
                                    .model = &asking->model,
                                    .device = setting->device,
                                    .sampling = sampling,
                                    .log = setting->log,
                                    .label = subject->label};
    int status = STATUS_OK;
    for (int i = 0; i < asking->rows && !status; i++) {
        const struct dataset_row *row = &asking->data.row[i];
        if (max_new_tokens && !row->answer)
            status = error_set(error, STATUS_INPUT, "running text has no question to ask; expected rows of question and answer");
        for (int k = 0; k < times && !status; k++)
            status = question_add(&asking->questions, 0, i, row, max_new_tokens, error);
        if (!status && !max_new_tokens)
            status = answer_add(&asking->questions, row, NULL, false, error);
        if (status)
            error_prefix(error, "%s:%d", asking->data.path, row->line);
    }
    return status ? status : evaluate(&evaluation, error);
}

static int kinds_take(const struct asking *asking, struct row_values *out, struct error *error)
{
    out->kind = memory_array((size_t)asking->rows, sizeof *out->kind, error);
    int status = out->kind ? STATUS_OK : STATUS_MEMORY;
    for (int i = 0; i < asking->rows && !status; i++) {
        cJSON *source = asking->data.row[i].source ? cJSON_Parse(asking->data.row[i].source) : NULL;
        const cJSON *kind = json_member(source, "kind");
        out->kind[i] = memory_string(cJSON_IsString(kind) ? kind->valuestring : "", error);
        status = out->kind[i] ? STATUS_OK : STATUS_MEMORY;
        cJSON_Delete(source);
    }
    return status;
}

int attack_probabilities(const struct attack_setting *setting, const struct attack_subject *subject, const char *path,
                         const struct dataset_options *keys, struct row_values *out, struct error *error)
{
    struct asking asking;
    *out = (struct row_values){0};
    int status = asking_open(&asking, setting, subject, path, keys, error);
    if (!status)
        status = asking_ask(&asking, setting, subject, 0, 1, NULL, error);
    if (!status && !(out->value = memory_array((size_t)asking.rows, sizeof *out->value, error)))
        status = STATUS_MEMORY;
    out->rows = status ? 0 : asking.rows;
    for (int i = 0; i < out->rows; i++)
        out->value[i] = exp(-answer_loss(&asking.questions.answer[i]));
    if (!status)
        status = kinds_take(&asking, out, error);
    asking_close(&asking);
    return status;
}

int attack_refusals(const struct attack_setting *setting, const struct attack_subject *subject, const char *path,
                    const struct answer_list *refusals, struct row_values *out, struct error *error)
{
    struct asking asking;
    *out = (struct row_values){0};
    int status = asking_open(&asking, setting, subject, path, NULL, error);
    if (!status)
        status = asking_ask(&asking, setting, subject, setting->max_new_tokens, 1, NULL, error);
    if (!status && !(out->value = memory_array((size_t)asking.rows, sizeof *out->value, error)))
        status = STATUS_MEMORY;
    out->rows = status ? 0 : asking.rows;
    for (int i = 0; i < out->rows && !status; i++) {
        const char *text = asking.questions.question[i].generation;
        struct refusal refusal;
        status = refusal_score(text, strlen(text), (const char *const *)refusals->text, refusals->count, &refusal, error);
        out->value[i] = refusal_refuses(&refusal);
    }
    asking_close(&asking);
    return status;
}

int attack_samples(const struct attack_setting *setting, const struct attack_subject *subject, const char *path,
                   const struct generate_options *sampling, int draws, struct row_values *out, struct error *error)
{
    struct asking asking;
    *out = (struct row_values){0};
    int status = asking_open(&asking, setting, subject, path, NULL, error);
    if (!status)
        status = asking_ask(&asking, setting, subject, setting->max_new_tokens, draws, sampling, error);
    if (!status && !(out->value = memory_array((size_t)asking.rows * (size_t)draws, sizeof *out->value, error)))
        status = STATUS_MEMORY;
    out->rows = status ? 0 : asking.rows * draws;
    for (int i = 0; !status && i < out->rows; i++) {
        const char *answer = asking.data.row[i / draws].answer, *text = asking.questions.question[i].generation;
        struct rouge rouge;
        status = rouge_score(answer, strlen(answer), text, strlen(text), true, &rouge, error);
        out->value[i] = rouge.rougeL.recall;
    }
    asking_close(&asking);
    return status;
}
