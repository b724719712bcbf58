/* suite_metrics.c - see suite.h: metrics of a set from what was measured. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../util/utf8.h"
#include "../metric/mean.h"
#include "../metric/membership.h"
#include "../metric/memorization.h"
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

int suite_add_entropy(const struct suite_run *run, struct eval_log *log, const struct suite_set *set, struct error *error)
{
    char name[128];
    double *entropy = memory_array((size_t)set->rows, sizeof *entropy, error);
    if (!entropy)
        return STATUS_MEMORY;
    for (int i = 0; i < set->rows; i++)
        entropy[i] = suite_answer(run, set, i, 0)->entropy;
    snprintf(name, sizeof name, "%s_entropy", set->name);
    int status = eval_log_add_scores(log, name, NULL, "score", entropy, NULL, (size_t)set->rows,
                                     mean_of(entropy, (size_t)set->rows), error);
    free(entropy);
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
    double *refused = memory_array(rows, sizeof *refused, error), *recalled = memory_array(rows, sizeof *recalled, error),
           *repeated = memory_array(rows, sizeof *repeated, error);
    int status = refused && recalled && repeated ? STATUS_OK : STATUS_MEMORY;
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
            refused[i] = refusal_refuses(&refusal);
            recalled[i] = refusal.recall >= REFUSAL_THRESHOLD;
            repeated[i] = repetition.repeated[NGRAM_ORDERS - 1];
        }
    }
    snprintf(name, sizeof name, "%s_refusal_rate", set->name);
    if (!status && run->refusals.count)
        status = eval_log_add_scores(log, name, NULL, "score", refused, NULL, rows, mean_of(refused, rows), error);
    snprintf(name, sizeof name, "%s_refusal_recall_rate", set->name);
    if (!status && run->refusals.count)
        status = eval_log_add_scores(log, name, NULL, "score", recalled, NULL, rows, mean_of(recalled, rows), error);
    snprintf(name, sizeof name, "%s_repetition", set->name);
    if (!status)
        status = eval_log_add_scores(log, name, NULL, "score", repeated, NULL, rows, mean_of(repeated, rows), error);
    free(refused);
    free(recalled);
    free(repeated);
    return status;
}

static const char *const attacks[] = {"mia_loss", "mia_zlib", "mia_min_k", "mia_min_k_plus_plus"};
enum { ATTACKS = sizeof attacks / sizeof *attacks };

/* The scores of one answer, scores[k * stride] of attack k. The last label, an end of sequence as a rule, is left out of
 * the last two. work: room for a number per token. */
static int membership_scores(const struct eval_answer *answer, const char *text, double *work, double *scores,
                             size_t stride, struct error *error)
{
    const size_t kept = (size_t)answer->num_tokens - 1;
    scores[0] = answer_loss(answer);
    int status = membership_zlib(scores[0], text, strlen(text), &scores[stride], error);
    for (size_t t = 0; t < kept; t++)
        work[t] = answer->token[t].logprob;
    if (!status)
        status = membership_min_k(work, kept, MIN_K_SHARE, MIN_K_OPEN_UNLEARNING, &scores[2 * stride], error);
    for (size_t t = 0; t < kept; t++)
        work[t] = answer->token[t].standardised;
    return status ? status
                  : membership_min_k(work, kept, MIN_K_SHARE, MIN_K_OPEN_UNLEARNING, &scores[3 * stride], error);
}

/* [ATTACKS][rows]; free(). */
static int set_membership(const struct suite_run *run, const struct suite_set *set, double **scores, struct error *error)
{
    const size_t rows = (size_t)set->rows;
    double *out = memory_array(ATTACKS * rows, sizeof *out, error), *work = NULL;
    size_t capacity = 0;
    int status = out ? STATUS_OK : STATUS_MEMORY;
    for (size_t i = 0; i < rows && !status; i++) {
        const struct eval_answer *answer = suite_answer(run, set, (int)i, 0);
        const struct dataset_row *row = &set->data.row[i];
        status = memory_grow(&work, &capacity, (size_t)answer->num_tokens, sizeof *work, error);
        if (!status)
            status = membership_scores(answer, row->answer ? row->answer : row->prompt, work, out + i, rows, error);
    }
    free(work);
    *scores = out;
    return status;
}

int suite_add_membership(const struct suite_run *run, struct eval_log *log, const struct suite_set *forget,
                         const struct suite_set *holdout, struct error *error)
{
    const size_t members = (size_t)forget->rows, others = (size_t)holdout->rows;
    double *own = NULL, *other = NULL;
    int status = set_membership(run, forget, &own, error);
    if (!status)
        status = set_membership(run, holdout, &other, error);
    for (size_t k = 0; k < ATTACKS && !status; k++)
        status = eval_log_add_membership(log, attacks[k], own + k * members, members, other + k * others, others, error);
    free(own);
    free(other);
    return status;
}

int suite_add_memorization(const struct suite_run *run, struct eval_log *log, const struct suite_set *set,
                           struct error *error)
{
    const size_t rows = (size_t)set->rows;
    double *exact = memory_array(rows, sizeof *exact, error), *strength = memory_array(rows, sizeof *strength, error);
    bool *absent = memory_array(rows, sizeof *absent, error);
    int32_t *argmax = NULL;
    size_t capacity = 0;
    int status = exact && strength && absent ? STATUS_OK : STATUS_MEMORY;
    for (size_t i = 0; i < rows && !status; i++) {
        const struct eval_answer *answer = suite_answer(run, set, (int)i, 0);
        const int32_t *labels = run->questions.ids.id + answer->first + answer->answer_begin;
        const size_t kept = (size_t)answer->num_tokens - 1; /* without the last label, an end of sequence as a rule */
        status = memory_grow(&argmax, &capacity, kept + 1, sizeof *argmax, error);
        for (size_t t = 0; t < kept && !status; t++)
            argmax[t] = answer->token[t].argmax;
        exact[i] = status ? 0 : exact_memorization(argmax, labels, kept);
        strength[i] = status ? 0 : extraction_strength(argmax, labels, kept, EXTRACTION_OPEN_UNLEARNING);
        absent[i] = kept == 0;
    }
    if (!status)
        status = eval_log_add_scores(log, "exact_memorization", NULL, "score", exact, absent, rows,
                                     mean_of_present(exact, rows), error);
    if (!status)
        status = eval_log_add_scores(log, "extraction_strength", NULL, "score", strength, NULL, rows,
                                     mean_of(strength, rows), error);
    free(exact), free(strength), free(absent), free(argmax);
    return status;
}
