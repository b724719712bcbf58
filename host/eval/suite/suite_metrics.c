/* suite_metrics.c - see suite.h: metrics of a set from what was measured. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../util/utf8.h"
#include "../metric/mean.h"
#include "../metric/membership.h"
#include "../metric/refusal.h"
#include "../metric/repetition.h"
#include "suite.h"

int suite_add_probability(const struct suite_run *run, struct eval_log *log, const char *name, const struct suite_set *set,
                          int first, int count, struct error *error)
{
    double *loss = memory_array((size_t)set->rows * (size_t)count, sizeof *loss, error);
    if (!loss)
        return STATUS_MEMORY;
    for (int i = 0; i < set->rows; i++)
        for (int k = 0; k < count; k++)
            loss[i * count + k] = answer_loss(suite_answer(run, set, i, first + k));
    int status = eval_log_add_probability(log, name, NULL, loss, (size_t)set->rows, (size_t)count, error);
    free(loss);
    return status;
}

int suite_add_mean_prob(const struct suite_run *run, struct eval_log *log, const char *name, const struct suite_set *set,
                        int which, struct error *error)
{
    double *prob = memory_array((size_t)set->rows, sizeof *prob, error);
    if (!prob)
        return STATUS_MEMORY;
    for (int i = 0; i < set->rows; i++)
        prob[i] = suite_answer(run, set, i, which)->prob_mean;
    int status = eval_log_add_scores(log, name, NULL, "score", prob, NULL, (size_t)set->rows,
                                     mean_of(prob, (size_t)set->rows), error);
    free(prob);
    return status;
}

/* Without the space around it, in a copy. */
static char *text_strip(const char *text, struct error *error)
{
    size_t begin = strspn(text, " \t\r\n\v\f"), end = utf8_trimmed_length(text, strlen(text));
    char *copy = memory_array((end > begin ? end - begin : 0) + 1, 1, error);
    if (copy && end > begin)
        memcpy(copy, text + begin, end - begin);
    return copy;
}

int suite_add_rouge(const struct suite_run *run, struct eval_log *log, const char *name, const struct suite_set *set,
                    const char *aggregate, struct error *error)
{
    struct eval_text *text = memory_array((size_t)set->rows, sizeof *text, error);
    int status = text ? STATUS_OK : STATUS_MEMORY, rows = 0;
    for (; rows < set->rows && !status; rows++) {
        const struct eval_question *q = &run->questions.question[set->first_question + rows];
        text[rows] = (struct eval_text){q->input, text_strip(set->data.row[rows].answer, error),
                                        text_strip(q->generation, error)};
        status = text[rows].ground_truth && text[rows].generation ? STATUS_OK : STATUS_MEMORY;
    }
    if (!status)
        status = eval_log_add_rouge(log, name, NULL, text, (size_t)set->rows, aggregate, error);
    for (int i = 0; i < rows; i++) {
        free((char *)(uintptr_t)text[i].ground_truth);
        free((char *)(uintptr_t)text[i].generation);
    }
    free(text);
    return status;
}

int suite_add_behaviour(const struct suite_run *run, struct eval_log *log, const struct suite_set *set,
                        struct error *error)
{
    const size_t rows = (size_t)set->rows;
    double *refused = memory_array(rows, sizeof *refused, error), *repeated = memory_array(rows, sizeof *repeated, error);
    int status = refused && repeated ? STATUS_OK : STATUS_MEMORY;
    char name[128];
    for (size_t i = 0; i < rows && !status; i++) {
        const char *text = run->questions.question[set->first_question + (int)i].generation;
        struct refusal refusal;
        struct repetition repetition;
        status = refusal_score(text, strlen(text), (const char *const *)run->refusals.text, run->refusals.count, &refusal,
                               error);
        if (!status)
            status = repetition_of_text(text, strlen(text), &repetition, error);
        if (!status) {
            refused[i] = refusal.recall >= REFUSAL_THRESHOLD;
            repeated[i] = repetition.repeated[NGRAM_ORDERS - 1];
        }
    }
    snprintf(name, sizeof name, "%s_refusal_rate", set->name);
    if (!status && run->refusals.count)
        status = eval_log_add_scores(log, name, NULL, "score", refused, NULL, rows, mean_of(refused, rows), error);
    snprintf(name, sizeof name, "%s_repetition", set->name);
    if (!status)
        status = eval_log_add_scores(log, name, NULL, "score", repeated, NULL, rows, mean_of(repeated, rows), error);
    free(refused);
    free(repeated);
    return status;
}

/* The three scores of a set's first answers, [rows] each, one behind the other; free(). */
static int membership_scores(const struct suite_run *run, const struct suite_set *set, double **scores,
                             struct error *error)
{
    const size_t rows = (size_t)set->rows;
    double *out = memory_array(3 * rows, sizeof *out, error), *logprob = NULL;
    size_t capacity = 0;
    int status = out ? STATUS_OK : STATUS_MEMORY;
    for (size_t i = 0; i < rows && !status; i++) {
        const struct eval_answer *answer = suite_answer(run, set, (int)i, 0);
        const struct dataset_row *row = &set->data.row[i];
        const char *text = row->answer ? row->answer : row->prompt;
        const size_t kept = (size_t)answer->num_tokens - 1; /* the last label, an end of sequence as a rule, is left out */
        status = memory_grow(&logprob, &capacity, kept + 1, sizeof *logprob, error);
        for (size_t t = 0; t < kept && !status; t++)
            logprob[t] = answer->token_logprobs[t];
        out[i] = answer_loss(answer);
        if (!status)
            status = membership_zlib(out[i], text, strlen(text), &out[rows + i], error);
        if (!status)
            status = membership_min_k(logprob, kept, MIN_K_SHARE, MIN_K_OPEN_UNLEARNING, &out[2 * rows + i], error);
    }
    free(logprob);
    *scores = out;
    return status;
}

int suite_add_membership(const struct suite_run *run, struct eval_log *log, const struct suite_set *forget,
                         const struct suite_set *holdout, struct error *error)
{
    static const char *const names[] = {"mia_loss", "mia_zlib", "mia_min_k"};
    const size_t members = (size_t)forget->rows, others = (size_t)holdout->rows;
    double *own = NULL, *other = NULL;
    int status = membership_scores(run, forget, &own, error);
    if (!status)
        status = membership_scores(run, holdout, &other, error);
    for (size_t k = 0; k < 3 && !status; k++)
        status = eval_log_add_membership(log, names[k], own + k * members, members, other + k * others, others, error);
    free(own);
    free(other);
    return status;
}
